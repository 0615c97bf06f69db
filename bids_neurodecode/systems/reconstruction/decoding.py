"""The image pipeline over folds: select voxels, fit, judge; then one final model.

Each fold selects its voxels and fits its decoder on its own training samples, whose betas were
tuned on these same trials. The final model is fitted on everything, for use on new data; no score
is computed from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds, fit
from bids_neurodecode.systems.voxels import choose_voxels, cut_folds
from bids_neurodecode.typing import BoolArray


@dataclass(frozen=True, eq=False)
class Decoding:
    """The scores of all folds, and the final model.

    Parameters
    ----------
    evaluation
        Scores, per-sample outcomes and nulls.
    selection
        The voxels of the final model, among all voxels of the mask.
    fold_selections
        The voxels of each fold.
    decoder
        The final model, on the selected voxels.
    """

    evaluation: Evaluation
    selection: VoxelSelection
    fold_selections: tuple[VoxelSelection, ...]
    decoder: LinearDecoder

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know, each line once."""
        lines = [w for s in (*self.fold_selections, self.selection) for w in s.warnings]
        return tuple(dict.fromkeys([*self.evaluation.notes, *lines]))


def decode_pictures(
    samples: Samples,
    tuned: Sequence[Samples],
    split: Split,
    features: PerStimulus,
    config: Config,
    *,
    tsnr_runs: npt.NDArray[np.float32],
    within: BoolArray | None = None,
    pictures: PerStimulus | None = None,
    device: str = 'cpu',
) -> Decoding:
    """Run the pipeline.

    Parameters
    ----------
    samples
        All trials, with betas tuned on all of them (for the final model).
    tuned
        All trials once a fold, with betas tuned on its training trials; or one for all folds.
    split
        What is held out.
    features
        Features of all stimuli.
    config
        Selection, feature components, ridge, evaluation and seed.
    tsnr_runs
        Temporal signal-to-noise ratio of each run, (n_runs, n_voxels).
    within
        Voxels of the chosen regions, (n_voxels,); all if None.
    pictures
        Images of all stimuli, uint8.
    device
        ``cpu`` or ``cuda``.
    """
    settings = DecoderSettings(
        n_components=config.features.n_components,
        ridge=config.ridge,
        device='cuda' if device == 'cuda' else 'cpu',
    )
    choice: dict[str, Any] = {'tsnr_runs': tsnr_runs, 'within': within, 'device': device}
    folds, selections = cut_folds(tuned, split, features, config, **choice)
    evaluation = evaluate_folds(
        folds,
        split,
        features,
        settings,
        evaluation=config.evaluation,
        pictures=pictures,
        rng=np.random.default_rng(config.seed),
    )
    final = choose_voxels(samples, features, config, **choice)
    decoder = fit(samples.voxels(final.keep), features, settings)
    return Decoding(evaluation, final, tuple(selections), decoder)
