"""Sections on the results: scores with chance, ceiling and baselines, and what was decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation.metrics import BASELINE, REFERENCE, REFERENCES
from bids_neurodecode.evaluation.protocols import PROTOCOLS
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.extensions import said_by
from bids_neurodecode.report import scores, verdicts
from bids_neurodecode.report.build import (
    Block,
    Cell,
    Fold,
    Heading,
    Interval,
    Jump,
    Plot,
    Table,
    Text,
)
from bids_neurodecode.report.reader import Reader, confidence_of, read_table
from bids_neurodecode.report.style import percent

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
LONG = 12
"""Scores from which only those of the headline's data are shown, the others folded."""
MOST_CATEGORIES = 30
"""With more, scores by category are not drawn."""
READING = 'what-scores-say'
"""Where the lines on reading a page are, which are closed until they are linked to."""
READ = Jump(
    'Better or worse is said only where p and interval agree. What each says, and what baselines '
    'and ceilings are:',
    READING,
    'How to read this page',
)
DRAWN = (
    'Each table has the model with its {confidence:g} % interval, p and n, then columns of what '
    'it is compared with. Drawn: the model (filled) with its interval, baselines and references '
    '(open){marks}. Each row has its own scale: 0 to 100 % for percent, else from lowest to '
    'highest (.1 or 10 points wide at least).'
)
NOT_DRAWN = (
    'Each table: the model with n{p}, and in further columns what it is compared with. There are '
    'no intervals{why}.'
)
WIDE = (
    'Intervals are over the {n} {units}, however many samples each has; each limit is the wider '
    'one of a t and a bootstrap-t interval. With so few they are wide: four times as many would '
    'halve them.'
)
SHUFFLED, ONE_SHUFFLE = f'{BASELINE}shuffled', ' (training pairs shuffled once per fold)'
NOT_TESTED = 'not tested'
NOTHING = ('', 'n/a', NOT_TESTED)
NAMES = ('model', 'from', 'to', 'chance', 'ceiling')
"""What is drawn of a score, in words."""
LEAST_SPAN, PRINTED = 0.1, 3
"""Least extent of the scale of a correlation or a share; decimals of values that are printed."""
FEW_UNITS = 50
"""Independent units below which it is said that intervals are wide for want of them."""
PAIRED = (
    'Chance of {titles} is what the same images score beside the true images of other samples '
    '(shuffled pairs). It differs between models, as smooth images score higher; baselines can '
    'score less than it.'
)
WHY_NO_CLAIM = (
    ' p is for these images alone (they are compared with shuffled pairs of themselves), the '
    'interval is for others like them, too: some images score high beside anything, others low. '
    'Where the two disagree nothing is claimed. Claims come from two-way scores, where such '
    'differences between images cancel.'
)
SIZES = (
    'Images were made at {made} x {made} pixels. To be compared, they and the images shown are '
    'brought to {scored} x {scored} pixels (scores by pixels) or to the size that a network '
    'takes. Scores tell of detail down to {made} x {made} pixels and no finer.'
)
TABLES = 'What the tables show: columns, drawings, intervals, p, chance and ceilings'
DECODED = 'Which image was shown? Decoded features', '{model} from voxels to image features'
RETRIEVED = (
    'Retrieved images',
    'The training image with the features most similar to the decoded ones, beside that shown',
)
MADE = (
    'Generated images',
    'Final reconstructions (regression and generator, second stage), beside the images shown',
)
"""Headings of what is scored in a reconstruction, and the beginnings of captions."""
MODELS = {'ridge': 'ridge regression'}
"""What models are called in a sentence."""


def scores_section(reader: Reader) -> tuple[Block, ...]:
    """Show the scores beside chance, ceiling and baselines; the details are folded."""
    if not reader.results.fits_models:
        return ()
    blocks: list[Block] = []
    metrics, confidence = reader.metrics, confidence_of(reader)
    if metrics is not None:
        shown = metrics[metrics['value'].notna() & ~scores.of_parts(metrics)]
        made = scores.of_pictures(shown)
        sure = not reader.results.leaks
        if len(shown):
            hidden = made & ~((shown['space'] == 'final') & scores.is_main(shown))
            guided = shown[~hidden] if (~hidden).any() else shown
            draws = None if reader.config is None else reader.config.evaluation.n_permutations
            guide = tables_guide(guided, confidence, draws)
            blocks += [Fold(TABLES, (guide,)), READ]
        bounded = scores.known_ceilings(shown)
        blocks += _tables(reader, metrics, bounded[~made], bounded[made], confidence, sure=sure)
    folded = (*_categories(reader), *_details(reader))
    if folded:
        blocks.append(Fold('Every comparison, every score, and the figures behind them', folded))
    return (*blocks, *_parcels(reader)) or (Text(('No score was computed.',)),)


