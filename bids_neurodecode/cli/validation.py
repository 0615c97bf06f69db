"""The schema validator, run on the raw dataset, and what it found in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_neurodecode.errors import InputError, ResourceError
from bids_neurodecode.fetched import stand_in

VALIDATOR = 'bids-validator-deno'
NO_VALIDATOR = (
    'The schema validator ({name}) is not installed. Install it, or pass --skip-bids-validation.'
)
VALIDATOR_FAILED = (
    'Warning: the schema validator could not read {folder} ({reason}). What is read of it was '
    'checked all the same.'
)
NOT_VALID = (
    'Warning: {what} is not valid BIDS: {n} error(s), first {code} at {location} (all of them: '
    '{name} {folder}). What is read of it was checked on its own, so that this stops nothing.'
)


def validate_dataset(folder: Path) -> dict[str, str]:
    """Run the validator.

    Parameters
    ----------
    folder
        The raw dataset (its derivatives are not entered).

    Returns
    -------
    dict
        Participant label to one line, for errors in that participant's files; '' for those in
        files of no one alone. Files whose content was not fetched are passed over.

    Raises
    ------
    ResourceError
        If there is no validator.
    """
    try:
        found = _errors(folder)
    except InputError as error:
        return {'': str(error)}
    by_owner: dict[str, list[Mapping[str, Any]]] = {}
    for issue in found:
        location = str(issue.get('location', ''))
        if stand_in(folder / location.lstrip('/')) is not None:
            continue  # nothing is known of it; what is read of these is refused on its own
        owner = re.match(r'/sub-([0-9a-zA-Z+]+)/', location)
        by_owner.setdefault(owner[1] if owner else '', []).append(issue)
    return {label: _line(folder, label, issues) for label, issues in by_owner.items()}


def _line(folder: Path, label: str, issues: Sequence[Mapping[str, Any]]) -> str:
    first = issues[0]
    code = ' '.join(str(first[key]) for key in ('code', 'subCode') if first.get(key))
    return NOT_VALID.format(
        what=f'sub-{label}' if label else folder,
        folder=folder,
        n=len(issues),
        code=code,
        location=first.get('location', 'the dataset'),
        name=VALIDATOR,
    )


def _errors(folder: Path) -> list[Mapping[str, Any]]:
    beside = Path(sys.executable).parent / VALIDATOR
    program = str(beside) if beside.is_file() else shutil.which(VALIDATOR)
    if program is None:
        raise ResourceError(NO_VALIDATOR.format(name=VALIDATOR))
    result = subprocess.run(
        [program, str(folder), '--format', 'json', '--ignoreWarnings'],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'NO_COLOR': '1', 'DENO_NO_UPDATE_CHECK': '1'},
    )
    try:
        issues: list[Mapping[str, Any]] = json.loads(result.stdout)['issues']['issues']
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        lines = (result.stderr or result.stdout or 'it said nothing').strip().splitlines()
        raise InputError(VALIDATOR_FAILED.format(folder=folder, reason=lines[-1])) from error
    return [issue for issue in issues if issue.get('severity') == 'error']
