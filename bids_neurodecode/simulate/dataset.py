"""A whole simulated dataset, made in one call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_neurodecode.bids.sink import copy_file, write_text
from bids_neurodecode.bids.video import write_video
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.simulate import features as feature_bank
from bids_neurodecode.simulate import stimuli as stimulus_maker
from bids_neurodecode.simulate.brain import Brain, load_brain
from bids_neurodecode.simulate.design import (
    RunDesign,
    design_films,
    design_imagery,
    design_images,
)
from bids_neurodecode.simulate.features import FeatureTable
from bids_neurodecode.simulate.participant import (
    Participant,
    simulate_films,
    simulate_images,
)
from bids_neurodecode.simulate.realnoise import RealNoise, read_noise
from bids_neurodecode.simulate.response import STEP
from bids_neurodecode.simulate.sampling import find_place
from bids_neurodecode.simulate.spec import SimulationSpec, generator
from bids_neurodecode.simulate.write import (
    Stimuli,
    write_dataset_files,
    write_description,
    write_participant,
)
from bids_neurodecode.simulate.writetruth import FOLDER, write_truth
from bids_neurodecode.typing import Uint8Array

NOT_EMPTY = (
    'The output folder {folder} is not empty. Choose a new folder, or empty it first (an '
    'interrupted simulation leaves one without dataset_description.json).'
)
NOT_FOLDER = 'The output {folder} is a file. Choose a new folder.'
CANNOT_WRITE = 'Cannot write to the output folder {folder}: {reason}. Choose another folder.'

FILM_INTERVAL = 0.2
"""Seconds between the film frames that voxels respond to."""

FMRIPREP_README = """Simulated series under the names of fMRIPrep's derivatives.

