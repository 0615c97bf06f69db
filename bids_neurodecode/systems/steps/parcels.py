"""Parcel series of all runs: the files of the parcellation node."""

from __future__ import annotations

from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.config import CleanSettings
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import load_series


def clean_run(run: RunInput, mask: VoxelMask, settings: CleanSettings) -> Float32Array:
    """Load and clean one run: (n_volumes, n_voxels); censored volumes are NaN.

    Parameters
    ----------
    run
        Files and facts of one run.
    mask
        Voxels of the analysis.
    settings
        Of ``clean``.
    """
    from bids_neurodecode.signals.clean import clean_series
    from bids_neurodecode.signals.confounds import load_confounds

    confounds = None
    if settings.strategy or settings.columns:
        confounds = load_confounds(
            run.confounds, run.n_volumes, settings.strategy, settings.columns, run.label
        )
    return clean_series(
        load_series(run, mask),
        run.repetition_time,
        confounds=None if confounds is None else confounds.values,
        high_pass=settings.high_pass,
        scaling=settings.scaling,
        kept=None if confounds is None else confounds.kept,
    )
