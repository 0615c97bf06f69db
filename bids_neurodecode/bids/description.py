"""What a folder says it is: ``dataset_description.json`` of raw and derived datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_neurodecode.bids.entities import natural_key
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.fetched import check_fetched, stand_in

NO_FOLDER = 'There is no folder {folder}. Give the folder of a BIDS dataset.'
NO_DESCRIPTION = (
    'No dataset_description.json in {folder}. Give the top folder of a BIDS dataset, or add the '
    'file with "Name" and "BIDSVersion".'
)
BAD_DESCRIPTION = 'Cannot read {file}: {reason}. It must be a JSON object; mend it.'
NO_FIELD = '{file} lacks "{field}". Add it, as BIDS asks.'
NOT_RAW = (
    '{folder} is a derivative dataset, says its dataset_description.json. '
    'Give the raw dataset as BIDS_DIR, and this one with --derivatives.'
)
EMPTY_DATASET = 'No participant (sub-* folder) in {folder}. Give the top folder of the dataset.'
NOT_DERIVATIVE = (
    '{folder} is not a derivative dataset: {file} does not say "DatasetType": "derivative". '
    'Add it, or give another folder with --derivatives.'
)
OLD_DESCRIPTION = (
    '{file} has no "DatasetType" (it is from before BIDS 1.4) and was taken for that of a '
    'derivative dataset by its "PipelineDescription".'
)
NOT_SAID = '{folder} was left out: {file} does not say "DatasetType": "derivative".'
NO_DERIVATIVES = (
    'No derivatives with preprocessed BOLD (desc-preproc_bold) in {folder}.{left_out} '
    'Run fMRIPrep first, or name its output with --derivatives NAME=PATH.'
)
LEFT_OUT = '{folder} was left out: its {file} was not fetched ({reason}).'
UNKNOWN_DERIVATIVE = (
    'No derivatives are called {name!r}. Known: {known}. Add them with --derivatives {name}=PATH.'
)


def read_description(folder: Path) -> dict[str, Any]:
    """Read ``dataset_description.json``.

    Raises
    ------
    InputError
        If the folder or the file is not there, or the file is not a JSON object.
    """
    if not folder.is_dir():
        raise InputError(NO_FOLDER.format(folder=folder))
    file = folder / 'dataset_description.json'
    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_DESCRIPTION.format(folder=folder))
    return read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        If the file cannot be read, was not fetched, or holds something else.
    """
    check_fetched(file)
    try:
        content = json.loads(file.read_text('utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(BAD_DESCRIPTION.format(file=file, reason=reason)) from error
    if not isinstance(content, dict):
        reason = f'it holds a {type(content).__name__}'
        raise InputError(BAD_DESCRIPTION.format(file=file, reason=reason))
    return content


def check_raw(folder: Path) -> tuple[str, ...]:
    """Check that a folder is a raw dataset and return its participants' labels, sorted.

    Raises
    ------
    InputError
        If it is none, or holds no participant.
    """
    description = read_description(folder)
    for field in ('Name', 'BIDSVersion'):
        if field not in description:
            raise InputError(
                NO_FIELD.format(file=folder / 'dataset_description.json', field=field)
            )
    if is_derivative(description):
        raise InputError(NOT_RAW.format(folder=folder))
    labels = participants_in(folder)
    if not labels:
        raise InputError(EMPTY_DATASET.format(folder=folder))
    return labels


def is_derivative(description: Mapping[str, Any]) -> bool:
    """Tell whether a description is that of a derived dataset.

    ``DatasetType`` came with BIDS 1.4; before, ``PipelineDescription`` stood in derivatives alone.
    """
    old = 'derivative' if 'PipelineDescription' in description else 'raw'
    return bool(description.get('DatasetType', old) == 'derivative')


def _notes_of(folder: Path) -> list[str]:
    file = folder / 'dataset_description.json'
    old = 'DatasetType' not in read_description(folder)
    return [OLD_DESCRIPTION.format(file=file)] if old else []


def check_derivative(folder: Path) -> None:
    """Check that a folder is a derived dataset.

    Raises
    ------
    InputError
        If its description does not say so.
    """
    if not is_derivative(read_description(folder)):
        file = folder / 'dataset_description.json'
        raise InputError(NOT_DERIVATIVE.format(folder=folder, file=file.name))


def participants_in(folder: Path) -> tuple[str, ...]:
    """Return the labels of the ``sub-*`` folders, sorted as people count."""
    labels = (p.name.removeprefix('sub-') for p in folder.glob('sub-*') if p.is_dir())
    return tuple(sorted(labels, key=natural_key))


def find_derivatives(
    bids_dir: Path, given: Mapping[str, Path], betas_from: str | None = None
) -> tuple[dict[str, Path], list[str]]:
    """Return the derived datasets to read by name, and what to tell about the choice.

    Parameters
    ----------
    bids_dir
        The raw dataset, below which they are looked for when none is given.
    given
        Datasets named by the user; then no other is read.
    betas_from
        Name of the one that holds precomputed betas (it needs no preprocessed BOLD).

    Raises
    ------
    InputError
        If one that was named is no derived dataset, or none is found.
    ArgumentsError
        If ``betas_from`` is the name of none.
    """
    if given:
        for folder in given.values():
            check_derivative(folder)
        found: dict[str, Path] = dict(given)
        notes = [note for folder in given.values() for note in _notes_of(folder)]
        left_out: list[str] = []
    else:
        found, notes, left_out = _look_below(bids_dir / 'derivatives', betas_from)
        notes += left_out
        if not found:
            for folder in (
                bids_dir / 'derivatives',
                *sorted((bids_dir / 'derivatives').glob('*')),
            ):
                check_fetched(folder / 'dataset_description.json')
    if betas_from is not None and betas_from not in found:
        known = ', '.join(found) or 'none'
        raise ArgumentsError(UNKNOWN_DERIVATIVE.format(name=betas_from, known=known))
    if not found:
        reasons = ''.join(f' {reason}' for reason in left_out)
        folder = bids_dir / 'derivatives'
        raise InputError(NO_DERIVATIVES.format(folder=folder, left_out=reasons))
    return found, notes


def _look_below(
    folder: Path, betas_from: str | None
) -> tuple[dict[str, Path], list[str], list[str]]:
    found: dict[str, Path] = {}
    notes: list[str] = []
    left_out: list[str] = []
    for child in sorted(folder.glob('*')):
        file = child / 'dataset_description.json'
        if (reason := stand_in(file)) is not None:
            notes.append(LEFT_OUT.format(folder=child, file=file.name, reason=reason))
            continue
        if not file.is_file():
            continue
        if not is_derivative(read_description(child)):
            left_out.append(NOT_SAID.format(folder=child, file=file))
        elif child.name == betas_from or _holds_bold(child):
            found[child.name] = child
            notes += [f'Derivatives {child.name!r} were found in {folder}.', *_notes_of(child)]
    return found, notes, left_out


def _holds_bold(folder: Path) -> bool:
    patterns = ('sub-*/func/*desc-preproc_bold.nii*', 'sub-*/ses-*/func/*desc-preproc_bold.nii*')
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)
