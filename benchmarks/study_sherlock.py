"""Sherlock: annotations of a film against the BOLD of six people, from one scan to the other.

``python benchmarks/study_sherlock.py DATASET FOLDER [--figure FILE]`` runs the program (both
levels, three splits) on the tutorial data of Chen et al. (2017) that ``DATASET`` holds as BIDS,
and prints the tables of ``docs/evidence/sherlock.md``; what was run before is not run again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.cli.main import main as program

SETTINGS = """
[clean]
high_pass = "none"
scaling = "zscore"
[delay]
seconds = 0.0
fir_seconds = [0.0, 1.5, 3.0, 4.5]
[split]
{split}
[selection]
measure = "none"
[movie]
banded = "on"
target = "{target}"
[features.bands]
labels = ["indoor", "music", "speech", "closeup", "n_people", "arousal", "valence", "n_words"]
text = ["text*"]
[evaluation]
n_permutations = {n}
n_bootstrap = 500
"""
LENGTHS = (946, 1030)
CARTOON = 26
"""Volumes of the cartoon that both scans open with."""
BOTH = 'by = "film"'


def one_way(folder: Path, train: int) -> str:
    """Write the split from one scan to the other, the cartoon left out of training."""
    name = f'part{train + 1}-to-part{2 - train}'
    parts = [
        'train' if scan == train else 'test' for scan, n in enumerate(LENGTHS) for _ in range(n)
    ]
    start = train * LENGTHS[0]
    parts[start : start + CARTOON] = ['n/a'] * CARTOON
    rows = ''.join(f'{row}\t{part}\n' for row, part in enumerate(parts))
    (folder / f'{name}.tsv').write_text(f'trial\tsplit\n{rows}')
    return name


def run(dataset: Path, out: Path, level: str, split: str, n: int) -> None:
    """Run one level of the program."""
    settings = out.parent / f'{out.name}-{level}.toml'
    target = 'group' if level == 'group' else 'participant'
    settings.write_text(SETTINGS.format(split=split, n=n, target=target))
    places = [str(dataset), str(out), level, '-w', str(out.parent / 'work')]
    more = ['--skip-bids-validation', '--nprocs', '2', '--config-file', str(settings)]
    if program([*places, *more]):
        raise SystemExit(f'the {level} level of {out} failed')


def study(dataset: Path, folder: Path) -> dict[str, Path]:
    """Run all that is missing; return the output folder of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    outs = {'both': folder / 'out'}
    if not list((folder / 'out').glob('sub-*/log/*_results.json')):
        run(dataset, folder / 'out', 'participant', BOTH, 200)
    if not (folder / 'out' / 'group').is_dir():
        run(dataset, folder / 'out', 'group', BOTH, 500)
    for train in (0, 1):
        name = one_way(folder, train)
        outs[name] = folder / name
        if (folder / name / 'group').is_dir():
            continue
        shutil.copytree(folder / 'out', folder / name, ignore=shutil.ignore_patterns('group'))
        for file in (folder / name).rglob('*_results.json'):
            file.write_text(file.read_text().replace(f'{folder}/out/', f'{folder}/{name}/'))
        split = f'by = "given"\nfile = "{folder / name}.tsv"'
        run(dataset, folder / name, 'group', split, 500)
    return outs


def scores(out: Path, who: str) -> pd.Series:
    """Return what one participant (or the group) scored, in one row."""
    (file,) = out.rglob(f'{who}_task-sherlock_desc-linear_metrics.tsv')
    table = pd.read_csv(file, sep='\t').set_index(['model', 'metric'])
    row = {}
    for model in ('ridge', 'banded-ridge'):
        mean, median = (table.loc[model, f'voxel_r_{x}'] for x in ('mean', 'median'))
        row |= {f'{model} r': mean['value'], f'{model} low': mean['ci_low']}
        row |= {f'{model} high': mean['ci_high'], f'{model} p': median['p']}
        row['ceiling'] = mean['ceiling']
    compared = table.loc['ridge', 'voxel_r_mean']
    row |= {name: compared[name] for name in table.columns if name.startswith('difference')}
    return pd.Series(row, name=f'{out.name} {who}')


def agreement(out: Path, who: str) -> float:
    """Return the mean over voxels of the agreement with the others on held-out volumes."""
    import nibabel as nib

    (file,) = out.rglob(f'{who}_*stat-isc_desc-test_statmap.nii.gz')
    values = nib.load(file).get_fdata()
    return float(np.nanmean(np.where(values == 0, np.nan, values)))


def figure(table: pd.DataFrame, file: Path) -> None:
    """Draw correlations with their intervals and ceilings, and the differences below them."""
    import matplotlib.pyplot as plt

    upper, lower = plt.subplots(2, 1, figsize=(8, 6), height_ratios=(2, 1), sharex=True)[1]
    x = np.arange(len(table))
    for shift, model, colour in ((-0.12, 'ridge', '#35608d'), (0.12, 'banded-ridge', '#c4562f')):
        r = table[f'{model} r']
        limits = [r - table[f'{model} low'], table[f'{model} high'] - r]
        upper.errorbar(x + shift, r, limits, fmt='o', color=colour, label=model, capsize=3)
    upper.hlines(table['ceiling'], x - 0.3, x + 0.3, color='#777', label='ceiling (agreement)')
    gap = table['difference']
    limits = [gap - table['difference_low'], table['difference_high'] - gap]
    lower.errorbar(x, gap, limits, fmt='o', color='black', capsize=3)
    for axis in (upper, lower):
        axis.axhline(0, color='#bbb', linewidth=1)
        axis.spines[['top', 'right']].set_visible(False)
    upper.set_ylabel('mean r over 481 voxels')
    lower.set_ylabel('banded - plain')
    upper.legend(frameon=False, loc='upper left')
    lower.set_xticks(x, list(table.index), rotation=30, ha='right')
    plt.tight_layout()
    plt.savefig(file, metadata={'Date': None} if file.suffix == '.svg' else None)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dataset', type=Path)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--figure', type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    outs = study(arguments.dataset.absolute(), folder)
    people = sorted(x.name for x in outs['both'].glob('sub-*') if x.is_dir())
    rows = {who: scores(outs['both'], who) for who in people}
    rows |= {
        'group, both ways' if name == 'both' else f'group, {name}': scores(out, 'sub-group')
        for name, out in outs.items()
    }
    table = pd.DataFrame(rows).T
    print(table.round(3).to_string())
    print({who: round(agreement(outs['both'], who), 3) for who in [*people, 'sub-group']})
    if arguments.figure is not None:
        figure(table, arguments.figure)


if __name__ == '__main__':
    main()
