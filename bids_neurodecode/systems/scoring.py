"""Scores over folds, their intervals and permutations, and which samples may be exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import statistics
from bids_neurodecode.evaluation.metrics import METRICS, Metric, Score
from bids_neurodecode.evaluation.order import order_agreement
from bids_neurodecode.samples import Split, contents
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.systems.comparison import Kept
from bids_neurodecode.systems.outcomes import Outcome
from bids_neurodecode.typing import FloatArray, IndexArray

LABELS, REFIT = 'labels', 'refit'
"""What is permuted: predictions against stimuli, or labels before models are fitted."""
FIXED_LABELS = (
    'No permutation changes which stimulus belongs to which test sample (one of them in each '
    '{block}), so scores have no p value.'
)

FEW_GROUPS = (
    'There are {n} independent held-out {what}: with fewer than {need} scores have no p value and '
    'no confidence interval.'
)
ONE_ORDER = (
    'Runs show their stimuli in the same order, or nearly so (agreement {agreement:.2f} of 1, by '
    'onset, or by row where there are no onsets): the place in the run and the stimulus cannot be '
    'told apart, so scores have no p value.'
)
MOST_AGREEMENT = 0.3
"""Agreement of the order of stimuli from which place and stimulus are taken for one: random
orders of eight stimuli and more reach .23 at most, two exchanges among ten leave .35."""
SYSTEM = 'reconstruction'


@dataclass(frozen=True, eq=False)
class Pairing:
    """Which test samples may exchange their stimuli, and which belong together.

    Where runs or sessions are held out, samples exchange within their run, and intervals are over
    runs. Else the stimuli of one fold are exchanged, repeats moving together, and intervals are
    over stimuli. Images of the same content are one stimulus, whatever their names.

    Parameters
    ----------
    blocks, units
        What may be exchanged; see :func:`~bids_neurodecode.evaluation.statistics.permutations`.
    groups
        What intervals are over.
    shared
        How far folds train on each other's groups, from 0 to 1; see
        :func:`~bids_neurodecode.evaluation.statistics.shared_training`.
    untested
        Why there is no p value; None: there is one.
    """

    blocks: IndexArray
    units: IndexArray | None
    groups: IndexArray
    shared: float = 0.0
    untested: str | None = None
    of_what: str = 'stimuli'
    """What groups are: ``stimuli`` or ``runs``."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], split: Split) -> Pairing:
        """Derive the pairing of the samples of these outcomes, one after the other.

        Parameters
        ----------
        outcomes
            Of each fold.
        split
            Of the samples.
        """
        fold = [str(o.fold) for o in outcomes for _ in range(len(o.table))]
        names = [name for o in outcomes for name in o.table['stimulus']]
        stimulus = contents(names, split.table).tolist()
        run = [name for o in outcomes for name in o.table['run']]
        by_run = split.by in {'run', 'session'}
        blocks = codes_of(zip(fold, run, strict=True) if by_run else fold)
        units = None if by_run else codes_of(zip(fold, stimulus, strict=True))
        labels = codes_of(stimulus)
        kinds = {tuple(sorted(set(labels[blocks == block]))) for block in np.unique(blocks)}
        groups = run if by_run else stimulus
        n_groups, untested = len(set(groups)), None
        what = 'runs' if by_run else 'stimuli'
        if n_groups < statistics.MIN_GROUPS:
            untested = FEW_GROUPS.format(n=n_groups, what=what, need=statistics.MIN_GROUPS)
        elif all(len(kind) == 1 for kind in kinds):
            untested = FIXED_LABELS.format(block='run' if by_run else 'fold')
        elif by_run:
            agreement = agreement_of(split.table)
            if agreement >= MOST_AGREEMENT:
                untested = ONE_ORDER.format(agreement=agreement)
        shared = shared_training(outcomes, groups, split, by_run=by_run)
        return cls(blocks, units, codes_of(groups), shared, untested, what)

    def widened(self, null: FloatArray) -> FloatArray:
        """Return permuted scores with the spread that scores without a signal have.

        Models are not fitted again, so that permuted scores of two folds are independent; those
        of folds that train each other are not.
        """
        if not null.size or not self.shared:
            return null
        mean = null.mean(axis=0)
        return np.asarray(mean + np.sqrt(1 + self.shared) * (null - mean))

    def interval(
        self,
        values: FloatArray,
        settings: EvaluationSettings,
        rng: np.random.Generator,
        *,
        bounds: tuple[float, float],
        groups: IndexArray | None = None,
    ) -> tuple[float | None, float | None]:
        """Return the confidence interval of a mean; None: there is none.

        Parameters
        ----------
        values
            One value per sample, (n_samples,).
        settings, rng
            Resamplings and confidence.
        bounds
            Least and greatest mean that is possible.
        groups
            One label per value, in the place of those of the samples.
        """
        of = self.groups if groups is None else groups
        low, high = statistics.bootstrap_ci(
            values,
            rng=rng,
            groups=of,
            n_bootstrap=settings.n_bootstrap,
            confidence=settings.confidence,
            bounds=bounds,
            inflation=statistics.inflation_of(self.shared, len(np.unique(of))),
        )
        return (None, None) if np.isnan(low) else (low, high)


