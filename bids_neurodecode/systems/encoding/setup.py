"""What an encoding run is made of: which voxels, which noise ceiling, which further fits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bids_neurodecode.errors import DataError
from bids_neurodecode.systems.encoding.encoders import Bands, EncoderSettings
from bids_neurodecode.systems.voxels import Estimates
from bids_neurodecode.typing import BoolArray

ROWS = 1024
"""Trials that are looked at together."""
NO_VOXELS = 'No voxel has finite betas in all trials (within the chosen regions). Check the mask.'

SHARED_NOISE = (
    '{some} repeats of a stimulus lie within one run and share its slow noise, which counts as '
    'response: noise ceilings are too high, and noise-normalised scores too low.'
)


def ceiling_notes(table: pd.DataFrame) -> tuple[str, ...]:
    """Say which repeats make noise ceilings too high: those that share the noise of a run.

    Parameters
    ----------
    table
        One row per trial, with ``stimulus`` and ``run``.
    """
    if 'run' not in table.columns or not table.duplicated(['stimulus', 'run']).any():
        return ()
    over_runs = bool((table.groupby('stimulus')['run'].nunique() > 1).any())
    return (SHARED_NOISE.format(some='Some' if over_runs else 'All'),)


def usable(estimates: Estimates) -> BoolArray:
    """Return the voxels with finite betas in all trials, within the chosen regions.

    Raises
    ------
    DataError
        If there are none.
    """
    samples = estimates.samples
    keep = np.ones(samples.values.shape[1], dtype=bool)
    for values in (part.values for part in (samples, *estimates.tuned)):
        for start in range(0, len(values), ROWS):
            keep &= np.isfinite(values[start : start + ROWS]).all(axis=0)
    if estimates.within is not None:
        keep &= estimates.within
    if not keep.any():
        raise DataError(NO_VOXELS)
    return np.asarray(keep)


def subsets(bands: Bands, settings: EncoderSettings) -> list[tuple[str, ...]]:
    """Return the sets of feature spaces that a partition needs: each alone, each left out.

    Parameters
    ----------
    bands
        Feature spaces by name.
    settings
        Whether there is a partition.
    """
    if not settings.partition or len(bands) < 2:
        return []
    names = tuple(bands)
    without = [tuple(n for n in names if n != name) for name in names]
    return list(dict.fromkeys([(name,) for name in names] + without))


def has_baseline(settings: EncoderSettings) -> bool:
    """Tell whether shuffled stimuli are fitted too: regressions only, networks cost too much."""
    return settings.baseline and settings.model in {'ridge', 'banded', 'shared'}


def extra_fits(bands: Bands, settings: EncoderSettings) -> int:
    """Return the number of fits in each fold beside the main one.

    Parameters
    ----------
    bands
        Feature spaces by name.
    settings
        Whether there are a partition and a baseline.
    """
    return int(has_baseline(settings)) + len(subsets(bands, settings))
