"""What a model said of the test samples of one fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.evaluation import identification
from bids_neurodecode.mapped import room
from bids_neurodecode.samples import Samples
from bids_neurodecode.systems.base import PerStimulus, run_labels
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray

if TYPE_CHECKING:
    from bids_neurodecode.systems.linear import LinearDecoder

SINGLE_TRIAL, REPEAT_AVERAGE = 'single-trial', 'repeat-average'
OWN_MODEL, MEAN_IMAGE = 'ridge', 'baseline-mean-image'


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one model said of the test samples of one fold.

    Parameters
    ----------
    model, space, fold
        Which model, ``single-trial`` or ``repeat-average``, and which fold.
    table
        One row per test sample: ``sample`` (its number among all), ``stimulus``, ``run``.
    candidates
        Distinct stimuli, the columns of ``similarities``.
    similarities
        Shape (n_samples, n_candidates).
    retrieved
        The nearest training stimulus of each sample; empty text for the mean image, and nothing
        here and below where none is looked for.
    best
        The training stimulus whose features are nearest to the true ones: what retrieval would
        take, were features decoded without error.
    library
        The training stimuli.
    decoded
        Predicted features, (n_samples, n_features).
    """

    model: str
    space: str
    fold: int
    table: pd.DataFrame
    candidates: tuple[str, ...]
    similarities: FloatArray
    retrieved: tuple[str, ...] = ()
    best: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    decoded: Float32Array = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))

    @property
    def truth(self) -> IndexArray:
        """The column of each sample's stimulus."""
        place = {name: column for column, name in enumerate(self.candidates)}
        return np.array([place[name] for name in self.table['stimulus']], dtype=np.intp)


def look_up(tables: Sequence[FloatArray], columns: IndexArray) -> FloatArray:
    """Return one value of each row of the tables of folds, one after the other.

    Parameters
    ----------
    tables
        One a fold, (n_samples, n_candidates).
    columns
        Of each sample of all folds, (n,).
    """
    parts, start = [], 0
    for table in tables:
        rows = np.arange(len(table))
        parts.append(table[rows, columns[start + rows]])
        start += len(table)
    return np.concatenate(parts)


def judge(
    model: str,
    components: Callable[[npt.NDArray[np.floating[Any]]], npt.NDArray[np.float32]],
    decoder: LinearDecoder,
    test: Samples,
    features: PerStimulus,
    candidates: Sequence[str],
    *,
    fold: int = 0,
    rows: npt.ArrayLike | None = None,
    average: bool = False,
) -> Outcome:
    """Compare predicted components of test samples with candidates and with the library.

    Parameters
    ----------
    model
        Name in the metrics table.
    components
        From responses (n, n_voxels) to components (n, n_components).
    decoder
        Gives the space, the measure and the library.
    test
        Test samples of the fold.
    features
        Of candidates and library.
    candidates
        Stimuli that a sample is identified among.
    fold
        Its number, from 0.
    rows
        Row numbers of the test samples among all; None: counted from 0.
    average
        Whether the repeats of a stimulus are averaged.
    """
    numbers = np.arange(test.n_samples) if rows is None else np.asarray(rows)
    table = test.table.assign(sample=numbers)
    tested = Samples(test.responses, table)
    if average:
        tested = tested.averaged()
    predicted = components(tested.values)
    known = decoder.space.transform(features.of(decoder.library))
    names = tested.table['stimulus'].astype(str)
    true = decoder.space.transform(features.of(names))
    pick, best = (
        [
            decoder.library[i]
            for i in identification.nearest(
                identification.similarity(components, known, decoder.measure)
            )
        ]
        for components in (predicted, true)
    )
    offered = decoder.space.transform(features.of(candidates))
    alike = identification.similarity(predicted, offered, decoder.measure)
    kept = room(features.values, alike.shape, alike.dtype)
    kept[:] = alike
    return Outcome(
        model=model,
        space=REPEAT_AVERAGE if average else SINGLE_TRIAL,
        fold=fold,
        table=tested.table.assign(stimulus=names, run=run_labels(tested.table))[
            ['sample', 'stimulus', 'run']
        ],
        candidates=tuple(candidates),
        similarities=kept,
        retrieved=tuple('' if model == MEAN_IMAGE else name for name in pick),
        best=tuple(best),
        library=decoder.library,
        decoded=decoder.space.inverse(predicted),
    )