def _tables(
    reader: Reader,
    metrics: pd.DataFrame,
    plain: pd.DataFrame,
    made: pd.DataFrame,
    confidence: float,
    *,
    sure: bool,
) -> Iterable[Block]:
    final = made[made['space'] == 'final']
    main = final[scores.is_main(final)]
    if len(main):
        main = scores.headline_first(main, reader.guides)
        yield Heading(MADE[0])
        yield from sizes_of([reader], main)
        yield score_table(metrics, main, confidence, f'{MADE[1]}{_others(final)}', sure=sure)
    is_decoded = scores.of_decoders(plain)
    retrieved = (plain['space'] == 'images') & is_decoded
    decoded = plain[~retrieved]
    if len(decoded):
        title = None
        if is_decoded[~retrieved].all():
            yield Heading(DECODED[0])
            model = _main_model(decoded)
            told = DECODED[1].format(model=MODELS.get(model, model))
            title = f'{told[:1].upper()}{told[1:]}. {_of_what(decoded)}'
        yield from _by_space(metrics, decoded, confidence, title, sure=sure)
    if retrieved.any():
        table = score_table(metrics, plain[retrieved], confidence, RETRIEVED[1], sure=sure)
        shown: tuple[Block, ...] = (Heading(RETRIEVED[0]), table)
        yield from (Fold(RETRIEVED[0], (table,)),) if len(main) else shown


def sizes_of(readers: Sequence[Reader], rows: pd.DataFrame) -> Iterable[Block]:
    """Say at which size images were made and at which they were compared.

    Parameters
    ----------
    readers
        Of the participants.
    rows
        Scores of their images.
    """
    made = {reader.image_size for reader in readers} - {None}
    scored = rows['image_size'].dropna().unique()
    if made and len(scored):
        sizes = {
            'made': ' or '.join(map(str, sorted(filter(None, made)))),
            'scored': ' or '.join(f'{size:.0f}' for size in scored),
        }
        yield Text((SIZES.format(**sizes),))


def _others(final: pd.DataFrame) -> str:
    """Say how many metrics of images are not in the table, and where they are."""
    n, left = final['metric'].nunique(), final[~scores.is_main(final)]['metric'].nunique()
    return f' ({n - left} of {n} metrics; all are under Reconstructions)' if left else ''


def _by_space(
    metrics: pd.DataFrame,
    rows: pd.DataFrame,
    confidence: float,
    title: str | None,
    *,
    sure: bool,
) -> Iterable[Block]:
    """Show what is of the same data as the headline; where that is much, the rest is folded."""
    row = scores.headline(rows)
    n = len(rows.drop_duplicates(['space', 'metric', 'image_size', 'protocol']))
    first = rows['space'] == row['space'] if row is not None else rows['space'].notna()
    if n <= LONG or first.all():
        yield score_table(metrics, rows, confidence, title, sure=sure)
        return
    yield score_table(metrics, rows[first], confidence, title, sure=sure)
    rest = score_table(metrics, rows[~first], confidence, title, sure=sure)
    spaces = ', '.join(dict.fromkeys(rows['space'][~first].astype(str)))
    yield Fold(f'The same of: {spaces}', (rest,))


def _of_what(rows: pd.DataFrame) -> str:
    """Say what samples scores are on."""
    in_sample = (rows['protocol'] == 'in-sample').all()
    return (
        'Scores on samples that trained the model' if in_sample else 'Scores on held-out samples'
    )


def _details(reader: Reader) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if reader.metrics is not None:
        # reconstructions have a section of their own
        elsewhere = scores.of_pictures(reader.metrics) | scores.of_parts(reader.metrics)
        metrics = scores.known_ceilings(reader.metrics[~elsewhere])
        if metrics['difference'].notna().any():
            confidence = confidence_of(reader)
            blocks.append(comparison_table(reader.metrics, metrics, confidence))
        if metrics['value'].notna().any():
            sure = not reader.results.leaks
            table = metrics_table(metrics, None, confidence_of(reader), sure=sure)
            blocks += [table, _score_plot(reader, metrics)]
    return (*blocks, *_null(reader), *_ranks(reader), *_confusion(reader))


