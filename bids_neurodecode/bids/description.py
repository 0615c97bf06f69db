"""What a folder says it is: ``dataset_description.json`` of raw and derived datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_neurodecode.bids.entities import natural_key
from bids_neurodecode.bids.filters import QUERIES
from bids_neurodecode.bids.pipelines import holds_series, instead_of_series, wanted_series
from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, InputError, raised_as
from bids_neurodecode.fetched import check_fetched, read_fetched, stand_in
from bids_neurodecode.text import did_you_mean

NO_FOLDER = 'There is no folder {folder}. Give the folder of a BIDS dataset.'
NO_DESCRIPTION = (
    'No dataset_description.json in {folder}. Give the top folder of a BIDS dataset, or add the '
    'file with "Name" and "BIDSVersion".'
)
LARGEST_GB = 0.1
"""Of a description or sidecar."""
BAD_DESCRIPTION = 'Cannot read {file}: {reason}. It must be a JSON object; fix it.'
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
    'No derivatives with preprocessed BOLD ({desc}) in {folder}.{left_out} '
    'Run fMRIPrep first, or name its output with --derivatives NAME=PATH.'
)
NOT_THESE = 'No preprocessed BOLD ({desc}) in {folder}: {found}'
UNDESCRIBED = (
    '{folder} has no dataset_description.json and was taken for derivatives all the same, by the '
    'preprocessed series in it. Add the file ("Name", "BIDSVersion", "DatasetType": "derivative").'
)
BY_NAME, BY_SERIES = 'as its folder was named', 'by the preprocessed series beside it'
UNTYPED = (
    '{file} has no "DatasetType" and was taken for that of derivatives, {why}. '
    'Add "DatasetType": "derivative".'
)
LEFT_OUT = '{folder} was left out: its {file} was not fetched ({reason}).'
BROKEN = '{folder} was left out: {reason}'
UNKNOWN_DERIVATIVE = (
    'No derivatives are called {name!r}.{near} Known: {known}. Add them with '
    '--derivatives {name}=PATH.'
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
    twice: list[str] = []

    def note_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Keep the last of each, as JSON's readers do; called for the outermost object last."""
        values = dict(pairs)
        twice[:] = [key for key, value in pairs if repr(values[key]) != repr(value)]
        return values

    with raised_as(InputError, BAD_DESCRIPTION, *BROKEN_TEXT, file=file):
        text = read_fetched(file, LARGEST_GB).decode('utf-8-sig')
        content = json.loads(text, object_pairs_hook=note_twice)
    if isinstance(content, dict) and twice:
        reason = f'"{twice[0]}" is there twice, with different values'
        raise InputError(BAD_DESCRIPTION.format(file=file, reason=reason))
    if not isinstance(content, dict):
        reason = f'it holds a {type(content).__name__}'
        raise InputError(BAD_DESCRIPTION.format(file=file, reason=reason))
    return content


def name_of(folder: Path) -> str:
    """Return the name that a dataset gives itself, else that of its folder.

    A folder is often called after where it is mounted (``/data``), which tells a reader nothing.

    Raises
    ------
    InputError
        If the description is there and cannot be read.
    """
    file = folder / 'dataset_description.json'
    own = read_json(file).get('Name') if file.is_file() else None
    return ' '.join(str(own or '').split()) or folder.name


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


def _taken_for_derivatives(folder: Path, query: Mapping[str, Any]) -> list[str]:
    """Check a folder that the user named as derivatives; return what is odd about it.

    Raises
    ------
    InputError
        If there is no folder, it says that it is no derived dataset, or it says nothing and holds
        no preprocessed series either.
    """
    file = folder / 'dataset_description.json'
    check_fetched(file)
    if folder.is_dir() and not file.is_file() and holds_series(folder, query):
        return [UNDESCRIBED.format(folder=folder)]
    description = read_description(folder)
    if 'DatasetType' not in description:
        known = 'PipelineDescription' in description
        return [(OLD_DESCRIPTION if known else UNTYPED).format(file=file, why=BY_NAME)]
    if not is_derivative(description):
        raise InputError(NOT_DERIVATIVE.format(folder=folder, file=file.name))
    return []


