"""The Algonauts Project 2025 Challenge as it is published: series of parcels, an array an episode.

What is used of the layout, below the folder that is given as BIDS_DIR::

    fmri/sub-XX/func/sub-XX_task-{friends,movie10}_space-*_atlas-*_parcel-*_bold.h5
        ses-NNN_task-EPISODE[_run-N]      volumes x parcels
    stimuli/movies/...                    films, their names end in that of the episode

Each episode is a run of its own. Its series are put in the work folder as images of parcels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.entities import natural_key
from bids_neurodecode.bids.features import film_features
from bids_neurodecode.bids.layouts import NO_PLACE, keep_table
from bids_neurodecode.bids.masks import make_mask
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.request import Request, read_each
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.bids.sink import atomic
from bids_neurodecode.bids.stimuli import FILMS
from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.headers import check_dataset
from bids_neurodecode.spaces import Space
from bids_neurodecode.stimuli.films import check_film_once

REPETITION_TIME = 1.49
TASK = 'film'
"""Where series of both tasks go into one model."""
NAME = re.compile(r'^ses-(?P<ses>\w+?)_task-(?P<episode>[A-Za-z0-9]+)(?:_run-(?P<run>\d+))?$')
FILE = re.compile(
    r'sub-(?P<sub>[A-Za-z0-9]+)_task-(?P<task>[A-Za-z0-9]+)_space-(?P<space>[A-Za-z0-9]+)'
    r'_atlas-(?P<atlas>[A-Za-z0-9]+)_parcel-(?P<seg>[A-Za-z0-9]+)_(?:desc-\w+_)?bold\.h5$'
)
PATTERNS = ('fmri/sub-*/func/*_parcel-*_bold.h5', 'sub-*/func/*_parcel-*_bold.h5')

NO_FILES = 'There are no series (*_bold.h5) of {asked} in {folder}. Download the challenge data.'
BAD_FILE = 'Cannot read {file}: {reason}. Download the file again.'
BAD_ARRAY = (
    '{file} holds {name} of shape {shape}; numbers of volumes x parcels were expected. Download '
    'the file again.'
)
NO_FILM = (
    'There is no film of the episode {episode} below {folder} (a name that ends in '
    '{episode}.mkv). Download it, name its folder with --stimuli-dir, or give features of the '
    'episodes: features.table = "{{film}}.npy", {{film}} being {episode}. Without either, '
    '--level responses cleans and aligns the series, measures how well they agree, and stops.'
)
FILM_SHORT = (
    'The film {film} lasts {lasts:.1f} s, and {episode} has {volumes} volumes of 1.49 s. Give the '
    'film as it was shown.'
)
TOLERANCE = 10.0
"""Seconds that series may go on after their film."""
IN_PLACE = (
    'The folder is the Algonauts 2025 Challenge in its own layout: series of parcels, which are '
    'numbered from 1 in the order of the challenge, with a volume every 1.49 s.'
)
FOUND = 'sub-{label}: {n} episodes ({tasks}), {volumes} volumes, {parcels} parcels, TR 1.49 s.'


def find_algonauts2025(request: Request) -> DatasetInput:
    """Find what one call reads of the challenge's layout, and put the series in the work folder.

    Raises
    ------
    InputError
        If there are no series, or no participant can be processed.
    """
    files = _files(request)
    found, failures = read_each(files, lambda label: _participant(request, label, files[label]))
    notes = [
        FOUND.format(
            label=person.label,
            n=len(person.runs),
            tasks=', '.join(files[person.label]),
            volumes=sum(run.n_volumes for run in person.runs),
            parcels=read_header(person.runs[0].bold).grid.shape[0],
        )
        for person in found
    ]
    return DatasetInput(request.bids_dir, {}, tuple(found), failures, (IN_PLACE, *notes))


def _files(request: Request) -> dict[str, dict[str, Path]]:
    """Return the file of each task by participant."""
    root = request.bids_dir
    files: dict[str, dict[str, Path]] = {}
    for file in sorted(each for pattern in PATTERNS for each in root.glob(pattern)):
        named = FILE.match(file.name)
        if named is None or (request.tasks and named['task'] not in request.tasks):
            continue
        if not request.participants or named['sub'] in request.participants:
            files.setdefault(named['sub'], {})[named['task']] = file
    missing = [label for label in request.participants if label not in files]
    if missing or not files:
        asked = ', '.join(f'sub-{label}' for label in missing) or 'any participant'
        raise InputError(NO_FILES.format(asked=asked, folder=root))
    return files


def _participant(request: Request, label: str, files: Mapping[str, Path]) -> ParticipantInput:
    task = next(iter(files)) if len(files) == 1 else TASK
    folder = request.stimuli_dir or request.bids_dir / 'stimuli'
    films = {
        film.stem: film
        for film in sorted(folder.rglob('*'))
        if film.suffix.lower() in FILMS and film.is_file()
    }
    runs = []
    for file in files.values():
        for name, values in _episodes(file).items():
            named = NAME.match(name)
            if named is not None:
                runs.append(_run(request, file, task, named, values, films))
    runs.sort(key=lambda run: natural_key(' '.join(run.entities.values())))
    shown = sorted({name for run in runs for name in _shown(run)})
    features = film_features(runs, folder, request.features)
    for run in runs:
        for name in _shown(run):
            there = name in features or (folder / name).is_file()
            if request.needs_films and not there:
                raise InputError(NO_FILM.format(episode=name, folder=folder))
    return ParticipantInput(
        label=label,
        task=task,
        paradigm='movie',
        runs=tuple(runs),
        stimuli_dir=folder,
        stimuli=tuple(shown),
        features=features,
        layout='algonauts2025',
    )


def _shown(run: RunInput) -> list[str]:
    from bids_neurodecode.bids.timing import stimuli_of

    return list(dict.fromkeys(stimuli_of(run.events)))


def _episodes(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read the series of all episodes, (n_volumes, n_parcels) each."""
    import h5py

    check_fetched(file)
    found: dict[str, npt.NDArray[np.float32]] = {}
    with (
        raised_as(InputError, BAD_FILE, OSError, KeyError, AttributeError, file=file),
        h5py.File(file, 'r') as opened,
    ):
        for name in sorted(opened, key=natural_key):
            array = opened[name]
            check_dataset(array, file)
            if array.ndim != 2 or array.shape[0] < 2 or array.dtype.kind not in 'fiu':
                shape = 'x'.join(map(str, array.shape))
                raise InputError(BAD_ARRAY.format(file=file, name=name, shape=shape))
            found[name] = np.asarray(array, dtype=np.float32)
    return found


