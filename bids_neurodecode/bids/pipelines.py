"""What pipelines leave in a folder: the series that are read, or what is there in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.filters import QUERIES
from bids_neurodecode.bids.index import matches

OTHER_DESC = (
    'it holds series with {descs}. Ask for one of them with --bids-filter-file, as in '
    '{{"bold": {{"desc": {first}}}}}.'
)
OLD_NAMES = (
    'its files are named as fMRIPrep before 1.2 named them ({example}), which is not read. Run a '
    'newer fMRIPrep, or rename them as it would (..._space-T1w_desc-preproc_bold.nii.gz, '
    '..._desc-brain_mask.nii.gz, ..._desc-confounds_timeseries.tsv).'
)
MINIMAL = (
    'it holds what fMRIPrep --level minimal leaves ({example}): transforms and references, and no '
    'series. Finish them: fmriprep RAW OUT participant --level full --derivatives '
    'minimal={folder} --output-spaces T1w.'
)
_SERIES = ('sub-*/func/*_{suffix}.*', 'sub-*/ses-*/func/*_{suffix}.*', 'sub-*_{suffix}.*')
_INSTEAD = ('func/*', 'ses-*/func/*')


def wanted_series(query: Mapping[str, Any]) -> str:
    """Return what a query asks for, as it stands in names.

    Examples
    --------
    >>> wanted_series({'suffix': 'bold', 'desc': 'preproc'})
    'desc-preproc_bold'
    """
    desc = query.get('desc')
    if desc is None:
        return 'bold without desc'
    descs = desc if isinstance(desc, list) else [desc]
    return ' or '.join(f'desc-{label}_{query.get("suffix", "bold")}' for label in descs)


def holds_series(folder: Path, query: Mapping[str, Any] = QUERIES['bold']) -> bool:
    """Tell whether a folder holds a series of any participant that a query asks for.

    Filters of which runs are taken do not count: a folder of other runs is one of derivatives too.

    Parameters
    ----------
    folder
        Of derivatives.
    query
        Labels by entity.
    """
    kind = {key: query[key] for key in ('suffix', 'desc', 'extension') if key in query}
    kinds = {'bold': kind, 'timeseries': QUERIES['parcels']}
    return any(
        matches(file.name, wanted)
        for suffix, wanted in kinds.items()
        for pattern in _SERIES
        for file in folder.glob(pattern.format(suffix=suffix))
    )


def instead_of_series(folder: Path) -> str:
    """Say what a folder holds in the place of preprocessed volumes, and the way out.

    Returns
    -------
    str
        Empty where there is nothing to say.
    """
    descs: dict[str, Path] = {}
    found: dict[str, Path] = {}
    for file in _files(folder):
        name = file.name
        if name.endswith(('_bold.nii.gz', '_bold.nii', '_bold.dtseries.nii', '_bold.func.gii')):
            descs.setdefault(parse_entities(file).get('desc', ''), file)
        elif name.endswith(('_preproc.nii.gz', '_preproc.nii')) and '_bold_' in name:
            found.setdefault('old', file)
        elif re.search(r'_desc-(hmc|coreg)_boldref\.nii(\.gz)?$', name):
            found.setdefault('minimal', file)
    if descs:
        named = [f'desc-{desc}' if desc else 'no desc in their names' for desc in sorted(descs)]
        first = sorted(descs)[0]
        text = f'"{first}"' if first else 'null'
        return OTHER_DESC.format(descs=', '.join(named), first=text)
    if 'old' in found:
        return OLD_NAMES.format(example=found['old'].name)
    if 'minimal' in found:
        return MINIMAL.format(example=found['minimal'].name, folder=folder)
    return ''


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _INSTEAD:
        yield from folder.glob(f'sub-*/{pattern}')
