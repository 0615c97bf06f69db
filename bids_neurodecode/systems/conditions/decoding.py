"""Which condition was it? Linear classification of held-out runs.

The classifier is ridge regression from standardised voxels to indicators of the conditions, its
penalty chosen by runs held out within training: the decoder of images
(:mod:`bids_neurodecode.systems.reconstruction.recipe`) with conditions in the place of image
features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Fold, Parts, Responses, Samples, Split
from bids_neurodecode.systems import baselines
from bids_neurodecode.systems.base import Evaluation, PerStimulus, run_labels
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.outcomes import OWN_MODEL, SINGLE_TRIAL, Outcome, judge
from bids_neurodecode.systems.pooling import IDENTIFICATION, pool
from bids_neurodecode.systems.reconstruction.recipe import fit
from bids_neurodecode.systems.refitting import refitted_nulls
from bids_neurodecode.systems.scoring import Pairing, Scorer, region_table
from bids_neurodecode.systems.voxels import Estimates, varies
from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

NOT_REFITTED = (
    'Conditions have different numbers of trials: models are not fitted again on exchanged labels '
    '(evaluation.permutation = "refit"), and the labels of held-out trials are exchanged instead.'
)
ONE_CONDITION = 'There is one condition ({name}); at least two are needed to tell them apart.'

SYSTEM = 'conditions'
ACCURACY, TWO_WAY = 'balanced_accuracy', 'identification_2way'
MEAN_RESPONSE = 'baseline-mean-response'


def conditions_of(table: pd.DataFrame) -> PerStimulus:
    """Return an indicator a condition of a table of trials, in order of their names.

    Raises
    ------
    DataError
        If there is one condition only.
    """
    names = tuple(sorted(set(table['stimulus'].astype(str))))
    if len(names) < 2:
        raise DataError(ONE_CONDITION.format(name=names[0]))
    return PerStimulus(names, np.eye(len(names), dtype=np.float32))


def classify(
    folds: Sequence[Parts],
    split: Split,
    config: Config,
    *,
    rng: np.random.Generator,
    space: str = SINGLE_TRIAL,
    with_baselines: bool = True,
) -> Evaluation:
    """Fit the classifier in every fold and judge it on the held-out trials of all of them.

    Parameters
    ----------
    folds
        The samples of each fold of ``split``, with the voxels already chosen.
    split
        By run or session.
    config
        Ridge and evaluation.
    rng
        Source of randomness of baselines, permutations and bootstrap.
    space
        What the rows of the metrics table say was scored.
    with_baselines
        Whether baselines are judged too: labels of training trials shuffled; the training
        condition whose mean pattern correlates most (Haxby et al. 2001, Science 293:2425); and
        the classifier on one number, the mean response over voxels.

    Returns
    -------
    Evaluation
        Balanced accuracy and pairs of conditions, of the classifier and its baselines. Of each
        sample ``stimulus`` is its condition, and ``retrieved`` the one that was decoded.
    """
    settings = DecoderSettings(n_components=None, ridge=config.ridge, groups='run')
    folds = [_with_halves(cut) for cut in folds]
    if any(cut.train.table['run'].nunique() < 2 for cut in folds):
        settings = replace(settings, groups='auto')
    features = conditions_of(split.table)
    shuffle_rng, pool_rng, refit_rng = rng.spawn(3)
    shuffled = shuffle_rng if with_baselines else None
    outcomes: list[Outcome] = []
    decoders: list[LinearDecoder] = []
    for number, (fold, cut) in enumerate(zip(split, folds, strict=True)):
        decoder = fit(cut.train, features, settings)
        decoders.append(decoder)
        found = _outcomes(decoder, cut, features, settings, number, fold, shuffled)
        outcomes += [replace(outcome, space=space) for outcome in found]
    own = [o for o in outcomes if o.model == OWN_MODEL]
    refitted: dict[str, FloatArray] = {}
    notes: list[str] = []
    evaluation = config.evaluation
    if evaluation.permutation == 'refit' and Pairing.of(own, split).untested is None:
        counts = pd.concat([o.table['stimulus'] for o in own]).value_counts()
        if counts.nunique() > 1:
            notes.append(NOT_REFITTED)
        else:
            # with as many trials of each condition, identification is balanced accuracy
            names = {'identification_top1': ACCURACY, TWO_WAY: TWO_WAY}
            nulls = refitted_nulls(
                decoders,
                folds,
                split,
                features,
                settings,
                n_permutations=evaluation.n_permutations,
                rng=refit_rng,
            )
            refitted = {
                f'{space}/{names[metric]}': null
                for (kind, metric), null in ((key.split('/'), x) for key, x in nulls.items())
                if kind == SINGLE_TRIAL
            }
    return pool(
        outcomes,
        split=split,
        settings=evaluation,
        score=_score,
        metrics=(ACCURACY, TWO_WAY),
        system=SYSTEM,
        notes=notes,
        refitted=refitted,
        rng=pool_rng,
    )


def _outcomes(
    decoder: LinearDecoder,
    cut: Parts,
    features: PerStimulus,
    settings: DecoderSettings,
    number: int,
    fold: Fold,
    shuffled: np.random.Generator | None,
) -> list[Outcome]:
    """Judge the classifier of a fold and, with a source of shuffled labels, the baselines."""
    models: list[tuple[str, LinearDecoder, baselines.Components, Samples]] = [
        (OWN_MODEL, decoder, decoder.components, cut.test)
    ]
    if shuffled is not None:
        other = fit(baselines.shuffled(cut.train, shuffled), features, settings)
        nearest = baselines.nearest(decoder, cut.train, features)
        level = fit(_mean_response(cut.train), features, settings)
        models += [
            ('baseline-shuffled', decoder, other.components, cut.test),
            ('baseline-nearest', decoder, nearest, cut.test),
            (MEAN_RESPONSE, level, level.components, _mean_response(cut.test)),
        ]
    names, rows = features.stimuli, fold.test
    return [
        judge(model, each, of, test, features, names, fold=number, rows=rows, average=False)
        for model, of, each, test in models
    ]


def classify_regions(
    estimates: Estimates,
    config: Config,
    regions: Mapping[str, BoolArray],
    *,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, tuple[Score, ...]]:
    """Classify by the voxels of each region, all of them.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    config, rng
        As in :func:`classify`.
    regions
        Voxels of each region, (n_voxels,); those with fewer usable voxels than
        ``conditions.min_voxels`` are passed over.

    Returns
    -------
    pandas.DataFrame
        One row per region: see :func:`~bids_neurodecode.systems.scoring.region_table`.
    tuple of Score
        The same as rows of the metrics table.
    """
    scores, n_voxels = {}, {}
    for name, voxels in regions.items():
        keep = voxels & varies(estimates)
        if keep.sum() < config.conditions.min_voxels:
            continue
        found = classify(
            [*estimates.parts(keep)],
            estimates.split,
            config,
            rng=rng.spawn(1)[0],
            space=f'{SINGLE_TRIAL}/{name}',
            with_baselines=False,
        )
        scores[name] = next(s for s in found.scores if s.metric == ACCURACY)
        n_voxels[name] = int(keep.sum())
    return region_table(scores, n_voxels, ACCURACY), tuple(scores.values())


def _with_halves(cut: Parts) -> Parts:
    """Take every other trial of a condition for another run, where training has one run only.

    The penalty is then chosen by halves of the run: their noise is shared, that of the held-out
    run is not.
    """
    table = cut.train.table
    if len(set(run_labels(table))) > 1:
        return cut
    halves = table.groupby('stimulus').cumcount() % 2
    return cut._replace(train=Samples(cut.train.responses, table.assign(run=halves)))


def _mean_response(samples: Samples) -> Samples:
    """Return samples whose one voxel is the mean of all."""
    first = np.arange(samples.values.shape[1]) == 0
    mean = samples.values.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    return Samples(Responses(mean, samples.responses.mask.restrict(first)), samples.table)


def _score(
    scorer: Scorer,
    outcomes: Sequence[Outcome],
    metric: str,
    *,
    refitted: FloatArray | None = None,
) -> tuple[Score, FloatArray]:
    """Score one metric; each condition counts the same, however many trials it has.

    Where a run lacks a condition, which ones it has can be guessed from the run: chance is then
    what labels exchanged within runs score.
    """
    made_of = IDENTIFICATION['identification_top1' if metric == ACCURACY else metric]
    table = np.concatenate([made_of(o.similarities) for o in outcomes])
    truth = np.concatenate([o.truth for o in outcomes])
    counts = np.bincount(truth, minlength=table.shape[1])
    present = np.count_nonzero(counts)
    weights = len(truth) / (present * np.maximum(counts, 1))
    rows = np.arange(len(truth))

    def permuted(index: IndexArray) -> float:
        label = truth[index]
        return float((table[rows, label] * weights[label]).mean())

    values = table[rows, truth] * weights[truth]
    chance: float | None = 1 / table.shape[1] if metric == ACCURACY else 0.5
    pairs = {*zip(scorer.pairing.blocks.tolist(), truth.tolist(), strict=True)}
    if len(pairs) < present * len(np.unique(scorer.pairing.blocks)) and (
        refitted is not None or scorer.settings.n_permutations
    ):
        chance = None
    return scorer.score(metric, values, permuted, chance=chance, refitted=refitted)
