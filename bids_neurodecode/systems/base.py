"""What all systems share: features or images by stimulus, and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import rows_of
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.metrics import Score

NOT_ONE_TO_ONE = (
    'There are {n} stimuli ({distinct} different) for {rows} rows of features or images; they '
    'must be one to one.'
)
UNKNOWN_STIMULI = (
    '{n} stimuli of the samples have no features or image (first: {first}). '
    'Check that the stimulus files of all events were loaded.'
)

AT_ONCE = 64
"""Rows of :class:`PerStimulus` that are copied at once where all are gone through."""


@dataclass(frozen=True, eq=False)
class PerStimulus:
    """One row per distinct stimulus, found by its name: features, or images.

    Parameters
    ----------
    stimuli
        Names, as in the column ``stimulus`` of the samples.
    values
        Shape (n_stimuli, ...): features (n_stimuli, n_features) or images
        (n_stimuli, h, w, 3).
    """

    stimuli: tuple[str, ...]
    values: npt.NDArray[Any]

    def __post_init__(self) -> None:
        distinct = len(set(self.stimuli))
        if not len(self.values) == len(self.stimuli) == distinct:
            raise DataError(
                NOT_ONE_TO_ONE.format(
                    n=len(self.stimuli), distinct=distinct, rows=len(self.values)
                )
            )

    @classmethod
    def from_mapping(cls, rows: Mapping[str, npt.NDArray[Any]]) -> PerStimulus:
        """Stack one array per stimulus, in the order of the mapping."""
        return cls(tuple(rows), np.stack(list(rows.values())))

    def of(self, names: Iterable[str]) -> npt.NDArray[Any]:
        """Return the rows of these stimuli, in their order (names may repeat).

        Many rows of a mapped array are mapped, too.
        """
        wanted = list(names)
        place = {name: row for row, name in enumerate(self.stimuli)}
        unknown = [name for name in dict.fromkeys(wanted) if name not in place]
        if unknown:
            raise DataError(UNKNOWN_STIMULI.format(n=len(unknown), first=unknown[0]))
        rows = np.array([place[name] for name in wanted], dtype=np.intp)
        return rows_of(self.values, rows, self.values, dtype=self.values.dtype)

    def mean(self, names: Iterable[str]) -> npt.NDArray[np.float64]:
        """Return the mean row of these stimuli, without a copy of all: they may lie on disk."""
        wanted = list(names)
        total = np.zeros(self.values.shape[1:])
        for at in range(0, len(wanted), AT_ONCE):
            total += self.of(wanted[at : at + AT_ONCE]).sum(axis=0, dtype=np.float64)
        return total / len(wanted)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What judging all folds gives back.

    Parameters
    ----------
    scores
        Rows of the metrics table, baselines among them.
    samples
        One row per judged sample of the system's own model: ``space``, ``fold``, ``sample`` (row
        number among all samples; of an average, its first), ``stimulus``, ``run``,
        ``n_candidates``, ``rank``, ``similarity`` (to the true stimulus), ``identified`` and
        ``two_way`` (0 to 1) and ``retrieved``.
    nulls
        Permuted scores of the system's own model, (n_permutations,), by ``<space>/<metric>``.
    confusion
        Counts of (true, identified) stimuli, shape (n_labels, n_labels); ties are shared out.
    labels
        The stimuli that name the rows and columns of ``confusion``.
    decoded
        Predicted features of the single trials, (n_trials, n_features), in the order of
        ``samples``.
    notes
        What a reader of the scores should know, one line each.
    """

    scores: tuple[Score, ...]
    samples: pd.DataFrame
    nulls: Mapping[str, npt.NDArray[np.float64]]
    confusion: npt.NDArray[np.float64]
    labels: tuple[str, ...]
    decoded: Float32Array
    notes: tuple[str, ...] = ()


def run_labels(table: pd.DataFrame) -> npt.NDArray[Any]:
    """Return one label per run that is unique over sessions and tasks."""
    parts = [c for c in ('session', 'task', 'run') if c in table.columns]
    return np.array([' '.join(map(str, row)) for row in table[parts].itertuples(index=False)])
