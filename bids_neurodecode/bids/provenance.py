"""Who made the dataset, from what, with which settings: the files at its top."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.names import BIDSIGNORE
from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.bids.sink import BEGUN, remove_begun, write_json, write_text, write_tsv
from bids_neurodecode.errors import ArgumentsError, InputError, ResourceError, raised_as
from bids_neurodecode.extensions import declared, own_descriptions
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.spaces import form_of
from bids_neurodecode.text import one_line

BIDS_VERSION = '1.10.0'
NAME = 'bids_neurodecode'
CONTAINER_VARIABLE = 'BIDS_NEURODECODE_CONTAINER'
"""Set by the container images to their ``type:tag``."""

NOT_OURS = (
    '{file} says that the output folder belongs to another program ({name}). '
    'Choose an empty folder, or one that {ours} wrote.'
)
LOCK_SECONDS = 120
LOCKED = (
    'The lock {file} was held for more than {seconds} s by another run. Wait for it, or remove '
    'the lock if no run is alive.'
)
NAMED_RAW = 'The name "raw" stands for the raw dataset; give {path} another name (-d NAME=PATH).'
OTHER_RAW = (
    'The output folder {folder} was made from the raw dataset {before}, not from {now}. '
    'Choose another output folder.'
)
MOVED_RAW = (
    'The output folder {folder} was made from the raw dataset {before}, where there is none now, '
    'and not from {now}. Was one of them moved? Put both back as they lay beside each other, or '
    'choose another output folder (with the same --work-dir, finished steps are reused).'
)
BROKEN = 'Cannot read {file}: {reason}. Remove it, or choose another output folder.'
NO_FORM = (
    'it must be a JSON object, GeneratedBy in it a list of objects with a Name, '
    'and DatasetLinks an object'
)

DESCRIPTIONS: Mapping[str, str] = {
    'singletrial': 'One value per trial, in the order of the events table of the same name',
    'aligned': 'Cleaned series shifted back by the haemodynamic delay',
    'predicted': 'Predicted by a trained model from the stimuli alone',
    'linear': 'Ridge regression between voxels and image features',
    'fdr': 'Voxels whose repeats agree over runs, false discovery rate controlled',
    'top': 'The most reliable share of the voxels',
    'threshold': 'Voxels above a threshold of reliability, or of what the stimuli predict',
    'test': 'Of the held-out samples alone',
    'all': 'All voxels of the brain mask',
    'chosen': 'Voxels chosen by the settings',
    'applied': 'A trained model applied to data that it was not trained on',
    'linearapplied': 'A trained linear model applied to data that it was not trained on',
}
"""What a ``desc`` means that more than one system writes; each says it of its own."""
_OF_COLUMNS = re.compile(r'_(mask|statmap|boldmap|bold)\.(?!json)')
OF_ITS_KIND = 'Of its kind; see the sidecar of the file'
OF_FEATURES = '{model}; feature space {space}'


def generated_by() -> list[dict[str, Any]]:
    """Return the ``GeneratedBy`` field: name, version, container where there is one."""
    entry: dict[str, Any] = {'Name': NAME, 'Version': __version__}
    container = os.environ.get(CONTAINER_VARIABLE, '')
    if container:
        kind, _, tag = container.partition(':')
        entry['Container'] = {'Type': kind, 'Tag': tag}
    return [entry]


def software_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape the numbers."""
    names = ('numpy', 'scipy', 'scikit-learn', 'nilearn', 'nibabel', 'nipype', 'torch')
    versions = {'python': platform.python_version(), NAME: __version__}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = 'not installed'
    return versions


def relative_link(target: Path, folder: Path) -> str:
    """Return a link to another dataset: relative where that stays short, else a file URI.

    Parameters
    ----------
    target
        Folder of the other dataset.
    folder
        Of this one.
    """
    relative = os.path.relpath(target.resolve(), folder.resolve())
    return relative if relative.count('..') <= 3 else target.resolve().as_uri()