def _run(
    request: Request,
    file: Path,
    task: str,
    named: re.Match[str],
    values: npt.NDArray[np.float32],
    films: Mapping[str, Path],
) -> RunInput:
    """Return the record of one episode, its series and events in the work folder."""
    about = FILE.match(file.name)
    assert about is not None
    episode = named['episode']
    entities = {'sub': about['sub'], 'ses': named['ses'], 'task': task, 'acq': episode}
    entities |= {} if named['run'] is None else {'run': named['run']}
    stem = '_'.join(f'{key}-{value}' for key, value in entities.items())
    label = f'{about["space"]}:atlas-{about["atlas"]}:seg-{about["seg"]}'
    bold = _keep_series(request, stem, label, values)
    film, length = episode, len(values) * REPETITION_TIME
    path = next((p for s, p in films.items() if s == episode or s.endswith(f'_{episode}')), None)
    if path is not None:
        folder = request.stimuli_dir or request.bids_dir / 'stimuli'
        film = path.relative_to(folder).as_posix()
        lasts = check_film_once(path).duration
        if lasts < length - TOLERANCE:
            told = {'film': path, 'episode': episode, 'volumes': len(values)}
            raise InputError(FILM_SHORT.format(lasts=lasts, **told))
        length = min(length, lasts)
    table = pd.DataFrame(
        {'onset': [0.0], 'duration': [length], 'trial_type': ['film'], 'stim_file': [film]}
    )
    root = request.bids_dir
    return RunInput(
        entities=entities,
        bold=bold,
        mask=make_mask(bold, request.made_dir, root),
        events=keep_table(request.made_dir, f'{stem}_events.tsv', table, root),
        confounds=None,
        repetition_time=REPETITION_TIME,
        n_volumes=len(values),
        space=about['space'],
        parcellation={'atlas': about['atlas'], 'seg': about['seg']},
        sources=(bids_uri('raw', file, root),),
    )


def _keep_series(request: Request, stem: str, label: str, values: npt.NDArray[np.float32]) -> Path:
    """Put series of parcels in the work folder, in a folder named by their content."""
    from nibabel.cifti2.cifti2_axes import ScalarAxis

    if request.made_dir is None:
        raise InputError(NO_PLACE.format(folder=request.bids_dir))
    key = hashlib.sha256(values.tobytes()).hexdigest()[:12]
    path = request.made_dir / key / f'{stem}_bold.nii'
    if path.exists():
        return path
    n = values.shape[1]
    digits = len(str(n))
    names = [f'parcel{number:0{digits}d}' for number in range(1, n + 1)]
    image = Space(ScalarAxis(names), 'parcels', label).image(values.T.reshape(n, 1, 1, -1))
    image.header.set_zooms((1, 1, 1, REPETITION_TIME))
    image.header.set_xyzt_units('mm', 'sec')
    with atomic(path) as temporary:
        image.to_filename(temporary)
    return path
