"""Which stimulus is shown when."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.typing import FloatArray, IndexArray

NO_PAUSE_FITS = (
    'No pause between {low:g} and {high:g} s after a stimulus of {duration:g} s ends at a volume '
    'of {repetition_time:g} s. Widen isi, or take onsets off the grid (on_grid = false).'
)


@dataclass(frozen=True, eq=False)
class RunDesign:
    """Trials of one run, in time.

    Parameters
    ----------
    stimuli
        Index of the stimulus of each trial, (n_trials,).
    onsets, durations
        In seconds from the first volume, (n_trials,).
    n_volumes
        Length of the run.
    imagined
        Whether the stimuli are imagined, and not shown.
    """

    stimuli: IndexArray
    onsets: FloatArray
    durations: FloatArray
    n_volumes: int
    imagined: bool = False


def deal_repeats(
    n_images: int, n_repeats: int, n_runs: int, rng: np.random.Generator
) -> list[IndexArray]:
    """Share out repeats over runs: no image twice in a run, runs equal to within one trial.

    Parameters
    ----------
    n_images
        How many images.
    n_repeats
        Of each; at most ``n_runs``.
    n_runs
        How many runs.
    rng
        Deals them out.

    Returns
    -------
    list of numpy.ndarray
        The images of each run, in random order.
    """
    runs: list[list[int]] = [[] for _ in range(n_runs)]
    for image in rng.permutation(n_images):
        loads = np.array([len(run) for run in runs]) + rng.random(n_runs) * 0.5
        for run in np.argsort(loads)[:n_repeats]:
            runs[run].append(int(image))
    return [rng.permutation(np.array(run, dtype=np.intp)) for run in runs]


def design_images(spec: SimulationSpec, rng: np.random.Generator) -> list[RunDesign]:
    """Draw order and timing of the images of one participant, one design a run.

    Parameters
    ----------
    spec
        Of the dataset.
    rng
        Of order and pauses.

    Raises
    ------
    ArgumentsError
        If onsets are to be at volumes and no pause allows it.
    """
    runs = deal_repeats(spec.n_images, spec.n_repeats, spec.total_runs, rng)
    return _timed(spec, runs, rng)


def design_imagery(spec: SimulationSpec, rng: np.random.Generator) -> list[RunDesign]:
    """Draw order and timing of the runs in which each image is imagined once.

    Parameters
    ----------
    spec
        Of the dataset.
    rng
        Of order and pauses.
    """
    runs = [rng.permutation(spec.n_images) for _ in range(spec.imagery_runs)]
    return [replace(design, imagined=True) for design in _timed(spec, runs, rng)]


def _timed(
    spec: SimulationSpec, runs: list[IndexArray], rng: np.random.Generator
) -> list[RunDesign]:
    """Draw pauses between the images of each run; all runs are as long as the longest needs."""
    gaps = _gaps(spec)
    first = _ceil_to(spec.lead_in, spec.repetition_time) if spec.on_grid else spec.lead_in
    onsets = [
        np.round(first + np.cumsum([0.0, *rng.choice(gaps, size=max(len(run) - 1, 0))]), 6)
        for run in runs
    ]
    end = max((o[-1] for o in onsets), default=0.0) + spec.stimulus_duration + spec.lead_out
    n_volumes = int(np.ceil(round(end / spec.repetition_time, 6)))
    return [
        RunDesign(run, o[: len(run)], np.full(len(run), spec.stimulus_duration), n_volumes)
        for run, o in zip(runs, onsets, strict=True)
    ]


def design_films(spec: SimulationSpec, durations: list[float]) -> list[RunDesign]:
    """Return the runs of a participant who sees one film a run, all in the same order.

    Parameters
    ----------
    durations
        Of each film, in seconds. The run ends with the film (plus ``lead_out``), at a volume.
    """
    tr = spec.repetition_time
    first = _ceil_to(spec.lead_in, tr)
    designs = []
    for run in range(spec.total_runs):
        film = run % spec.n_films
        # whole volumes only: what the last volume does not cover of a film is not shown
        shown = np.floor(round(min(durations[film], spec.film_duration) / tr, 6)) * tr
        n_volumes = round((first + shown + _ceil_to(spec.lead_out, tr)) / tr)
        designs.append(
            RunDesign(
                np.array([film], dtype=np.intp), np.array([first]), np.array([shown]), n_volumes
            )
        )
    return designs


def _gaps(spec: SimulationSpec) -> FloatArray:
    """Return the distances from onset to onset that are drawn from."""
    low, high = (spec.stimulus_duration + pause for pause in spec.isi)
    step = spec.repetition_time if spec.on_grid else 0.1
    gaps = np.arange(np.ceil(round(low / step, 6)), np.floor(round(high / step, 6)) + 1) * step
    gaps = gaps[gaps > 0]
    if gaps.size == 0:
        raise ArgumentsError(
            NO_PAUSE_FITS.format(
                low=spec.isi[0],
                high=spec.isi[1],
                duration=spec.stimulus_duration,
                repetition_time=spec.repetition_time,
            )
        )
    return gaps


def _ceil_to(value: float, step: float) -> float:
    return float(np.ceil(round(value / step, 6)) * step)
