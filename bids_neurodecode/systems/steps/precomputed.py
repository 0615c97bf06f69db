"""Betas that are there already: taken from derivatives, or in place from NSD's own layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file
from bids_neurodecode.bids.trials import precomputed_trials
from bids_neurodecode.config import BetaSettings
from bids_neurodecode.report.results import BetaResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import load_image
from bids_neurodecode.systems.steps.records import BetaFacts
from bids_neurodecode.systems.steps.seen import RUNS
from bids_neurodecode.workflow.files import save_json, save_map

BY_SESSION = (
    'Betas were z-scored a voxel within each session, held-out trials included '
    '(betas.standardize = "session"): scores are not of predictions from training data alone.'
)
AVERAGED = 'Each row is the mean of an image over its trials (betas.repeats = "mean").'
PUBLISHED_NCSNR = (
    'The map of the noise-ceiling signal-to-noise ratio is the published one, of single trials, '
    'from the trials of all sessions, held-out ones among them; no voxel was selected by it.'
)


def take_precomputed(
    participant: ParticipantInput, settings: BetaSettings, mask: VoxelMask, folder: Path
) -> dict[str, Any]:
    """Read the betas, one session at a time, and keep them as one array on disk.

    Parameters
    ----------
    participant
        Whose data.
    settings
        Of ``betas``.
    mask
        Voxels of the analysis.
    folder
        That is written into.
    """
    from bids_neurodecode.signals.gathering import gather_betas

    assert participant.betas_events is not None
    table = precomputed_trials(participant.betas_events, conditions=participant.of_conditions)
    file = folder / 'betas-000.npy'

    def allocate(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        return np.lib.format.open_memmap(file, 'w+', np.float32, shape)

    sessions = table['session'].astype(str).to_numpy()
    gather_betas(
        _blocks(participant, sessions, mask),
        table['stimulus'].tolist(),
        repeats=settings.repeats,
        standardize='session' if settings.standardize == 'session' else 'none',
        allocate=allocate,
    )
    maps, warnings = _published_maps(participant, settings, mask, folder)
    if settings.standardize == 'session':
        warnings = [BY_SESSION, *warnings]
    if settings.repeats == 'mean':
        warnings = [AVERAGED, *warnings]
    results = BetaResults('precomputed', str(participant.betas), 'unknown')
    return {
        'betas': file,
        'tuned': [file],
        'beta_maps': maps,
        'beta_info': BetaFacts(
            results=results, units='as in the source', warnings=tuple(warnings)
        ),
    }


def _blocks(
    participant: ParticipantInput, sessions: npt.NDArray[Any], mask: VoxelMask
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]]:
    """Yield the trials of each session and their betas."""
    if not participant.has_series:
        from bids_neurodecode.bids.nsd_betas import read_session

        for run in participant.runs:
            yield np.flatnonzero(sessions == run.entities['ses']), read_session(run.bold, mask)
        return
    if participant.betas is None:
        return
    # CIFTI is mapped into memory, and only trials of one session are copied
    volumes = np.asanyarray(load_image(participant.betas).dataobj, dtype=np.float32)
    for session in dict.fromkeys(sessions):
        rows = np.flatnonzero(sessions == session)
        yield rows, mask.extract(volumes[..., rows])


def _published_maps(
    participant: ParticipantInput, settings: BetaSettings, mask: VoxelMask, folder: Path
) -> tuple[list[Path], list[str]]:
    """Take NSD's own map of reliability where single trials, and so ours, are not there."""
    file = None if participant.betas is None else participant.betas / 'ncsnr.nii.gz'
    if participant.layout != 'nsd' or settings.repeats != 'mean' or not (file and file.is_file()):
        return [], []
    volume = np.asanyarray(nib.load(file).dataobj, dtype=np.float32)
    if volume.shape != mask.mask.shape:
        return [], []
    target = save_map(folder / 'ncsnr.nii.gz', mask, np.nan_to_num(mask.extract(volume)))
    return [target], [PUBLISHED_NCSNR]


def quality_without_series(
    participant: ParticipantInput, mask: VoxelMask, folder: Path
) -> dict[str, Any]:
    """Return what the quality node leaves where there are betas and no series.

    The mean volume is the published one (the mean beta of the first session without it); the
    temporal signal-to-noise ratio is NaN.

    Parameters
    ----------
    participant
        Whose data.
    mask
        Voxels of the analysis.
    folder
        That is written into.
    """
    from bids_neurodecode.bids.nsd_betas import read_session

    mask.save(folder / 'mask.nii.gz')
    unknown = np.full((len(participant.runs), mask.n_voxels), np.nan, dtype=np.float32)
    np.save(folder / 'tsnr_runs.npy', unknown)
    published = participant.runs[0].mask.parent.parent / 'mean.nii.gz'
    mean = folder / 'mean_bold.nii.gz'
    if published.is_file():
        copy_file(published, mean)
    else:
        save_map(mean, mask, read_session(participant.runs[0].bold, mask).mean(axis=0))
    return {
        'mask': folder / 'mask.nii.gz',
        'mean_bold': mean,
        'tsnr': save_map(folder / 'tsnr.nii.gz', mask, unknown[0], fill=np.nan),
        'tsnr_runs': folder / 'tsnr_runs.npy',
        'run_marks': save_json(folder / RUNS, {}),
    }