def score_table(
    metrics: pd.DataFrame,
    rows: pd.DataFrame,
    confidence: float = 0.95,
    title: str | None = None,
    *,
    sure: bool = True,
) -> Table:
    """Write a row for each metric: the model, its interval drawn, chance, others and ceiling.

    A row without a score of the model is another model's, and stands in the column of that one.
    Others are baselines, further models and what is given the truth, a column each.

    Parameters
    ----------
    metrics
        The whole metrics table.
    rows
        Those of its rows that are written.
    confidence
        Coverage of the intervals.
    title
        What the scores are of.
    sure
        Whether a comparison may be called good: not where tests were seen in training.
    """
    title = title or _of_what(rows)
    same = ['system', 'protocol', 'split', 'space', 'metric', 'image_size']
    groups = [group for _, group in rows.groupby(same, sort=False, dropna=False)]
    main = _main_model(rows)
    owns = [_own_row(group, main) for group in groups]
    # models beside the one that is shown; the same order in every table of a page
    beside = {str(name) for name in rows['model'] if name != main}
    others = sorted(beside, key=lambda name: (scores.is_baseline(name), name))
    stages = [_first_stage(metrics, own) for own in owns]
    has_stages = any(stage is not None for stage in stages)
    telling = [key for key in ('space', 'protocol', 'split') if rows[key].nunique() > 1]
    sizes = rows['image_size'].nunique() > 1
    cells = []
    tested = bool(rows[['p', 'difference_p', 'ci_low']].notna().any(axis=None))
    for group, row, stage in zip(groups, owns, stages, strict=True):
        of = [str(row[key]) for key in telling]
        own = _own_cell(row, confidence, sure=sure)
        line: list[str | Cell] = [
            Cell(scores.title_of(row, size=sizes), ', '.join(of)),
            Cell('', interval=_interval(row, group)),
            own if row['model'] == main else '',
            scores.write_score(str(row['metric']), float(row['chance'])),
            *(
                own
                if name == row['model']
                else _other_cell(metrics, group, name, row, confidence, sure)
                for name in others
            ),
        ]
        if has_stages:
            first = pd.DataFrame([stage]) if stage is not None else group.iloc[:0]
            line.append(_other_cell(metrics, first, str(row['model']), row, confidence, sure))
        line.append(scores.write_score(str(row['metric']), float(row['ceiling'])))
        cells.append(tuple(line if tested else map(_untested, line)))
    names = [_column_of(name) for name in others]
    drawn = any(row['ci_low'] == row['ci_low'] for row in owns)
    called = scores.model_name(main, str(rows['space'].iloc[0]))
    columns = ('metric', f'{100 * confidence:g} % interval', called, 'chance', *names)
    columns = (*columns, *(('first stage',) if has_stages else ()), 'ceiling')
    kept = [i for i in range(len(columns)) if i < 4 or any(str(c[i]) != 'n/a' for c in cells)]
    kept = [i for i in kept if i != 1 or drawn]
    return Table(
        tuple(columns[i] for i in kept),
        tuple(tuple(line[i] for i in kept) for line in cells),
        _caption(title, rows, others),
        frozenset(range(1 + drawn, len(kept))),
    )


def tables_guide(
    rows: pd.DataFrame, confidence: float = 0.95, n_permutations: int | None = None
) -> Text:
    """Say once, above tables of scores, how to read them.

    Parameters
    ----------
    rows
        What the tables show.
    confidence
        Coverage of the intervals.
    n_permutations
        How many p values are of, at most; None: not known.
    """
    own = rows[~rows['model'].map(scores.is_baseline)]
    owns = [row for _, row in own.iterrows()]
    ceilings = bool((rows['ceiling'] > 0).any())
    marks = ', chance (upright stroke)' + (', noise ceiling (diamond)' if ceilings else '')
    drawn = DRAWN.format(confidence=100 * confidence, marks=marks)
    n, units = _units_of(own)
    if own['ci_low'].isna().all():
        p = ' and p' if own['p'].notna().any() else ''
        few = n is not None and n < MIN_GROUPS
        tests = 'comparisons' if p else 'tests'
        why = f' and no {tests} with {n} {units} ({MIN_GROUPS} are needed)' if few else ''
        drawn = NOT_DRAWN.format(p=p, why=why)
    wide = own['ci_low'].notna().any() and n is not None and n < FEW_UNITS
    paragraphs = (
        (drawn, _tests(owns, n_permutations), _lacking(owns)),
        (WIDE.format(n=n, units=units) if wide else '', _chance(own)),
    )
    texts = (' '.join(line for line in lines if line) for lines in paragraphs)
    return Text(tuple(text for text in texts if text))


