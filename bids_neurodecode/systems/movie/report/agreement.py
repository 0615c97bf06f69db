"""The section on what participants share: accuracy beside its ceiling, and tests by voxel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.report.build import Block, Bullets, Table
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import AgreementResults
from bids_neurodecode.report.style import BLUE, GREY, RED, new_figure, styled
from bids_neurodecode.spaces import load_image
from bids_neurodecode.typing import FloatArray, RealArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOW = 0.1
"""Ceilings up to this are mostly noise: such voxels are left out of shares of the ceiling."""


def agreement_section(reader: Reader) -> tuple[Block, ...]:
    """Show how many voxels are predicted, and how near they come to the ceiling."""
    found = reader.results.agreement
    blocks: list[Block] = [*_tests(reader)]
    if found is not None:
        blocks += _ceiling(reader, found)
    return tuple(blocks)


def _tests(reader: Reader) -> Iterable[Block]:
    tests = reader.results.voxel_tests
    if not tests:
        return
    rows = tuple(
        (
            test.model,
            str(test.n_tested),
            str(test.n_fdr),
            str(test.n_fwer),
            'n/a' if test.r_fwer is None else f'{test.r_fwer:.3f}',
        )
        for test in tests
    )
    yield Table(
        ('model', 'voxels', 'FDR < 0.05', 'maximum < 0.05', 'r of the maximum'),
        rows,
        'Voxels that are predicted better than surrogates of the predictions, corrected in two '
        'ways: by a false discovery rate of 0.05 (some of them are found by chance), and by the '
        'maximum over all voxels (hardly any are), for which r has to exceed the last column. '
        'The maximum may find voxels where the rate finds none: p of a voxel cannot be less than '
        'one over the number of surrogates (ten times evaluation.n_permutations for voxels that '
        'few of them reach), which may not survive correction for so many voxels.',
        frozenset({1, 2, 3, 4}),
    )


def _ceiling(reader: Reader, found: AgreementResults) -> Iterable[Block]:
    accuracy, ceiling = (_values(path, found.voxels) for path in (found.accuracy, found.ceiling))
    known = np.isfinite(accuracy) & np.isfinite(ceiling)
    accuracy, ceiling = accuracy[known], ceiling[known]
    if not accuracy.size:
        return
    of_mean = bool(reader.results.members)
    what = 'their mean' if of_mean else 'this participant'
    facts = [
        (
            f'Ceiling: the agreement of {found.n_participants} participants on the held-out '
            'volumes says what a perfect model of the response that they share would correlate '
            f'with {what}. A model can exceed it by chance, or by what is not shared.'
        ),
    ]
    high = ceiling > LOW
    if high.any():
        share = float(np.median(accuracy[high] / ceiling[high]))
        facts.append(
            f'In the {int(high.sum())} voxels with a ceiling above {LOW:g}, the accuracy is '
            f'{100 * share:.0f} % of the ceiling (median).'
        )
    yield Bullets(tuple(facts))
    yield reader.plot(
        'ceiling',
        plot_ceiling(accuracy, ceiling),
        'Left: correlation of predicted and measured responses (ridge regression) against the '
        'ceiling, one dot per voxel; on the red line a model is as good as it can be, 0 is '
        'chance. Right: how both are distributed.',
        f'Accuracy against ceiling in {accuracy.size} voxels.',
    )


@styled
def plot_ceiling(accuracy: RealArray, ceiling: RealArray) -> Figure:
    """Draw the accuracy of each voxel against its ceiling.

    Parameters
    ----------
    accuracy, ceiling
        Pearson r, (n_voxels,).
    """
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2)
    low = float(min(accuracy.min(), 0.0)) - 0.02
    high = float(max(accuracy.max(), ceiling.max(), 0.1)) + 0.02
    left.plot([0, high], [0, high], color=RED, linewidth=1, linestyle='--', label='ceiling')
    left.axhline(0, color=GREY, linewidth=1, label='chance')
    left.plot(ceiling, accuracy, '.', color=BLUE, markersize=3, alpha=0.5, rasterized=True)
    left.set(
        xlabel='ceiling (Pearson r)',
        ylabel='accuracy (Pearson r)',
        xlim=(-0.02, high),
        ylim=(low, high),
    )
    left.legend(loc='upper left')
    left.grid()
    bins = np.linspace(low, high, 41)
    right.hist(ceiling, bins, color=RED, alpha=0.45, label='ceiling')
    right.hist(accuracy, bins, color=BLUE, alpha=0.55, label='accuracy')
    right.axvline(0, color=GREY, linewidth=1)
    right.set(xlabel='Pearson r', ylabel='voxels')
    right.legend(loc='best')
    return figure


def _values(path: Path, mask: Path) -> FloatArray:
    inside = np.asarray(load_image(mask).dataobj) > 0
    return np.asarray(np.asarray(load_image(path).dataobj, dtype=np.float64)[inside])
