"""The image pipeline over folds: select voxels, fit, judge; then one final model.

Each fold selects its voxels and fits its decoder on its own training samples, whose betas were
tuned on these same trials. The final model is fitted on everything, for use on new data; no score
is computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_neurodecode.config import Config
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds, fit
from bids_neurodecode.systems.voxels import Estimates, cut_folds


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
    estimates: Estimates,
    features: PerStimulus,
    config: Config,
    *,
    pictures: PerStimulus | None = None,
    device: str = 'cpu',
) -> Decoding:
    """Run the pipeline.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    features
        Features of all stimuli.
    config
        Selection, feature components, ridge, evaluation and seed.
    pictures
        Images of all stimuli, uint8.
    device
        ``cpu`` or ``cuda``.
    """
    settings = DecoderSettings.of(config, device)
    folds, selections = cut_folds(estimates, features, config, device)
    evaluation = evaluate_folds(
        folds,
        estimates.split,
        features,
        settings,
        evaluation=config.evaluation,
        pictures=pictures,
        rng=np.random.default_rng(config.seed),
    )
    final = estimates.choose(estimates.samples, features, config, device)
    decoder = fit(estimates.samples.voxels(final.keep), features, settings)
    return Decoding(evaluation, final, tuple(selections), decoder)