fMRIPrep was not run. The series equal the raw ones: they were simulated in MNI space, without
slice timing or distortion. Head motion is as in the confounds table, and shows in the series as
if realignment had left its usual traces.
"""

Report = Callable[[str], None]


def simulate_dataset(out: Path, spec: SimulationSpec, report: Report | None = None) -> Path:
    """Make a BIDS dataset with derivatives, and the truth about it.

    The same settings give the same bytes on the same machine. ``dataset_description.json`` is
    written last, so that no tool takes an unfinished dataset for a finished one; on an error or an
    interrupt, what was written is removed.

    Parameters
    ----------
    out
        Folder to write: absent or empty.
    spec
        What to simulate.
    report
        Called with a line for each step that is done.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ArgumentsError
        If the folder cannot be used, or the settings do not go together.
    InputError
        If a user's film or run cannot be read.
    """
    from threadpoolctl import threadpool_limits

    created = _claim(out)
    finished = False
    try:
        # sums depend on how many threads share them, and so would the bytes
        with threadpool_limits(limits=1):
            _simulate(out, spec, report or (lambda _: None))
        finished = True
    finally:
        if not finished:
            _remove(out, created=created)
    return out


def _simulate(out: Path, spec: SimulationSpec, report: Report) -> None:
    labels = [f'{number + 1:02d}' for number in range(spec.n_subjects)]
    brain = load_brain(spec.voxel_size)
    place = find_place(spec.space, brain)
    report(f'brain: {brain.n_voxels} voxels of {spec.voxel_size:g} mm')
    durations: list[float] = []
    if spec.paradigm == 'images':
        stimuli, tables = _pictures(out / 'stimuli', spec)
    else:
        stimuli, tables, durations = _films(out / 'stimuli', spec)
    report(f'stimuli: {len(stimuli)}')
    designs = {label: _designs(spec, label, durations) for label in labels}
    real = _real_noise(spec, brain, designs.values())
    write_dataset_files(out, spec, labels)
    people: list[Participant] = []
    for label in labels:
        if spec.paradigm == 'images':
            person = simulate_images(spec, brain, label, tables[0], designs[label], real)
        else:
            person = simulate_films(spec, brain, label, tables, designs[label], real)
        write_participant(out, spec, place, label, person, stimuli)
        people.append(person)
        report(f'participant {label}: {len(person.series)} runs')
    joined = FeatureTable(np.concatenate([t.values for t in tables]), tables[0].columns)
    derivatives = out / 'derivatives'
    truth = derivatives / FOLDER
    write_truth(truth, spec, place, labels, people, stimuli, joined)
    write_text(derivatives / 'fmriprep' / '.bidsignore', f'*_timeseries.*\n{place.ignored}')
    write_text(derivatives / 'fmriprep' / 'README', FMRIPREP_README)
    links = {'raw': '../..'}
    write_description(truth, 'What was planted in the simulated data', links)
    write_description(
        derivatives / 'fmriprep', "Simulated series in fMRIPrep's layout", links, 'fMRIPrep-layout'
    )
    write_description(out, f'Simulated fMRI: {spec.paradigm}')


def _designs(spec: SimulationSpec, label: str, durations: Sequence[float]) -> list[RunDesign]:
    if spec.paradigm == 'images':
        seen = design_images(spec, generator(spec.seed, label, 'design'))
        return [*seen, *design_imagery(spec, generator(spec.seed, label, 'imagery'))]
    return design_films(spec, list(durations))


def _real_noise(
    spec: SimulationSpec, brain: Brain, designs: Iterable[list[RunDesign]]
) -> RealNoise | None:
    if spec.noise_from is None:
        return None
    longest = max(run.n_volumes for runs in designs for run in runs)
    return read_noise(spec.noise_from, brain.coordinates, spec.repetition_time, longest)


def _pictures(folder: Path, spec: SimulationSpec) -> tuple[Stimuli, list[FeatureTable]]:
    """Make or copy the images; return their names and one table of features."""
    if spec.stimuli_dir is None:
        rng = generator(spec.seed, 'pictures')
        rows = stimulus_maker.write_pictures(
            folder, spec.n_images, spec.n_categories, spec.image_size, rng
        )
    else:
        rows = _copy_user_files(folder, spec.stimuli_dir, 'pictures', spec.n_images)
    small = stimulus_maker.read_pictures([folder / name for name, _ in rows], feature_bank.SIZE)
    table = feature_bank.join(
        feature_bank.gabor_energy(small),
        feature_bank.colours(small),
        feature_bank.categories([category for _, category in rows]),
    )
    return rows, [table]


def _films(folder: Path, spec: SimulationSpec) -> tuple[Stimuli, list[FeatureTable], list[float]]:
    """Make or copy the films; return names, features every 0.1 s, and durations in seconds."""
    scenes: list[list[str]] = []
    if spec.stimuli_dir is None:
        rows = []
        for number in range(spec.n_films):
            name = f'film{number + 1:02d}.mp4'
            scenes.append(_make_film(folder / name, spec, number))
            rows.append((name, 'film'))
    else:
        rows = _copy_user_files(folder, spec.stimuli_dir, 'films', spec.n_films)
    frames, durations = [], []
    for name, _ in rows:
        values, duration = stimulus_maker.read_film(
            folder / name, FILM_INTERVAL, feature_bank.SIZE
        )
        frames.append(values)
        durations.append(duration)
    tables = [
        _film_features(values, scenes[number] if scenes else None, spec, number)
        for number, values in enumerate(frames)
    ]
    return rows, tables, durations


def _make_film(path: Path, spec: SimulationSpec, number: int) -> list[str]:
    """Make a film; return the category of the frames that voxels respond to."""
    rng = generator(spec.seed, 'film', number)
    every = round(FILM_INTERVAL * stimulus_maker.FRAME_RATE)
    shown: list[str] = []

    def frames() -> Iterator[Uint8Array]:
        made = stimulus_maker.film_frames(
            spec.film_duration, spec.n_categories, spec.image_size, rng
        )
        for index, (frame, category) in enumerate(made):
            if index % every == 0:
                shown.append(category)
            yield frame

    write_video(path, frames(), stimulus_maker.FRAME_RATE, preset='veryfast')
    return shown


def _film_features(
    frames: Uint8Array, scenes: list[str] | None, spec: SimulationSpec, number: int
) -> FeatureTable:
    """Return the features of a film, one row every 0.1 s (each frame's held)."""
    n = len(frames)
    parts = [
        feature_bank.gabor_energy(frames),
        feature_bank.colours(frames),
        feature_bank.motion_energy(frames),
    ]
    if scenes is not None:
        parts.append(
            feature_bank.categories(scenes, stimulus_maker.CATEGORIES[: spec.n_categories])
        )
    rng = generator(spec.seed, 'soundtrack', number)
    parts.append(feature_bank.soundtrack(n, FILM_INTERVAL, rng))
    table = feature_bank.join(*parts)
    held = np.repeat(table.values, round(FILM_INTERVAL / STEP), axis=0)
    return FeatureTable(held, table.columns)


def _copy_user_files(folder: Path, source: Path, kind: str, needed: int) -> list[tuple[str, str]]:
    rows = []
    for file, category in stimulus_maker.user_files(source, kind, needed):
        name = file.relative_to(source)
        copy_file(file, folder / name)
        rows.append((name.as_posix(), category))
    return rows


def _claim(out: Path) -> bool:
    """Make the folder, or check that it is empty; return whether it was made."""
    if out.exists() and not out.is_dir():
        raise ArgumentsError(NOT_FOLDER.format(folder=out))
    try:
        if out.is_dir():
            if any(out.iterdir()):
                raise ArgumentsError(NOT_EMPTY.format(folder=out))
            return False
        out.mkdir(parents=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArgumentsError(CANNOT_WRITE.format(folder=out, reason=reason)) from error
    return True


def _remove(out: Path, *, created: bool) -> None:
    for entry in out.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if created:
        out.rmdir()
