"""From outcomes of single folds to scores over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Split
from bids_neurodecode.systems import pixels
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.comparison import Kept, compare_rows
from bids_neurodecode.systems.outcomes import OWN_MODEL, REPEAT_AVERAGE, Outcome, look_up
from bids_neurodecode.systems.scoring import SYSTEM, Pairing, Scorer
from bids_neurodecode.typing import FloatArray, IndexArray

IDENTIFICATION = {
    'identification_top1': identification.outcomes_top1,
    'identification_2way': identification.outcomes_2way,
}
"""What each metric makes of similarities, (n_samples, n_candidates) both."""
MOST_LABELS = 2000
"""Stimuli up to which it is counted which are taken for which."""
ONE_CANDIDATE = (
    'Fold {fold} has one candidate stimulus only, so nothing can be identified. '
    'Use fewer folds (split.n_folds), or hold out whole runs (split.by = "run").'
)
CLOSED_SET = (
    'Every test stimulus was also seen in training: scores say how well known stimuli are told '
    'apart, not how well new ones would be.'
)


class Scoring(Protocol):
    """Scores one metric over the folds of a model."""

    def __call__(
        self, scorer: Scorer, outcomes: Sequence[Outcome], metric: str, *, refitted: Any = None
    ) -> tuple[Score, FloatArray]:
        """Return the row of the table and permuted scores, as :func:`identification_scores`."""
        ...


def pool(
    outcomes: Sequence[Outcome],
    *,
    split: Split,
    settings: EvaluationSettings,
    score: Scoring | None = None,
    metrics: Iterable[str] = IDENTIFICATION,
    system: str = SYSTEM,
    pictures: PerStimulus | None = None,
    notes: Iterable[str] = (),
    refitted: Mapping[str, FloatArray] | None = None,
    rng: np.random.Generator,
) -> Evaluation:
    """Pool outcomes of all folds into scores.

    Unless ``refitted`` holds the permuted scores of decoders that were fitted again, by
    ``<space>/<metric>``, the test is of predictions as they are, against the stimuli of held-out
    samples.

    Parameters
    ----------
    outcomes
        Of all folds, models and spaces.
    split
        Of the samples.
    settings
        Permutations, draws and confidence.
    score, metrics
        What scores single trials, and by which metrics; :func:`identification_scores` if None.
    system
        Of the rows.
    pictures
        Of all stimuli, where retrieved ones are compared pixel by pixel.
    notes
        What a reader should know.
    refitted
        Scores of decoders that were fitted to exchanged labels, (n_permutations,).
    rng
        Of permutations and draws.
    """
    lines = dict.fromkeys(notes)
    scores: list[Score] = []
    nulls: dict[str, FloatArray] = {}
    kinds = dict.fromkeys((o.model, o.space) for o in outcomes)
    averaged = any(space == REPEAT_AVERAGE for _, space in kinds)
    kept: Kept = {}
    for model, space in kinds:
        part = [o for o in outcomes if (o.model, o.space) == (model, space)]
        pairing = Pairing.of(part, split)
        if pairing.untested is not None:
            lines[pairing.untested] = None
        scorer = Scorer(model, space, split.protocol, pairing, settings, rng, kept, system)
        for metric in metrics:
            again = (refitted or {}).get(f'{space}/{metric}') if model == OWN_MODEL else None
            row, null = (score or identification_scores)(scorer, part, metric, refitted=again)
            scores.append(row)
            if model == OWN_MODEL:
                nulls[f'{space}/{metric}'] = null
        if pictures is not None and (space == REPEAT_AVERAGE) == averaged:
            rows, remarks = pixels.score_pictures(scorer, part, pictures)
            scores.extend(rows)
            lines.update(dict.fromkeys(remarks))
    own = [o for o in outcomes if o.model == OWN_MODEL]
    single = [o for o in own if o.space != REPEAT_AVERAGE]
    confusion, labels = confusion_of(single)
    compared = compare_rows(scores, kept, OWN_MODEL, settings, rng.spawn(1)[0])
    return Evaluation(
        scores=compared,
        samples=pd.concat([sample_table(o) for o in own], ignore_index=True),
        nulls=nulls,
        confusion=confusion,
        labels=labels,
        decoded=np.concatenate([o.decoded for o in single]),
        notes=tuple(lines),
    )


def identification_scores(
    scorer: Scorer,
    outcomes: Sequence[Outcome],
    metric: str,
    *,
    refitted: FloatArray | None = None,
) -> tuple[Score, FloatArray]:
    """Score identification; a permuted score is a look-up, as similarities do not change.

    Parameters
    ----------
    scorer
        Makes rows of values.
    outcomes
        Of each fold.
    metric
        ``identification_top1`` or ``identification_2way``.
    refitted
        Scores of decoders that were fitted to exchanged labels, (n_permutations,).
    """
    tables = [IDENTIFICATION[metric](o.similarities) for o in outcomes]
    widths = np.concatenate([np.full(*o.similarities.shape) for o in outcomes])
    truth = np.concatenate([o.truth for o in outcomes])
    chance = float((1 / widths).mean()) if metric == 'identification_top1' else 0.5

    def permuted(index: IndexArray) -> float:
        return float(look_up(tables, truth[index]).mean())

    values = look_up(tables, truth)
    return scorer.score(metric, values, permuted, chance=chance, refitted=refitted)


def identification_values(outcomes: Sequence[Outcome], metric: str) -> FloatArray:
    """Return what each sample scores in ``identification_top1`` or ``identification_2way``.

    Parameters
    ----------
    outcomes
        Of each fold.
    metric
        ``identification_top1`` or ``identification_2way``.
    """
    tables = [IDENTIFICATION[metric](o.similarities) for o in outcomes]
    return look_up(tables, np.concatenate([o.truth for o in outcomes]))


def sample_table(outcome: Outcome) -> Any:
    """Return one row per sample: rank, similarity, outcome and what was retrieved."""
    rows, truth = np.arange(len(outcome.table)), outcome.truth
    similarities = outcome.similarities
    return outcome.table.assign(
        space=outcome.space,
        fold=outcome.fold,
        n_candidates=len(outcome.candidates),
        rank=identification.ranks(similarities, truth),
        similarity=similarities[rows, truth],
        identified=identification.outcomes_top1(similarities)[rows, truth],
        two_way=identification.outcomes_2way(similarities)[rows, truth],
        retrieved=list(outcome.retrieved),
    )


def confusion_of(outcomes: Sequence[Outcome]) -> tuple[FloatArray, tuple[str, ...]]:
    """Add up the confusion matrices of folds, whose candidates may differ.

    Of more labels than can be seen there is none: of 30,000 images it would take 7 GB.
    """
    labels = tuple(sorted({name for o in outcomes for name in o.candidates}))
    if len(labels) > MOST_LABELS:
        return np.empty((0, 0)), ()
    place = {name: row for row, name in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for o in outcomes:
        columns = np.array([place[name] for name in o.candidates])
        counts[np.ix_(columns, columns)] += identification.confusion_matrix(
            o.similarities, o.truth
        )
    return counts, labels
