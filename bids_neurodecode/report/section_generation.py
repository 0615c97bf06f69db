"""The section on pictures that were made: what they look like, what they score, how it came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.report import generation, scores, verdicts
from bids_neurodecode.report.build import Block, Bullets, Plot, Table, Text, Verdicts
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import GenerationResults
from bids_neurodecode.report.section_scores import comparison_table, metrics_table

if TYPE_CHECKING:
    import pandas as pd

MAIN = ('identification_2way', 'pixel_2way', 'pixel_top1', 'pixcorr', 'ssim_2d')
"""Metrics that the section shows first; the others are folded away."""
SMALL = (
    'The small prior and refiner learned from the training pictures of this dataset alone (and, '
    'where given, from a folder of further ones). They know what those look like and nothing '
    'else: what they make looks like a training picture whether or not that was seen, and nothing '
    'can be made that training pictures do not show. They stand in for networks trained on '
    'millions of pictures; scores cannot be compared with those. The second stage is guided by '
    'Gabor energies, of which stand-in metrics and (by default) the features of identification '
    'are made too: read the scores of pixels beside them.'
)
PUBLISHED = (
    'VDVAE (trained on ImageNet) and Versatile Diffusion (trained on captioned pictures of the '
    'web) know much that is not in these data: details of a picture can be plausible without '
    'having been read from the brain. Look at the baselines.'
)
STAND_IN = (
    'Metrics named "stand-in" take the place of networks whose weights are not there '
    '(bids_neurodecode-tools weights list); they compare with no published number.'
)
SOURCES = {
    'repeat-average': 'the average of the repeats of each picture ({n})',
    'single-trial': 'single trials',
}
HOW_TO_READ = (
    'Shown, the initial picture (first stage), the final one (second stage){retrieved}, of the '
    'best, the middle and the worst by {score}. The pictures were made from {source}. What looks '
    'alike in all columns was not read from the brain.'
)
RETRIEVED = ', and the training picture that ridge regression retrieves'
TWO_WAY = (
    'two-way identification of the final picture (below each: its share of right choices; 50 % '
    'is chance)'
)
PIXELS = 'the pixel correlation of the final picture and the truth (below each)'


def generation_section(reader: Reader) -> tuple[Block, ...]:
    """Show the pictures that were made, where any were."""
    made = reader.results.generation
    if made is None:
        return ()
    return (
        Bullets((made.why, *made.facts)),
        *_verdicts(reader),
        *_about(reader, made),
        *_pictures(reader, made),
        *_scores(reader),
        *_curves(reader, made),
    )


def _verdicts(reader: Reader) -> Iterable[Block]:
    """Say whether final pictures tell more than chance and more than the baselines."""
    metrics = reader.metrics
    if metrics is None:
        return
    final = metrics[(metrics['space'] == 'final') & metrics['value'].notna()]
    if final.empty:
        return
    own = final[~final['model'].map(scores.is_baseline)]
    lines = []
    for name in ('identification_2way', 'pixcorr'):
        rows = own[own['metric'] == name]
        if len(rows):
            lines += verdicts.verdicts_of(metrics, rows.iloc[0], scores.confidence_of(reader))
    if lines:
        yield Text(('Final images of held-out data:',))
        yield Verdicts(tuple(lines))


def _about(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    texts = {'small': SMALL, 'published': PUBLISHED}
    lines = [texts[made.generator]] if made.generator in texts else []
    if reader.metrics is not None and reader.metrics['metric'].str.contains('standin').any():
        lines.append(STAND_IN)
    if lines:
        yield Text(tuple(lines))


def source_of(table: pd.DataFrame, *, trained: bool = False) -> str:
    """Say what data pictures were made from.

    Parameters
    ----------
    table
        Columns ``space`` and ``n_repeats``.
    trained
        Whether a model was applied that had been trained before.
    """
    space = str(table['space'].iloc[0])
    repeats = table['n_repeats'].astype(int)
    low, high = int(repeats.min()), int(repeats.max())
    span = f'{low}' if low == high else f'{low} to {high}'
    what = SOURCES.get(space, space).format(n=f'{span} trial{"s" * (high > 1)}')
    return f'{"new" if trained else "held-out"} data: {what}'


def _pictures(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    examples = read_table(made.examples)
    if examples is None or made.examples is None or examples.empty:
        return
    pictures = np.load(made.examples.with_suffix('.npy'), allow_pickle=False)
    yield reader.plot(
        'pictures',
        generation.plot_pictures(examples, pictures),
        HOW_TO_READ.format(
            retrieved=RETRIEVED if pictures.shape[1] == len(generation.ROWS) else '',
            score=TWO_WAY if 'two_way' in examples else PIXELS,
            source=source_of(examples, trained=reader.results.split is None),
        ),
        f'{len(examples)} pictures as shown, as made in two stages, and as retrieved.',
    )
    folder = '/'.join(made.folder.parts[-3:])
    sheets = ', '.join(sheet.name for sheet in made.sheets)
    files = f'All {made.n_pictures} pictures are in {folder} (PNG, initial and final)'
    yield Text((f'{files}; beside each other: {sheets}.' if sheets else f'{files}.',))


def _scores(reader: Reader) -> Iterable[Block]:
    metrics = reader.metrics
    if metrics is None:
        return
    rows = metrics[scores.of_pictures(metrics) & metrics['value'].notna()]
    if rows.empty:
        return
    shown = rows[rows['space'].isin(['initial', 'final']) & rows['metric'].isin(MAIN)]
    yield _table(shown if len(shown) else rows)
    if rows['difference'].notna().any():
        yield comparison_table(metrics, rows, scores.confidence_of(reader))
    yield _plot(reader, shown if len(shown) else rows)
    if len(shown) < len(rows):
        yield metrics_table(rows, 'All scores of pictures and latents', folded=True)


def _table(rows: pd.DataFrame) -> Table:
    order = {name: i for i, name in enumerate(dict.fromkeys(rows['model']))}
    lines = []
    for name in (metric for metric in MAIN if metric in set(rows['metric'])):
        mine = rows[rows['metric'] == name]
        for model in sorted(set(mine['model']), key=lambda m: order[m]):
            both = mine[mine['model'] == model]
            stages = [_cells(name, both[both['space'] == x]) for x in ('initial', 'final')]
            lines.append((scores.title_of(mine.iloc[0]), model, *stages[0], *stages[1]))
    protocols = ', '.join(dict.fromkeys(rows['protocol'].astype(str)))
    chances = ', '.join(
        f'{scores.metric_of(name).title} {scores.write_score(name, chance)}'
        for name, chance in _chances(rows).items()
    )
    caption = (
        'Scores of the initial (first stage) and final (second stage) pictures of held-out data, '
        f'with confidence intervals and permutation p. Protocol: {protocols}. Chance: {chances}. '
        'Models whose names start with "ceiling" were given the true latents or features: no '
        'better picture can be had from this prior and refiner.'
    )
    columns = ('metric', 'model', 'initial', 'interval', 'p', 'final', 'interval', 'p')
    return Table(columns, tuple(lines), caption, frozenset(range(2, 8)))


def _cells(name: str, rows: pd.DataFrame) -> tuple[str, str, str]:
    if rows.empty:
        return 'n/a', 'n/a', 'n/a'
    row = rows.iloc[0]
    low, high = (scores.write_score(name, float(row[key])) for key in ('ci_low', 'ci_high'))
    interval = 'n/a' if 'n/a' in (low, high) else f'{low} to {high}'
    value = scores.write_score(name, float(row['value']))
    return value, interval, scores.write_p(float(row['p']))


def _chances(rows: pd.DataFrame) -> dict[str, float]:
    """Return the chance level of each metric of the model's final pictures, where it is known."""
    known = rows[rows['chance'].notna() & ~rows['model'].map(scores.is_baseline)]
    final = known[known['space'] == 'final']
    last = (final if len(final) else known).groupby('metric', sort=False)['chance'].first()
    return {str(name): float(value) for name, value in last.items()}


