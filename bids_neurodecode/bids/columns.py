"""Which column of published events names what was shown: the one whose values are files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bids_neurodecode.bids.rows import NUMBER
from bids_neurodecode.bids.stimulusfolder import StimulusFolder, has_extension
from bids_neurodecode.bids.timing import NO_STIM_FILE, TextTable
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched

DOUBT = (
    'The values of several columns of {file} are files below {folder}: {columns}. Say which names '
    'what was shown: events.stimulus_column = "{first}".'
)
NUMBERS = (
    'The numbers in {columns} of {file} are names of files below {folder} (such as {found!r}), '
    'and may be anything else as well. If they name what was shown, say so: '
    'events.stimulus_column = "{first}".'
)
NOT_THERE = ', and no other column names files below {folder}'
NO_FOLDER = ', and there is no folder {folder}: give the folder of the stimuli with --stimuli-dir'
NOT_GOT = (
    ', and of the files that the column {column!r} names (first: {name!r}) none is below '
    '{folder}: get them, or give their folder with --stimuli-dir'
)
FOUND_COLUMN = (
    'What was shown is taken from the column {column!r} of the events: its values are files below '
    '{folder}.'
)
ALIKE = ' (The column(s) {others} name the same files.)'
MISSING_WORDS = frozenset({'nan', 'none', 'null', 'na'})
"""Ways in which programs write that a value is missing, beside the n/a of BIDS."""
NAME_LENGTH = 6
"""Numbers of so many digits are names (of COCO, ImageNet), and no answers or conditions."""
NOT_NAMES = frozenset({'onset', 'duration', 'sample', 'part', 'protocol', 'film_onset'})


@dataclass(frozen=True)
class Columns:
    """The columns of some events, and which of them name files."""

    tables: Mapping[Path, TextTable]
    folder: StimulusFolder

    @property
    def _first(self) -> Path:
        return next(iter(self.tables))

    def choose(self) -> tuple[str, str]:
        """Return the column that names what was shown, and a note where it was looked for."""
        if any(name is not None for t in self._each for name in t.columns.get('stim_file', ())):
            return 'stim_file', ''
        able = {name: self._files_of(name) for name in self._names}
        named = [x for x, files in able.items() if files and self._like_files(x)]
        named = named or [x for x, files in able.items() if files]
        sure = [x for x in named if not all(map(_is_number, self._values(x)))]
        if not sure and named:
            (found, *_) = able[named[0]].values()
            raise InputError(
                NUMBERS.format(
                    columns=', '.join(map(repr, named)),
                    file=self._first,
                    folder=self.folder.path,
                    found=found,
                    first=named[0],
                )
            )
        if not sure:
            raise InputError(NO_STIM_FILE.format(file=self._first, also=self._why_not()))
        same = [x for x in sure if self._resolved(x) == self._resolved(sure[0])]
        if len(same) < len(sure):
            raise InputError(
                DOUBT.format(
                    file=self._first,
                    folder=self.folder.path,
                    columns=', '.join(map(repr, sure)),
                    first=sure[0],
                )
            )
        note = FOUND_COLUMN.format(column=sure[0], folder=self.folder.path)
        others = ', '.join(map(repr, sure[1:]))
        return sure[0], note + (ALIKE.format(others=others) if others else '')

    def any_names(self) -> list[str]:
        """Return the columns whose values are files, or read as names of images or films."""
        return [x for x in self._names if self._like_files(x) or self._files_of(x)]

    @property
    def _each(self) -> Iterable[TextTable]:
        return self.tables.values()

    @property
    def _names(self) -> list[str]:
        names = dict.fromkeys(name for table in self._each for name in table.columns)
        return [name for name in names if name not in NOT_NAMES]

    def _values(self, column: str) -> list[str]:
        """Return the different values of a column, without those that stand for none."""
        values = dict.fromkeys(v for table in self._each for v in table.columns.get(column, ()))
        return [v for v in values if v is not None and v.lower() not in MISSING_WORDS]

    def _like_files(self, column: str) -> bool:
        values = self._values(column)
        return bool(values) and 2 * sum(map(has_extension, values)) >= len(values)

    def _files_of(self, column: str) -> dict[str, str]:
        """Return the files that values name; none where most values name none."""
        values = self._values(column)
        like_files = self._like_files(column)
        able = [v for v in values if has_extension(v)] if like_files else values
        found = {v: files[0] for v in able if (files := self.folder.candidates(v))}
        return found if like_files or 2 * len(found) >= len(values) else {}

    def _resolved(self, column: str) -> list[str]:
        """Return the file that each row of all tables names."""
        files = self._files_of(column)
        return [
            files.get(value or '', '')
            for table in self._each
            for value in table.columns.get(column, [None] * len(table))
        ]

    def _why_not(self) -> str:
        check_fetched(self.folder.path)
        if not self.folder.path.is_dir():
            return NO_FOLDER.format(folder=self.folder.path)
        for name in self._names:
            if self._like_files(name):
                first = next(v for v in self._values(name) if has_extension(v))
                return NOT_GOT.format(column=name, name=first, folder=self.folder.path)
        return NOT_THERE.format(folder=self.folder.path)


def _is_number(value: str) -> bool:
    return bool(NUMBER.match(value)) and len(value) < NAME_LENGTH
