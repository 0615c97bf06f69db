"""Film reportlets: what disturbed regions cost, and which concepts predictions depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bids_neurodecode.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    new_figure,
    plain,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {'frame_ssim': 'structural similarity', 'pixcorr': 'pixel correlation'}
KINDS = {'zero': (BLUE, 'o'), 'noise': (ORANGE, 's'), 'gain': (GREEN, '^')}
ALPHA = 0.05


@styled
def plot_perturbation(table: pd.DataFrame) -> Figure:
    """Draw the change of each metric by region and kind, over that of sets like the region.

    Parameters
    ----------
    table
        As :func:`~bids_neurodecode.explain.perturbation.perturbation_effects` returns it.
    """
    regions = list(dict.fromkeys(table['region']))
    kinds = [kind for kind in KINDS if kind in set(table['kind'])]
    metrics = list(dict.fromkeys(table['metric']))
    figure = new_figure(min(9.0, 1.3 + 0.16 * len(regions) * (len(kinds) + 0.6)))
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for j, kind in enumerate(kinds):
            rows = table[(table['metric'] == metric) & (table['kind'] == kind)]
            place = np.array([regions.index(name) for name in rows['region']], dtype=float)
            place += 0.24 * (j - (len(kinds) - 1) / 2)
            low = (rows['random_mean'] - 2 * rows['random_sd']).to_numpy()
            width = 4 * rows['random_sd'].to_numpy()
            axis.barh(place, width, 0.18, low, color=LIGHT, label='random' if not j else None)
            sure = (rows['p_fdr'] < ALPHA).to_numpy()
            color, marker = KINDS[kind]
            change = rows['change'].to_numpy()
            axis.scatter(change[sure], place[sure], 26, color, marker=marker, zorder=3)
            axis.scatter([], [], 26, color, marker=marker, label=kind)
            hollow = {'facecolors': 'none', 'edgecolors': color, 'zorder': 3}
            axis.scatter(change[~sure], place[~sure], 26, marker=marker, **hollow)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.use_sticky_edges = False
        axis.autoscale_view()
        axis.set_xlabel(f'change of {METRICS.get(metric, metric)}')
        axis.grid(axis='x')
    axes[0].set_yticks(range(len(regions)), [plain(shorten(str(x), 28)) for x in regions])
    axes[0].invert_yaxis()
    axes[0].set_ylabel('region')
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside upper right', ncols=len(names))
    return figure


@styled
def plot_concepts(table: pd.DataFrame) -> Figure:
    """Draw the alignment of each output with each concept; a star where p (FDR) is below .05.

    Parameters
    ----------
    table
        As :func:`~bids_neurodecode.explain.concepts.concept_sensitivity` returns it, and ``kind``.
    """
    outputs = list(dict.fromkeys(table['output']))
    concepts = list(dict.fromkeys(table['concept']))
    wide = table.pivot(index='output', columns='concept', values='alignment')
    values = wide.loc[outputs, concepts].to_numpy()
    p = table.pivot(index='output', columns='concept', values='p_fdr').loc[outputs, concepts]
    figure = new_figure(1.9 + 0.27 * len(outputs))
    axis = figure.subplots()
    most = float(np.abs(values).max()) or 1.0
    image = axis.imshow(values, cmap='RdBu_r', vmin=-most, vmax=most, aspect='auto')
    for i, j in np.argwhere(p.to_numpy() < ALPHA):
        axis.text(j, i, '*', ha='center', va='center', color=BLACK, fontsize=13)
    axis.set_yticks(range(len(outputs)), [plain(shorten(str(x), 28)) for x in outputs])
    names = [plain(shorten(str(x), 24)) for x in concepts]
    axis.set_xticks(range(len(concepts)), names, rotation=30, ha='right')
    axis.set_ylabel('mean predicted response of')
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label='alignment (cosine)')
    return figure
