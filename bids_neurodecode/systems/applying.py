"""A trained decoder on new responses: what it retrieves, and how well where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
from bids_neurodecode.systems.scoring import FEW_GROUPS

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
    null: npt.NDArray[np.float64]
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
    outcome = judge(
        'ridge',
        decoder.components,
        decoder,
        samples,
        features,
        candidates,
        fold=0,
        rows=None,
        average=False,
    )
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
        notes = (*notes, few)
    if len(candidates) < 2:
        return Application((), table, np.empty(0), notes)
    scores, null = _scores(outcome, shown, evaluation, rng)
    return Application(scores, table, null, notes)


def _scores(
    outcome: Outcome,
    shown: npt.NDArray[np.intp],
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[tuple[Score, ...], npt.NDArray[np.float64]]:
    scores = []
    nulls = []
    for metric, each, chance in (
        (
            'identification_top1',
            identification.outcomes_top1(outcome.similarities),
            1 / len(outcome.candidates),
        ),
        ('identification_2way', identification.outcomes_2way(outcome.similarities), 0.5),
    ):
        rows = np.arange(len(each))

        def statistic(
            index: npt.NDArray[np.intp],
            values: npt.NDArray[np.float64] = each,
            rows: npt.NDArray[np.intp] = rows,
        ) -> float:
            return float(values[rows, outcome.truth[index]].mean())

        testable = len(np.unique(shown)) >= MIN_GROUPS
        n_permutations = evaluation.n_permutations if testable else 0
        test = permutation_test(statistic, len(each), n_permutations, rng, units=shown)
        low, high = bootstrap_ci(
            each[rows, outcome.truth],
            rng=rng,
            groups=shown,
            n_bootstrap=evaluation.n_bootstrap,
            confidence=evaluation.confidence,
            bounds=bounds_of(metric),
        )
        nulls.append(test.null)
        scores.append(
            Score(
                system='reconstruction',
                model='ridge',
                protocol=PROTOCOL,
                split='new',
                space=outcome.space,
                metric=metric,
                value=test.observed,
                n=len(each),
                chance=chance,
                ci_low=low,
                ci_high=high,
                p=test.p,
            )
        )
    return tuple(scores), nulls[0]