def _units_of(own: pd.DataFrame) -> tuple[int | None, str]:
    """Return how many independent units scores are over, and what these are, if it is one kind."""
    known = own[own['n_units'].notna()]
    if known.empty or known['n_units'].nunique() > 1 or known['units'].nunique() > 1:
        return None, ''
    units = str(known['units'].iloc[0])
    return int(known['n_units'].iloc[0]), 'independent units' if units == 'n/a' else units


def _chance(own: pd.DataFrame) -> str:
    """Say what chance is of scores for which it is no fixed number, where there are some."""
    pictures = own['space'].isin(['images', 'initial', 'final']) & own['chance'].notna()
    names = dict.fromkeys(own['metric'][pictures].astype(str))
    titles = [m.title for m in map(scores.metric_of, names) if not m.share]
    if not titles:
        return ''
    more = WHY_NO_CLAIM if own.loc[pictures, 'ci_low'].notna().any() else ''
    return PAIRED.format(titles=', '.join(titles)) + more


def _caption(title: str, rows: pd.DataFrame, others: Sequence[str]) -> str:
    """Say what the columns of scores are, what p is of, and why there is no ceiling."""
    protocols = ', '.join(dict.fromkeys(rows['protocol'].astype(str)))
    pairs = all(said_by(name).shuffles_pairs for name in rows['system'].unique())
    baselines = ', '.join(
        f'{_column_of(name)}{ONE_SHUFFLE if name == SHUFFLED and pairs else ""}'
        for name in others
        if name.startswith(BASELINE)
    )
    given = ', '.join(
        f'{_column_of(name)} ({REFERENCES[name]})' if name in REFERENCES else _column_of(name)
        for name in others
        if name.startswith(REFERENCE)
    )
    lines = (
        f'{title} ({protocols}).',
        f'Baselines: {baselines}.' if baselines else '',
        f'For reference, given the truth: {given}. That is no ceiling.' if given else '',
        *_protocols(rows['protocol'][rows['space'] == 'final']),
    )
    return ' '.join(line for line in lines if line)


def _protocols(names: Iterable[str]) -> list[str]:
    """Say what the protocols are that images were compared under."""
    found = dict.fromkeys(str(name).partition('/')[2] for name in names)
    known = [PROTOCOLS[name] for name in found if name in PROTOCOLS]
    return [f'{each.name}: {each.about} (documentation, page "Reconstruction").' for each in known]


def _tests(rows: Iterable[pd.Series[Any]], n: int | None = None) -> str:
    tests = dict.fromkeys(verdicts.test_of(row) for row in rows if np.isfinite(row['p']))
    known = '; '.join(test for test in tests if test)
    draws = '' if n is None else f' ({n:,} draws at most)'
    return f'p: {known}{draws}.' if known else ''


def _lacking(rows: Sequence[pd.Series[Any]]) -> str:
    """Say why scores have no ceiling, where one has none, and of which that is true."""
    repeated = any(row['ceiling'] >= 0 for row in rows)
    why: dict[str, list[str]] = {}
    for row in rows:
        if not row['ceiling'] > 0:
            titles = why.setdefault(scores.no_ceiling(row, repeated=repeated), [])
            titles += [x for x in (scores.title_of(row),) if x not in titles]
    if not why:
        return ''
    if len(why) == 1 and not repeated:
        return f'Ceiling: {next(iter(why))}.'
    lines = (f'{reason} [{", ".join(titles)}]' for reason, titles in why.items())
    return f'Ceiling: {"; ".join(lines)}.'


def _column_of(model: str) -> str:
    """Return what the column of another model is called."""
    name = model.removeprefix(BASELINE).removeprefix(REFERENCE)
    return name if name == model else name.replace('-', ' ')


