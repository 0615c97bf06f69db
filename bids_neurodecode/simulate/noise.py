"""What is in a BOLD series beside the response: all in percent signal, time first.

Autocorrelated noise, slow drift, breathing and heart beat (aliased by slow sampling), and head
motion.
"""

from __future__ import annotations

import numpy as np

from bids_neurodecode.typing import FloatArray

N_SHARED = 5
"""Sources of noise common to the brain."""


def ar1(n_volumes: int, n_series: int, rho: float, rng: np.random.Generator) -> FloatArray:
    """Draw stationary AR(1) noise of unit variance, (n_volumes, n_series).

    ``x[t] = rho x[t - 1] + sqrt(1 - rho^2) e[t]``, the first value from the stationary law.

    Parameters
    ----------
    n_volumes, n_series
        Shape of what is drawn.
    rho
        Correlation of neighbours, from 0 to 1.
    rng
        Draws it.
    """
    from scipy.signal import lfilter

    innovations = rng.standard_normal((n_volumes, n_series))
    innovations[1:] *= np.sqrt(1 - rho**2)
    series: FloatArray = lfilter([1.0], [1.0, -rho], innovations, axis=0)
    return series


def brain_noise(
    loadings: FloatArray, n_volumes: int, rho: float, shared: float, rng: np.random.Generator
) -> FloatArray:
    """Draw AR(1) noise of unit variance, a share of it from sources common to the brain.

    Parameters
    ----------
    loadings
        Of the common sources on the voxels, (n_sources, n_voxels), each voxel of unit length.
    shared
        Share of the variance that comes from them.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_voxels).
    """
    common = ar1(n_volumes, len(loadings), rho, rng) @ loadings
    own = ar1(n_volumes, loadings.shape[1], rho, rng)
    return np.asarray(np.sqrt(shared) * common + np.sqrt(1 - shared) * own)


def drift(n_volumes: int, n_voxels: int, rng: np.random.Generator) -> FloatArray:
    """Draw a line and two slow half-cosines per voxel, unit deviation over time and zero mean.

    Parameters
    ----------
    n_volumes, n_voxels
        Shape of what is drawn.
    rng
        Draws it.
    """
    t = np.linspace(0, 1, n_volumes)
    basis = np.stack([t, np.cos(np.pi * t), np.cos(2 * np.pi * t)], axis=1)
    basis -= basis.mean(axis=0)
    series = basis @ (rng.standard_normal((3, n_voxels)) * np.array([[2.0], [1.0], [0.5]]))
    return np.asarray(series / np.maximum(series.std(axis=0), 1e-12))


def physiology(n_volumes: int, repetition_time: float, rng: np.random.Generator) -> FloatArray:
    """Draw breathing and heart beat as a scanner samples them, (n_volumes, 4).

    Sine and cosine of a breathing (about 0.28 Hz) and a cardiac phase (about 1.1 Hz), whose rates
    wander by a few percent; unit deviation.

    Parameters
    ----------
    n_volumes
        Length of the run.
    repetition_time
        Seconds.
    rng
        Draws it.
    """
    columns = []
    for rate, wander in ((0.28, 0.03), (1.1, 0.02)):
        own_rate = rate * (1 + 0.08 * rng.standard_normal())
        steps = own_rate * (1 + wander * rng.standard_normal(n_volumes))
        phase = 2 * np.pi * (np.cumsum(steps) * repetition_time + rng.random())
        columns += [np.sin(phase), np.cos(phase)]
    return np.asarray(np.sqrt(2) * np.stack(columns, axis=1))


def head_motion(
    n_volumes: int, repetition_time: float, n_spikes: float, rng: np.random.Generator
) -> FloatArray:
    """Draw rigid-body parameters, (n_volumes, 6): three shifts in mm, three turns in radians.

    A slow walk (about 0.1 mm and 0.1 degrees in a minute), breathing in the second shift, and
    sudden movements, ``n_spikes`` on average, half of which go back.

    Parameters
    ----------
    n_volumes
        Length of the run.
    repetition_time
        Seconds.
    n_spikes
        Sudden movements, on average.
    rng
        Draws it.
    """
    scale = np.array([0.02, 0.02, 0.02, 0.0004, 0.0004, 0.0004])
    step = scale * np.sqrt(repetition_time / 2)
    walk = np.cumsum(rng.standard_normal((n_volumes, 6)) * step, axis=0)
    walk += 0.01 * scale / scale[0] * rng.standard_normal((n_volumes, 6))
    for _ in range(int(rng.poisson(n_spikes))):
        at = int(rng.integers(2, max(3, n_volumes - 2)))
        jump = rng.standard_normal(6) * scale * 20
        until = at + 1 if rng.random() < 0.5 else n_volumes
        walk[at:until] += jump
    walk -= walk[0]
    return walk


def motion_effect(motion: FloatArray, loadings: FloatArray) -> FloatArray:
    """Return what head motion does to the series, (n_volumes, n_voxels).

    Linear in the parameters (edges), and quadratic in their changes (spin history).

    Parameters
    ----------
    motion
        Shape (n_volumes, 6), mm and radians.
    loadings
        Percent signal a mm (turns at 50 mm), shape (12, n_voxels).
    """
    millimetres = motion * np.array([1, 1, 1, 50, 50, 50])
    change = np.diff(millimetres, axis=0, prepend=millimetres[:1])
    centred = millimetres - millimetres.mean(axis=0)
    effect: FloatArray = np.concatenate([centred, -np.abs(change)], axis=1) @ loadings
    return np.asarray(effect - effect.mean(axis=0))