def check_output(output_dir: Path) -> None:
    """Refuse an output folder whose description names another program.

    Raises
    ------
    InputError
        If its ``dataset_description.json`` is another program's, or cannot be read.
    """
    file = output_dir / 'dataset_description.json'
    if not file.exists():
        return
    check_fetched(file)
    try:
        description = json.loads(file.read_text('utf-8-sig'))
        names = [str(entry['Name']) for entry in description.get('GeneratedBy', [])]
        dict(description.get('DatasetLinks', {}).items())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(BROKEN.format(file=file, reason=one_line(error))) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(BROKEN.format(file=file, reason=NO_FORM)) from error
    if NAME not in names:
        found = ', '.join(names) or 'no GeneratedBy'
        raise InputError(NOT_OURS.format(file=file, name=found, ours=NAME))


def write_dataset_files(
    output_dir: Path,
    *,
    bids_dir: Path,
    derivatives: Mapping[str, Path],
    citation: Mapping[str, str] | None = None,
) -> None:
    """Write what belongs to the whole dataset, under a lock: several processes may do so at once.

    Parameters
    ----------
    output_dir
        The derivatives dataset.
    bids_dir, derivatives
        What it was made from, by name; they become ``DatasetLinks``.
    citation
        Contents of ``logs/CITATION.*`` by extension (``md``, ``bib``, ``html``).
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with locked(output_dir / '.bids_neurodecode.lock'):
        # what lies there half written is a dead process's: these files are written under the lock
        names = ('dataset_description.json', '.bidsignore', 'descriptions.tsv', 'CITATION.*')
        for folder in (output_dir, output_dir / 'logs'):
            remove_begun(file for name in names for file in folder.glob(f'{BEGUN}*{name}'))
        previous = _read(output_dir / 'dataset_description.json')
        links = dict(previous.get('DatasetLinks', {}))
        links['raw'] = relative_link(bids_dir, output_dir)
        links |= {name: relative_link(path, output_dir) for name, path in derivatives.items()}
        write_json(
            output_dir / 'dataset_description.json',
            {
                'Name': 'bids_neurodecode: what people see and their fMRI',
                'BIDSVersion': BIDS_VERSION,
                'DatasetType': 'derivative',
                'License': previous.get('License', _read_license(bids_dir)),
                'HowToAcknowledge': 'Please cite the program and the works in logs/CITATION.md.',
                'GeneratedBy': generated_by(),
                'SourceDatasets': [{'URL': link} for link in links.values()],
                'DatasetLinks': links,
            },
        )
        _write_ignore(output_dir / '.bidsignore')
        _write_descriptions(output_dir)
        for extension, text in (citation or {}).items():
            write_text(output_dir / 'logs' / f'CITATION.{extension}', text)


def is_complete(output_dir: Path) -> bool:
    """Tell whether all files are there that :func:`write_dataset_files` writes."""
    logs = (f'logs/CITATION.{extension}' for extension in ('md', 'bib', 'html'))
    top = ('dataset_description.json', '.bidsignore', 'descriptions.tsv')
    return all((output_dir / name).is_file() for name in (*top, *logs))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock; a run that holds it for long is an error.

    Raises
    ------
    ResourceError
        Naming the lock.
    """
    from filelock import FileLock, Timeout

    with raised_as(ResourceError, LOCKED, Timeout, file=file, seconds=LOCK_SECONDS):
        held = FileLock(file, timeout=LOCK_SECONDS).acquire()
    with held:
        yield


