"""The schema validator, run on the raw dataset, and what it found in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

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

SORTED_BY = ('location', 'code', 'subCode')


class Validator:
    """The validator: once it was started, it works beside this process.

    As a context manager, it ends with its block at the latest.

    Parameters
    ----------
    folder
        The raw dataset (its derivatives are not entered).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._said: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._said is not None:
            self._said.cleanup()

    def start(self) -> None:
        """Start it, once.

        Raises
        ------
        ResourceError
            If there is no validator.
        """
        if self._process is not None:
            return
        beside = Path(sys.executable).parent / VALIDATOR
        program = str(beside) if beside.is_file() else shutil.which(VALIDATOR)
        if program is None:
            raise ResourceError(NO_VALIDATOR.format(name=VALIDATOR))
        # files take all that it says while nobody listens, as pipes do not
        self._said = tempfile.TemporaryDirectory(prefix='bids_neurodecode-')
        place = Path(self._said.name)
        with (place / 'out').open('wb') as out, (place / 'err').open('wb') as err:
            self._process = subprocess.Popen(
                [program, str(self.folder), '--format', 'json', '--ignoreWarnings'],
                stdout=out,
                stderr=err,
                env={**os.environ, 'NO_COLOR': '1', 'DENO_NO_UPDATE_CHECK': '1'},
            )

    def errors(self) -> list[Mapping[str, Any]]:
        """Wait for it, and return what it found.

        Raises
        ------
        InputError
            If it could not read the dataset.
        ResourceError
            If there is no validator.
        """
        self.start()
        assert self._process is not None
        assert self._said is not None
        self._process.wait()
        found, told = (
            (Path(self._said.name) / name).read_text('utf-8', errors='replace')
            for name in ('out', 'err')
        )
        try:
            issues: list[Mapping[str, Any]] = json.loads(found)['issues']['issues']
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            lines = (told or found or 'it said nothing').strip().splitlines()
            facts = {'folder': self.folder, 'reason': lines[-1]}
            raise InputError(VALIDATOR_FAILED.format(**facts)) from error
        errors = [issue for issue in issues if issue.get('severity') == 'error']
        # it reads files side by side, and tells what it finds in the order in which it does
        return sorted(errors, key=lambda issue: [str(issue.get(name, '')) for name in SORTED_BY])


def validate_dataset(folder: Path, validator: Validator | None = None) -> dict[str, str]:
    """Run the validator.

    Parameters
    ----------
    folder
        The raw dataset (its derivatives are not entered).
    validator
        Of it, which may have been started before.

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
    with validator or Validator(folder) as at_work:
        try:
            found = at_work.errors()
        except InputError as error:
            return {'': str(error)}
    by_owner: dict[str, list[Mapping[str, Any]]] = {}
    for issue in found:
        location = str(issue.get('location', ''))
        if stand_in(folder / location.lstrip('/')) is not None:
            continue  # nothing is known of it; what is read of these is refused on its own
        owner = re.match(r'/sub-([0-9a-zA-Z+]+)/', location)
        by_owner.setdefault(owner[1] if owner else '', []).append(issue)
    return {label: _line(folder, label, issues) for label, issues in sorted(by_owner.items())}


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
