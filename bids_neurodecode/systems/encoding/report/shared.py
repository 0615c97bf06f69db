"""The section of the group's page on a shared head: what it is worth to a new participant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bids_neurodecode.report.build import Block, Plot, Table, Text
from bids_neurodecode.report.scores import metric_of, write_score
from bids_neurodecode.report.style import BLUE, GREY, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTRO = (
    'Each participant in turn is new. The head (features to latents) was trained on the others, '
    'a linear layer (latents to voxels) on some images of the new participant. Both were judged '
    'on images that trained nobody, beside ridge regression on the same images of the new '
    'participant alone.'
)
COLOURS = {'shared': BLUE, 'ridge': RED}
CHANCE = {'voxel_r_median': 0.0, 'identification_2way': 0.5}


def shared_section(file: Path | None) -> tuple[Block, ...]:
    """Show scores against the number of images, where a shared head was trained."""
    if file is None:
        return ()

    table = pd.read_csv(file, sep='\t', na_values='n/a', dtype={'participant': str})
    n = table['participant'].nunique()
    caption = (
        f'Scores of {n} new participants against the number of their own training images: thin '
        'lines are participants, thick ones their mean; dashed: chance; dotted: the mean noise '
        'ceiling of the scored voxels. Only means over participants who have that many images '
        'are drawn.'
    )
    figure = plot_newcomers(table)
    alt = 'Scores of new participants against the number of their images.'
    return (
        Text((INTRO,)),
        Plot('group_desc-shared_figure.svg', figure, caption, alt),
        _table(table),
    )


@styled
def plot_newcomers(table: pd.DataFrame) -> Figure:
    """Draw each score against the number of images, both models in one panel."""
    figure = new_figure(3.2)
    panels = figure.subplots(1, len(CHANCE))
    for axis, (metric, chance) in zip(panels, CHANCE.items(), strict=True):
        told = metric_of(metric)
        for model, rows in table.groupby('model', sort=False):
            _draw(axis, rows, metric, str(model))
        axis.axhline(told.scale * chance, color=GREY, linestyle='--', linewidth=1)
        axis.set_xlabel('training images of the new participant')
        axis.set_ylabel(told.label)
    ceiling = table['ceiling'].mean()
    if np.isfinite(ceiling):
        panels[0].axhline(ceiling, color=GREY, linestyle=':', linewidth=1)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside upper center', ncols=len(names), frameon=False)
    return figure


def _draw(axis: Axes, rows: pd.DataFrame, metric: str, model: str) -> None:
    colour, scale = COLOURS[model], metric_of(metric).scale
    for _, person in rows.groupby('participant'):
        axis.plot(
            person['n_pictures'], scale * person[metric], color=colour, linewidth=0.7, alpha=0.4
        )
    common = rows.groupby('n_pictures').filter(
        lambda x: x['participant'].nunique() == rows['participant'].nunique()
    )
    mean = common.groupby('n_pictures')[metric].mean()
    name = {'shared': 'shared head', 'ridge': 'ridge, alone'}[model]
    axis.plot(mean.index, scale * mean, 'o-', color=colour, linewidth=2, markersize=4, label=name)


def _table(table: pd.DataFrame) -> Table:
    rows = tuple(
        (
            f'sub-{row.participant}',
            {'shared': 'shared head', 'ridge': 'ridge, alone'}[str(row.model)],
            str(row.n_pictures),
            write_score('voxel_r_median', float(str(row.voxel_r_median))),
            write_score('voxel_r_median', float(str(row.ceiling))),
            write_score('identification_2way', float(str(row.identification_2way))),
            str(row.n_test),
            str(row.n_voxels),
        )
        for row in table.itertuples()
    )
    columns = (
        *('new participant', 'model', 'pictures', 'median voxel r', 'ceiling (r)'),
        *('2-way', 'test images', 'voxels'),
    )
    caption = 'Scores of new participants. Chance: 0 (correlation) and 50 % (identification).'
    return Table(columns, rows, caption, frozenset(range(2, 8)), folded=True)
