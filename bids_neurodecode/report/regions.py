"""Scores of regions of the atlas, each decoded by itself."""

from __future__ import annotations

import pandas as pd

from bids_neurodecode.report import scores
from bids_neurodecode.report.build import Table
from bids_neurodecode.report.section_scores import without_empty
from bids_neurodecode.report.verdicts import BETTER, shown_by

LONG = 10
"""Rows from which a table is closed until it is clicked."""
BEST = 3
TOLD = (
    'Where in the brain: of regions that are decoded by themselves, those that tell images apart '
    'best are {places} (two-way; chance {chance}).{count}'
)
COUNT = (
    ' {n} of {of} regions are better than chance (by interval and by p, adjusted over regions for '
    'the false discovery rate).'
)
UNTESTED = ' None was tested.'


def regions_table(table: pd.DataFrame, metric: str, title: str) -> Table:
    """Write what each region scores, the best first.

    Parameters
    ----------
    table
        One row per region: ``name``, ``n_voxels``, the metric, ``chance``, ``ci_low``,
        ``ci_high``, ``p``, ``p_fdr``.
    metric
        Its name.
    title
        What was decoded from what.
    """
    rows, shown = [], _shows(table, metric)
    for place in table[metric].sort_values(ascending=False, kind='stable').index:
        row = table.loc[place]
        value, low, high = (
            scores.write_score(metric, float(row[key])) for key in (metric, 'ci_low', 'ci_high')
        )
        interval = 'n/a' if 'n/a' in (low, high) else f'{low} to {high}'
        p, p_fdr = (scores.write_p(float(row[key])) for key in ('p', 'p_fdr'))
        rows.append(
            (str(row['name']), f'{row["n_voxels"]:.0f}', value, interval, p, p_fdr, shown[place])
        )
    levels = (scores.write_score(metric, float(f(table['chance']))) for f in (min, max))
    score = scores.metric_of(metric).title.lower()
    return without_empty(
        ('region', 'voxels', score, 'interval', 'p', 'p (FDR)', 'shows'),
        rows,
        f'{title}, the best first; chance is {" to ".join(dict.fromkeys(levels))}.'
        f'{_count(table, shown)}',
        frozenset({1, 2, 3, 4, 5}),
        folded=len(rows) > LONG,
    )


def regions_text(table: pd.DataFrame, metric: str) -> str:
    """Say which regions score most by themselves, and how many are better than chance.

    Parameters
    ----------
    table, metric
        As in :func:`regions_table`.
    """
    best = table.sort_values(metric, ascending=False, kind='stable').head(BEST)
    return TOLD.format(
        places=', '.join(
            f'{row["name"]} ({scores.write_score(metric, float(row[metric]))})'
            for _, row in best.iterrows()
        ),
        chance=scores.write_score(metric, float(table['chance'].mean())),
        count=_count(table, _shows(table, metric)),
    )


def _count(table: pd.DataFrame, shown: pd.Series[str]) -> str:
    """Say how many regions are better than chance, where they were tested."""
    if table['p_fdr'].isna().all():
        return UNTESTED
    return COUNT.format(n=int((shown == BETTER).sum()), of=len(table))


def _shows(table: pd.DataFrame, metric: str) -> pd.Series[str]:
    """Say what each region shows by its interval and its adjusted p."""
    return table.apply(
        lambda row: shown_by(
            metric,
            float(row[metric]),
            float(row['chance']),
            (float(row['ci_low']), float(row['ci_high'])),
            float(row['p_fdr']),
        ),
        axis=1,
    )
