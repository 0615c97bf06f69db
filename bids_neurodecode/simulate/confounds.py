"""The table of confounds of a run, with the columns and names of fMRIPrep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.simulate.brain import Brain
from bids_neurodecode.simulate.response import polynomials
from bids_neurodecode.typing import FloatArray

MOTION = ('trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z')
N_COMPCOR = 5
FD_LIMIT = 0.5
"""Framewise displacement in mm above which a volume is an outlier (fMRIPrep's default)."""
DVARS_LIMIT = 1.5
HIGH_PASS = 128.0
"""Period in seconds of the slowest drift that the cosines leave in."""


def confounds_table(
    series: FloatArray, motion: FloatArray, brain: Brain, repetition_time: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compute confounds from a run's series and head motion.

    Parameters
    ----------
    series
        Of the brain, in scanner units, (n_volumes, n_voxels).
    motion
        Three shifts in mm and three turns in radians, (n_volumes, 6).
    brain
        With the tissue masks.
    repetition_time
        In seconds.

    Returns
    -------
    table : pandas.DataFrame
        One row per volume; what needs the volume before is missing in the first row.
    sidecar : dict
        What the JSON says of the CompCor columns, as fMRIPrep writes it.
    """
    columns: dict[str, FloatArray] = {}
    tissue = {'csf': brain.csf, 'white_matter': brain.white_matter}
    signals = {'global_signal': series.mean(axis=1)}
    signals |= {name: series[:, mask].mean(axis=1) for name, mask in tissue.items()}
    for name, values in signals.items():
        columns |= _expanded(name, values)
    columns['std_dvars'], columns['dvars'] = _dvars(series)
    displacement = framewise_displacement(motion)
    columns['framewise_displacement'] = displacement
    columns['rmsd'] = _with_first_missing(_shift(motion))
    components, sidecar = _compcor(series, brain, repetition_time)
    columns |= components
    columns |= cosines(len(series), repetition_time)
    for name, values in zip(MOTION, motion.T, strict=True):
        columns |= _expanded(name, values)
    outlier = (displacement > FD_LIMIT) | (columns['std_dvars'] > DVARS_LIMIT)
    for number, row in enumerate(np.flatnonzero(outlier)):
        columns[f'motion_outlier{number:02d}'] = (np.arange(len(series)) == row).astype(float)
    return pd.DataFrame(columns), sidecar


def framewise_displacement(motion: FloatArray) -> FloatArray:
    """Return the sum of absolute changes in mm, turns on a sphere of 50 mm; the first is NaN.

    Power et al. (2012), NeuroImage 59:2142.
    """
    change = np.abs(np.diff(motion, axis=0)) * np.array([1, 1, 1, 50, 50, 50])
    return _with_first_missing(change.sum(axis=1))


def cosines(n_volumes: int, repetition_time: float) -> dict[str, FloatArray]:
    """Return the discrete cosines slower than 128 s, unit length, under fMRIPrep's names.

    Parameters
    ----------
    n_volumes
        Length of the run.
    repetition_time
        Seconds.
    """
    n_columns = int(np.floor(2 * n_volumes * repetition_time / HIGH_PASS))
    times = np.arange(n_volumes) + 0.5
    return {
        f'cosine{k - 1:02d}': np.sqrt(2 / n_volumes) * np.cos(np.pi * k * times / n_volumes)
        for k in range(1, n_columns + 1)
    }


def _expanded(name: str, values: FloatArray) -> dict[str, FloatArray]:
    """Return values, changes and the squares of both."""
    change = _with_first_missing(np.diff(values))
    return {
        name: values,
        f'{name}_derivative1': change,
        f'{name}_derivative1_power2': change**2,
        f'{name}_power2': values**2,
    }


def _dvars(series: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return standardised and plain root mean square change from volume to volume."""
    change = np.diff(series, axis=0)
    dvars = np.sqrt((change**2).mean(axis=1))
    # the expected change of an undisturbed series, from its robust spread and autocorrelation
    spread = np.diff(np.percentile(change, [25, 75], axis=0), axis=0)[0] / 1.349
    expected = max(float(np.sqrt((spread**2).mean())), np.finfo(float).tiny)
    return _with_first_missing(dvars / expected), _with_first_missing(dvars)


def _shift(motion: FloatArray) -> FloatArray:
    change = np.diff(motion, axis=0) * np.array([1, 1, 1, 40, 40, 40])
    shift: FloatArray = np.sqrt((change**2).sum(axis=1))
    return shift


def _compcor(
    series: FloatArray, brain: Brain, repetition_time: float
) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Return principal components of fluid and white matter, and their description."""
    values = series[:, brain.csf | brain.white_matter]
    basis = polynomials(len(values), repetition_time)
    residuals = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    left, singular, _ = np.linalg.svd(residuals, full_matrices=False)
    explained = singular**2 / max(float((singular**2).sum()), np.finfo(float).tiny)
    columns, sidecar = {}, {}
    for k in range(min(N_COMPCOR, left.shape[1])):
        name = f'a_comp_cor_{k:02d}'
        # singular vectors have no sign of their own
        columns[name] = left[:, k] * np.sign(left[np.argmax(np.abs(left[:, k])), k])
        sidecar[name] = {
            'Method': 'aCompCor',
            'Mask': 'combined',
            'Retained': True,
            'SingularValue': round(float(singular[k]), 6),
            'VarianceExplained': round(float(explained[k]), 6),
            'CumulativeVarianceExplained': round(float(explained[: k + 1].sum()), 6),
        }
    return columns, sidecar


def _with_first_missing(values: FloatArray) -> FloatArray:
    return np.concatenate([[np.nan], values])
