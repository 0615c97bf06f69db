"""Score reportlets: scores beside chance, ceiling and baselines; nulls; confusions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.evaluation.metrics import (
    BASELINE,
    COLUMNS,
    IDENTIFIED_BY,
    JUDGES,
    METRICS,
    NUMBERS,
    REFERENCE,
    Metric,
    sample_column,
)
from bids_neurodecode.evaluation.protocols import PROTOCOLS
from bids_neurodecode.evaluation.statistics import bootstrap_ci
from bids_neurodecode.extensions import said_by
from bids_neurodecode.report.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
    new_figure,
    plain,
    shorten,
    styled,
    whole_ticks,
)
from bids_neurodecode.typing import BoolArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BOUNDED = frozenset(
    ('voxel_r_median', 'voxel_r_mean', 'noise_normalized_median', 'noise_normalized_mean')
)
"""Metrics that noise in the responses bounds."""
BESIDE = ('ci_low', 'ci_high', 'chance', 'ceiling')
"""What is drawn beside a score, columns of the metrics table."""
NAMED, COUNTED = 40, 12
"""Labels of a confusion matrix up to which they are named, and up to which cells are counted."""
PIXELS = 'pixel_2way'
MAIN = ('identification_2way', PIXELS, 'pixel_top1', 'pixcorr', 'ssim_2d')
"""Metrics of reconstructions that are shown first, beside the two-way ones of networks."""
NETWORKS = {m.metric: m.network for each in PROTOCOLS.values() for m in each.metrics}
"""Of metrics of reconstructions, the networks that judge."""
ENCODED = 'voxel_r_mean'
"""What heads pages of encoding models: the score of what they predict that is always tested."""
HEADLINES = tuple(METRICS)
"""Which metric heads other pages: the first of these that was scored."""


def metric_of(name: str) -> Metric:
    """Return the declaration of a metric; an unknown one describes itself."""
    return METRICS.get(name, Metric(name.replace('_', ' ')))


def title_of(row: pd.Series[Any], *, unit: bool = False, size: bool = False) -> str:
    """Return what the score of a row is called: of identification, with what identifies.

    Parameters
    ----------
    row
        Of the metrics table: ``metric`` and, where known, ``system``, ``space``, ``image_size``.
    unit
        Whether the unit follows, for axes and columns.
    size
        Whether the size at which images were compared follows.
    """
    metric = metric_of(str(row['metric']))
    title = metric.title
    if str(row['metric']).startswith('identification_'):
        space = str(row.get('space', '')).removesuffix('-single-trial')
        by = IDENTIFIED_BY.get(space) or said_by(str(row.get('system', ''))).identified_by
        title = title.replace(',', f' by {by},', 1) if by else title
    pixels = float(row.get('image_size', math.nan)) if size else math.nan
    at = f' at {pixels:.0f} x {pixels:.0f} pixels' if math.isfinite(pixels) else ''
    return f'{metric.labelled(title) if unit else title}{at}'


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics table; ``n/a`` becomes NaN in the columns of numbers."""
    table = pd.read_csv(path, sep='\t', dtype=str, keep_default_na=False)
    for column in COLUMNS:
        if column not in table.columns:
            table[column] = 'n/a'
    for column in NUMBERS:
        values = table[column]
        table[column] = pd.to_numeric(values.mask(values.isin(['n/a', ''])))
    return table


def is_baseline(model: str) -> bool:
    """Return whether a model is there for comparison only."""
    return model.startswith((BASELINE, REFERENCE))


