"""Which region carries it? Images decoded from the voxels of each region of the atlas alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation import statistics
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, candidate_stimuli
from bids_neurodecode.systems.outcomes import OWN_MODEL, SINGLE_TRIAL, Outcome, judge
from bids_neurodecode.systems.pooling import identification_scores
from bids_neurodecode.systems.reconstruction.recipe import fit
from bids_neurodecode.systems.scoring import Pairing, Scorer
from bids_neurodecode.systems.voxels import varies
from bids_neurodecode.typing import BoolArray

METRIC = 'identification_2way'
MIN_VOXELS = 10
"""Regions with fewer usable voxels are not decoded."""
FACTS = ('chance', 'ci_low', 'ci_high', 'p')


def decode_regions(
    tuned: Sequence[Samples],
    split: Split,
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
    tuned
        All trials once a fold, with betas tuned on its training trials; or one for all folds.
    split
        What is held out.
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
    settings = DecoderSettings(
        n_components=config.features.n_components,
        ridge=config.ridge,
        device='cuda' if device == 'cuda' else 'cpu',
    )
    kept = {name: own for name, own in regions.items() if own.sum() >= MIN_VOXELS}
    if kept:
        usable = varies(tuned, split)
        kept = {name: own & usable for name, own in kept.items()}
        kept = {name: own for name, own in kept.items() if own.sum() >= MIN_VOXELS}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in kept}
    for number, fold in enumerate(split) if kept else ():
        samples = tuned[min(number, len(tuned) - 1)]
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
    rows = []
    for name, found in outcomes.items():
        pairing = Pairing.of(found, split)
        scorer = Scorer(
            OWN_MODEL, SINGLE_TRIAL, split.protocol, pairing, config.evaluation, rng.spawn(1)[0]
        )
        row, _ = identification_scores(scorer, found, METRIC)
        facts = {key: getattr(row, key) for key in FACTS}
        rows.append({'name': name, 'n_voxels': int(kept[name].sum()), METRIC: row.value, **facts})
    table = pd.DataFrame(rows, columns=['name', 'n_voxels', METRIC, *FACTS])
    numbers = [METRIC, *FACTS]
    table[numbers] = table[numbers].astype('float64')
    return table.assign(p_fdr=statistics.fdr(table['p']))
