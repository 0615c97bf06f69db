"""Quality reportlets: head motion, the carpet of a run, and the choice of noise components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.report.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT,
    ORANGE,
    PALETTE,
    RED,
    WIDTH,
    new_figure,
    styled,
)
from bids_neurodecode.typing import RealArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TRANSLATIONS = ('trans_x', 'trans_y', 'trans_z')
ROTATIONS = ('rot_x', 'rot_y', 'rot_z')
FD_LIMIT = 0.5
"""Millimetres of framewise displacement above which a volume is counted as moved."""
TISSUES = {1: 'grey matter', 2: 'white matter', 3: 'CSF'}
"""Labels of a tissue segmentation in BIDS derivatives."""
_PLACE = {kind: place for place, kind in enumerate(TISSUES)}
HEAD_RADIUS = 50.0
"""Millimetres; turns rotations into displacements (Power et al., 2012)."""


@dataclass(frozen=True, eq=False)
class RunMotion:
    """Head motion of one run, and the numbers that sum it up.

    ``displacement`` is the framewise displacement in mm, NaN for the first volume; translations
    are in mm, rotations in radians, (n_volumes, 3) each.
    """

    label: str
    repetition_time: float
    displacement: RealArray
    translations: RealArray
    rotations: RealArray
    computed: bool
    """Whether the displacement was computed here, the table having none."""

    @property
    def mean(self) -> float:
        """Mean framewise displacement (mm)."""
        return float(np.nanmean(self.displacement))

    @property
    def maximum(self) -> float:
        """Largest framewise displacement (mm)."""
        return float(np.nanmax(self.displacement))

    @property
    def share_moved(self) -> float:
        """Share of volumes above :data:`FD_LIMIT`."""
        moved = self.displacement[np.isfinite(self.displacement)] > FD_LIMIT
        return float(moved.mean())

    @property
    def drift(self) -> float:
        """Largest distance from the first volume (translations, mm)."""
        distance = np.linalg.norm(self.translations - self.translations[0], axis=1)
        return float(np.nanmax(distance))


def framewise_displacement(translations: RealArray, rotations: RealArray) -> RealArray:
    """Sum the absolute changes of six motion parameters from volume to volume.

    Parameters
    ----------
    translations, rotations
        Shape (n_volumes, 3), mm and radians.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes,), mm; NaN for the first volume.

    References
    ----------
    Power et al. (2012), NeuroImage 59:2142, with a head of 50 mm radius.
    """
    steps = np.abs(np.diff(translations, axis=0)).sum(axis=1)
    steps += HEAD_RADIUS * np.abs(np.diff(rotations, axis=0)).sum(axis=1)
    return np.concatenate([[np.nan], steps])


def run_motion(label: str, repetition_time: float, confounds: pd.DataFrame) -> RunMotion | None:
    """Take the motion of a run from its confounds table; None where the table has none.

    Parameters
    ----------
    label
        Of the run.
    repetition_time
        Seconds.
    confounds
        One row per volume, as fMRIPrep writes it (mm and radians).
    """
    if not set(TRANSLATIONS + ROTATIONS) <= set(confounds.columns) or len(confounds) < 2:
        return None
    translations = confounds[list(TRANSLATIONS)].to_numpy(dtype=float)
    rotations = confounds[list(ROTATIONS)].to_numpy(dtype=float)
    computed = 'framewise_displacement' not in confounds.columns
    if computed:
        displacement = framewise_displacement(translations, rotations)
    else:
        displacement = confounds['framewise_displacement'].to_numpy(dtype=float)
    return RunMotion(label, repetition_time, displacement, translations, rotations, computed)


@styled
def plot_motion(runs: Sequence[RunMotion]) -> Figure:
    """Draw framewise displacement, translations and rotations of all runs, end to end."""
    figure = new_figure(4.6)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 1, 1))
    start = 0.0
    for number, run in enumerate(runs):
        minutes = start + np.arange(len(run.displacement)) * run.repetition_time / 60
        end = start + len(run.displacement) * run.repetition_time / 60
        axes[0].plot(minutes, run.displacement, color=BLACK, linewidth=0.8)
        for series, axis, unit in (
            (run.translations, axes[1], 1.0),
            (run.rotations, axes[2], 180 / np.pi),
        ):
            for k, (color, name) in enumerate(zip((BLUE, ORANGE, RED), 'xyz', strict=True)):
                label = name if number == 0 else None
                axis.plot(minutes, series[:, k] * unit, color=color, linewidth=0.8, label=label)
        for axis in axes:
            if number % 2:
                axis.axvspan(start, end, color=LIGHT, alpha=0.35, linewidth=0)
        if len(runs) <= 24:
            axes[0].annotate(
                str(number + 1),
                ((start + end) / 2, 1.02),
                xycoords=('data', 'axes fraction'),
                ha='center',
                fontsize=7,
                color=GREY,
            )
        start = end
    axes[0].axhline(FD_LIMIT, color=RED, linewidth=0.9, linestyle='--')
    top = max(1.1 * FD_LIMIT, 1.05 * max(run.maximum for run in runs))
    axes[0].set(ylabel='FD (mm)', ylim=(0, top), xlim=(0, start))
    axes[1].set(ylabel='translation (mm)')
    axes[2].set(ylabel='rotation (°)', xlabel='time over all runs (min)')
    figure.legend(*axes[1].get_legend_handles_labels(), loc='outside right center', title='axis')
    figure.align_ylabels()
    return figure


@dataclass(frozen=True, eq=False)
class Carpet:
    """A run as voxels by time, with what goes on in all voxels at a time.

    ``series`` is (n_volumes, n_voxels); ``tissues`` names groups of neighbouring columns with
    the number of voxels of each; ``traces`` holds curves over volumes, (n_volumes,), by the name
    of their axis.
    """

    series: RealArray
    tissues: tuple[tuple[str, int], ...]
    traces: Mapping[str, RealArray]


def make_carpet(
    series: RealArray,
    tissue: npt.NDArray[np.integer[Any]] | None,
    confounds: pd.DataFrame | None,
    displacement: RealArray | None,
) -> Carpet:
    """Sort voxels by tissue, and within a tissue by how they follow the mean of all.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    tissue
        Of each voxel, by :data:`TISSUES`; None where it is not known.
    confounds
        Table of the run; ``std_dvars`` (or ``dvars``) and ``global_signal`` are taken from it
        where it has them, else computed from the voxels.
    displacement
        Framewise displacement, mm, (n_volumes,).
    """
    varying = series.std(axis=0) > 0
    series = series[:, varying] if varying.any() else series
    kinds = np.zeros(series.shape[1], dtype=int)
    if tissue is not None:
        kinds = tissue[varying] if varying.any() else tissue
    scaled = (series - series.mean(axis=0)) / np.maximum(series.std(axis=0), 1e-12)
    follows = scaled.T @ scaled.mean(axis=1)
    order = np.lexsort((-follows, [_PLACE.get(int(kind), len(_PLACE)) for kind in kinds]))
    names = [TISSUES.get(int(kind), 'other') for kind in kinds[order]]
    if tissue is None:
        names = ['all voxels'] * len(names)
    table: Any = {} if confounds is None else confounds
    means = series.mean(axis=1)
    steps = np.concatenate([[np.nan], np.sqrt((np.diff(scaled, axis=0) ** 2).mean(axis=1))])
    traces: dict[str, RealArray] = {} if displacement is None else {'FD (mm)': displacement}
    column = next((name for name in ('std_dvars', 'dvars') if name in table), None)
    dvars = steps if column is None else table[column].to_numpy(dtype=float)
    traces['DVARS' if column == 'dvars' else 'std. DVARS'] = dvars
    global_signal = (
        table['global_signal'].to_numpy(dtype=float) if 'global_signal' in table else means
    )
    level = float(np.nanmean(global_signal))
    if abs(level) > np.nanstd(global_signal):
        traces['GS (%)'] = 100 * (global_signal / level - 1)
    else:
        traces['GS'] = global_signal - level  # of series without a mean there is no percent
    counted = tuple((name, names.count(name)) for name in dict.fromkeys(names))
    return Carpet(series[:, order], counted, traces)


@styled
def plot_carpet(carpet: Carpet, repetition_time: float) -> Figure:
    """Draw a run as voxels by time under FD, DVARS and global signal (nireports' carpet).

    Parameters
    ----------
    carpet
        From :func:`make_carpet`; each voxel is detrended and z-scored before it is drawn.
    repetition_time
        Seconds.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch
    from nireports.reportlets.nuisance import plot_carpet as draw_carpet

    n = len(carpet.traces)
    edges = np.cumsum([0, *(size for _, size in carpet.tissues)])
    segments = {
        name: list(range(low, high))
        for (name, _), low, high in zip(carpet.tissues, edges[:-1], edges[1:], strict=True)
    }
    # nireports draws on pyplot's current figure: this one is taken off that list before it leaves
    figure: Figure = plt.figure(figsize=(WIDTH, 2.3 + 0.55 * n))
    try:
        grid = figure.add_gridspec(
            n + 1, 1, height_ratios=(*[1] * n, 4.6), hspace=0.3, left=0.09, right=0.98,
            top=0.98, bottom=0.13,
        )  # fmt: skip
        draw_carpet(
            carpet.series.T,
            tr=repetition_time,
            subplot=grid[n],
            sort_rows=False,
            legend=False,
            segments=segments,
            detrend=True,
            fontsize=8,
        )
    finally:
        plt.close(figure)
    if len(carpet.tissues) > 1:
        colors = plt.get_cmap('tab10')
        handles = [
            Patch(color=colors(i), label=f'{name} ({n_voxels})')
            for i, (name, n_voxels) in enumerate(carpet.tissues)
        ]
        figure.legend(handles=handles, loc='lower right', ncols=len(handles), fontsize=7)
    for row, (name, values) in enumerate(carpet.traces.items()):
        axis = figure.add_subplot(grid[row])
        axis.plot(values, color=BLACK, linewidth=0.9)
        if name.startswith('FD'):
            axis.axhline(FD_LIMIT, color=RED, linewidth=0.9, linestyle='--')
            axis.set_ylim(bottom=0)
        axis.set(xlim=(-0.5, len(values) - 0.5), xticks=[])
        axis.set_ylabel(name, fontsize=7)
        axis.yaxis.set_label_coords(-0.045, 0.5)
        axis.tick_params(labelsize=7)
    return figure


@styled
def plot_components(
    curves: Sequence[Sequence[float]], chosen: Sequence[int], fits: Sequence[str]
) -> Figure:
    """Draw how much each number of noise components helps, and which was chosen.

    Parameters
    ----------
    curves
        One curve a fit; entry k is the cross-validated score of k components. Drawn is what is
        gained over none.
    chosen
        The number chosen in each fit.
    fits
        What each fit is of; fits of one name are drawn alike.
    """
    figure = new_figure(2.6)
    axis = figure.subplots()
    names = list(dict.fromkeys(fits))
    for scores, k, fit in zip(curves, chosen, fits, strict=True):
        curve = np.asarray(scores) - scores[0]
        number = names.index(fit)
        first = fit not in axis.get_legend_handles_labels()[1]
        look: dict[str, Any] = {'color': PALETTE[number], 'alpha': 0.5 if number else 1.0}
        axis.plot(range(len(curve)), curve, lw=1.8, label=fit if first else None, **look)
        if k < len(curve):
            axis.plot(k, curve[k], 'o', markersize=7, markeredgecolor='white', **look)
    axis.plot([], [], 'o', color=GREY, label='number chosen')
    axis.axhline(0, color=GREY, linewidth=0.8, linestyle='--')
    axis.set(xlabel='number of noise components', ylabel='gain over none (a.u.)')
    axis.set_xticks(range(max(len(curve) for curve in curves)))
    axis.grid(axis='y')
    figure.legend(loc='outside right upper')
    return figure
