"""Cases of ``study_reconstruction.py`` over seeds: means, and differences image by image.

``python benchmarks/summarise_reconstruction.py OUT [OUT ...]``: one folder per seed. Prints a
table of scores (mean over seeds, and the smallest and largest where there are several) and, of
each case against ridge and of the second stage against the first, the mean difference with its 95
% interval over images (images of several seeds are averaged first) and p by flips of signs. Cases
of the deep prior are compared with its ridge regression of as many latents.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from study_reconstruction import SHOWN

from bids_neurodecode.evaluation.paired import paired_difference

PAIRED = ('pixcorr_final', 'ssim_final', 'two_way', 'identified', 'pixcorr_initial')


def means(folders: list[Path]) -> pd.DataFrame:
    """Return one row per case, and one for each baseline and reference of the case ``ridge``."""
    rows: dict[tuple[str, str], list[float]] = {}
    for folder in folders:
        table = pd.read_csv(folder / 'scores.tsv', sep='\t', na_values='n/a')
        for (case, model, space, metric), part in table.groupby(
            ['case', 'model', 'space', 'metric'], sort=False
        ):
            if (space, metric) not in SHOWN:
                continue
            compared = model.startswith(('baseline-', 'reference-'))
            if compared and case not in {'ridge', 'deep-ridge-31'}:
                continue
            name = f'{case}: {model}' if compared else case
            rows.setdefault((name, f'{space} {metric}'), []).append(float(part['value'].iloc[0]))
    cells: dict[str, dict[str, str]] = {}
    for (name, column), values in rows.items():
        text = f'{np.mean(values):.3f}'
        if len(values) > 1:
            text += f' ({min(values):.3f} to {max(values):.3f})'
        cells.setdefault(column, {})[name] = text
    columns = [f'{space} {metric}' for space, metric in SHOWN]
    return pd.DataFrame(cells)[columns].fillna('')


def differences(folders: list[Path]) -> pd.DataFrame:
    """Compare cases with ridge, and the final with the initial images, image by image."""
    tables = [
        pd.read_csv(folder / 'pictures.tsv', sep='\t').assign(seed=str(folder))
        for folder in folders
    ]
    table = pd.concat(tables).set_index(['case', 'seed', 'stimulus'])
    ridge = table.loc['ridge']
    rows = []

    def compare(name: str, metric: str, values: pd.Series, others: pd.Series) -> None:
        others = others.loc[values.index]
        stimuli = values.index.get_level_values('stimulus')
        found = paired_difference(
            values.to_numpy(), others.to_numpy(), rng=np.random.default_rng(0), groups=stimuli
        )
        rows.append({'compared': name, 'metric': metric, **vars(found)})

    for metric in ('pixcorr', 'ssim'):
        compare(
            'second against first stage', metric,
            ridge[f'{metric}_final'], ridge[f'{metric}_initial'],
        )  # fmt: skip
    for case in dict.fromkeys(table.index.get_level_values('case')):
        against = case.replace('gru', 'ridge') if case.startswith('deep-gru') else 'ridge'
        if case == against:
            continue
        others = table.loc[against]
        for metric in PAIRED:
            compare(f'{case} against {against}', metric, table.loc[case][metric], others[metric])
    return pd.DataFrame(rows)


def main() -> None:
    """Print both tables."""
    folders = [Path(word) for word in sys.argv[1:]]
    with pd.option_context('display.width', 300, 'display.max_columns', 30):
        print(means(folders).to_string())
        print(differences(folders).round(3).to_string())


if __name__ == '__main__':
    main()
