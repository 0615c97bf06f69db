"""The filter file: which of several files are taken, by pybids' names of entities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_neurodecode.bids.entities import entity_names
from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, raised_as
from bids_neurodecode.text import did_you_mean

QUERIES: Mapping[str, Mapping[str, Any]] = {
    'bold': {
        'suffix': 'bold',
        'desc': 'preproc',
        'extension': ['.nii', '.nii.gz', '.func.gii', '.dtseries.nii', '.ptseries.nii'],
    },
    'parcels': {'suffix': 'timeseries', 'stat': 'mean', 'extension': ['.tsv', '.ptseries.nii']},
    'mask': {'suffix': 'mask', 'desc': 'brain', 'extension': ['.nii', '.nii.gz']},
    'confounds': {
        'suffix': ['timeseries', 'regressors'],
        'desc': 'confounds',
        'extension': '.tsv',
    },
    'events': {'suffix': 'events', 'extension': '.tsv'},
}
"""What is looked for, as in queries of pybids; a filter adds keys or replaces values."""

NO_FILTER = 'There is no filter file {file}. Check --bids-filter-file.'
BAD_FILTER = (
    'Cannot read the filters in {file}: {reason}. '
    'Write a JSON object of objects, such as {{"bold": {{"session": "a"}}}}.'
)
UNKNOWN_QUERY = 'Unknown query {key!r} in {file}.{near} Known: {known}.'
UNKNOWN_ENTITY = (
    'Unknown entity {key!r} of the query {query!r} in {file}.{nearest} Known: {known}.'
)
BAD_VALUE = (
    'The value of {query}.{key} in {file} is of a wrong type. Use text, a whole number, a list of '
    'them, or null (the entity is absent).'
)


def read_filters(file: Path) -> dict[str, dict[str, Any]]:
    """Read and check a filter file: ``{"bold": {"session": "a"}, ...}``.

    Parameters
    ----------
    file
        JSON; the outer keys are those of :data:`QUERIES`, the inner ones pybids' entities.

    Raises
    ------
    ArgumentsError
        If it cannot be read, or for an unknown key or a value of a wrong type.
    """
    if not file.is_file():
        raise ArgumentsError(NO_FILTER.format(file=file))
    with raised_as(ArgumentsError, BAD_FILTER, *BROKEN_TEXT, file=file):
        filters = json.loads(file.read_text('utf-8-sig'))
    if not isinstance(filters, dict) or not all(isinstance(v, dict) for v in filters.values()):
        reason = 'it is not an object of objects'
        raise ArgumentsError(BAD_FILTER.format(file=file, reason=reason))
    for query, wanted in filters.items():
        if query not in QUERIES:
            told = {'near': did_you_mean(query, QUERIES), 'known': ', '.join(QUERIES)}
            raise ArgumentsError(UNKNOWN_QUERY.format(key=query, file=file, **told))
        _check_entities(query, wanted, file)
    return filters


def query_of(name: str, filters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a query with its filter, to be asked of an index of files.

    Parameters
    ----------
    name
        Of the query, one of :data:`QUERIES`.
    filters
        Of the user, by query: labels by entity.
    """
    return {**QUERIES[name], **filters.get(name, {})}


def _check_entities(query: str, wanted: Mapping[str, Any], file: Path) -> None:
    known = sorted({*entity_names().values(), 'suffix', 'extension', 'datatype'})
    for key, value in wanted.items():
        if key not in known:
            raise ArgumentsError(
                UNKNOWN_ENTITY.format(
                    key=key,
                    query=query,
                    file=file,
                    nearest=did_you_mean(key, known),
                    known=', '.join(known),
                )
            )
        values = value if isinstance(value, list) else [value]
        if not all(_usable(v) for v in values):
            raise ArgumentsError(BAD_VALUE.format(query=query, key=key, file=file))


def _usable(value: Any) -> bool:
    # the index of pybids is of 64 bits
    return value is None or isinstance(value, str) or (type(value) is int and abs(value) < 2**63)
