"""Design reportlets: what was shown when, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.report.style import (
    BLUE,
    PALETTE,
    new_figure,
    plain,
    shorten,
    styled,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_order(trials: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return each run's label and trials, in the order of the table; sessions kept apart."""
    keys = [key for key in ('session', 'run') if key in trials.columns]
    many = 'session' in keys and trials['session'].nunique() > 1
    runs = []
    for values, rows in trials.groupby(keys, sort=False, dropna=False):
        if 'run_label' in rows.columns:
            label = str(rows['run_label'].iloc[0])
            runs.append((' '.join(p for p in label.split() if not p.startswith('task-')), rows))
            continue
        parts = dict(zip(keys, values, strict=True))
        label = f'run {parts["run"]}'
        runs.append((f'ses-{parts["session"]} {label}' if many else label, rows))
    return runs


@styled
def plot_events(trials: pd.DataFrame) -> Figure:
    """Draw one row per run, one bar a trial, from onset to end in seconds.

    Parameters
    ----------
    trials
        Columns ``onset``, ``duration`` (s), ``run`` and, where known, ``session`` and
        ``trial_type``. Up to eight trial types get a colour each; else repeats do.
    """
    runs = run_order(trials)
    groups, title = _color_groups(trials)
    colors = _colors(len(groups), ordered=title == 'presentation')
    height = min(0.24 * len(runs) + 1.1, 9.0)
    figure = new_figure(max(height, 1.8))
    axis = figure.subplots()
    for row, (_, rows) in enumerate(runs):
        for number, (_, wanted) in enumerate(groups):
            part = rows[wanted.loc[rows.index]]
            # a trial shorter than a pixel would not be seen
            duration = part['duration'].clip(lower=float(trials['onset'].max()) / 600)
            axis.broken_barh(
                list(zip(part['onset'], duration, strict=True)),
                (row - 0.38, 0.76),
                facecolors=colors[number],
                edgecolor='white',
                linewidth=0.2,
            )
    step = max(1, len(runs) // 25)
    axis.set_yticks(range(0, len(runs), step), [plain(label) for label, _ in runs[::step]])
    axis.set(xlabel='time from the start of the run (s)', ylim=(len(runs) - 0.5, -0.5))
    axis.set_ylabel('run')
    axis.set_xlim(left=0)
    if len(groups) > 1:
        from matplotlib.patches import Patch

        handles = [
            Patch(color=colors[i], label=plain(shorten(name)))
            for i, (name, _) in enumerate(groups)
        ]
        figure.legend(handles=handles, loc='outside right upper', title=title)
    return figure


@styled
def plot_repeats(trials: pd.DataFrame) -> Figure:
    """Show how often each stimulus was shown: one bar a stimulus, or a histogram for many."""
    counts = trials['stimulus'].value_counts().sort_index()
    if len(counts) <= 40:
        figure = new_figure(max(0.19 * len(counts) + 0.8, 1.6))
        axis = figure.subplots()
        axis.barh(range(len(counts)), counts, color=BLUE, height=0.7)
        names = [plain(shorten(str(name))) for name in counts.index]
        axis.set_yticks(range(len(counts)), names)
        axis.set(xlabel='presentations', ylabel='stimulus', ylim=(len(counts) - 0.4, -0.6))
        whole_ticks(axis.xaxis)
    else:
        figure = new_figure(2.2)
        axis = figure.subplots()
        values = np.arange(counts.min(), counts.max() + 1)
        stimuli = [int((counts == value).sum()) for value in values]
        axis.bar(values, stimuli, color=BLUE, width=0.7)
        axis.set(xlabel='presentations of a stimulus', ylabel='number of stimuli')
        axis.set_xticks(values)
    return figure


def _colors(n: int, *, ordered: bool) -> list[Any]:
    """Return colours that tell apart, or, where there is an order, run from dark to light."""
    if not ordered:
        return [PALETTE[i % len(PALETTE)] for i in range(n)]
    import matplotlib

    return list(matplotlib.colormaps['viridis'](np.linspace(0, 0.95, n)))


def _color_groups(trials: pd.DataFrame) -> tuple[list[tuple[str, pd.Series[bool]]], str]:
    """Split trials by type, else by repeat, else not at all: names, members, legend title."""
    if 'trial_type' in trials.columns:
        names = sorted(trials['trial_type'].dropna().astype(str).unique())
        if 1 < len(names) <= len(PALETTE):
            types = trials['trial_type'].astype(str)
            return [(name, types == name) for name in names], 'trial type'
    if 'repeat' in trials.columns and trials['repeat'].nunique() > 1:
        first = int(trials['repeat'].min())
        last = min(int(trials['repeat'].max()), first + len(PALETTE) - 1)
        groups = [(str(n - first + 1), trials['repeat'] == n) for n in range(first, last)]
        label = f'{last - first + 1}'
        more = trials['repeat'].max() > last
        groups.append((f'{label} or later' if more else label, trials['repeat'] >= last))
        return groups, 'presentation'
    return [('trial', trials['onset'].notna())], ''
