"""Sums over participants of their series on the clock of the films, on disk.

A sum is built once for all participants of a call, one participant at a time and one run at a
time, and memory-mapped by who needs it: the mean of the others is the sum less the own series.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import CleanSettings
from bids_neurodecode.errors import DataError, NeurodecodeError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import common_mask, read_record, save_json
from bids_neurodecode.workflow.step import form_of

NOBODY = 'The series of no participant could be read for the sum over participants: {reasons}.'
NO_SHARED_VOXEL = 'The brain masks of {n} participants have no voxel in common ({labels}).'
LEFT_OUT = 'sub-{label} is not among the others: {reason}'
UNREADABLE = (NeurodecodeError, OSError, EOFError, ValueError, zlib.error)
"""What reading another participant's files may raise; that one is left out then."""

Showing = tuple[list[str], Float32Array]


@dataclass(frozen=True)
class TotalFacts:
    """Who is in a sum over participants, and who is not, and why."""

    labels: tuple[str, ...]
    left_out: dict[str, str]


class Source(Protocol):
    """A participant whose series can be read, run by run."""

    @property
    def label(self) -> str:
        """Of the participant."""
        ...

    @property
    def mask(self) -> VoxelMask:
        """Voxels of the series."""
        ...

    def showings(self) -> Iterator[Showing]:
        """Yield the moments of each film (as in the table of samples) and their volumes."""
        ...


@dataclass(frozen=True)
class FromInputs:
    """A participant's preprocessed series, cleaned here."""

    participant: ParticipantInput
    clean: CleanSettings

    @property
    def label(self) -> str:
        """Of the participant."""
        return self.participant.label

    @cached_property
    def mask(self) -> VoxelMask:
        """The voxels that all runs share."""
        return common_mask(self.participant.runs)

    def showings(self) -> Iterator[Showing]:
        """Yield the first presentation of each film, no delay taken out."""
        from bids_neurodecode.bids.trials import film_table
        from bids_neurodecode.systems.steps.parcels import clean_run

        table = first_showings(film_table(self.participant.runs))
        for number, rows in table.groupby('run', sort=True):
            run = self.participant.runs[int(str(number))]
            series = clean_run(run, self.mask, self.clean)
            for _, shown in rows.groupby('showing', sort=False):
                yield list(shown['stimulus'].astype(str)), on_clock(series, run, shown)


def on_clock(series: Float32Array, run: Any, shown: pd.DataFrame) -> Float32Array:
    """Put a run on the clock of one presentation, no delay taken out; NaN where there is none.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    run
        Files and facts of one run.
    shown
        Rows of the presentation: ``run_onset`` (s) of each of its volumes.
    """
    from bids_neurodecode.signals.delay import align_to_clock

    tr = run.repetition_time
    onset = float(shown['run_onset'].iloc[0])
    clock = align_to_clock(series, tr, onset, len(shown), tr, 0.0, start_time=run.start_time)
    return clock.values


def volumes_of(
    film: str, number: int, n_volumes: int, repetition_time: float, run_label: str
) -> pd.DataFrame:
    """Return the table of samples of a film that is a run of its own and begins with it.

    Parameters
    ----------
    film, number, run_label
        Its name, and the number and the label of the run.
    n_volumes, repetition_time
        How many, and seconds of each.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`~bids_neurodecode.bids.trials.film_table`.
    """
    onset = (np.arange(n_volumes) * repetition_time).round(6)
    names = [f'{film}#{row:05d}' for row in range(n_volumes)]
    facts = {'film': film, 'onset': onset, 'run': number, 'run_label': run_label}
    facts |= {'session': '1', 'showing': number, 'run_onset': onset}
    return pd.DataFrame({'stimulus': names, **facts})


