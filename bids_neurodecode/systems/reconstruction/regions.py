"""Which region carries it? Images decoded from the voxels of each region of the atlas alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, candidate_stimuli
from bids_neurodecode.systems.outcomes import OWN_MODEL, SINGLE_TRIAL, Outcome, judge
from bids_neurodecode.systems.pooling import identification_scores
from bids_neurodecode.systems.reconstruction.recipe import fit
from bids_neurodecode.systems.scoring import Pairing, Scorer, region_table
from bids_neurodecode.systems.voxels import Estimates, varies
from bids_neurodecode.typing import BoolArray

METRIC = 'identification_2way'
MIN_VOXELS = 10
"""Regions with fewer usable voxels are not decoded."""


def decode_regions(
    estimates: Estimates,
    features: PerStimulus,
    config: Config,
    regions: Mapping[str, BoolArray],
    *,
    device: str = 'cpu',
) -> pd.DataFrame:
    """Decode by ridge regression from all voxels of one region, the folds those of the decoder.

    No voxel is chosen, so that regions differ in nothing but what they are.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    features
        Features of all stimuli.
    config
        Feature components, ridge, evaluation and seed.
    regions
        Voxels of each region, (n_voxels,).
    device
        ``cpu`` or ``cuda``.

    Returns
    -------
    pandas.DataFrame
        One row per region of :data:`MIN_VOXELS` voxels and more that are finite and vary in
        training: ``name``, ``n_voxels``, ``identification_2way`` of single trials, ``chance``,
        ``ci_low``, ``ci_high``, ``p`` and ``p_fdr`` (adjusted over regions).
    """
    settings, split = DecoderSettings.of(config, device), estimates.split
    kept = {name: own for name, own in regions.items() if own.sum() >= MIN_VOXELS}
    if kept:
        usable = varies(estimates)
        kept = {name: own & usable for name, own in kept.items()}
        kept = {name: own for name, own in kept.items() if own.sum() >= MIN_VOXELS}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in kept}
    for number, fold in enumerate(split) if kept else ():
        samples = estimates.of_fold(number)
        train, test = (samples.table.iloc[rows] for rows in (fold.train, fold.test))
        candidates, _ = candidate_stimuli(train, test)
        library = tuple(dict.fromkeys(train['stimulus'].astype(str)))
        space = FeatureSpace.fit(features.of(library), settings.n_components)
        for name, keep in kept.items():
            cut = samples.fold(fold, keep)
            decoder = fit(cut.train, features, settings, space=space)
            data = decoder.components, decoder, cut.test, features, candidates
            outcomes[name].append(judge(OWN_MODEL, *data, fold=number, rows=fold.test))
    # apart from the sources of the decoder itself
    rng = np.random.default_rng(config.seed).spawn(3)[2]
    scores = {}
    for name, found in outcomes.items():
        pairing = Pairing.of(found, split)
        scorer = Scorer(
            OWN_MODEL, SINGLE_TRIAL, split.protocol, pairing, config.evaluation, rng.spawn(1)[0]
        )
        scores[name], _ = identification_scores(scorer, found, METRIC)
    return region_table(scores, {name: int(own.sum()) for name, own in kept.items()}, METRIC)
