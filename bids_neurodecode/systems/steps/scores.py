"""What steps keep of scores: their table, the value of the headline, cells of a model's card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.evaluation.metrics import Score, describe, scores_table


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Write the metrics table, and what its columns mean beside it.

    Parameters
    ----------
    folder
        That is written into.
    scores
        Rows of the table.
    """
    write_tsv(folder / 'metrics.tsv', scores_table(scores))
    write_json(folder / 'metrics.json', describe(scores))


def headline_value(scores: Iterable[Score], model: str, name: str) -> float:
    """Return the score that a null distribution belongs to.

    Parameters
    ----------
    scores
        Of all models.
    model
        The one that was permuted.
    name
        Of the distribution: ``<space>/<metric>``.
    """
    wanted = (model, *name.split('/'))
    return next(s.value for s in scores if (s.model, s.space, s.metric) == wanted)


def cell(value: float | None, digits: int = 3) -> str:
    """Return a value as the card of a model shows it.

    Parameters
    ----------
    value
        None: not known.
    digits
        After the point.
    """
    return 'n/a' if value is None else f'{value:.{digits}f}'