def _plot(reader: Reader, rows: pd.DataFrame) -> Plot:
    confidence = scores.confidence_of(reader)
    return reader.plot(
        'picturescores',
        scores.plot_scores(rows),
        'The same scores, a panel a metric. Filled dots: the model; open dots: baselines and '
        f'ceilings; bars: {100 * confidence:g} % confidence intervals; red strokes: chance. Pixel '
        'correlation and SSIM reward blur: hold them against the mean picture and the blurred '
        'retrieved one.',
        'Dot plot of the scores in the table above.',
    )


def _curves(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    curves = read_table(made.curves)
    if curves is None or curves.empty:
        return
    networks = ', '.join(dict.fromkeys(curves['network'].astype(str)))
    n_folds = curves['fold'].nunique()
    read = 'Lines that still fall at the end ask for longer training.'
    if (curves['part'] == 'validation').any():
        read = (
            'Grey dashed: training samples; blue: validation samples, taken from the training '
            f'samples; blue lines that turn up are overfitting. {read}'
        )
    yield reader.plot(
        'learning',
        generation.plot_learning(curves),
        f'Learning curves, a panel a network, a line a training ({n_folds} of them: folds with '
        f'the same training pictures share prior and refiner; one is of the final model). {read}',
        f'Loss by step or epoch of {networks}.',
    )
