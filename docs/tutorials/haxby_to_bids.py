"""Write one subject of Haxby 2001, as nilearn downloads it, as BIDS: ``haxby_to_bids.py OUT``."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

TASK = 'objectviewing'
REPETITION_TIME = 2.5
REST = 'rest'
FOLDERS = {'scrambledpix': 'controls', 'scissors': 'scissors'}
"""Folders of images that are not the category with an s."""


def write_bids(
    out: Path, bold: Path, labels: Path, mask: Path, stimuli: Mapping[str, Any]
) -> None:
    """Write the raw dataset and its derivatives.

    Parameters
    ----------
    out
        The folder to write.
    bold
        All runs in one series, as PyMVPA distributes them.
    labels
        The table with a category (``labels``) and a run (``chunks``) for each volume.
    mask
        The voxels that are used.
    stimuli
        Paths of images by category, nested as nilearn nests them.
    """
    series = nib.load(bold)
    table = pd.read_csv(labels, sep=' ')
    derivatives = out / 'derivatives' / 'fmriprep'
    for folder in (out / 'sub-01' / 'func', derivatives / 'sub-01' / 'func', out / 'stimuli'):
        folder.mkdir(parents=True)
    _describe(out, derivatives)
    pictures = _copy_pictures(out / 'stimuli', stimuli, set(table.labels) - {REST})
    for number, (_, run) in enumerate(table.groupby('chunks'), start=1):
        stem = f'sub-01_task-{TASK}_run-{number:02d}'
        events = pd.DataFrame(_blocks(run.labels.to_numpy(), pictures))
        events.to_csv(out / 'sub-01' / 'func' / f'{stem}_events.tsv', sep='\t', index=False)
        part = series.slicer[..., run.index[0] : run.index[-1] + 1]
        part.header['pixdim'][4] = REPETITION_TIME
        func = derivatives / 'sub-01' / 'func'
        nib.save(part, func / f'{stem}_desc-preproc_bold.nii.gz')
        confounds = _confounds(part, nib.load(mask))
        confounds.to_csv(func / f'{stem}_desc-confounds_timeseries.tsv', sep='\t', index=False)
        nib.save(nib.load(mask), func / f'{stem}_desc-brain_mask.nii.gz')
        _json(func / f'{stem}_desc-preproc_bold.json', _sidecar())
        _json(func / f'{stem}_desc-brain_mask.json', {'Type': 'Brain', 'SkullStripped': True})


def _confounds(series: Any, mask: Any) -> pd.DataFrame:
    """Return the mean over the mask: no motion parameters are distributed."""
    inside = np.asarray(mask.dataobj) > 0
    return pd.DataFrame({'global_signal': np.asarray(series.dataobj)[inside].mean(axis=0)})


def _blocks(labels: Any, pictures: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield one row per block: volumes in a row with the same category."""
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    for volumes in np.split(np.arange(len(labels)), edges):
        category = str(labels[volumes[0]])
        if category != REST:
            yield {
                'onset': float(volumes[0] * REPETITION_TIME),
                'duration': float(len(volumes) * REPETITION_TIME),
                'trial_type': category,
                'stim_file': pictures[category],
            }


def _copy_pictures(folder: Path, stimuli: Mapping[str, Any], names: set[str]) -> dict[str, str]:
    """Copy the first image of each category, which stands for all of them."""
    copied = {}
    for name in sorted(names):
        source = min(_paths(stimuli[FOLDERS.get(name, f'{name}s')]))
        copied[name] = f'{name}{source.suffix}'
        shutil.copy(source, folder / copied[name])
    return copied


def _paths(tree: Any) -> Iterator[Path]:
    if isinstance(tree, Mapping):
        for part in tree.values():
            yield from _paths(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _paths(part)
    else:
        yield Path(tree)


def _describe(out: Path, derivatives: Path) -> None:
    shared = {'BIDSVersion': '1.10.0', 'License': 'CC BY-SA 3.0'}
    raw = {'Name': 'Haxby 2001', 'DatasetType': 'raw', 'Authors': ['J. V. Haxby', 'et al.']}
    made = {'Name': 'PyMVPA', 'Description': 'The series as distributed; not made by fMRIPrep'}
    _json(out / 'dataset_description.json', raw | shared)
    about = {'Name': 'Series', 'DatasetType': 'derivative', 'GeneratedBy': [made]}
    _json(derivatives / 'dataset_description.json', about | shared)
    (out / 'README').write_text('Haxby et al. (2001), written by haxby_to_bids.py.\n', 'utf-8')
    (out / 'participants.tsv').write_text('participant_id\nsub-01\n', 'utf-8')


def _sidecar() -> dict[str, Any]:
    return {'TaskName': TASK, 'RepetitionTime': REPETITION_TIME, 'SkullStripped': False}


def _json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')


def main() -> None:
    """Download a subject and write it."""
    from nilearn.datasets import fetch_haxby

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder to write; must not be there yet')
    parser.add_argument('--subject', type=int, default=2, choices=range(1, 7))
    options = parser.parse_args()
    data = fetch_haxby(subjects=[options.subject], fetch_stimuli=True)
    write_bids(
        options.out,
        Path(data.func[0]),
        Path(data.session_target[0]),
        Path(data.mask_vt[0]),
        data.stimuli,
    )


if __name__ == '__main__':
    main()
