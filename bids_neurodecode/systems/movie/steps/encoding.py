"""The linear encoding model of films: ridge regression with finite impulse responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json
from bids_neurodecode.config import Config
from bids_neurodecode.report.results import VoxelResults, VoxelTestResults
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.stimuli.volumes import FRAMES_PER_VOLUME
from bids_neurodecode.systems.movie.intervals import MeanTest
from bids_neurodecode.systems.movie.judging import Judged
from bids_neurodecode.systems.movie.recipe import FilmRidge, encode_films
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.records import Facts, ModelFacts
from bids_neurodecode.systems.steps.seen import known_runs
from bids_neurodecode.typing import BoolArray, Float32Array
from bids_neurodecode.workflow.files import fold_voxels, save_map
from bids_neurodecode.workflow.step import Inputs, step

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Films(Inputs):
    """What every step takes that trains a model of the responses to films.

    Parameters
    ----------
    participant, config, plan
        Whose responses, how they are modelled, and what of the films is held out.
    mask, responses
        Voxels, and responses on the clock of the films, (n_samples, n_voxels).
    device, folder
        Where it computes and writes.
    run_marks
        What the runs are known by.
    within
        Voxels that were chosen, (n_voxels,) or (n_folds, n_voxels); all without.
    """

    participant: ParticipantInput
    config: Config
    plan: Plan
    mask: VoxelMask
    responses: Float32Array
    device: str
    folder: Path
    run_marks: Mapping[str, Any] | None = None
    within: BoolArray | None = None

    @property
    def period(self) -> float:
        """Seconds of a volume."""
        return self.participant.runs[0].repetition_time

    @property
    def runs(self) -> dict[str, str]:
        """The fingerprint of each run, by its label."""
        return known_runs(self.run_marks or {}, self.participant)

    @property
    def rule(self) -> str:
        """Which voxels the model takes."""
        return 'all voxels of the brain mask' if self.within is None else 'voxels of the regions'

    def usable(self) -> tuple[Samples, BoolArray, BoolArray | None]:
        """Return samples of the voxels that are used, which these are, and those of each fold."""
        samples = Samples(Responses(self.responses, self.mask), self.plan.table)
        keep, chosen = usable(samples, self.within, len(self.plan.split))
        return samples.voxels(keep), keep, chosen


def usable(
    samples: Samples, within: BoolArray | None, n_folds: int
) -> tuple[BoolArray, BoolArray | None]:
    """Return which voxels are used, and which of these each fold uses.

    Parameters
    ----------
    samples
        Rows of NaN are censored volumes; a voxel is left out for NaN in any other row.
    within
        Voxels that were chosen, (n_voxels,) or (n_folds, n_voxels); None: all.
    n_folds
        Of the split.

    Returns
    -------
    keep : numpy.ndarray
        Shape (n_voxels,).
    by_fold : numpy.ndarray or None
        Shape (n_folds, n_kept); None where all folds use all of them.
    """
    measured = np.isfinite(samples.values).any(axis=1)
    keep = np.asarray(np.isfinite(samples.values[measured]).all(axis=0))
    if within is None:
        return keep, None
    inside, by_fold = fold_voxels(within, n_folds)
    keep = keep & inside
    return keep, by_fold[:, keep]


@dataclass(frozen=True, kw_only=True)
class FilmFacts(ModelFacts):
    """What is said of an encoding model of films."""

    tests: VoxelTestResults | None
    """None where no voxel was tested."""


@dataclass(frozen=True, kw_only=True)
class BandedFacts(Facts):
    """What is said of banded ridge regression."""

    difference: MeanTest
    """Of ridge regression from it, in the mean correlation over voxels."""


@step(
    'encode',
    seconds=10,
    makes=('metrics', 'linear_maps', 'by_fold', 'predictions', 'rows', 'null', 'model'),
    many=('linear_maps',),
    records={'encode_info': FilmFacts},
    settings=('delay', 'features', 'ridge', 'evaluation', 'seed'),
    threads=8,
    memory=lambda size: 3 * size.series_gb,
)
def encode(films: Films, features: Float32Array) -> Mapping[str, object]:
    """Fit and judge the linear encoding model of films.

    Parameters
    ----------
    films
        What the model is fitted to.
    features
        Of the frames of each volume, (n_samples, n_features).
    """
    from bids_neurodecode.evaluation.metrics import describe, scores_table

    config, folder = films.config, films.folder
    used, keep, chosen = films.usable()
    result = encode_films(
        used,
        films.plan.split,
        features,
        FilmRidge.of(config, films.period, device=films.device),
        evaluation=config.evaluation,
        rng=np.random.default_rng(config.seed),
        chosen=chosen,
    )
    write_json(folder / 'metrics.json', describe(result.scores))
    kept = used.responses.mask
    model = folder / 'model.safetensors'
    save_encoder(model, result.encoder, keep, kept, films)
    tests = tests_of('ridge', result)
    maps = [save_map(folder / 'pearsonr.nii.gz', kept, np.nan_to_num(result.r))]
    if tests is not None:
        maps += [
            save_map(folder / 'pfdr.nii.gz', kept, result.p_fdr, fill=np.nan),
            save_map(folder / 'significant.nii.gz', kept, result.p_fdr < ALPHA),
        ]
    return {
        'metrics': scores_table(result.scores),
        'linear_maps': maps,
        'by_fold': save_map(folder / 'by_fold.nii.gz', kept, result.by_fold, fill=np.nan),
        'predictions': result.predictions,
        'rows': result.rows,
        'null': result.null,
        'model': model,
        'encode_info': FilmFacts(
            voxels=VoxelResults(films.mask.n_voxels, int(keep.sum()), films.rule),
            tests=tests,
            observed=result.scores[0].value,
            null_metric=result.scores[0].metric,
            warnings=result.notes,
        ),
    }


def tests_of(model: str, result: Judged) -> VoxelTestResults | None:
    """Return how many voxels were tested and are significant; None where none was tested.

    Parameters
    ----------
    model
        Its name.
    result
        Correlations of its voxels, and their p.
    """
    if not np.isfinite(result.p_fdr).any():
        return None
    return VoxelTestResults(
        model,
        int(np.isfinite(result.r).sum()),
        int((result.p_fdr < ALPHA).sum()),
        int((result.p_fwer < ALPHA).sum()),
        result.r_fwer if np.isfinite(result.r_fwer) else None,
    )


def save_encoder(path: Path, encoder: Any, keep: BoolArray, mask: VoxelMask, films: Films) -> None:
    """Write the final encoder as safetensors, with all that applying it takes.

    Parameters
    ----------
    path, encoder
        That is written.
    keep
        The voxels of the brain mask that it predicts.
    mask
        These on the grid.
    films
        That it was fitted to.
    """
    from bids_neurodecode.models.storage import joined, save_arrays

    features, run = films.config.features, films.participant.runs[0]
    parts = {'space': encoder.space.state(), 'ridge': encoder.ridge.state()}
    arrays = joined({**parts, 'responses': encoder.responses.state()})
    arrays['delays'] = np.asarray(encoder.delays)
    arrays['keep'] = keep.astype(np.uint8)
    arrays |= mask.state()
    description = {
        'kind': 'film-encoder',
        'version': __version__,
        'repetition_time': encoder.repetition_time,
        'extractor': features.extractor,
        'image_size': features.image_size,
        'frames_per_volume': FRAMES_PER_VOLUME,
        'space': run.space,
        'resolution': run.resolution,
        'runs': films.runs,
    }
    save_arrays(path, arrays, description)
