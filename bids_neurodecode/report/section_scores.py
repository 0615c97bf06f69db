"""Sections on what came out: scores with what to hold them against, and what was decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.report import pictures, scores, verdicts
from bids_neurodecode.report.build import Block, Gallery, Pair, Plot, Table, Text
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.style import percent

if TYPE_CHECKING:
    import pandas as pd

NULLS = {
    'labels': 'Scores of the same held-out predictions under {n} permutations of their pairing '
    'with what was shown; models were fitted once and not again',
    'refit': 'Scores of {n} analyses of permuted labels: in each, ridge regression and its '
    'penalty were fitted again (betas and voxels were kept)',
    'surrogates': 'Scores of {n} surrogates of the predicted series, with its spectrum and random '
    'phases; models were fitted once and not again',
    'n/a': 'Scores of the same held-out predictions in {n} draws of the null hypothesis; models '
    'were fitted once and not again',
}
"""What the values of a null distribution are, by the column ``test`` of the metrics table."""
FINDINGS: dict[str, str] = {'good': 'better', 'bad': 'worse', 'caution': 'no difference shown'}


def scores_section(reader: Reader) -> tuple[Block, ...]:
    """Show the scores beside chance, ceiling, baselines and their null distribution."""
    if reader.results.system == 'betas':
        return ()
    blocks: list[Block] = []
    if reader.metrics is not None:
        # pictures that were made have a section of their own
        elsewhere = scores.of_pictures(reader.metrics) | scores.of_parts(reader.metrics)
        metrics = reader.metrics[~elsewhere]
        if metrics['value'].notna().any():
            blocks += [metrics_table(metrics), _score_plot(reader, metrics)]
        if metrics['difference'].notna().any():
            confidence = scores.confidence_of(reader)
            blocks.append(comparison_table(reader.metrics, metrics, confidence))
    blocks += [*_null(reader), *_ranks(reader), *_confusion(reader), *_parcels(reader)]
    return tuple(blocks) or (Text(('No score was computed.',)),)


def _score_plot(reader: Reader, metrics: pd.DataFrame) -> Plot:
    confidence = scores.confidence_of(reader)
    return reader.plot(
        'scores',
        scores.plot_scores(metrics),
        'Scores on held-out samples, a panel a metric. Filled dots: models; open dots: '
        f'baselines; bars: {100 * confidence:g} % confidence intervals; red strokes: what '
        'guessing would score; orange diamonds: the best score that could be reached, where it '
        'is known (of pictures: by the picture of the library that is most like the true one). '
        'A bar that reaches the red stroke is no evidence.',
        'Dot plot of the scores in the table above.',
    )


def _null(reader: Reader) -> Iterable[Block]:
    null = reader.results.null
    if null is None:
        return
    values = np.load(null.values, allow_pickle=False)
    if not values.size:  # not tested: the warnings say why
        return
    chance, test = np.nan, 'n/a'
    if reader.metrics is not None:
        rows = reader.metrics[reader.metrics['metric'] == null.metric]
        chance = float(rows['chance'].iloc[0]) if len(rows) else np.nan
        test = str(rows['test'].iloc[0]) if len(rows) else 'n/a'
    largest = scores.write_score(null.metric, float(values.max()))
    observed = scores.write_score(null.metric, null.observed)
    yield reader.plot(
        'null',
        scores.plot_null(values, null.observed, null.metric, chance),
        f'{NULLS.get(test, NULLS["n/a"]).format(n=values.size)} '
        f'(grey; largest: {largest}) and the observed score (blue: {observed}). p counts '
        f'the observed score among them, so it is never less than 1/{values.size + 1}.',
        f'Histogram of {values.size} permutations; observed {observed}.',
    )


def _ranks(reader: Reader) -> Iterable[Block]:
    if reader.predictions is None or reader.predictions.empty:
        return
    yield reader.plot(
        'ranks',
        scores.plot_ranks(reader.predictions),
        'Left: how often the true stimulus is among the k best candidates (blue) and how '
        'often it would be by guessing (red). Right: share of right first choices in each '
        'fold; a score that rests on a few folds is a weak one.',
        f'Ranks of {len(reader.predictions)} held-out samples.',
    )


def _confusion(reader: Reader) -> Iterable[Block]:
    confusion = reader.results.confusion
    if confusion is None:
        return
    matrix = np.load(confusion.matrix, allow_pickle=False)
    right = percent(float(np.trace(matrix) / matrix.sum())) if matrix.sum() else 'none'
    what = 'stimuli' if reader.results.conditions is None else 'conditions'
    yield reader.plot(
        'confusion',
        scores.plot_confusion(matrix, confusion.labels),
        f'Which {what} are taken for which. Rows: shown; columns: decoded; numbers: held-out '
        f'samples; colour: percent of the row. The diagonal is right ({right} of all).',
        f'Confusion matrix of {len(confusion.labels)} labels, {right} on the diagonal.',
    )


def _parcels(reader: Reader) -> Iterable[Block]:
    from pandas.api.types import is_numeric_dtype

    table = read_table(reader.results.parcels)
    if table is None or table.empty:
        return
    rows = tuple(
        tuple(f'{v:.3f}' if isinstance(v, float) else str(v) for v in row)
        for row in table.itertuples(index=False)
    )
    numeric = frozenset(i for i, kind in enumerate(table.dtypes) if is_numeric_dtype(kind))
    columns = tuple(str(c) for c in table.columns)
    yield Table(columns, rows, f'Scores of {len(rows)} parcels', numeric, folded=True)


def decoded_section(reader: Reader) -> tuple[Block, ...]:
    """Show stimuli beside what was decoded: best, in the middle, worst."""
    folder = reader.results.stimuli_dir
    # an encoding model has a section of its own: nothing was decoded
    if reader.predictions is None or folder is None or reader.results.encoding is not None:
        return ()
    examples = pictures.pick_examples(reader.predictions)
    if not examples:
        return ()
    found = {
        name: image
        for name in {n for e in examples for n in (e.stimulus, e.retrieved)}
        if (image := pictures.thumbnail(folder / name)) is not None
    }
    titles = {'best': 'Best', 'median': 'In the middle', 'worst': 'Worst'}
    rows = tuple(
        (
            titles[kind],
            tuple(
                Pair(
                    f'rank {e.rank:g} of {e.n_candidates}',
                    (e.stimulus, e.retrieved),
                    (found.get(e.stimulus), found.get(e.retrieved)),
                )
                for e in examples
                if e.kind == kind
            ),
        )
        for kind in dict.fromkeys(e.kind for e in examples)
    )
    caption = (
        'Pictures that were shown, each beside the training stimulus whose features are most like '
        'the decoded ones. Held-out samples are put in order by the rank of the true stimulus '
        'among the candidates (1 is best; ties by similarity); the best, the middle and the '
        'worst of them are shown. The pictures are taken from the stimuli, not generated.'
    )
    figure = reader.plot(
        'examples',
        pictures.plot_examples(examples, found),
        'The same pictures as one figure.',
        'The pictures of the gallery above.',
    )
    return (Gallery(rows, caption, figure),)


def comparison_table(metrics: pd.DataFrame, rows: pd.DataFrame, confidence: float = 0.95) -> Table:
    """Write how the model differs from what it was compared with, a row each.

    Parameters
    ----------
    metrics
        The whole metrics table.
    rows
        Those of its rows whose comparisons are written.
    confidence
        Coverage of the intervals.
    """
    cells = []
    for _, row in rows[rows['difference'].notna()].iterrows():
        metric = scores.metric_of(str(row['metric']))
        verdict = verdicts.difference_verdict(metrics, row, confidence)
        low, high = (
            metric.write_difference(float(row[f'difference_{k}'])) for k in ('low', 'high')
        )
        untested = not np.isfinite(row['difference_p'])
        n_units = f'{row["n_units"]:.0f}' if np.isfinite(row['n_units']) else 'n/a'
        cells.append(
            (
                f'{row["compared_model"]} ({row["compared_space"]})',
                f'{row["model"]} ({row["space"]})',
                scores.title_of(row),
                metric.write_difference(float(row['difference'])),
                'n/a' if 'n/a' in (low, high) else f'{low} to {high}',
                scores.write_p(float(row['difference_p'])),
                f'{n_units} {row["units"]}',
                'not tested' if untested else FINDINGS[verdict.tone],
            )
        )
    columns = ('model', 'compared with', 'metric', 'difference', 'interval', 'p', 'units', 'shows')
    caption = (
        'The model minus what it is compared with, on the same held-out data, averaged within '
        f'independent units first; {100 * confidence:g} % intervals and two-sided p over these '
        'units, not corrected for the number of comparisons. Better or worse is said only where '
        'p and interval agree.'
    )
    return Table(columns, tuple(cells), caption, frozenset({3, 4, 5}))


def metrics_table(
    metrics: pd.DataFrame, title: str = 'Scores on held-out samples', *, folded: bool = False
) -> Table:
    """Write scores as a table, a row each; what tells rows of one model apart has a column."""
    several = metrics['space'].nunique() > 1
    rows = []
    for _, row in metrics.iterrows():
        name = str(row['metric'])
        value, chance, ceiling, low, high = (
            scores.write_score(name, float(row[key]))
            for key in ('value', 'chance', 'ceiling', 'ci_low', 'ci_high')
        )
        interval = 'n/a' if 'n/a' in (low, high) else f'{low} to {high}'
        n = f'{row["n"]:.0f}' if np.isfinite(row['n']) else 'n/a'
        metric = scores.title_of(row)
        p = scores.write_p(float(row['p']))
        who = (str(row['model']), *((str(row['space']),) if several else ()))
        rows.append((*who, metric, value, chance, ceiling, interval, p, n))
    meanings = dict.fromkeys(
        f'{m.title}: {m.meaning}' for m in map(scores.metric_of, metrics['metric']) if m.meaning
    )
    first = ('model', 'of') if several else ('model',)
    columns = (*first, 'metric', 'value', 'chance', 'ceiling', 'confidence interval', 'p', 'n')
    return Table(
        columns,
        tuple(rows),
        f'{title}. {" ".join(meanings)}',
        frozenset(range(len(first) + 1, len(columns))),
        folded=folded,
    )
