"""Which condition was it? Linear classification of held-out runs.

The classifier is ridge regression from standardised voxels to indicators of the conditions, its
penalty chosen by runs held out within training: the decoder of images
(:mod:`bids_neurodecode.systems.reconstruction.recipe`) with conditions in the place of image
features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation import identification, statistics
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Fold, Parts, Responses, Samples, Split
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.systems import baselines
from bids_neurodecode.systems.base import PerStimulus, run_labels
from bids_neurodecode.systems.comparison import Kept, compare_rows
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.outcomes import OWN_MODEL, SINGLE_TRIAL, Outcome, judge
from bids_neurodecode.systems.pooling import confusion_of, sample_table
from bids_neurodecode.systems.reconstruction.recipe import fit
from bids_neurodecode.systems.refitting import refitted_nulls
from bids_neurodecode.systems.scoring import Pairing, Scorer
from bids_neurodecode.systems.voxels import of_voxels, varies
from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

NOT_REFITTED = (
    'Conditions have different numbers of trials: models are not fitted again on exchanged labels '
    '(evaluation.permutation = "refit"), and the labels of held-out trials are exchanged instead.'
)
ONE_CONDITION = 'There is one condition ({name}); at least two are needed to tell them apart.'

SYSTEM = 'conditions'
ACCURACY, TWO_WAY = 'balanced_accuracy', 'identification_2way'
MEAN_RESPONSE = 'baseline-mean-response'


@dataclass(frozen=True, eq=False)
class Classification:
    """Scores of the classifier over all folds.

    Parameters
    ----------
    scores
        Rows of the metrics table: balanced accuracy and pairs of conditions, of the classifier
        and its baselines.
    samples
        One row per held-out trial: ``fold``, ``sample``, ``stimulus`` (its condition), ``run``,
        ``n_candidates``, ``rank``, ``similarity``, ``identified``, ``retrieved`` (the condition
        that was decoded).
    null
        Permuted balanced accuracies (n_permutations,); empty where there is no test.
    confusion
        Counts of (true, decoded) conditions, (n_conditions, n_conditions).
    labels
        The conditions, sorted.
    selections
        The voxels of each fold.
    notes
        What a reader should know, one line each.
    """

    scores: tuple[Score, ...]
    samples: pd.DataFrame
    null: FloatArray
    confusion: FloatArray
    labels: tuple[str, ...]
    selections: tuple[VoxelSelection, ...]
    notes: tuple[str, ...] = ()


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
    selections: Sequence[VoxelSelection] = (),
) -> Classification:
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
    selections
        Passed on.
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
            n = evaluation.n_permutations
            refitted = _refitted(decoders, folds, split, features, settings, n, refit_rng)
    scores: list[Score] = []
    kept: Kept = {}
    null = np.empty(0)
    for model in dict.fromkeys(o.model for o in outcomes):
        part = [o for o in outcomes if o.model == model]
        pairing = Pairing.of(part, split)
        notes += [] if pairing.untested is None else [pairing.untested]
        scorer = Scorer(
            model, space, split.protocol, pairing, evaluation, pool_rng, kept, system=SYSTEM
        )
        again = refitted if model == OWN_MODEL else {}
        rows = {name: _score(scorer, part, name, again.get(name)) for name in (ACCURACY, TWO_WAY)}
        scores += [row for row, _ in rows.values()]
        null = rows[ACCURACY][1] if model == OWN_MODEL else null
    confusion, labels = confusion_of(own)
    return Classification(
        scores=compare_rows(scores, kept, OWN_MODEL, evaluation, pool_rng.spawn(1)[0]),
        samples=pd.concat([sample_table(o) for o in own], ignore_index=True),
        null=null,
        confusion=confusion,
        labels=labels,
        selections=tuple(selections),
        notes=tuple(dict.fromkeys(notes)),
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


def _refitted(
    decoders: Sequence[LinearDecoder],
    folds: Sequence[Parts],
    split: Split,
    features: PerStimulus,
    settings: DecoderSettings,
    n_permutations: int,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """Return the permuted scores of classifiers that were fitted again, by metric.

    With as many trials of each condition identification is the same as balanced accuracy.
    """
    found = refitted_nulls(
        decoders, folds, split, features, settings, n_permutations=n_permutations, rng=rng
    )
    if not found:
        return {}
    return {
        ACCURACY: found[f'{SINGLE_TRIAL}/identification_top1'],
        TWO_WAY: found[f'{SINGLE_TRIAL}/{TWO_WAY}'],
    }


def classify_regions(
    tuned: Sequence[Samples],
    split: Split,
    config: Config,
    regions: Mapping[str, BoolArray],
    *,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, tuple[Score, ...]]:
    """Classify by the voxels of each region, all of them.

    Parameters
    ----------
    tuned, split, config, rng
        As in :func:`~bids_neurodecode.systems.voxels.cut_folds` and :func:`classify`.
    regions
        Voxels of each region, (n_voxels,); those with fewer usable voxels than
        ``conditions.min_voxels`` are passed over.

    Returns
    -------
    pandas.DataFrame
        One row per region: ``name``, ``n_voxels``, ``balanced_accuracy``, ``chance``, ``ci_low``,
        ``ci_high``, ``p`` and ``p_fdr`` (adjusted over regions).
    tuple of Score
        The same as rows of the metrics table.
    """
    rows, scores = [], []
    for name, voxels in regions.items():
        keep = voxels & varies(tuned, split)
        if keep.sum() < config.conditions.min_voxels:
            continue
        folds = [
            of_voxels(tuned[min(number, len(tuned) - 1)].fold(fold), keep)
            for number, fold in enumerate(split)
        ]
        found = classify(
            folds,
            split,
            config,
            rng=rng.spawn(1)[0],
            space=f'{SINGLE_TRIAL}/{name}',
            with_baselines=False,
        )
        score = next(s for s in found.scores if s.metric == ACCURACY)
        scores.append(score)
        facts = {key: getattr(score, key) for key in ('chance', 'ci_low', 'ci_high', 'p')}
        rows.append({'name': name, 'n_voxels': int(keep.sum()), ACCURACY: score.value, **facts})
    columns = ['name', 'n_voxels', ACCURACY, 'chance', 'ci_low', 'ci_high', 'p']
    table = pd.DataFrame(rows, columns=columns)
    table[columns[3:]] = table[columns[3:]].astype('float64')
    return table.assign(p_fdr=statistics.fdr(table['p'])), tuple(scores)


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
    scorer: Scorer, outcomes: Sequence[Outcome], metric: str, refitted: FloatArray | None
) -> tuple[Score, FloatArray]:
    """Score one metric; each condition counts the same, however many trials it has.

    Where a run lacks a condition, which ones it has can be guessed from the run: chance is then
    what labels exchanged within runs score.
    """
    score_all = (
        identification.outcomes_top1 if metric == ACCURACY else identification.outcomes_2way
    )
    table = np.concatenate([score_all(o.similarities) for o in outcomes])
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
