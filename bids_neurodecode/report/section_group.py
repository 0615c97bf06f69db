"""Sections of the group's page: stimuli by participants, one figure of all metrics, counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.evaluation.metrics import sample_column
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.report import pictures, scores
from bids_neurodecode.report.build import Block, Cell, Fold, Gallery, Picture, Table
from bids_neurodecode.report.generation import TITLES
from bids_neurodecode.report.reader import Reader, page_file, read_table
from bids_neurodecode.report.results import AboveZero
from bids_neurodecode.report.section_gallery import SIDE
from bids_neurodecode.report.section_signal import LONG
from bids_neurodecode.report.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT,
    ORANGE,
    RED,
    new_figure,
    percent,
    plain,
    shorten,
    styled,
)
from bids_neurodecode.report.verdicts import BETTER, score_verdict, shown_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_STIMULI = 6
MOST_PARTICIPANTS = 8
"""Rows of images; more would hide what is to be seen."""
NOT_ALL = (
    'Each participant has a split, and held-out stimuli, of its own: {n} of {of} were held out in '
    'all of them. Each stimulus here was held out in at least {most} of {people}; "not held out": '
    'that participant was trained on it.'
)
RANKED = (
    'the best, the median and the worst by the mean over participants of {score} (below each).'
)
AT_RANDOM = (
    'drawn at random, because the score by which they would be ranked is not shown to be '
    'better than chance in each participant alone. Below each: the mean over participants of '
    '{score}.'
)
KINDS = ('Best', 'Median', 'Worst')
SHARED = 'Held out in all'


class _Image(NamedTuple):
    """What was made of a stimulus in one participant, and what it scores (0 to 1)."""

    file: Path
    score: float


def group_gallery(readers: Sequence[Reader]) -> tuple[Block, ...]:
    """Show stimuli in columns and, below each, what was made of it in each participant."""
    shown = readers[:MOST_PARTICIPANTS]
    metric = _ranked_by(shown)
    found = [_images_of(reader, metric) for reader in shown]
    ranked = all(_is_ranked(reader, metric) for reader in shown)
    chosen = _choose(found, ranked=ranked)
    stimuli = [name for _, names in chosen for name in names]
    folder = next((r.results.stimuli_dir for r in shown if r.results.stimuli_dir), None)
    if not stimuli or folder is None:
        return ()
    columns = tuple(
        (
            Picture(f'Shown: {name}', pictures.thumbnail(folder / name, SIDE)),
            *(
                _picture(reader, images.get(name), name)
                for reader, images in zip(shown, found, strict=True)
            ),
        )
        for name in stimuli
    )
    notes = [
        f'{name.rsplit("/", 1)[-1]}: {percent(mean, 0)}'
        if math.isfinite(mean := _mean_score(name, found))
        else name.rsplit('/', 1)[-1]
        for name in stimuli
    ]
    made = any(reader.results.generation for reader in shown)
    what = 'the final reconstruction' if made else 'the training image that was retrieved'
    left_out = len(readers) - len(shown)
    more = f' {left_out} further participants have theirs on their own pages.' if left_out else ''
    score = 'its score'
    if made:
        judge = scores.judge_of(pd.Series({'metric': metric, 'space': 'final'}))
        score = f'its share of correct choices in two-way identification by {judge}'
    order = RANKED if ranked else AT_RANDOM
    count = _count(found)
    n_shared = sum(n == len(found) for n in count.values())
    drawn = ''
    if n_shared < len(count):
        least = min(count[name] for name in stimuli)
        told = {'n': n_shared, 'of': len(count), 'most': least, 'people': len(found)}
        drawn = f' {NOT_ALL.format(**told)}'
    caption = (
        f'Held-out stimuli and, below each, {what} in each participant: '
        f'{order.format(score=score)} Stimuli that were held out in all participants come first.'
        f'{drawn}{more} Click an image to enlarge it, and again to go back.'
    )
    titled = len(chosen) > 1 or not ranked
    groups = tuple((title, len(names)) for title, names in chosen) if titled else ()
    roles = ('Shown', *(f'sub-{reader.results.participant}' for reader in shown))
    return (Gallery(groups, roles, columns, tuple(notes), caption),)


def _ranked_by(readers: Sequence[Reader]) -> str:
    """Return the metric by which images that were made are ranked, in all participants."""
    for reader in readers:
        made = reader.results.generation
        table = None if made is None else read_table(made.table)
        if table is not None:
            return scores.ranked_by(table, reader.metrics, reader.guides)
    return ''


def _is_ranked(reader: Reader, metric: str) -> bool:
    """Tell whether a participant's own score is better than chance: ranks mean something then."""
    if reader.metrics is None:
        return False
    made = scores.of_final_images(reader.metrics, reader.guides)
    made = made[made['metric'] == metric] if len(made) else made
    row = made.iloc[0] if len(made) else scores.page_headline(reader.metrics, reader.guides)
    return row is not None and score_verdict(row).short == BETTER