def _main_model(rows: pd.DataFrame) -> str:
    row = scores.headline(rows)
    return str(rows['model'].iloc[0] if row is None else row['model'])


def _own_row(group: pd.DataFrame, main: str) -> pd.Series[Any]:
    """Return the row that a line is about: the main model's, else another model's."""
    own = group[group['model'] == main]
    models = group[~group['model'].map(scores.is_baseline)]
    return next(rows for rows in (own, models, group) if len(rows)).iloc[0]


def _first_stage(metrics: pd.DataFrame, row: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return the score of the model's own earlier stage that a score was compared with."""
    same = scores.rows_with(
        metrics,
        model=row['model'],
        compared_model=row['model'],
        compared_space=row['space'],
        metric=row['metric'],
        protocol=row['protocol'],
    )
    return metrics.iloc[int(same.argmax())] if same.any() else None


def _own_cell(row: pd.Series[Any], confidence: float, *, sure: bool) -> Cell:
    name = str(row['metric'])
    low, high = (scores.write_score(name, float(row[key])) for key in ('ci_low', 'ci_high'))
    interval = '' if 'n/a' in (low, high) else f'{low.removesuffix(" %")} to {high}'
    parts = [f'p\u00a0=\u00a0{scores.write_p(float(row["p"]))}'] if np.isfinite(row['p']) else []
    if np.isfinite(row['n']):
        parts.append(f'n\u00a0=\u00a0{row["n"]:.0f}')
    if np.isfinite(row['n_units']) and row['n_units'] != row['n']:
        parts.append(f'{row["n_units"]:.0f}\u00a0{row["units"]}')
    shows = _shown(row, confidence, sure=sure)
    lines = (interval, ', '.join(parts), shows.replace(': ', ':\n'))
    note = '\n'.join(line for line in lines if line)
    return Cell(scores.write_score(name, float(row['value'])), note)


def _shown(row: pd.Series[Any], confidence: float, *, sure: bool) -> str:
    found = verdicts.score_verdict(row, confidence)
    return found.short if sure or found.tone != 'good' else ''


def _also_worse(metrics: pd.DataFrame, row: pd.Series[Any], confidence: float) -> str:
    """Return ", and worse than X" for the baselines that beat a score above chance."""
    kept = {key: row[key] for key in ('metric', 'protocol', 'split')}
    same = scores.rows_with(
        metrics, compared_model=row['model'], compared_space=row['space'], **kept
    )
    same &= metrics['difference'].notna().to_numpy()
    worse = [
        _column_of(str(other['model']))
        for _, other in metrics[same].iterrows()
        if verdicts.difference_verdict(metrics, other, confidence).tone == 'bad'
    ]
    return f', and worse than {", ".join(worse)}' if worse else ''


def _untested(cell: str | Cell) -> str | Cell:
    """Return a cell without the note that it is not tested, which is said of all at once."""
    if isinstance(cell, str) or not cell.note.endswith(NOT_TESTED):
        return cell
    return replace(cell, note=cell.note.removesuffix(NOT_TESTED).rstrip())


def _other_cell(
    metrics: pd.DataFrame,
    group: pd.DataFrame,
    name: str,
    own: pd.Series[Any],
    confidence: float,
    sure: bool,
) -> str | Cell:
    """Write what another model scores, and what its comparison with the model shows."""
    rows = group[group['model'] == name]
    if rows.empty or (name == own['model'] and rows['space'].iloc[0] == own['space']):
        return ''
    same = (rows['compared_model'] == own['model']) & (rows['compared_space'] == own['space'])
    row = (rows[same] if same.any() else rows).iloc[0]
    text = scores.write_score(str(row['metric']), float(row['value']))
    if not same.any() or not np.isfinite(row['difference']):
        return Cell(text)
    found = verdicts.difference_verdict(metrics, row, confidence)
    says = found.short.replace(': ', ':\n').replace('difference shown', 'difference\nshown')
    toned = found.tone == 'bad' or (found.tone == 'good' and sure)
    return Cell(text, says, found.tone if toned else None)


def _interval(row: pd.Series[Any], group: pd.DataFrame) -> Interval:
    """Put a score and what it is held against on the scale of the metric."""
    metric = scores.metric_of(str(row['metric']))
    others = group.loc[group['model'] != row['model'], 'value'].dropna().to_numpy(dtype=float)
    keys = ('value', 'ci_low', 'ci_high', 'chance', 'ceiling')
    known = {key: float(row[key]) for key in keys}
    says = [
        f'{name} {metric.write(value)}'
        for name, value in zip(NAMES, known.values(), strict=True)
        if np.isfinite(value)
    ]
    # what is printed alike is drawn in one place
    known = {key: round(value, PRINTED) for key, value in known.items()}
    others = np.round(others, PRINTED)
    low, high = metric.low, metric.high
    if not (metric.share and np.isfinite([low, high]).all()):
        values = np.array([*known.values(), *others])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        lacking = LEAST_SPAN - (high - low) if metric.unit in {'r', 'share'} else 0.0
        low, high = low - max(lacking, 0.0) / 2, high + max(lacking, 0.0) / 2
    width = high - low or 1.0
    places = {
        key: float(np.clip((value - low) / width, 0, 1)) if np.isfinite(value) else None
        for key, value in known.items()
    }
    return Interval(
        places['value'],
        places['ci_low'],
        places['ci_high'],
        places['chance'],
        places['ceiling'],
        tuple(float(np.clip((value - low) / width, 0, 1)) for value in others),
        f'{scores.title_of(row)}: {", ".join(says)}',
    )


def _score_plot(reader: Reader, metrics: pd.DataFrame) -> Plot:
    confidence = confidence_of(reader)
    bounds = (
        '; diamonds: what noise in the responses allows'
        if metrics['ceiling'].notna().any()
        else ''
    )
    return reader.plot(
        'scores',
        scores.plot_scores(metrics),
        f'{_of_what(metrics)}, one panel per metric. Filled dots: models; open dots: '
        f'baselines and references; lines: {100 * confidence:g} % confidence intervals; upright '
        f'strokes: chance{bounds}. A line that reaches the stroke is no evidence.',
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
        f'(bars; largest: {largest}) and the observed score (line: {observed}). p counts '
        f'the observed score among them, so it is never less than 1/{values.size + 1}.',
        f'Histogram of {values.size} permutations; observed {observed}.',
    )


def _ranks(reader: Reader) -> Iterable[Block]:
    if reader.predictions is None or reader.predictions.empty:
        return
    folds = (
        ' Right: share of right first choices in each fold; a score that rests on a few folds is '
        'a weak one.'
        if reader.predictions['fold'].nunique() > 1
        else ''
    )
    yield reader.plot(
        'ranks',
        scores.plot_ranks(reader.predictions),
        f'{"Left: how" if folds else "How"} often the true stimulus is among the k best '
        f'candidates (solid) and how often it would be by guessing (dashed).{folds}',
        f'Ranks of {len(reader.predictions)} held-out samples.',
    )


def _categories(reader: Reader) -> Iterable[Block]:
    """Show the main score by category, where trials have one and it is not the stimulus."""
    predictions, trials = reader.predictions, read_table(reader.results.trials)
    if predictions is None or trials is None or not {'stimulus', 'trial_type'} <= set(trials):
        return
    if reader.metrics is None or reader.results.conditions is not None:
        return
    row = scores.identified(reader.metrics)
    if row is None:
        return
    kinds = trials.drop_duplicates('stimulus').set_index('stimulus')['trial_type']
    table = predictions.assign(category=predictions['stimulus'].map(kinds))
    table = table.assign(right=scores.right_choices(predictions))
    table = table[table['category'].notna()]
    n_categories, n_stimuli = table['category'].nunique(), table['stimulus'].nunique()
    if not 1 < n_categories <= MOST_CATEGORIES or n_categories == n_stimuli:
        return
    confidence = confidence_of(reader)
    chance = float(row['chance'])
    found = scores.by_category(table, confidence)
    bars = f'; no intervals, as no category has {MIN_GROUPS} stimuli'
    if found['low'].notna().any():
        bars = f'; lines: {100 * confidence:g} % intervals over stimuli, from {MIN_GROUPS} on'
    yield reader.plot(
        'categories',
        scores.plot_categories(found, chance),
        f'{scores.title_of(row)} by category of the stimulus (number of held-out stimuli in '
        f'brackets){bars}; dashed: chance. Where one category carries the score, it says little '
        'of the others.',
        f'Score of {n_categories} categories.',
    )


def _confusion(reader: Reader) -> Iterable[Block]:
    confusion = reader.results.confusion
    if confusion is None:
        return
    matrix = np.load(confusion.matrix, allow_pickle=False)
    right = percent(float(np.trace(matrix) / matrix.sum())) if matrix.sum() else 'none'
    what = 'stimuli' if reader.results.conditions is None else 'conditions'
    n = len(confusion.labels)
    counts = ' numbers: held-out samples;' if n <= scores.COUNTED else ''
    names = '' if n <= scores.NAMED else f' The {n} labels are in alphabetical order.'
    yield reader.plot(
        'confusion',
        scores.plot_confusion(matrix, confusion.labels),
        f'Which {what} are taken for which. Rows: shown; columns: decoded;{counts} colour: '
        f'percent of the row. The diagonal is right ({right} of all).{names}',
        f'Confusion matrix of {n} labels, {right} on the diagonal.',
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
        shows = verdicts.difference_verdict(metrics, row, confidence).short
        low, high = (
            metric.write_difference(float(row[f'difference_{k}'])) for k in ('low', 'high')
        )
        n_units = f'{row["n_units"]:.0f}' if np.isfinite(row['n_units']) else 'n/a'
        cells.append(
            (
                scores.name_with_space(str(row['compared_model']), str(row['compared_space'])),
                scores.name_with_space(str(row['model']), str(row['space'])),
                scores.title_of(row, size=True),
                metric.write_difference(float(row['difference'])),
                'n/a' if 'n/a' in (low, high) else f'{low} to {high}',
                scores.write_p(float(row['difference_p'])),
                f'{n_units} {row["units"]}',
                shows,
            )
        )
    columns = ('model', 'compared with', 'metric', 'difference', 'its interval', 'p', 'units')
    caption = (
        'The model minus what it is compared with, on the same held-out data, averaged within '
        f'independent units first; {100 * confidence:g} % intervals of the difference (not of a '
        'score) and two-sided p over these units, not corrected for the number of comparisons.'
    )
    return without_empty((*columns, 'shows'), cells, caption, frozenset({3, 4, 5}))


def without_empty(
    columns: Sequence[str],
    cells: Sequence[tuple[str, ...]],
    caption: str,
    numeric: frozenset[int],
    *,
    folded: bool = False,
) -> Table:
    """Return a table without the columns that hold nothing.

    Parameters
    ----------
    columns, cells, caption, numeric, folded
        Of the table.
    """
    kept = [i for i in range(len(columns)) if any(line[i] not in NOTHING for line in cells)]
    return Table(
        tuple(columns[i] for i in kept),
        tuple(tuple(line[i] for i in kept) for line in cells),
        caption,
        frozenset(place for place, i in enumerate(kept) if i in numeric),
        folded=folded,
    )


def metrics_table(
    metrics: pd.DataFrame,
    title: str | None = None,
    confidence: float = 0.95,
    *,
    sure: bool = True,
) -> Table:
    """Write scores as a table, a row each; what tells rows of one model apart has a column.

    Parameters
    ----------
    metrics
        The rows that are shown.
    title
        Of the table; None says what the rows are of.
    confidence
        Coverage of the intervals.
    sure
        Whether a score may be called good: not where tests were seen in training.
    """
    title = title or _of_what(metrics)
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
        metric = scores.title_of(row, size=True)
        p = scores.write_p(float(row['p']))
        space = str(row['space'])
        who = (scores.model_name(str(row['model']), space), *((space,) if several else ()))
        shows = _shown(row, confidence, sure=sure)
        shows += _also_worse(metrics, row, confidence) if shows == verdicts.BETTER else ''
        rows.append((*who, metric, value, chance, ceiling, interval, p, n, shows))
    meanings = dict.fromkeys(
        f'{scores.title_of(row)}: {meaning}'
        for _, row in metrics.iterrows()
        if (meaning := scores.metric_of(str(row['metric'])).meaning)
    )
    first = ('model', 'of') if several else ('model',)
    columns = (*first, 'metric', 'value', 'chance', 'ceiling', 'confidence interval', 'p', 'n')
    columns = (*columns, 'shows')
    return without_empty(
        columns,
        rows,
        f'{title}. {" ".join(meanings)} {_tests(row for _, row in metrics.iterrows())}'.strip(),
        frozenset(range(len(first) + 1, len(columns) - 1)),
    )
