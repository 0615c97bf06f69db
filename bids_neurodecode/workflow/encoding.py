"""Load, encode, save: the files of the film encoding node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Samples, Split, VoxelMask
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.stimuli.volumes import FRAMES_PER_VOLUME
from bids_neurodecode.workflow.files import fold_voxels, save_json, save_map

ALPHA = 0.05


def encode(
    participant: ParticipantInput,
    config: Config,
    samples: Samples,
    split: Split,
    *,
    features: npt.NDArray[np.float32],
    within: npt.NDArray[np.bool_] | None,
    runs: Mapping[str, str],
    device: str,
    folder: Path,
) -> dict[str, Any]:
    """Run :func:`~bids_neurodecode.systems.movie.encode_films` and save what it returns."""
    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.systems.movie import encode_films

    # censored volumes are rows of NaN; a voxel is left out for NaN in any other row
    measured = np.isfinite(samples.values).any(axis=1)
    keep = np.asarray(np.isfinite(samples.values[measured]).all(axis=0))
    by_fold = None
    if within is not None:
        inside, by_fold = fold_voxels(within, len(split))
        keep = keep & inside
        by_fold = by_fold[:, keep]
    used = samples.voxels(keep)
    result = encode_films(
        used,
        split,
        features,
        repetition_time=participant.runs[0].repetition_time,
        delays=config.delay.fir_seconds,
        n_components=config.features.n_components,
        ridge=config.ridge,
        evaluation=config.evaluation,
        rng=np.random.default_rng(config.seed),
        device=device,
        chosen=by_fold,
        columns=config.features.extractor == TABLE,
    )
    write_tsv(folder / 'metrics.tsv', scores_table(result.scores))
    write_json(folder / 'metrics.json', describe(result.scores))
    np.save(folder / 'predictions.npy', result.predictions)
    np.save(folder / 'rows.npy', result.rows)
    np.save(folder / 'null.npy', result.null)
    mask = used.responses.mask
    significant = result.p_fdr < ALPHA
    first = participant.runs[0]
    save_encoder(folder / 'model.safetensors', result.encoder, keep, mask, config, first, runs)
    info: dict[str, Any] = {
        'n_mask': samples.responses.mask.n_voxels,
        'n_selected': int(keep.sum()),
        'rule': 'all voxels of the brain mask' if within is None else 'voxels of the regions',
        'n_significant': int(significant.sum()),
        'n_significant_fwer': int((result.p_fwer < ALPHA).sum()),
        'n_tested': int(np.isfinite(result.r).sum()),
        'r_fwer': result.r_fwer if np.isfinite(result.r_fwer) else None,
        'observed': result.scores[0].value,
        'null_metric': result.scores[0].metric,
        'tested': bool(np.isfinite(result.p_fdr).any()),
        'warnings': list(result.notes),
    }
    return {
        'metrics': folder / 'metrics.tsv',
        'pearsonr': save_map(folder / 'pearsonr.nii.gz', mask, np.nan_to_num(result.r)),
        'by_fold': save_map(folder / 'by_fold.nii.gz', mask, result.by_fold, fill=np.nan),
        'significant': save_map(folder / 'significant.nii.gz', mask, significant),
        'p_values': save_map(folder / 'p_fdr.nii.gz', mask, result.p_fdr, fill=np.nan),
        'predictions': folder / 'predictions.npy',
        'rows': folder / 'rows.npy',
        'null': folder / 'null.npy',
        'model': folder / 'model.safetensors',
        'info': save_json(folder / 'info.json', info),
    }


def save_encoder(
    path: Path,
    encoder: Any,
    keep: npt.NDArray[np.bool_],
    mask: VoxelMask,
    config: Config,
    run: RunInput,
    runs: Mapping[str, str],
) -> None:
    """Write the final encoder as safetensors, with all that applying it takes.

    Parameters
    ----------
    keep
        The voxels of the brain mask that it predicts.
    mask
        These on the grid.
    config
        How frames were described.
    run
        Of the space and resolution.
    runs
        What the training runs are known by.
    """
    from bids_neurodecode.models.storage import save_arrays

    parts = {
        'space': encoder.space.state(),
        'ridge': encoder.ridge.state(),
        'responses': {'mean': encoder.responses.mean, 'scale': encoder.responses.scale},
    }
    arrays = {
        f'{part}.{name}': values for part, state in parts.items() for name, values in state.items()
    }
    arrays['delays'] = np.asarray(encoder.delays)
    arrays['keep'] = keep.astype(np.uint8)
    arrays |= mask.state()
    description = {
        'kind': 'film-encoder',
        'version': __version__,
        'repetition_time': encoder.repetition_time,
        'extractor': config.features.extractor,
        'image_size': config.features.image_size,
        'frames_per_volume': FRAMES_PER_VOLUME,
        'space': run.space,
        'resolution': run.resolution,
        'runs': dict(runs),
    }
    save_arrays(path, arrays, description)