@dataclass(frozen=True, eq=False)
class Scorer:
    """Turns what each sample would score, were each label true, into rows of the table.

    Parameters
    ----------
    model, space, protocol, system
        Columns of the rows.
    pairing
        What may be exchanged, over all samples.
    settings
        Permutations, bootstrap, confidence.
    rng
        Source of randomness.
    kept
        Takes what each sample scores, for comparisons with other models.
    """

    model: str
    space: str
    protocol: str
    pairing: Pairing
    settings: EvaluationSettings
    rng: np.random.Generator
    kept: Kept = field(default_factory=dict, repr=False)
    system: str = SYSTEM

    def score(
        self,
        metric: str,
        values: FloatArray,
        permuted: Callable[[IndexArray], float] | None,
        *,
        chance: float | None = None,
        space: str | None = None,
        image_size: int | None = None,
        refitted: FloatArray | None = None,
    ) -> tuple[Score, FloatArray]:
        """Score one metric.

        Parameters
        ----------
        metric
            Its name.
        values
            One value per sample.
        permuted
            Mean value with sample i given the stimulus of sample ``index[i]``; None: no test.
        chance
            Known chance level; None: the mean over permutations.
        space, image_size
            Columns of the row.
        refitted
            Scores of models that were fitted again on permuted labels, (n_permutations,), in the
            place of ``permuted``; of metrics of which more is better.

        Returns
        -------
        tuple
            The row, and the permuted scores (n_permutations,); none without a p value.
        """
        # where less is better, all is tested with the other sign
        known = METRICS.get(metric, Metric(metric))
        sign, given = 1 if known.higher_is_better else -1, values
        values = sign * given
        null = np.empty(0) if refitted is None else refitted
        if permuted is not None and refitted is None:
            draws = statistics.permutations(
                len(values),
                self.settings.n_permutations,
                self.rng,
                blocks=self.pairing.blocks,
                units=self.pairing.units,
            )
            null = sign * np.array([permuted(index) for index in draws], dtype=np.float64)
        bounds = (known.low, known.high) if sign > 0 else (-known.high, -known.low)
        limits = self.pairing.interval(values, self.settings, self.rng, bounds=bounds)
        low, high = (x if x is None else sign * x for x in limits[::sign])
        if chance is None and null.size:
            chance = sign * float(null.mean())
        # no share lies beyond 0 or 1; p is the same
        if refitted is None:
            null = np.clip(self.pairing.widened(null), *bounds)
        if self.pairing.untested is not None:
            null = np.empty(0)
        row = Score(
            system=self.system,
            model=self.model,
            protocol=self.protocol,
            split='test',
            space=space or self.space,
            metric=metric,
            value=sign * float(values.mean()),
            n=len(values),
            chance=chance,
            ci_low=low,
            ci_high=high,
            p=statistics.p_value(null, float(values.mean())) if null.size else None,
            n_units=len(np.unique(self.pairing.groups)),
            units=self.pairing.of_what,
            test=None if not null.size else LABELS if refitted is None else REFIT,
            image_size=image_size,
        )
        self.kept[self.model, row.space, metric] = given, self.pairing.groups
        return row, sign * null


def agreement_of(table: pd.DataFrame) -> float:
    """Return how far the runs of a table of samples agree on the order of stimuli."""
    if 'onset' in table.columns:
        table = table.sort_values('onset', kind='stable')
    return order_agreement(run_labels(table), contents(table['stimulus'], table))


def shared_training(
    outcomes: Sequence[Outcome], groups: Sequence[Any], split: Split, *, by_run: bool
) -> float:
    """Return how far the folds of a split train on each other's groups.

    Parameters
    ----------
    outcomes
        Of each fold.
    groups
        Run or content of each held-out sample.
    split
        Of the samples.
    by_run
        Whether groups are runs.
    """
    if len(split) < 2:
        return 0.0
    table = split.table
    known = run_labels(table) if by_run else contents(table['stimulus'], table)
    names = {name: column for column, name in enumerate(dict.fromkeys([*known, *groups]))}
    tested = np.zeros((len(split), len(names)), dtype=bool)
    trained = tested.copy()
    folds = [o.fold for o in outcomes for _ in range(len(o.table))]
    tested[folds, [names[name] for name in groups]] = True
    for number, fold in enumerate(split):
        trained[number, [names[name] for name in set(known[fold.train])]] = True
    return statistics.shared_training(tested, trained)


def region_table(
    scores: Mapping[str, Score], n_voxels: Mapping[str, int], metric: str
) -> pd.DataFrame:
    """Return one row per region, p adjusted over regions for the false discovery rate.

    Parameters
    ----------
    scores
        Of each region, by its name.
    n_voxels
        By how many voxels.
    metric
        What was scored, and the name of the column.

    Returns
    -------
    pandas.DataFrame
        ``name``, ``n_voxels``, the metric, ``chance``, ``ci_low``, ``ci_high``, ``p``, ``p_fdr``.
    """
    facts = ('value', 'chance', 'ci_low', 'ci_high', 'p')
    table = pd.DataFrame({'name': [*scores], 'n_voxels': [n_voxels[name] for name in scores]})
    for name in facts:
        column = [getattr(score, name) for score in scores.values()]
        table[metric if name == 'value' else name] = np.array(column, dtype=np.float64)
    return table.assign(p_fdr=statistics.fdr(table['p']))


def codes_of(labels: Iterable[Any]) -> IndexArray:
    """Return labels as whole numbers, in order of first appearance."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