def _images_of(reader: Reader, metric: str) -> dict[str, _Image]:
    """Return, by stimulus, what was made of it; the first where there are several."""
    results = reader.results
    if results.generation is not None:
        table = read_table(results.generation.table)
        if table is None or not {'picture', 'stimulus'} <= set(table.columns):
            return {}
        score = table.get(sample_column(metric), np.full(len(table), math.nan))
        folder = results.generation.folder
        files = [folder / f'{name}_desc-final_image.png' for name in table['picture']]
    elif reader.predictions is None or results.stimuli_dir is None or results.encoding is not None:
        return {}
    else:
        table = reader.predictions[reader.predictions['retrieved'].notna()]
        score = scores.right_choices(table)
        files = [results.stimuli_dir / name for name in table['retrieved']]
    found: dict[str, _Image] = {}
    for name, file, value in zip(table['stimulus'], files, score, strict=True):
        found.setdefault(str(name), _Image(file, float(value)))
    return found


def _choose(
    found: Sequence[dict[str, _Image]], *, ranked: bool = True
) -> list[tuple[str, list[str]]]:
    """Return stimuli under headings: best, median and worst of those that all participants have.

    Where all have fewer than three, these stand first, and the others are of those that most
    participants have. Where ranks mean nothing they are drawn at random.
    """
    count = _count(found)
    shared = [name for name, n in count.items() if n == len(found)]
    first = _by_score(shared, found) if len(shared) < len(KINDS) else []
    left = {name: n for name, n in count.items() if name not in first}
    most = _most(left)
    ordered = _by_score([name for name, n in left.items() if n >= most], found)
    each = min((MOST_STIMULI - len(first)) // len(KINDS), len(ordered) // len(KINDS))
    groups = [(SHARED, first)] if first else []
    if not ranked:
        drawn = np.random.default_rng(0).permutation(sorted(ordered)).tolist()
        return [*groups, (TITLES['random'], drawn[: MOST_STIMULI - len(first)])]
    if not each:
        return [*groups, ('', ordered)] if ordered else groups
    start = len(ordered) // 2 - each // 2
    # the worst first, as on the pages of participants
    places = (slice(each), slice(start, start + each), slice(None, -each - 1, -1))
    return [*groups, *((kind, ordered[at]) for kind, at in zip(KINDS, places, strict=True))]


def _count(found: Sequence[dict[str, _Image]]) -> dict[str, int]:
    """Return in how many participants each stimulus was held out."""
    count: dict[str, int] = {}
    for images in found:
        for name in images:
            count[name] = count.get(name, 0) + 1
    return count


def _most(count: Mapping[str, int]) -> int:
    """Return the most participants in whom enough stimuli for each heading were held out."""
    numbers = sorted(count.values(), reverse=True)
    return numbers[min(MOST_STIMULI, len(numbers)) - 1] if numbers else 0


def _by_score(names: Iterable[str], found: Sequence[dict[str, _Image]]) -> list[str]:
    return sorted(sorted(names), key=lambda name: -np.nan_to_num(_mean_score(name, found)))


def _mean_score(name: str, found: Sequence[dict[str, _Image]]) -> float:
    values = [images[name].score for images in found if name in images]
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _picture(reader: Reader, image: _Image | None, name: str) -> Picture:
    who = f'sub-{reader.results.participant}: {name}'
    if image is None:
        return Picture(who, None, missing='not held out')
    return Picture(who, pictures.thumbnail(image.file, SIDE))


def page_of(reader: Reader, folder: Path) -> Cell:
    """Return a participant's name, linked to the page where there is one.

    Parameters
    ----------
    reader
        Of the participant.
    folder
        Of the pages.
    """
    results = reader.results
    page = page_file(folder, results.participant, results.task)
    return Cell(f'sub-{results.participant}', link=page)


def above_zero(found: AboveZero | None) -> str:
    """Say in how many columns the mean of a map over participants is above 0.

    Parameters
    ----------
    found
        Of the columns of the map; None: they were not tested.
    """
    if found is None:
        return ''
    return (
        f' The mean is above 0 in {found.n_fdr:,} of {found.n_tested:,} voxels (flips of the '
        f'signs of participants, false discovery rate below .05), in {found.n_fwer:,} by the '
        'highest value of all voxels.'
    )


def region_blocks(file: Path | None, notes: Mapping[str, str]) -> tuple[Block, ...]:
    """Show means by region, one table per map; the first is open, the others are folded.

    Parameters
    ----------
    file
        Table of :func:`~bids_neurodecode.report.groupmaps.region_table`.
    notes
        By map, what is said of participants who were seen in training.
    """
    table = read_table(file)
    if table is None or table.empty:
        return ()
    blocks = [
        _region_table(str(key), rows, notes.get(str(key), ''))
        for key, rows in table.groupby('map', sort=False)
    ]
    more = (Fold('More means by region', tuple(blocks[1:])),) if blocks[1:] else ()
    return (blocks[0], *more)


def _region_table(key: str, rows: pd.DataFrame, note: str) -> Table:
    spec = MAPS[key]
    tested, spread = bool(rows['p'].notna().any()), bool(rows['ci_low'].notna().any())
    titles = ['region', f'mean: {spec.label}', 'SD']
    titles += ['95 % interval'] if spread else []
    titles += ['p (FDR)', 'shows'] if tested else []
    cells = []
    for _, row in rows.sort_values('mean', ascending=False, kind='stable').iterrows():
        own = [row['region'], f'{spec.scale * row["mean"]:.3g}', f'{spec.scale * row["sd"]:.2g}']
        low, high = spec.scale * row['ci_low'], spec.scale * row['ci_high']
        known = np.isfinite([low, high]).all()
        own += [f'{low:.3g} to {high:.3g}' if known else 'n/a'] if spread else []
        own += [scores.write_p(float(row['p_fdr']))] if tested else []
        shows = _shown(row) if tested else ()
        cells.append((*own, *shows, f'{row["n"]:.0f}', f'{row["n_voxels"]:.0f}'))
    caption = (
        f'{spec.title} by region, each participant in the space of their own data: mean over '
        'participants of the median over the voxels of the region. n: participants who have the '
        'region; voxels: median of their number.'
    )
    if tested:
        caption += (
            ' p: flips of the signs of participants, adjusted over regions; shows: by it and the '
            'interval.'
        )
    elif not spread and rows['n'].max() < MIN_GROUPS:
        caption += f' With fewer than {MIN_GROUPS} participants there is no interval and no test.'
    caption += note
    columns = (*titles, 'n', 'voxels')
    numeric = frozenset(range(1, len(columns)))
    return Table(columns, tuple(cells), caption, numeric, folded=len(cells) > LONG)


def _shown(row: pd.Series[Any]) -> tuple[str]:
    """Say whether a mean is above 0, by its interval and its adjusted p."""
    interval = float(row['ci_low']), float(row['ci_high'])
    says = shown_by('mean', float(row['mean']), 0.0, interval, float(row['p_fdr']))
    return (says.replace('better than chance', 'above 0').replace('chance', '0'),)


def shown_metrics(metrics: pd.DataFrame, guides: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows that the figure and the table of the group are of.

    Of reconstructions these are the final ones by the main metrics, which come first; regions and
    feature spaces are left to the tables.

    Parameters
    ----------
    metrics
        The metrics table.
    guides
        Networks that had a part in the images.
    """
    rows = metrics[metrics['value'].notna() & ~scores.of_parts(metrics)]
    final = (rows['space'] == 'final') & scores.is_main(rows)
    return pd.concat([scores.headline_first(rows[final], guides), rows[~scores.of_pictures(rows)]])


@styled
def plot_all_metrics(
    panels: Iterable[tuple[str, pd.DataFrame, pd.DataFrame, Any]], labels: Sequence[str]
) -> Figure:
    """Draw one panel per metric: participants with interval, ceiling and baselines, and the mean.

    Parameters
    ----------
    panels
        Of each metric its title, the rows of the model, the rows of baselines (column
        ``participant`` in both) and the mean over participants (``mean``, ``low``, ``high``,
        ``chance``).
    labels
        Participants, from top to bottom.
    """
    drawn = list(panels)
    n_columns = min(3, len(drawn))
    n_rows = -(-len(drawn) // n_columns)
    figure = new_figure(min(n_rows * (0.2 * len(labels) + 1.15), 20.0) + 0.4)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for place, axis in enumerate(axes.ravel()):
        if place >= len(drawn):
            axis.set_axis_off()
            continue
        title, own, others, mean = drawn[place]
        _draw_panel(axis, own, others, mean, labels)
        # a place that is given is not looked for
        axis.set_title(plain(title), fontsize=7.5, y=1)
        if place % n_columns:
            axis.set_yticklabels([])
    ceilings = any(own['ceiling'].notna().any() for _, own, _, _ in drawn)
    figure.legend(handles=_legend(ceilings=ceilings), loc='outside lower center', ncols=5)
    return figure


def _draw_panel(
    axis: Axes, own: pd.DataFrame, others: pd.DataFrame, mean: Any, labels: Sequence[str]
) -> None:
    metric = scores.metric_of(str(own['metric'].iloc[0]))
    scale = metric.scale
    place = {label: y for y, label in enumerate(labels)}
    open_dots: dict[str, Any] = {'color': GREY, 'markerfacecolor': 'white', 'markersize': 4}
    axis.plot(scale * others['value'], others['participant'].map(place), 'o', mew=0.8, **open_dots)
    y, columns = own['participant'].map(place).to_numpy(), ['value', *scores.BESIDE]
    value, low, high, chance, ceiling = scale * own[columns].to_numpy(dtype=float).T
    sure, known = np.isfinite(low) & np.isfinite(high), np.isfinite(chance)
    axis.hlines(y[sure], low[sure], high[sure], color=BLUE, lw=1.5)
    axis.plot(value, y, 'o', color=BLUE, markersize=5.5, zorder=4)
    axis.vlines(chance[known], y[known] - 0.4, y[known] + 0.4, color=RED, lw=1.2)
    axis.plot(ceiling, y, 'D', color=ORANGE, markersize=4)
    n = len(labels)
    axis.axhspan(n - 0.5, n + 0.5, color=LIGHT, alpha=0.35, linewidth=0)
    axis.plot(scale * mean.mean, n, 's', color=BLACK, markersize=5, zorder=4)
    if np.isfinite([mean.low, mean.high]).all():
        axis.hlines(n, scale * mean.low, scale * mean.high, color=BLACK, lw=1.5)
    if np.isfinite(mean.chance):
        axis.vlines(scale * mean.chance, n - 0.4, n + 0.4, color=RED, lw=1.2)
    axis.set_yticks(range(n + 1), [*(plain(shorten(f'sub-{x}', 14)) for x in labels), 'mean'])
    axis.set_ylim(n + 0.5, -0.6)
    if metric.share and math.isfinite(metric.high) and math.isfinite(metric.low):
        axis.set_xlim(-2, 102)
    axis.set_xlabel(metric.labelled('').strip(' ()'), fontsize=7)
    axis.tick_params(labelsize=7)
    axis.grid(axis='x')


def _legend(*, ceilings: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    def mark(marker: str, color: str, label: str, **more: Any) -> Any:
        return Line2D([], [], linestyle='none', marker=marker, color=color, label=label, **more)

    return [
        mark('o', BLUE, 'model, with its interval'),
        mark('o', GREY, 'baselines', markerfacecolor='white'),
        *([mark('D', ORANGE, 'ceiling', markersize=5)] if ceilings else []),
        mark('s', BLACK, 'mean over participants', markersize=5),
        mark('|', RED, 'chance', markersize=9, mew=1.2),
    ]