def check_derivative(folder: Path) -> None:
    """Check that a folder is a derived dataset of this program.

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
    bids_dir: Path,
    given: Mapping[str, Path],
    betas_from: str | None = None,
    query: Mapping[str, Any] = QUERIES['bold'],
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
    query
        What is asked for of preprocessed series.

    Raises
    ------
    InputError
        If one that was named is no derived dataset, or none is found.
    ArgumentsError
        If ``betas_from`` is the name of none.
    """
    left_out: dict[Path, str] = {}
    if given:
        found: dict[str, Path] = dict(given)
        notes = [
            note for folder in given.values() for note in _taken_for_derivatives(folder, query)
        ]
    else:
        found, notes, left_out = _look_below(bids_dir / 'derivatives', betas_from, query)
        notes += left_out.values()
        if not found:
            for folder in _outputs(bids_dir / 'derivatives'):
                check_fetched(folder / 'dataset_description.json')
    if betas_from is not None and betas_from not in found:
        told = {'near': did_you_mean(betas_from, found), 'known': ', '.join(found) or 'none'}
        raise ArgumentsError(UNKNOWN_DERIVATIVE.format(name=betas_from, **told))
    if not found:
        folder = bids_dir / 'derivatives'
        desc = wanted_series(query)
        for child in _outputs(folder):
            if child not in left_out and (said := instead_of_series(child)):
                raise InputError(NOT_THESE.format(desc=desc, folder=child, found=said))
        reasons = ''.join(f' {reason}' for reason in left_out.values())
        raise InputError(NO_DERIVATIVES.format(desc=desc, folder=folder, left_out=reasons))
    return found, notes


def _look_below(
    folder: Path, betas_from: str | None, query: Mapping[str, Any]
) -> tuple[dict[str, Path], list[str], dict[Path, str]]:
    found: dict[str, Path] = {}
    notes: list[str] = []
    left_out: dict[Path, str] = {}
    any_asked = False
    for child in _outputs(folder):
        file = child / 'dataset_description.json'
        if (reason := stand_in(file)) is not None:
            notes.append(LEFT_OUT.format(folder=child, file=file.name, reason=reason))
            continue
        odd = []
        if file.is_file():
            try:
                description = read_description(child)
            except InputError as error:
                if child.name == betas_from or holds_series(child, query):
                    raise
                left_out[child] = BROKEN.format(folder=child, reason=error)
                continue
            if is_derivative(description):
                if 'DatasetType' not in description:
                    odd = [OLD_DESCRIPTION.format(file=file)]
            elif 'DatasetType' not in description and holds_series(child, query):
                odd = [UNTYPED.format(file=file, why=BY_SERIES)]
            else:
                left_out[child] = NOT_SAID.format(folder=child, file=file)
                continue
        else:
            odd = [UNDESCRIBED.format(folder=child)]
        asked = child.name == betas_from or holds_series(child, query)
        # masks and confounds of series that others cleaned or combined lie beside fMRIPrep's
        if asked or holds_series(child):
            name = child.name if child.name not in found else f'{child.parent.name}-{child.name}'
            found[name] = child
            any_asked |= asked
            notes += [f'Derivatives {name!r} were found in {child.parent}.', *odd]
    return (found, notes, left_out) if any_asked else ({}, [], left_out)


def _outputs(folder: Path) -> list[Path]:
    """Return the folders below ``derivatives`` that may be derived datasets.

    fMRIPrep writes into the folder that it is given, and before version 21 into one of its own in
    there: participants may be in ``derivatives`` itself, or two folders down.
    """
    here = [folder] if any(folder.glob('sub-*')) else []
    children = [p for p in sorted(folder.glob('*')) if not p.name.startswith('sub-')]
    if here or any(any(child.glob('sub-*')) for child in children):
        return [*here, *children]
    inner = [p for child in children for p in sorted(child.glob('*')) if any(p.glob('sub-*'))]
    return inner or children
