"""A trained decoder on new responses: what it retrieves, and how well where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.metrics import Score, bounds_of
from bids_neurodecode.evaluation.statistics import MIN_GROUPS, bootstrap_ci, permutation_test
from bids_neurodecode.samples import Samples, contents
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import LinearDecoder
from bids_neurodecode.systems.outcomes import Outcome, judge
from bids_neurodecode.systems.pooling import IDENTIFICATION
from bids_neurodecode.systems.scoring import FEW_GROUPS, SYSTEM
from bids_neurodecode.typing import FloatArray, IndexArray

PROTOCOL = 'applied-to-new-data'
NO_VALUES = 'The responses hold values that are not finite in {n} of the model voxels.'


@dataclass(frozen=True, eq=False)
class Application:
    """What a trained decoder says of new responses.

    Parameters
    ----------
    scores
        Rows of the metrics table; none where there is one stimulus only.
    samples
        One row per trial: ``sample``, ``stimulus``, ``n_candidates``, ``rank``, ``similarity`` and
        ``retrieved``.
    null
        Permuted identification scores, (n_permutations,).
    notes
        What a reader should know.
    """

    scores: tuple[Score, ...]
    samples: pd.DataFrame
    null: FloatArray
    notes: tuple[str, ...]


def merge_stimuli(library: PerStimulus, new: PerStimulus) -> PerStimulus:
    """Return the features of the library and of new stimuli; new ones win where both have them.

    Parameters
    ----------
    library
        Features of training stimuli.
    new
        Features of new ones.
    """
    rows = dict(zip(library.stimuli, library.values, strict=True))
    rows |= dict(zip(new.stimuli, new.values, strict=True))
    return PerStimulus.from_mapping(rows)


def apply_decoder(
    decoder: LinearDecoder,
    samples: Samples,
    features: PerStimulus,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> Application:
    """Decode new responses.

    Parameters
    ----------
    decoder
        Fitted on other responses of the same person.
    samples
        New trials, with the decoder's voxels in its order.
    features
        Features of the decoder's library and of the new stimuli (:func:`merge_stimuli`).
    evaluation, rng
        Of the permutation test (stimuli are exchanged, repeats moving together) and the
        bootstrap (over stimuli). Images of the same content are one stimulus.

    Raises
    ------
    DataError
        If a response is not finite.
    """
    bad = int((~np.isfinite(samples.values)).any(axis=0).sum())
    if bad:
        raise DataError(NO_VALUES.format(n=bad))
    names = samples.table['stimulus'].astype(str)
    candidates = tuple(sorted(set(names)))
    outcome = judge('ridge', decoder.components, decoder, samples, features, candidates)
    table = outcome.table.assign(
        fold=0,
        n_candidates=len(candidates),
        rank=identification.ranks(outcome.similarities, outcome.truth),
        similarity=outcome.similarities[np.arange(samples.n_samples), outcome.truth],
        retrieved=outcome.retrieved,
    )
    _, shown = np.unique(contents(names, samples.table), return_inverse=True)
    n_shown = int(shown.max()) + 1
    notes: tuple[str, ...] = ()
    if n_shown < MIN_GROUPS:
        few = FEW_GROUPS.format(n=n_shown, what='stimuli', need=MIN_GROUPS)
        notes = (few,)
    if len(candidates) < 2:
        return Application((), table, np.empty(0), notes)
    found = [_score(metric, outcome, shown, evaluation, rng) for metric in IDENTIFICATION]
    return Application(tuple(row for row, _ in found), table, found[0][1], notes)


def _score(
    metric: str,
    outcome: Outcome,
    shown: IndexArray,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[Score, FloatArray]:
    """Score one metric; return the row and its permuted scores."""
    table, truth = IDENTIFICATION[metric](outcome.similarities), outcome.truth
    rows = np.arange(len(table))

    def statistic(index: IndexArray) -> float:
        return float(table[rows, truth[index]].mean())

    n_permutations = evaluation.n_permutations if shown.max() + 1 >= MIN_GROUPS else 0
    test = permutation_test(statistic, len(table), n_permutations, rng, units=shown)
    low, high = bootstrap_ci(
        table[rows, truth],
        rng=rng,
        groups=shown,
        n_bootstrap=evaluation.n_bootstrap,
        confidence=evaluation.confidence,
        bounds=bounds_of(metric),
    )
    row = Score(
        system=SYSTEM,
        model='ridge',
        protocol=PROTOCOL,
        split='new',
        space=outcome.space,
        metric=metric,
        value=test.observed,
        n=len(table),
        chance=1 / table.shape[1] if metric == 'identification_top1' else 0.5,
        ci_low=low,
        ci_high=high,
        p=test.p,
    )
    return row, test.null
