"""The section on conditions: how they differ, and in which regions they can be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.report import scores
from bids_neurodecode.report.build import Block, Bullets
from bids_neurodecode.report.reader import Reader, confidence_of, read_table
from bids_neurodecode.report.regions import regions_table
from bids_neurodecode.report.results import ConditionResults
from bids_neurodecode.report.section_scores import without_empty
from bids_neurodecode.report.style import BLACK, styled
from bids_neurodecode.report.verdicts import shown_by
from bids_neurodecode.typing import BoolArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = 0.05
BY_REGION = 'Conditions decoded from all voxels of each region of the atlas'
_LONG = 15
"""Rows from which a table is closed until it is clicked."""


def conditions_section(reader: Reader) -> tuple[Block, ...]:
    """Show distances between conditions, and accuracies by region, where there are conditions."""
    found = reader.results.conditions
    if found is None:
        return ()
    pairs = read_table(found.dissimilarity)
    if pairs is None:
        return (Bullets(_facts(found)),)
    return (
        Bullets(_facts(found)),
        *_distances(reader, found, pairs),
        *_regions(found),
    )


def _facts(found: ConditionResults) -> tuple[str, ...]:
    facts = [f'{len(found.names)} conditions: {", ".join(found.names)}.']
    predicted = (
        'The mean response to each condition in held-out runs was predicted by that in the '
        f'training runs, in {found.n_predicted:,} voxels (map "Prediction accuracy" below)'
    )
    if found.n_predicted_fdr is None:
        facts.append(f'{predicted}; it was not tested (see the warnings).')
    else:
        share = found.n_predicted_fdr / max(found.n_predicted, 1)
        facts.append(
            f'{predicted}; in {found.n_predicted_fdr:,} of them ({100 * share:.1f} %) better than '
            'chance (conditions exchanged within runs, false discovery rate below .05 over '
            'voxels).'
        )
    if found.n_lights:
        text = f'{found.n_lights:,} searchlights were classified'
        if found.n_lights_fdr is None:
            facts.append(f'{text}; they were not tested (see the warnings).')
        else:
            facts.append(
                f'{text}; {found.n_lights_fdr:,} are above chance (t test over runs, corrected '
                'for the training runs that they share, false discovery rate below .05 over '
                'searchlights).'
            )
    return tuple(facts)


def _distances(reader: Reader, found: ConditionResults, pairs: pd.DataFrame) -> Iterable[Block]:
    matrix = matrix_of(pairs, found.names)
    tested = int(np.isfinite(pairs['p_fdr']).sum())
    n_clear = int((pairs['p_fdr'] <= ALPHA).sum())
    shown = (
        f'{n_clear} of {tested} pairs differ (labels of the pair exchanged in held-out runs, '
        'false discovery rate below .05 over pairs; a dot marks them).'
        if tested
        else 'Pairs were not tested (see the warnings).'
    )
    clear = matrix_of(pairs.assign(distance=pairs['p_fdr'] <= ALPHA), found.names) > 0
    yield reader.plot(
        'dissimilarity',
        plot_dissimilarity(matrix, clear, found.names),
        'How different the response patterns of two conditions are: squared distance a voxel in '
        'units of the noise, cross-validated over runs (crossnobis). 0, or as often below as '
        f'above it, where they do not differ. {shown}',
        f'Matrix of distances between {len(found.names)} conditions; {shown}',
    )
    rows = []
    for _, pair in pairs.iterrows():
        low, high = float(pair['ci_low']), float(pair['ci_high'])
        interval = f'{low:.3f} to {high:.3f}' if np.isfinite([low, high]).all() else 'n/a'
        rows.append(
            (
                f'{pair["condition_a"]}, {pair["condition_b"]}',
                f'{pair["distance"]:.3f}' if np.isfinite(pair['distance']) else 'n/a',
                interval,
                scores.write_p(float(pair['p'])),
                scores.write_p(float(pair['p_fdr'])),
                _shown('crossnobis_mean', pair, 'distance', 0.0).replace('chance', '0'),
            )
        )
    confidence = f'{100 * confidence_of(reader):g} % confidence interval'
    read = (
        f', with their {confidence} over runs. p: as it is, and adjusted over pairs for the false '
        'discovery rate. Shows: by interval and adjusted p.'
    )
    yield without_empty(
        ('conditions', 'distance', 'interval', 'p', 'p (FDR)', 'shows'),
        rows,
        f'Distances of {len(rows)} pairs of conditions{read if tested else "."}',
        frozenset({1, 2, 3, 4}),
        folded=len(rows) > _LONG,
    )


def _regions(found: ConditionResults) -> Iterable[Block]:
    table = read_table(found.regions)
    if table is not None and not table.empty:
        yield regions_table(table, 'balanced_accuracy', BY_REGION)


def _shown(metric: str, row: pd.Series[Any], key: str, chance: float) -> str:
    """Say what a row shows by its interval and its adjusted p."""
    interval = float(row['ci_low']), float(row['ci_high'])
    return shown_by(metric, float(row[key]), chance, interval, float(row['p_fdr']))


def matrix_of(pairs: pd.DataFrame, names: Sequence[str]) -> FloatArray:
    """Return the distances of a table of pairs as a symmetric matrix, 0 on its diagonal.

    Parameters
    ----------
    pairs
        Columns ``condition_a``, ``condition_b`` and ``distance``.
    names
        Of the rows and columns.
    """
    place = {name: row for row, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for a, b, value in zip(
        pairs['condition_a'], pairs['condition_b'], pairs['distance'], strict=True
    ):
        i, j = place[str(a)], place[str(b)]
        matrix[i, j] = matrix[j, i] = float(value)
    return matrix


@styled
def plot_dissimilarity(matrix: FloatArray, clear: BoolArray, names: Sequence[str]) -> Figure:
    """Draw the distances of conditions as a matrix.

    Parameters
    ----------
    matrix
        Shape (n_conditions, n_conditions).
    clear
        Which pairs get a dot, of the same shape.
    names
        Of rows and columns.
    """
    n = len(names)
    shown = np.where(np.eye(n, dtype=bool), np.nan, matrix)
    known = shown[np.isfinite(shown)]
    high = max(float(known.max(initial=0)), 1e-12)
    # distances below 0 are noise about 0: they have its colour
    figure, axis, drawn = scores.draw_matrix(shown, names, 'viridis', high)
    rows, columns = np.nonzero(clear & np.isfinite(shown))
    if n <= scores.NAMED:
        dark = shown[rows, columns] < 0.6 * high
        axis.scatter(columns, rows, s=7, c=np.where(dark, 'white', BLACK))
    axis.set(xlabel='condition', ylabel='condition')
    figure.colorbar(drawn, ax=axis, label='crossnobis distance (noise units)', shrink=0.8)
    return figure