def first_showings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that first show each part of each film.

    A run may go on where another ended, or a little before; one that starts where an earlier one
    started shows the film again.
    """
    starts = table.groupby('showing')['onset'].transform('first')
    earliest = table.groupby(['film', starts])['showing'].transform('min')
    rows = table[table['showing'] == earliest]
    rows = rows[~rows['stimulus'].duplicated()]
    # one piece of each presentation: what follows a part that was seen before is left out
    showing = rows['showing']
    steps = rows.index.to_series() - rows.groupby('showing').cumcount()
    return rows[steps == steps.groupby(showing).transform('first')]


@dataclass(frozen=True, eq=False)
class Total:
    """A sum over participants, mapped into memory.

    Parameters
    ----------
    values
        Shape (n_moments, n_voxels), float32.
    counts
        Participants that were measured at each moment.
    stimuli
        The moments, as in the column ``stimulus`` of the table of samples.
    moments
        Shape (n_films, 2, n_voxels): sums of time means, and of their squares.
    mask
        Voxels that all of them have.
    labels
        Who is in it.
    left_out
        Who is not, and why.
    """

    values: Float32Array
    counts: npt.NDArray[np.intp]
    stimuli: tuple[str, ...]
    moments: npt.NDArray[np.float64]
    mask: VoxelMask
    labels: tuple[str, ...]
    left_out: dict[str, str]

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Whether all were measured, (n_moments,)."""
        return np.asarray(self.counts == len(self.labels))

    @property
    def films(self) -> npt.NDArray[np.str_]:
        """The film of each moment."""
        return np.array([name.rsplit('#', 1)[0] for name in self.stimuli])

    @property
    def notes(self) -> tuple[str, ...]:
        """Who was left out, in words."""
        return tuple(
            LEFT_OUT.format(label=label, reason=reason) for label, reason in self.left_out.items()
        )

    def rows_of(self, stimuli: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the rows of moments, -1 where a moment is not there."""
        places = {name: row for row, name in enumerate(self.stimuli)}
        return np.array([places.get(name, -1) for name in stimuli], dtype=np.intp)


def get_total(
    sources: Sequence[Source], folder: Path, key: str, *, scale: Scale | None = None
) -> Total:
    """Open the sum over these participants; build it if nobody has.

    Parameters
    ----------
    sources
        Participants with the same films on the same grid.
    folder
        Where sums are kept.
    key
        Changes with anything that changes the sum.
    scale
        Applied to each participant's series before they are added.

    Raises
    ------
    DataError
        If nobody can be read, or they share no voxel.
    """
    from filelock import FileLock

    depends = f'{__version__}\n{form_of(TotalFacts)}\n{key}'
    place = folder / hashlib.sha256(depends.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix('.lock')):
        if not (place / 'total.json').exists():
            _build(sources, place, scale)
    return _open(place)


Scale = Callable[[Source, npt.NDArray[np.bool_]], Callable[[Float32Array], Float32Array]]
"""From a participant, and which of its voxels are shared, to what changes its series."""


def _build(sources: Sequence[Source], place: Path, scale: Scale | None) -> None:
    """Add up who can be read; whoever cannot is left out, and the sum begun again."""
    place.mkdir(parents=True, exist_ok=True)
    left_out: dict[str, str] = {}
    masks: dict[str, VoxelMask] = {}
    for source in sources:
        try:
            masks[source.label] = source.mask
        except UNREADABLE as error:
            left_out[source.label] = one_line(error)
    while True:
        kept = [source for source in sources if source.label not in left_out]
        if not kept:
            reasons = '; '.join(f'sub-{k}: {v}' for k, v in left_out.items())
            raise DataError(NOBODY.format(reasons=reasons))
        shared = np.logical_and.reduce([masks[source.label].mask for source in kept])
        if not shared.any():
            labels = ', '.join(source.label for source in kept)
            raise DataError(NO_SHARED_VOXEL.format(n=len(kept), labels=labels))
        mask = replace(masks[kept[0].label], mask=shared)
        failed = _add_all(kept, mask, place, scale)
        if failed is None:
            break
        left_out[failed[0]] = failed[1]
    mask.save(place / 'mask.nii.gz')
    facts = TotalFacts(tuple(source.label for source in kept), left_out)
    save_json(place / 'total.part', facts)
    (place / 'total.part').rename(place / 'total.json')


def _add_all(
    sources: Sequence[Source], mask: VoxelMask, place: Path, scale: Scale | None
) -> tuple[str, str] | None:
    """Write the sum of these participants; return who could not be read, and why."""
    sums = _Sums(place, mask.n_voxels)
    for source in sources:
        try:
            within = mask.mask[source.mask.mask]
            change = None if scale is None else scale(source, within)
            over_time: dict[str, tuple[npt.NDArray[np.float64], int]] = {}
            for stimuli, series in source.showings():
                if not stimuli:
                    continue
                film, first = stimuli[0].rsplit('#', 1)
                here = slice(int(first), int(first) + len(stimuli))
                values = series[:, within] if change is None else change(series[:, within])
                sums.grow(film, here.stop)
                # a censored volume has no voxel; a voxel without values spoils that voxel alone
                measured = np.asarray(np.isfinite(values).any(axis=1))
                sums.chunks[film][here] += np.where(measured[:, None], values, 0)
                sums.counts[film][here] += measured
                total, n = over_time.get(film, (np.zeros(mask.n_voxels), 0))
                total = total + values[measured].sum(axis=0, dtype=np.float64)
                over_time[film] = (total, n + int(measured.sum()))
            for film, (total, n) in over_time.items():
                mean = total / n if n else np.full_like(total, np.nan)
                sums.moments[film] += np.stack([mean, mean**2])
        except UNREADABLE as error:
            return source.label, one_line(error)
    sums.join()
    return None


@dataclass
class _Sums:
    """Sums over participants, film by film, on disk while they are made."""

    place: Path
    n_voxels: int
    chunks: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    counts: dict[str, npt.NDArray[np.intp]] = field(default_factory=dict)
    moments: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def grow(self, film: str, length: int) -> None:
        """Make room for a film: participants may have measured different shares of it."""
        known = len(self.counts.get(film, ()))
        if known >= length:
            return
        name = hashlib.sha256(film.encode()).hexdigest()[:8]
        file = self.place / f'film-{name}-{length}.npy'
        made = np.lib.format.open_memmap(file, 'w+', np.float32, (length, self.n_voxels))
        count = np.zeros(length, dtype=np.intp)
        if known:
            made[:known], count[:known] = self.chunks[film], self.counts[film]
        self.chunks[film], self.counts[film] = made, count
        self.moments.setdefault(film, np.zeros((2, self.n_voxels)))

    def join(self) -> None:
        """Put the films into one file, in order of their names."""
        films = sorted(self.chunks)
        size = (sum(len(self.chunks[film]) for film in films), self.n_voxels)
        values = np.lib.format.open_memmap(self.place / 'values.npy', 'w+', np.float32, size)
        start = 0
        stimuli: list[str] = []
        for film in films:
            values[start : start + len(self.chunks[film])] = self.chunks[film]
            start += len(self.chunks[film])
            stimuli += [f'{film}#{i:05d}' for i in range(len(self.chunks[film]))]
        values.flush()
        self.chunks.clear()
        for file in self.place.glob('film-*.npy'):
            file.unlink()
        np.save(self.place / 'counts.npy', np.concatenate([self.counts[x] for x in films]))
        np.save(self.place / 'moments.npy', np.stack([self.moments[x] for x in films]))
        np.save(self.place / 'stimuli.npy', stimuli)


def _open(place: Path) -> Total:
    facts = read_record(TotalFacts, place / 'total.json')
    return Total(
        np.load(place / 'values.npy', mmap_mode='r'),
        np.load(place / 'counts.npy'),
        tuple(np.load(place / 'stimuli.npy').tolist()),
        np.load(place / 'moments.npy', mmap_mode='r'),
        VoxelMask.load(place / 'mask.nii.gz'),
        facts.labels,
        facts.left_out,
    )
