"""The figure of a study: one panel per metric, a line along numbers, dots for what has a name."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.report.scores import metric_of, title_of
from bids_neurodecode.report.study_scores import Summary
from bids_neurodecode.report.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    RED,
    new_figure,
    plain,
    shorten,
    styled,
)
from bids_neurodecode.settings.study import AxisSettings, StudySettings
from bids_neurodecode.typing import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_RANGE = 16.0
"""Places that span more than this factor are drawn on a scale of powers of two."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """What the figure is drawn from.

    Parameters
    ----------
    summaries
        Means and spreads.
    rows
        One row per metric, participant and variant: ``metric``, ``label``, ``participant``,
        ``seed``, ``value``, ``chance``, ``ceiling``.
    settings
        The study.
    places, values
        Of each label: its place and its name on each axis.
    """

    summaries: Sequence[Summary]
    rows: pd.DataFrame
    settings: StudySettings
    places: Mapping[str, Mapping[str, float | None]]
    values: Mapping[str, Mapping[str, str]]

    @property
    def metrics(self) -> list[str]:
        """Metrics with a score."""
        scored = {summary.metric for summary in self.summaries}
        return [metric for metric in self.settings.metrics if metric in scored]

    def of_metric(self, metric: str) -> list[Summary]:
        """Return the summaries of a metric, in order."""
        return [summary for summary in self.summaries if summary.metric == metric]

    def singles(self, metric: str, label: str) -> FloatArray:
        """Return the scores of single participants and seeds.

        Parameters
        ----------
        metric, label
            Of the score and the variant.
        """
        own = self.rows[(self.rows['metric'] == metric) & (self.rows['label'] == label)]
        return np.asarray(own['value'], dtype=np.float64)

    def place(self, label: str, axis: AxisSettings) -> float:
        """Return where a variant lies on a numeric axis.

        Parameters
        ----------
        label
            Of the variant.
        axis
            Of the study.
        """
        place = self.places[label][axis.name]
        return math.nan if place is None else place

    def published(self, metric: str) -> list[tuple[str, float]]:
        """Return published values that belong to a variant."""
        return [
            (row.variant, row.value)
            for row in self.settings.published
            if row.metric == metric and row.variant is not None
        ]


@styled
def plot_study(drawing: Drawing) -> Figure:
    """Draw each metric of a study: along its first numeric axis, else one row per variant."""
    axes = drawing.settings.axes
    numeric = next((axis for axis in axes if axis.numeric), None)
    return _dots(drawing) if numeric is None else _lines(drawing, numeric)


def _lines(drawing: Drawing, axis: AxisSettings) -> Figure:
    metrics = drawing.metrics
    n_columns = min(2, len(metrics))
    n_rows = math.ceil(len(metrics) / n_columns)
    figure = new_figure(2.9 * n_rows + 0.5)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    for panel, metric in zip(panels, metrics, strict=False):
        scale = _start(panel, metric, drawing.rows)
        lines = _grouped(drawing, metric, axis)
        for number, (name, line) in enumerate(lines.items()):
            color = PALETTE[number % len(PALETTE)]
            _draw_line(panel, drawing, axis, line, color=color, name=name, scale=scale)
        for label, value in drawing.published(metric):
            at = drawing.place(label, axis)
            panel.plot(at, scale * value, '*', color=GREY, markersize=10)
        labels = dict.fromkeys(summary.label for summary in drawing.summaries)
        _set_places(panel, sorted({drawing.place(label, axis) for label in labels}))
        panel.set_xlabel(plain(axis.name))
        panel.grid(axis='y')
        if len(lines) > 1:
            panel.legend(loc='best')
    figure.legend(handles=_legend(drawing, line=True), loc='outside lower center', ncols=6)
    return figure


def _grouped(drawing: Drawing, metric: str, axis: AxisSettings) -> dict[str, list[Summary]]:
    """Return one line for each combination of the other axes, in the order of the places."""
    others = [other.name for other in drawing.settings.axes if other.name != axis.name]
    lines: dict[str, list[Summary]] = {}
    for summary in drawing.of_metric(metric):
        name = ', '.join(drawing.values[summary.label][other] for other in others)
        lines.setdefault(name, []).append(summary)
    return {
        name: sorted(line, key=lambda summary: drawing.place(summary.label, axis))
        for name, line in lines.items()
    }


def _draw_line(
    panel: Axes,
    drawing: Drawing,
    axis: AxisSettings,
    line: Sequence[Summary],
    *,
    color: str,
    name: str,
    scale: float,
) -> None:
    x = np.array([drawing.place(summary.label, axis) for summary in line])
    mean, spread, chance, ceiling = (
        scale * np.array([getattr(summary, key) for summary in line])
        for key in ('mean', 'spread', 'chance', 'ceiling')
    )
    for at, summary in zip(x, line, strict=True):
        singles = scale * drawing.singles(summary.metric, summary.label)
        panel.plot(np.full(len(singles), at), singles, 'o', color=color, alpha=0.3, ms=4, mew=0)
        if summary.label == drawing.settings.reference:
            panel.plot(at, scale * summary.mean, 'o', ms=11, mfc='none', mec=BLACK)
    panel.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, lw=0)
    panel.plot(x, mean, 'o-', color=color, markersize=6, label=plain(name) or 'mean')
    if np.isfinite(chance).any():
        panel.plot(x, chance, linestyle='--', color=RED, linewidth=1.2)
    if np.isfinite(ceiling).any():
        panel.plot(x, ceiling, linestyle=':', color=ORANGE, linewidth=1.2)


def _dots(drawing: Drawing) -> Figure:
    by_person = not drawing.settings.axes
    groups = {
        metric: _people(drawing.rows, metric) if by_person else drawing.of_metric(metric)
        for metric in drawing.metrics
    }
    sizes = [len(group) for group in groups.values()]
    figure = new_figure(0.3 * sum(sizes) + 0.65 * len(sizes) + 0.5)
    heights = [size + 1.2 for size in sizes]
    panels = figure.subplots(len(sizes), 1, height_ratios=heights, squeeze=False).ravel()
    for panel, (metric, group) in zip(panels, groups.items(), strict=True):
        scale = _start(panel, metric, drawing.rows)
        for y, summary in enumerate(group):
            if not by_person:
                singles = scale * drawing.singles(metric, summary.label)
                panel.plot(singles, np.full(len(singles), y), 'o', color=BLUE, alpha=0.3, ms=4)
            _draw_dot(
                panel, summary, y, scale, circled=summary.label == drawing.settings.reference
            )
        rows = {summary.label: y for y, summary in enumerate(group)}
        for label, value in drawing.published(metric):
            if label in rows:
                panel.plot(scale * value, rows[label], '*', color=GREY, markersize=10)
        panel.set_yticks(range(len(group)), [plain(shorten(s.label, 34)) for s in group])
        panel.set_ylim(len(group) - 0.4, -0.6)
        panel.margins(x=0.08)
        panel.grid(axis='x')
    figure.legend(handles=_legend(drawing, line=False), loc='outside lower center', ncols=6)
    return figure


def _draw_dot(panel: Axes, summary: Summary, y: int, scale: float, *, circled: bool) -> None:
    if np.isfinite(summary.spread):
        low, high = (scale * (summary.mean + k * summary.spread) for k in (-1, 1))
        panel.hlines(y, low, high, color=BLUE, lw=1.8)
    panel.plot(scale * summary.mean, y, 'o', color=BLUE, markersize=7, zorder=4)
    if circled:
        panel.plot(scale * summary.mean, y, 'o', ms=12, mfc='none', mec=BLACK)
    if np.isfinite(summary.chance):
        panel.plot(scale * summary.chance, y, '|', color=RED, markersize=14, mew=2)
    if np.isfinite(summary.ceiling):
        panel.plot(scale * summary.ceiling, y, 'D', color=ORANGE, markersize=5)


def _people(rows: pd.DataFrame, metric: str) -> list[Summary]:
    """Return participants in the place of variants."""
    found = []
    for label, own in rows[rows['metric'] == metric].groupby('participant', sort=False):
        sd = float(own['value'].std(ddof=1)) if len(own) > 1 else math.nan
        chance, ceiling = float(own['chance'].mean()), float(own['ceiling'].mean())
        mean = float(own['value'].mean())
        found.append(
            Summary(f'sub-{label}', metric, mean, sd, 'seeds', sd, 1, len(own), chance, ceiling)
        )
    return found


def _start(panel: Axes, metric: str, rows: pd.DataFrame) -> float:
    """Name a panel; return the factor of its values."""
    described = metric_of(metric)
    own = rows[rows['metric'] == metric]
    title = title_of(own.iloc[0], unit=True) if len(own) else described.label
    better = '' if described.higher_is_better else ', lower is better'
    panel.set_title(plain(textwrap.fill(f'{title}{better}', 48)))
    return described.scale


def _set_places(panel: Axes, places: Sequence[float]) -> None:
    """Mark the places that were run; far spread ones on a scale of powers."""
    above = [place for place in places if place > 0]
    if places[0] >= 0 and len(places) > 3 and max(above) > WIDE_RANGE * min(above):
        panel.set_xscale('symlog', base=2, linthresh=min(above), linscale=0.5)
    panel.set_xticks(places, [f'{place:g}' for place in places])
    panel.minorticks_off()


def _legend(drawing: Drawing, *, line: bool) -> list[Any]:
    """Return the entries for what the figure holds."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    summaries, settings = drawing.summaries, drawing.settings
    point: dict[str, Any] = {'linestyle': 'none', 'marker': 'o'}
    name = 'participant and seed' if settings.seeds else 'participant'
    spread = next((s.spread_over for s in summaries if np.isfinite(s.spread)), None)
    if settings.axes:
        handles: list[Any] = [Line2D([], [], color=BLUE, ms=7, label='mean', **point)]
        handles.append(Line2D([], [], color=BLUE, ms=4, alpha=0.4, label=name, **point))
    else:
        handles = [Line2D([], [], color=BLUE, ms=7, label='participant', **point)]
        spread = 'seeds' if len(settings.seeds) > 1 else None
    if spread is not None and line:
        handles.append(Patch(color=BLUE, alpha=0.15, label=f'SD over {spread}'))
    elif spread is not None:
        handles.append(Line2D([], [], color=BLUE, lw=1.8, label=f'SD over {spread}'))
    if any(np.isfinite(s.chance) for s in summaries):
        dash: dict[str, Any] = {'linestyle': '--'} if line else {**point, 'marker': '|', 'ms': 12}
        handles.append(Line2D([], [], color=RED, mew=2, label='chance', **dash))
    if any(np.isfinite(s.ceiling) for s in summaries):
        dash = {'linestyle': ':'} if line else {**point, 'marker': 'D', 'ms': 5}
        handles.append(Line2D([], [], color=ORANGE, label='ceiling', **dash))
    if any(s.label == settings.reference for s in summaries):
        ring = {**point, 'ms': 10, 'mfc': 'none', 'mec': BLACK}
        handles.append(Line2D([], [], label='reference', **ring))
    if any(drawing.published(metric) for metric in drawing.metrics):
        star = {**point, 'marker': '*', 'ms': 10}
        handles.append(Line2D([], [], color=GREY, label='published (other data)', **star))
    return handles
