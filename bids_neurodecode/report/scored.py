"""The page of scores of other people's results: a table, published rows beside it, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation.metrics import METRICS, Score
from bids_neurodecode.evaluation.protocols import Published
from bids_neurodecode.report import scores
from bids_neurodecode.report.build import (
    Block,
    Bullets,
    Cell,
    Gallery,
    Headline,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    Verdict,
    Verdicts,
    write_page,
)
from bids_neurodecode.report.generation import TITLES
from bids_neurodecode.report.section_gallery import PER_KIND, SIDE
from bids_neurodecode.report.section_scores import score_table, tables_guide
from bids_neurodecode.report.study import PUBLISHED
from bids_neurodecode.typing import FloatArray, Uint8Array

if TYPE_CHECKING:
    from PIL.Image import Image

HOW_TO_READ = (
    'True images above their reconstructions: the best, the median and the worst by {metric} '
    '(below each). What all reconstructions share comes from what made them.'
)


@dataclass(frozen=True, eq=False)
class Examples:
    """Images to show.

    Parameters
    ----------
    truth, made
        Shape (n, h, w, 3), uint8.
    names
        Of the true images, (n,).
    metric, values
        What they are put in order by, and its value of each, (n,).
    """

    truth: Uint8Array
    made: Uint8Array
    names: tuple[str, ...]
    metric: str
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Scored:
    """What a page of scores shows.

    Parameters
    ----------
    title, subtitle
        What was compared.
    scores
        Rows of the metrics table.
    notes
        One line each.
    published
        What papers print under the same protocol.
    examples
        Images; None of responses.
    version
        Of the program.
    warnings
        Why scores may be too good; in red.
    """

    title: str
    subtitle: str
    scores: Sequence[Score]
    notes: Sequence[str]
    version: str
    published: Sequence[Published] = ()
    examples: Examples | None = None
    warnings: Sequence[str] = ()


def write_score_page(scored: Scored, metrics: Path, html: Path) -> None:
    """Write the page of a metrics table; figures go into a folder beside it, named like it.

    Parameters
    ----------
    scored
        What was compared, and published rows.
    metrics
        The metrics table.
    html
        The page.
    """
    table = scores.read_metrics(metrics)
    sections = [
        Section('summary', 'Summary', _summary(scored, table)),
        Section('scores', 'Scores', _scores(table)),
    ]
    if scored.published:
        blocks = (published_table(scored, table), Text((PUBLISHED,)))
        sections.append(Section('published', 'Published under the same protocol', blocks))
    footer = f'bids_neurodecode {scored.version}'
    page = Page(scored.title, scored.subtitle, tuple(sections), footer)
    write_page(page, html, html.with_name(f'{html.stem}_figures'), None)


def _summary(scored: Scored, table: pd.DataFrame) -> tuple[Block, ...]:
    row = scores.headline(table)
    blocks: list[Block] = []
    if row is not None:
        name = str(row['metric'])
        facts = (
            ('chance', scores.write_score(name, float(row['chance']))),
            ('n', f'{row["n"]:.0f}'),
            ('protocol', str(row['protocol'])),
        )
        value = scores.write_score(name, float(row['value']))
        blocks.append(Headline(value, scores.title_of(row), facts))
    if scored.warnings:
        blocks.append(Verdicts(tuple(Verdict('bad', line) for line in scored.warnings)))
    if scored.notes:
        blocks.append(Bullets(tuple(scored.notes)))
    if scored.examples is not None:
        blocks.append(_gallery(scored.examples))
    return tuple(blocks)


def _scores(table: pd.DataFrame) -> tuple[Block, ...]:
    shown = table[table['value'].notna()]
    figure = scores.plot_scores(shown)
    caption = (
        'Each score, one panel per metric. Filled dots: what was scored; open dots: baselines; '
        'lines: 95 % confidence intervals; upright strokes: chance; diamonds: the ceiling.'
    )
    return (
        tables_guide(shown),
        score_table(table, shown, title='Scores'),
        Plot('scores.svg', figure, caption, 'Dot plot of the scores in the table above.'),
    )


def published_table(scored: Scored, table: pd.DataFrame) -> Table:
    """Return published scores, below those of the page; one column per metric that both have.

    Parameters
    ----------
    scored
        With published rows.
    table
        The metrics table.
    """
    own = table[~table['model'].map(scores.is_baseline)]
    values = dict(zip(own['metric'], own['value'].astype(float), strict=True))
    printed = {name for row in scored.published for name in row.scores}
    metrics = [name for name in METRICS if name in printed]
    lines: list[tuple[str | Cell, ...]] = [
        ('scored here', *(scores.write_score(m, values.get(m, np.nan)) for m in metrics))
    ]
    for row in scored.published:
        cells = (
            scores.write_score(m, row.scores[m]) if m in row.scores else 'n/a' for m in metrics
        )
        lines.append((Cell(row.label, f'{row.source}\n{row.of}'), *cells))
    columns = ('model', *(METRICS[m].title for m in metrics))
    lower = [METRICS[m].title for m in metrics if not METRICS[m].higher_is_better]
    caption = f'Lower is better: {", ".join(lower)}.' if lower else 'Higher is better.'
    return Table(columns, tuple(lines), caption, frozenset(range(1, len(columns))))


def _gallery(examples: Examples) -> Gallery:
    metric = METRICS[examples.metric]
    sign = 1 if metric.higher_is_better else -1
    order = np.argsort(-sign * examples.values, kind='stable')
    n = min(PER_KIND, len(order) // 3) or 1
    middle = (len(order) - n) // 2
    kinds = {'best': order[:n], 'median': order[middle : middle + n], 'worst': order[-n:]}
    if len(order) < 3:
        kinds = {'best': order}
    rows = [row for found in kinds.values() for row in found.tolist()]
    columns = tuple(
        tuple(
            Picture(f'{role}: {examples.names[row]}', _image(images[row]))
            for role, images in (('Shown', examples.truth), ('Decoded', examples.made))
        )
        for row in rows
    )
    groups = tuple((TITLES[kind], len(found)) for kind, found in kinds.items())
    notes = tuple(f'{examples.names[r]}: {metric.write(examples.values[r])}' for r in rows)
    caption = HOW_TO_READ.format(metric=metric.title)
    return Gallery(groups, ('Shown', 'Decoded'), columns, notes, caption)


def _image(pixels: Uint8Array) -> Image:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return image
