"""Aligned series that earlier calls left in the output folder, read back on the films' clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import load_image, one_each, sidecar_of
from bids_neurodecode.systems.movie.steps.totals import Showing
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import read_json


@dataclass(frozen=True)
class Shown:
    """A presentation, as the sidecar of an aligned series tells it."""

    film: str
    n_volumes: int
    onset: float
    """Second of the film that it starts with."""

    def to_json(self) -> dict[str, Any]:
        """Return what the sidecar says: where in the film it starts, if later."""
        told = {'StimFile': self.film, 'Volumes': self.n_volumes}
        return told | ({'FilmOnset': self.onset} if self.onset else {})

    def first_sample(self, repetition_time: float) -> int:
        """Return the number of its first volume in the film, of ``repetition_time`` seconds."""
        return round(self.onset / repetition_time)


@dataclass(frozen=True)
class AlignedFacts:
    """What the sidecar of an aligned series says: of its clock (s), its values, its films."""

    repetition_time: float
    delay: float
    scaling: str
    films: tuple[Shown, ...]

    @classmethod
    def read(cls, file: Path) -> AlignedFacts:
        """Read the sidecar of a series."""
        told = read_json(sidecar_of(file))
        return cls(
            float(told['RepetitionTime']),
            float(told['Delay']),
            told.get('Scaling', ''),
            tuple(
                Shown(film['StimFile'], film['Volumes'], float(film.get('FilmOnset', 0.0)))
                for film in told['Films']
            ),
        )


@dataclass(frozen=True)
class FromAligned:
    """A participant's ``desc-aligned`` series.

    With the delay put in again, moment t of a film holds the response of then, as in the series
    that linear models are fitted to. Where the delay is no multiple of the repetition time, that
    is one more interpolation.
    """

    label: str
    files: tuple[Path, ...]
    delayed: bool = True
    """Whether the delay is put in again; else moment t holds the response of t + delay."""

    @cached_property
    def mask(self) -> VoxelMask:
        """The voxels that hold a series in all files."""
        inside = []
        for file in self.files:
            image = load_image(file)
            volumes = np.asanyarray(image.dataobj, np.float32)
            inside.append(np.isfinite(volumes).any(axis=3) & (volumes != 0).any(axis=3))
        return VoxelMask.of(image, np.logical_and.reduce(inside))

    @cached_property
    def facts(self) -> tuple[AlignedFacts, ...]:
        """The sidecar of each file."""
        return tuple(map(AlignedFacts.read, self.files))

    @property
    def films(self) -> tuple[str, ...]:
        """All films that were seen, sorted."""
        return tuple(sorted({shown.film for facts in self.facts for shown in facts.films}))

    def aligned(self) -> Iterator[tuple[list[str], Float32Array, AlignedFacts]]:
        """Yield what is first shown of each film as it is stored, and the sidecar of its file.

        Moments of the film come first, as they are called in tables of samples.
        """
        seen: set[tuple[str, float]] = set()
        moments: set[str] = set()
        for file, facts in zip(self.files, self.facts, strict=True):
            start = 0
            volumes = self.mask.extract(np.asanyarray(load_image(file).dataobj, np.float32))
            for shown in facts.films:
                stop = start + shown.n_volumes
                place = (shown.film, shown.onset)
                if place not in seen:
                    seen.add(place)
                    first = shown.first_sample(facts.repetition_time)
                    names = [f'{shown.film}#{first + i:05d}' for i in range(stop - start)]
                    known = [name in moments for name in names]
                    begin = known.index(False) if False in known else len(names)
                    end = known.index(True, begin) if True in known[begin:] else len(names)
                    moments.update(names[begin:end])
                    if begin < end:
                        yield names[begin:end], volumes[start:stop][begin:end], facts
                start = stop

    def showings(self) -> Iterator[Showing]:
        """Yield the moments of each film and the responses of then, NaN where there are none."""
        for names, values, facts in self.aligned():
            if self.delayed:
                yield names, with_delay(values, facts.repetition_time, facts.delay)
            else:
                yield names, values

    def signature(self) -> dict[str, Any]:
        """Return what has to be the same in two participants to average them, by its name."""
        image = load_image(self.files[0])
        facts = self.facts[0]
        return {
            'grid': (image.shape[:3], np.asarray(image.affine).round(3).tolist()),
            'films': self.films,
            'repetition time': round(facts.repetition_time, 4),
            'delay': facts.delay,
            'scaling': facts.scaling,
        }


def with_delay(aligned: Float32Array, repetition_time: float, delay: float) -> Float32Array:
    """Undo the alignment: row i holds what was measured then, not ``delay`` seconds later.

    Parameters
    ----------
    aligned
        Shape (n_moments, n_voxels).
    repetition_time, delay
        Seconds.

    Returns
    -------
    numpy.ndarray
        Same shape; NaN before the first volume that there is.
    """
    from bids_neurodecode.signals.delay import align_to_clock

    clock = (aligned, repetition_time, 0.0, len(aligned), repetition_time, 0.0)
    return align_to_clock(*clock, start_time=delay).values


def earlier_sources(own: ParticipantInput, output_dir: Path, config: Config) -> list[FromAligned]:
    """Return other participants whose aligned series can be compared with this one's.

    The same films, grid, repetition time and scaling; sorted by label.

    Parameters
    ----------
    own
        The participant.
    output_dir
        Of the run.
    config
        The settings.
    """
    first = own.runs[0]
    grid = read_header(first.bold).grid
    found = []
    for label, files in aligned_files(output_dir, own.task, first.space).items():
        if label == own.label:
            continue
        person = FromAligned(label, files)
        alike = (
            read_header(files[0]).grid.same_as(grid)
            and abs(person.facts[0].repetition_time - first.repetition_time) < 1e-4
            and person.facts[0].scaling == config.clean.scaling
            and person.films == tuple(sorted(own.stimuli))
        )
        if alike:
            found.append(person)
    return found


def aligned_files(output_dir: Path, task: str, space: str | None) -> dict[str, tuple[Path, ...]]:
    """Return the aligned series of each participant of an output folder, sorted.

    Parameters
    ----------
    output_dir
        Of the run.
    task
        Label of the task.
    space
        Of the data; None: not named.
    """
    place = f'space-{space}_*' if space else ''
    found: dict[str, list[Path]] = {}
    pattern = f'sub-*_task-{task}_*{place}desc-aligned_bold.*'
    for folder in sorted(output_dir.glob('sub-*')):
        for file in one_each(folder.rglob(pattern)):
            if space or '_space-' not in file.name:
                found.setdefault(folder.name.removeprefix('sub-'), []).append(file)
    return {label: tuple(files) for label, files in found.items()}


def fingerprint_of(files: dict[str, tuple[Path, ...]]) -> str:
    """Return what changes when one of these files does."""
    digest = hashlib.sha256()
    for file in (file for person in files.values() for file in person):
        state = file.stat()
        digest.update(f'{file}|{state.st_size}|{state.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