def of_parts(metrics: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are about one region, or one feature space of an encoding model."""
    partition = metrics['metric'].str.startswith('variance_')
    return metrics['space'].str.contains('/') | partition


def of_decoders(metrics: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are about what was decoded from chosen voxels."""
    return metrics['system'].map(lambda name: said_by(name).scores == 'decoded').astype(bool)


def of_pictures(metrics: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are about images that were made, or about their latents."""
    return metrics['space'].str.startswith(('initial', 'final', 'latents', 'features'))


def is_main(metrics: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows of images that were made are shown first; the others are folded away."""
    name = metrics['metric']
    return name.isin(MAIN) | name.str.endswith('_2way')


def model_name(model: str, space: str) -> str:
    """Return what a model is called: images are made by a regression and a generator.

    Parameters
    ----------
    model, space
        Of a row of the metrics table.

    Examples
    --------
    >>> model_name('ridge', 'final'), model_name('ridge', 'single-trial')
    ('ridge + generator', 'ridge')
    """
    made = space.startswith(('initial', 'final')) and not is_baseline(model)
    return f'{model} + generator' if made else model


def name_with_space(model: str, space: str) -> str:
    """Return what a model is called, with what was scored in brackets.

    Parameters
    ----------
    model, space
        Of a row of the metrics table.
    """
    return f'{model_name(model, space)} ({space})'


def headline(metrics: pd.DataFrame) -> pd.Series[Any] | None:
    """Return the row that heads the page: a model's (not a baseline's) most telling score."""
    if metrics.empty:
        return None
    models = metrics[~metrics['model'].map(is_baseline)]
    rows: pd.DataFrame = models[models['value'].notna()]
    systems = rows['system'].unique() if 'system' in rows else ()
    of_voxels = all(said_by(name).scores == 'voxels' for name in systems)
    whole: pd.DataFrame = rows[~of_parts(rows)]
    for name in (*((ENCODED,) if of_voxels and len(systems) else ()), *HEADLINES):
        own: pd.DataFrame = whole[whole['metric'] == name]
        if len(own):
            return own.iloc[0]
    return rows.iloc[0] if len(rows) else None


def identified(metrics: pd.DataFrame) -> pd.Series[Any] | None:
    """Return the row of identification among all candidates of the data that head the page."""
    head = headline(metrics)
    if head is None:
        return None
    same = (metrics[['model', 'space']] == head[['model', 'space']]).all(axis=1)
    same &= (metrics['metric'] == 'identification_top1') & metrics['value'].notna()
    found: pd.DataFrame = metrics[same]
    return found.iloc[0] if len(found) else None


def of_final_images(metrics: pd.DataFrame, guides: Sequence[str] = ()) -> pd.DataFrame:
    """Return a model's two-way scores of images that were made: by each judge and by pixels.

    First the networks of :data:`~bids_neurodecode.evaluation.metrics.JUDGES`, in their order,
    that are independent of the images; then pixels, then others. What the scores are decides
    nothing. Identification by the features that decide what is made is left out: even images
    that are made from the true features may fail it.

    Parameters
    ----------
    metrics
        The metrics table.
    guides
        Networks that had a part in the images.
    """
    if metrics.empty:
        return metrics
    final = metrics[(metrics['space'] == 'final') & ~metrics['model'].map(is_baseline)]
    two_way = final['metric'].str.endswith('_2way') & (final['metric'] != 'identification_2way')
    found = final[two_way & final['value'].notna()]
    independent = [name for name in JUDGES if not kin_of(name, guides)]
    return _metrics_first(found, [*independent, PIXELS])


def _metrics_first(rows: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return rows of these metrics first, in this order, and the others as they are."""
    places = {name: i for i, name in enumerate(names)}
    return rows.sort_values(
        'metric', key=lambda metrics: metrics.map(places).fillna(len(places)), kind='stable'
    )


def kin_of(metric: str, guides: Sequence[str]) -> tuple[str, ...]:
    """Return the guides of images that are the network of a metric, or of its family.

    Parameters
    ----------
    metric
        Its name.
    guides
        Networks that had a part in the images.

    Examples
    --------
    >>> kin_of('efficientnet_lite2_2way', ['gabor', 'efficientnet-lite0'])
    ('efficientnet-lite0',)
    """
    family = NETWORKS.get(metric, '').partition('-')[0]
    return tuple(name for name in guides if family and name.partition('-')[0] == family)


def page_headline(metrics: pd.DataFrame, guides: Sequence[str] = ()) -> pd.Series[Any] | None:
    """Return the row that heads a page: of final images where any were made, else the headline.

    Parameters
    ----------
    metrics
        The metrics table.
    guides
        Networks that had a part in the images: see :func:`of_final_images`.
    """
    made = of_final_images(metrics, guides)
    return made.iloc[0] if len(made) else headline(metrics)


def ranked_by(
    images: pd.DataFrame, metrics: pd.DataFrame | None, guides: Sequence[str] = ()
) -> str:
    """Return the metric by which images are ranked: that which heads the page.

    Where single images have no such score, the next one that they have.

    Parameters
    ----------
    images
        The table of them.
    metrics
        The metrics table; None: nothing was scored.
    guides
        Networks that had a part in the images: see :func:`of_final_images`.
    """
    made = () if metrics is None else of_final_images(metrics, guides)['metric']
    names = (*made, PIXELS, 'identification_2way')
    return next((name for name in names if sample_column(name) in images), 'pixcorr')


def judge_of(row: pd.Series[Any]) -> str:
    """Return by what a two-way score tells images apart, such as ``pixels``."""
    return title_of(row).removeprefix('Identification by ').removesuffix(', two-way')


def headline_first(rows: pd.DataFrame, guides: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows of final images with those first of which one heads the page.

    Parameters
    ----------
    rows
        Of the metrics table.
    guides
        Networks that had a part in the images.
    """
    return _metrics_first(rows, of_final_images(rows, guides)['metric'].unique())


def known_ceilings(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics table without ceilings of 0: nothing can be held against these.

    Parameters
    ----------
    metrics
        The metrics table.
    """
    return metrics.assign(ceiling=metrics['ceiling'].where(metrics['ceiling'] > 0))


def no_ceiling(row: pd.Series[Any], *, repeated: bool = False) -> str:
    """Say in a clause why a score has no ceiling.

    Parameters
    ----------
    row
        Of the metrics table.
    repeated
        Whether ceilings of other scores of the responses are known.
    """
    if row['protocol'] == 'in-sample':
        return 'none for samples that trained the model'
    if row['ceiling'] <= 0:
        return (
            'none over all voxels, as half of them or more have a noise ceiling of 0 (see Brain)'
        )
    bounded = row['metric'] in BOUNDED
    if row['metric'] in {'voxel_r2_median', 'noise_normalized_paper'} or (bounded and repeated):
        return 'none is computed'
    if not bounded:
        return (
            'none is known for this score: noise ceilings bound responses, not what is decoded '
            'from them'
        )
    return f'none without {said_by(row["system"]).ceiling_from}'


def rows_with(metrics: pd.DataFrame, **values: object) -> BoolArray:
    """Return which rows of a metrics table have these values in these columns.

    Tables of a page ask hundreds of times: plain arrays are compared sooner than columns of
    pandas, and nothing is copied.

    Parameters
    ----------
    metrics
        The metrics table.
    **values
        By column.

    Examples
    --------
    >>> table = pd.DataFrame({'model': ['a', 'a', 'b'], 'metric': ['x', 'y', 'x']})
    >>> rows_with(table, model='a', metric='x').tolist()
    [True, False, False]
    """
    same = np.ones(len(metrics), dtype=bool)
    for column, value in values.items():
        same &= metrics[column].to_numpy(dtype=object) == value
    return same


def write_score(name: str, value: float) -> str:
    """Write a value of a metric as the page shows it.

    Parameters
    ----------
    name
        Of the metric.
    value
        In its units.

    Examples
    --------
    >>> write_score('identification_top1', 0.78125), write_score('pixcorr', 0.3)
    ('78.1 %', '0.300')
    """
    return metric_of(name).write(value)


def write_p(value: float) -> str:
    """Write a p value with enough digits to tell it from its neighbours.

    Examples
    --------
    >>> write_p(0.000999), write_p(0.0321)
    ('0.001', '0.032')
    """
    if not math.isfinite(value):
        return 'n/a'
    return f'{value:.3f}' if value >= 0.0005 else f'{value:.1e}'


@styled
def plot_scores(metrics: pd.DataFrame) -> Figure:
    """Draw each score with its interval beside chance, ceiling and baselines, a panel per metric.

    Parameters
    ----------
    metrics
        The metrics table: ``model``, ``metric``, ``value``, ``chance``, ``ceiling``, ``ci_low``,
        ``ci_high``; optional ``space``, ``split`` tell rows of one model apart.
    """
    shown = metrics[metrics['value'].notna()]
    # images compared at two sizes are two scores: a panel each
    titles = shown.apply(title_of, axis=1, unit=True, size=True)
    names = list(dict.fromkeys(titles))
    sizes = [int((titles == name).sum()) for name in names]
    figure = new_figure(0.27 * sum(sizes) + 0.62 * len(names) + 0.5)
    axes = np.atleast_1d(figure.subplots(len(names), 1, height_ratios=[n + 1.2 for n in sizes]))
    for axis, name in zip(axes, names, strict=True):
        _draw_metric(axis, name, shown[titles == name])
    ceilings = bool(shown['ceiling'].notna().any())
    figure.legend(handles=_score_legend(ceilings=ceilings), loc='outside lower center', ncols=5)
    return figure


def _draw_metric(axis: Axes, title: str, rows: pd.DataFrame) -> None:
    metric = metric_of(str(rows['metric'].iloc[0]))
    scale = metric.scale
    # the split and the voxel set tell apart rows that share a model's name
    telling = [c for c in ('model', 'space', 'split') if c == 'model' or rows[c].nunique() > 1]
    labels = [_label(row, telling[1:]) for _, row in rows.iterrows()]
    y, baselines = np.arange(len(rows)), rows['model'].map(is_baseline).to_numpy(dtype=bool)
    columns = ['value', *BESIDE]
    value, low, high, chance, ceiling = scale * rows[columns].to_numpy(dtype=float).T
    for of, color, face in ((~baselines, BLUE, BLUE), (baselines, GREY, 'white')):
        sure = of & np.isfinite(low) & np.isfinite(high)
        axis.hlines(y[sure], low[sure], high[sure], color=color, lw=1.8)
        dots: dict[str, Any] = {'color': color, 'markersize': 7, 'markerfacecolor': face}
        axis.plot(value[of], y[of], 'o', zorder=4, **dots)
    # what is not known is not drawn
    axis.plot(chance, y, '|', color=RED, markersize=14, mew=2)
    axis.plot(ceiling, y, 'D', color=ORANGE, markersize=5)
    axis.set_yticks(range(len(rows)), [plain(shorten(label, 44)) for label in labels])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis='x')
    better = '' if metric.higher_is_better else ', lower is better'
    # a place that is given is not looked for
    axis.set_title(plain(f'{title}{better}'), y=1)
    if metric.share and math.isfinite(metric.low) and math.isfinite(metric.high):
        axis.set_xlim(-1, 101)
    else:
        axis.margins(x=0.08)
        if metric.unit == 'r':  # of other scales 0 may be far from all scores
            low, high = axis.get_xlim()
            axis.set_xlim(min(low, 0.0), max(high, 0.0))


def _label(row: pd.Series[Any], telling: Sequence[str]) -> str:
    """Return what a row of a figure is called; that it is a baseline is seen by its dot."""
    name = str(row['model']).removeprefix(BASELINE).removeprefix(REFERENCE).replace('-', ' ')
    if name == row['model']:
        name = model_name(name, str(row['space']))
    return f'{name} ({", ".join(str(row[key]) for key in telling)})' if telling else name


def _score_legend(*, ceilings: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    point: dict[str, Any] = {'linestyle': 'none', 'marker': 'o', 'markersize': 7}
    handles = [
        Line2D([], [], color=BLUE, label='model', **point),
        Line2D([], [], color=GREY, markerfacecolor='white', label='baseline, reference', **point),
        Line2D([], [], color=BLUE, lw=1.8, label='confidence interval'),
        Line2D([], [], color=RED, linestyle='none', marker='|', ms=12, mew=2, label='chance'),
    ]
    if ceilings:
        style: dict[str, Any] = {'linestyle': 'none', 'marker': 'D', 'ms': 5}
        handles.append(Line2D([], [], color=ORANGE, label='ceiling', **style))
    return handles


@styled
def plot_null(
    null: npt.NDArray[np.floating[Any]], observed: float, metric: str, chance: float = math.nan
) -> Figure:
    """Draw the scores under shuffled pairings, and where the real one lies.

    Parameters
    ----------
    null
        Shape (n_permutations,).
    observed, chance
        The real score and the expected one under guessing.
    metric
        Its name, for the axis.
    """
    described = metric_of(metric)
    scale = described.scale
    figure = new_figure(2.4)
    axis = figure.subplots()
    distinct, counts = np.unique(null, return_counts=True)
    if distinct.size <= 40 and distinct.size < null.size / 2:
        # a score of few samples takes few values: bars on the values, not across them, and none
        # that reaches beyond what is possible
        gap = float(np.diff(distinct).min()) if distinct.size > 1 else 0.01
        left, right = (described.clip(distinct + half * gap) for half in (-0.425, 0.425))
        axis.bar(
            scale * left, counts, scale * (right - left), align='edge', color=GREY, alpha=0.55
        )
    else:
        axis.hist(scale * null, bins=min(40, null.size), color=GREY, alpha=0.55)
    axis.axvline(scale * observed, color=BLUE, linewidth=2, label='observed')
    if np.isfinite(chance):
        axis.axvline(scale * chance, color=RED, linewidth=1.2, linestyle='--', label='chance')
    axis.set(xlabel=described.label, ylabel=f'count (of {null.size})')
    whole_ticks(axis.yaxis)
    axis.legend(loc='upper center')
    return figure


@styled
def plot_confusion(matrix: npt.NDArray[Any], labels: Sequence[str]) -> Figure:
    """Draw the confusion matrix: rows are shown, columns are decoded, percent of the row.

    Parameters
    ----------
    matrix
        Shape (n_labels, n_labels), counts.
    labels
        Names of the rows and columns.
    """
    n = len(labels)
    counts = np.asarray(matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure, axis, drawn = draw_matrix(shares, labels, 'Blues', 100)
    if n <= COUNTED:
        for i, j in np.ndindex(n, n):
            if counts[i, j]:
                color = 'white' if shares[i, j] > 55 else BLACK
                text = f'{counts[i, j]:g}'
                axis.text(j, i, text, ha='center', va='center', color=color, fontsize=8)
    axis.set(xlabel='decoded as', ylabel='shown')
    figure.colorbar(drawn, ax=axis, label='% of presentations', shrink=0.8)
    return figure


def draw_matrix(
    values: npt.NDArray[Any], labels: Sequence[str], colormap: str, high: float
) -> tuple[Figure, Axes, Any]:
    """Draw a square matrix, its rows and columns named where there is room; return what is drawn.

    Parameters
    ----------
    values
        Shape (n_labels, n_labels), from 0.
    labels
        Names of the rows and columns.
    colormap
        Of matplotlib.
    high
        Value of its end.
    """
    n = len(labels)
    figure = new_figure(min(max(0.42 * n + 1.2, 2.6), 6.0), layout='compressed')
    axis = figure.subplots()
    drawn = axis.imshow(values, cmap=colormap, vmin=0, vmax=high, interpolation='nearest')
    if n <= NAMED:
        names = [plain(shorten(label, 20)) for label in labels]
        axis.set_xticks(range(n), names, rotation=45, ha='right', rotation_mode='anchor')
        axis.set_yticks(range(n), names)
    axis.spines[:].set_visible(False)
    return figure, axis, drawn


def right_choices(predictions: pd.DataFrame) -> pd.Series[float]:
    """Return what each sample scores: its ``identified`` (0 to 1), else whether it ranks first."""
    if 'identified' in predictions.columns and predictions['identified'].dtype.kind in 'bif':
        return predictions['identified'].astype(float)
    return (predictions['rank'] == 1).astype(float)


def by_category(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Average what samples score within categories; stimuli are the units.

    Parameters
    ----------
    table
        One row per held-out sample: ``category``, ``stimulus`` and ``right`` (0 to 1).
    confidence
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row per category, the best first: ``category``, ``value``, ``low``, ``high`` (NaN with
        fewer than :data:`~bids_neurodecode.evaluation.statistics.MIN_GROUPS` stimuli) and
        ``n_stimuli``.
    """
    rows = []
    for category, own in table.groupby('category', sort=True):
        values = own.groupby('stimulus', sort=True)['right'].mean().to_numpy(dtype=float)
        # the same page from the same scores
        low, high = bootstrap_ci(
            values, rng=np.random.default_rng(0), confidence=confidence, bounds=(0.0, 1.0)
        )
        rows.append((str(category), float(values.mean()), low, high, values.size))
    found = pd.DataFrame(rows, columns=['category', 'value', 'low', 'high', 'n_stimuli'])
    return found.sort_values('value', ascending=False, kind='stable', ignore_index=True)


@styled
def plot_categories(table: pd.DataFrame, chance: float) -> Figure:
    """Draw the score of each category with its interval.

    Parameters
    ----------
    table
        From :func:`by_category`.
    chance
        What guessing scores.
    """
    figure = new_figure(0.24 * len(table) + 0.75)
    axis = figure.subplots()
    y = np.arange(len(table))
    axis.hlines(y, 100 * table['low'], 100 * table['high'], color=BLUE, lw=1.8)
    axis.plot(100 * table['value'], y, 'o', color=BLUE, markersize=7)
    if np.isfinite(chance):
        axis.axvline(100 * chance, color=RED, linestyle='--', linewidth=1.2)
    names = [
        f'{plain(shorten(name))} ({n})'
        for name, n in zip(table['category'], table['n_stimuli'], strict=True)
    ]
    axis.set_yticks(y, names)
    axis.set(ylim=(len(table) - 0.4, -0.6), xlim=(-1, 101), xlabel='samples identified (%)')
    axis.set_ylabel('category (stimuli)')
    axis.grid(axis='x')
    return figure


@styled
def plot_ranks(predictions: pd.DataFrame) -> Figure:
    """Draw how often the true stimulus is among the best k, and the scores of several folds.

    Parameters
    ----------
    predictions
        Columns ``rank`` (from 1), ``n_candidates``, ``fold`` and, where known, ``identified``.
    """
    ranks = predictions['rank'].to_numpy(dtype=float)
    n_candidates = predictions['n_candidates'].to_numpy(dtype=float)
    k = np.arange(1, int(n_candidates.max()) + 1)
    right = right_choices(predictions)
    found = np.array([(ranks <= value).mean() for value in k])
    # a tie at the top has a rank between places: its share of the first place counts
    found[0] = right.mean()
    guessed = np.array([np.minimum(value / n_candidates, 1).mean() for value in k])
    by_fold = right.groupby(predictions['fold'], sort=True).mean()
    figure = new_figure(2.7)
    axes: Any = figure.subplots(1, 1 + (len(by_fold) > 1), squeeze=False)[0]
    left = axes[0]
    marker = 'o' if k.size <= 30 else None
    left.plot(k, 100 * found, color=BLUE, marker=marker, markersize=4, label='decoded')
    left.plot(k, 100 * guessed, color=RED, linestyle='--', label='chance')
    left.set(xlabel='best k of the candidates', ylabel='true stimulus among them (%)')
    left.set_ylim(0, 102)
    left.set_xticks(k[:: max(1, k.size // 10)])
    left.grid()
    left.legend(loc='lower right')
    if len(by_fold) > 1:
        _draw_folds(axes[1], by_fold, float(right.mean()), float((1 / n_candidates).mean()))
    return figure


def _draw_folds(axis: Axes, by_fold: pd.Series[float], mean: float, chance: float) -> None:
    axis.plot(range(len(by_fold)), 100 * by_fold, 'o', color=BLUE)
    axis.axhline(100 * mean, color=BLUE, linewidth=1, label='all samples')
    axis.axhline(100 * chance, color=RED, linewidth=1.1, linestyle='--', label='chance')
    step = max(1, len(by_fold) // 12)
    axis.set_xticks(range(0, len(by_fold), step), [str(int(f) + 1) for f in by_fold.index[::step]])
    axis.set(xlabel='fold', ylabel='best match is right (%)', ylim=(-2, 102))
    axis.set_xlim(-0.6, len(by_fold) - 0.4)
    axis.grid(axis='y')
    axis.legend(loc='best')
