"""What steps keep of scores: their table, the value of the headline, cells of a model's card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.evaluation.metrics import Score, describe, scores_table

DIGITS = {'value': 3, 'chance': 3, 'ceiling': 3, 'p': 4}
"""After the point, in the cards of models."""


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


def score_table(scores: Iterable[Score], *columns: str) -> str:
    """Return scores as the card of a model shows them, a table of Markdown.

    Parameters
    ----------
    scores
        One a row.
    *columns
        Attributes of scores: texts, and numbers, of which None is not known.
    """
    rows = [columns, ['---'] * len(columns)]
    rows += [[_cell(name, getattr(score, name)) for name in columns] for score in scores]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _cell(column: str, value: str | float | None) -> str:
    digits = DIGITS.get(column)
    if value is None or digits is None:
        return 'n/a' if value is None else str(value)
    return f'{value:.{digits}f}'
