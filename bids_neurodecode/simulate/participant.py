"""One participant's runs: signal and noise put together, and the truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_neurodecode.simulate import noise, response, truth
from bids_neurodecode.simulate.brain import Brain
from bids_neurodecode.simulate.design import RunDesign
from bids_neurodecode.simulate.features import FeatureTable
from bids_neurodecode.simulate.realnoise import RealNoise
from bids_neurodecode.simulate.spec import SimulationSpec, generator
from bids_neurodecode.simulate.voxels import (
    NoiseFields,
    Voxels,
    draw_noise_fields,
    draw_voxels,
)
from bids_neurodecode.typing import FloatArray

MEAN_RESPONSE = 1.5
"""Mean response to an image, in units of its deviation over images."""


@dataclass(frozen=True, eq=False)
class Participant:
    """What was simulated for one participant.

    Parameters
    ----------
    voxels
        Planted tuning, responses and signal-to-noise ratios.
    designs, series, motion
        One a run: the trials, the series in scanner units (n_volumes, n_voxels) and the head
        motion (n_volumes, 6).
    betas
        Images only: true amplitudes in percent signal, (n_images, n_voxels).
    signal_sd
        Over images (of the betas), or over time (films), percent, (n_voxels,).
    noise_sd
        Of a single-trial beta, or over time once polynomials are out, percent, (n_voxels,).
    """

    voxels: Voxels
    designs: Sequence[RunDesign]
    series: Sequence[FloatArray]
    motion: Sequence[FloatArray]
    betas: FloatArray | None
    signal_sd: FloatArray
    noise_sd: FloatArray


@dataclass(frozen=True, eq=False)
class RunNoise:
    """Noise of one run in percent: what is random, and what is known; and head motion."""

    random: FloatArray
    structured: FloatArray
    motion: FloatArray


def simulate_images(
    spec: SimulationSpec,
    brain: Brain,
    label: str,
    features: FeatureTable,
    designs: Sequence[RunDesign],
    real: RealNoise | None,
) -> Participant:
    """Simulate a participant who sees images; tuning and responses are their own.

    ``features`` has one row per image.

    Parameters
    ----------
    spec
        Of the dataset.
    brain
        Mask and regions.
    label
        Of the participant.
    features
        One row per image.
    designs
        One per run.
    real
        Noise of a real series; None simulates it.
    """
    voxels = draw_voxels(spec, brain, features, generator(spec.seed, label, 'voxels'))
    fields = draw_noise_fields(spec, brain, generator(spec.seed, label, 'fields'), noise.N_SHARED)
    matrices = [
        response.design_matrices(
            d.onsets, spec.stimulus_duration, d.n_volumes, spec.repetition_time
        )
        for d in designs
    ]
    noises = _noises(spec, label, fields, designs, real)
    noise_sd = _beta_noise(spec, voxels, fields, matrices, noises, real)
    signal_sd = voxels.ncsnr * np.where(noise_sd > 0, noise_sd, 1.0)
    betas = signal_sd * (voxels.preferred(features) + MEAN_RESPONSE * voxels.responsive)
    signals = [
        _evoked(
            matrix,
            betas[d.stimuli] * (spec.imagery_gain if d.imagined else 1.0),
            voxels.hrf_index,
        )
        for matrix, d in zip(matrices, designs, strict=True)
    ]
    return Participant(
        voxels,
        designs,
        [_to_series(brain, s, n) for s, n in zip(signals, noises, strict=True)],
        [n.motion for n in noises],
        betas,
        signal_sd,
        noise_sd,
    )


def simulate_films(
    spec: SimulationSpec,
    brain: Brain,
    label: str,
    films: Sequence[FeatureTable],
    designs: Sequence[RunDesign],
    real: RealNoise | None,
) -> Participant:
    """Simulate a participant who sees films; all share tuning and responses, none the noise.

    ``films`` are the features of each film, one row every 0.1 s.

    Parameters
    ----------
    spec
        Of the dataset.
    brain
        Mask and regions.
    label
        Of the participant.
    films
        Features of each film, one row every 0.1 s.
    designs
        One per run.
    real
        Noise of a real series; None simulates it.
    """
    joined = FeatureTable(np.concatenate([f.values for f in films]), films[0].columns)
    # the same draw for everyone: what viewers share is known then
    voxels = draw_voxels(spec, brain, joined, generator(spec.seed, 'everyone', 'voxels'))
    courses = np.split(voxels.preferred(joined), np.cumsum([len(f.values) for f in films])[:-1])
    fields = draw_noise_fields(spec, brain, generator(spec.seed, label, 'fields'), noise.N_SHARED)
    noises = _noises(spec, label, fields, designs, real)
    signals = [
        film_response(spec, courses[int(d.stimuli[0])], d, voxels.hrf_index) for d in designs
    ]
    tr = spec.repetition_time
    scale = _root_mean_square([truth.detrended_sd(s, tr) for s in signals])
    noise_sd = _root_mean_square([truth.detrended_sd(n.random + n.structured, tr) for n in noises])
    signal_sd = voxels.ncsnr * np.where(noise_sd > 0, noise_sd, 1.0)
    gain = signal_sd / np.where(scale > 0, scale, np.inf)
    series = [_to_series(brain, s * gain, n) for s, n in zip(signals, noises, strict=True)]
    return Participant(
        voxels, designs, series, [n.motion for n in noises], None, signal_sd, noise_sd
    )


def film_response(
    spec: SimulationSpec,
    course: FloatArray,
    design: RunDesign,
    hrf_index: npt.NDArray[np.intp],
) -> FloatArray:
    """Return what a film's courses (rows every 0.1 s) give at the volumes of its run.

    Before and after the film there is no drive. The result is (n_volumes, n_voxels).

    Parameters
    ----------
    spec
        Of the dataset.
    course
        What drives each voxel, (n_steps, n_voxels), a row every 0.1 s.
    design
        Of the run: one film.
    hrf_index
        Response of the library of each voxel, (n_voxels,).
    """
    step = response.STEP
    tr = spec.repetition_time
    n_steps = round(design.n_volumes * tr / step) + 1
    first = round(float(design.onsets[0]) / step)
    shown = course[: round(float(design.durations[0]) / step)]
    drive = np.zeros((n_steps, course.shape[1]))
    drive[first : first + len(shown)] = shown[: n_steps - first]
    if spec.response_delay is None:
        drive = response.convolve_drive(drive, hrf_index)
    else:
        drive = response.delay_drive(drive, spec.response_delay)
    return response.sample_volumes(drive, design.n_volumes, tr)


def _noises(
    spec: SimulationSpec,
    label: str,
    fields: NoiseFields,
    designs: Sequence[RunDesign],
    real: RealNoise | None,
) -> list[RunNoise]:
    runs = []
    for number, n_volumes in enumerate(design.n_volumes for design in designs):
        rng = generator(spec.seed, label, 'run', number)
        moves = spec.motion_spikes if spec.motion > 0 else 0.0
        motion = noise.head_motion(n_volumes, spec.repetition_time, moves, rng)
        if spec.motion == 0:
            motion = np.zeros_like(motion)
        structured = fields.drift * noise.drift(n_volumes, fields.sd.size, rng)
        structured += noise.motion_effect(motion, fields.motion)
        beat = noise.physiology(n_volumes, spec.repetition_time, rng) @ fields.physiology
        if real is not None:  # real residuals bring their own heart beat
            runs.append(RunNoise(real.draw(n_volumes, rng), structured, motion))
            continue
        unit = noise.brain_noise(
            fields.shared, n_volumes, spec.autocorrelation, spec.shared_noise, rng
        )
        runs.append(RunNoise(fields.sd * unit, structured + beat, motion))
    return runs


def _beta_noise(
    spec: SimulationSpec,
    voxels: Voxels,
    fields: NoiseFields,
    matrices: Sequence[FloatArray],
    noises: Sequence[RunNoise],
    real: RealNoise | None,
) -> FloatArray:
    """Return the standard deviation of a single trial's beta, mean over runs of equal weight."""
    voxel = np.arange(fields.sd.size)
    variances = []
    for matrix, run in zip(matrices, noises, strict=True):
        filters = truth.beta_filters(matrix, spec.repetition_time)
        if real is None:
            random = truth.ar1_beta_variance(filters, spec.autocorrelation)[voxels.hrf_index]
            random = random * fields.sd**2
        else:
            by_hrf = truth.stationary_beta_variance(filters, real.series)
            random = by_hrf[voxels.hrf_index, voxel]
        known = truth.structured_beta_variance(filters, run.structured, voxels.hrf_index)
        variances.append(random + known)
    sd: FloatArray = np.sqrt(np.mean(variances, axis=0))
    return sd


def _evoked(
    matrix: FloatArray, amplitudes: FloatArray, hrf_index: npt.NDArray[np.intp]
) -> FloatArray:
    """Return trials' amplitudes (n_trials, n_voxels) through each voxel's own response."""
    out = np.zeros((matrix.shape[1], amplitudes.shape[1]))
    for index in np.unique(hrf_index):
        own = hrf_index == index
        out[:, own] = matrix[index] @ amplitudes[:, own]
    return out


def _to_series(brain: Brain, signal: FloatArray, run: RunNoise) -> FloatArray:
    percent = signal + run.random + run.structured
    series: FloatArray = np.rint(brain.baseline * (1 + percent / 100))
    return series


def _root_mean_square(values: Sequence[FloatArray]) -> FloatArray:
    rms: FloatArray = np.sqrt(np.mean(np.square(values), axis=0))
    return rms