def check_links(output_dir: Path, bids_dir: Path, derivatives: Mapping[str, Path]) -> None:
    """Refuse what would give one name to two datasets: BIDS URIs would then lie.

    Parameters
    ----------
    output_dir
        Of the run.
    bids_dir
        The raw dataset.
    derivatives
        Folders by the names that links get.

    Raises
    ------
    ArgumentsError
        If derivatives are called ``raw``.
    InputError
        If the output folder was made from another raw dataset.
    """
    if 'raw' in derivatives:
        raise ArgumentsError(NAMED_RAW.format(path=derivatives['raw']))
    before = _read(output_dir / 'dataset_description.json').get('DatasetLinks', {}).get('raw')
    if before is not None and before != relative_link(bids_dir, output_dir):
        place = unquote(str(before).removeprefix('file://'))
        message = OTHER_RAW if (output_dir / place).is_dir() else MOVED_RAW
        raise InputError(message.format(folder=output_dir, before=before, now=bids_dir))


def bids_uri(dataset: str, path: Path, root: Path) -> str:
    """Return the BIDS URI of a file in a linked dataset.

    Parameters
    ----------
    dataset
        Name of the link.
    path
        Of the file.
    root
        Folder of the linked dataset.

    Examples
    --------
    >>> bids_uri('fmriprep', Path('/d/sub-01/func/x.nii.gz'), Path('/d'))
    'bids:fmriprep:sub-01/func/x.nii.gz'
    """
    n = len(root.parts)
    below = path.parts[n:] if path.parts[:n] == root.parts else path.relative_to(root).parts
    return f'bids:{dataset}:{"/".join(below)}'


def sidecar(
    *,
    sources: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
    resolution: str | None = None,
    density: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the content of a sidecar: sources, what the file means, and what is given.

    Parameters
    ----------
    sources
        BIDS URIs.
    fixed
        What every file of the product says.
    resolution
        Label of ``res-``, where the name has one.
    density
        Label of ``den-``, where the name has one.
    **fields
        What this file says; None is left out.
    """
    content: dict[str, Any] = dict(fixed or {})
    content['Sources'] = list(sources)
    if resolution is not None:
        content['Resolution'] = f'Grid of the preprocessed series (res-{resolution})'
    if density is not None:
        content['Density'] = f'That of the preprocessed series (den-{density})'
    return content | {key: value for key, value in fields.items() if value is not None}


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    content: dict[str, Any] = json.loads(file.read_text('utf-8'))
    return content


def _read_license(bids_dir: Path) -> str:
    return str(_read(bids_dir / 'dataset_description.json').get('License', 'n/a'))


def _write_ignore(path: Path) -> None:
    lines = set(path.read_text('utf-8').splitlines()) if path.exists() else set()
    write_text(path, '\n'.join(sorted(lines | set(BIDSIGNORE))) + '\n')


def _write_descriptions(folder: Path) -> None:
    """List the ``desc`` of the files that are there."""
    files = [
        file
        for kind in ('sub-*', 'stimuli')
        for file in folder.glob(f'{kind}/**/*_desc-*')
        if not {'figures', 'log'} & set(file.relative_to(folder).parts)
    ]
    found = {x[1] for file in files if (x := re.search(r'_desc-([0-9a-zA-Z+]+)_', file.name))}
    forms = {form_of(file) for file in files if _OF_COLUMNS.search(file.name)}
    form = forms.pop() if len(forms) == 1 else None
    rows = [(f'desc-{name}', in_nouns(_meaning(name), form)) for name in sorted(found)]
    write_tsv(folder / 'descriptions.tsv', pd.DataFrame(rows, columns=['desc_id', 'description']))


def _meaning(name: str) -> str:
    """Say what a ``desc`` means; a model may be followed by one of its feature spaces."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    own = {**DESCRIPTIONS, **own_descriptions()}
    known = own.get(name) or declared('descriptions', name)
    if known:
        return str(known)
    models = sorted((key for key in own if name.startswith(key)), key=len)
    if not models:
        return OF_ITS_KIND
    return OF_FEATURES.format(model=own[models[-1]], space=name[len(models[-1]) :])


def pybids_config() -> str:
    """Return the path of a pybids configuration that knows the entities of our outputs.

    ``BIDSLayout(out, is_derivative=True, config=['bids', 'derivatives', pybids_config()])``
    """
    return str(resources.files('bids_neurodecode') / 'data' / 'pybids.json')
