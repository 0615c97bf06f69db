"""Time to index and pair a dataset, beside pybids and, where they are there, its peers.

``python benchmarks/bench_index.py [--participants 20 200] [--peers PYTHON]``

The tree is laid out as fMRIPrep leaves it: 24 runs a participant in 4 sessions, 1,680 files a
participant, of which those that are read hold something. ``--peers`` names an interpreter that has
bids2table and ancpbids; they run on the same tree in the same call, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

SESSIONS, RUNS = 4, 6
SPACES = ('', '_space-T1w', '_space-MNI152NLin2009cAsym_res-2')
CHOSEN = 'T1w'
N_VOLUMES = 40

PYBIDS = """
import json, sys, time
from bids import BIDSLayout
from bids.layout import BIDSLayoutIndexer
start, cpu = time.perf_counter(), time.process_time()
for folder, derivative in ((sys.argv[1], False), (sys.argv[1] + '/derivatives/fmriprep', True)):
    BIDSLayout(folder, validate=False, derivatives=False, is_derivative=derivative,
               indexer=BIDSLayoutIndexer(validate=False, index_metadata=False))
print(time.perf_counter() - start, time.process_time() - cpu)
"""
BIDS2TABLE = """
import sys, time
import bids2table
start, cpu = time.perf_counter(), time.process_time()
for folder in (sys.argv[1], sys.argv[1] + '/derivatives/fmriprep'):
    bids2table.index_dataset(folder)
print(time.perf_counter() - start, time.process_time() - cpu)
"""
ANCPBIDS = """
import sys, time
import ancpbids
start, cpu = time.perf_counter(), time.process_time()
for folder in (sys.argv[1], sys.argv[1] + '/derivatives/fmriprep'):
    ancpbids.load_dataset(folder)
print(time.perf_counter() - start, time.process_time() - cpu)
"""
OURS = """
import json, sys, time
from pathlib import Path
from bids_neurodecode.bids.description import participants_in
from bids_neurodecode.bids.entities import entity_names
from bids_neurodecode.bids.index import index_dataset
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
root = Path(sys.argv[1])
everyone = participants_in(root)
labels = everyone if sys.argv[2] == 'all' else tuple(sys.argv[2].split(','))
times, start, cpu = {}, time.perf_counter(), time.process_time()
def took(what):
    global start, cpu
    times[what] = [time.perf_counter() - start, time.process_time() - cpu]
    start, cpu = time.perf_counter(), time.process_time()
entity_names()
took('names of entities')
for folder in (root, root / 'derivatives' / 'fmriprep'):
    # names are taken apart when they are asked about, as those of peers are at once
    index = index_dataset(folder, labels)[0]
    for place in index.folders:
        for name in place.names:
            place.entities(name)
took('index')
if 'pair' in sys.argv:
    found = find_inputs(Request(root, participants=labels, space='T1w'))
    took('index, pair and check')
    assert len(found.participants) == len(labels) and not found.failures, found.failures
print(json.dumps(times))
"""


def make_tree(root: Path, n_participants: int) -> int:
    """Write the tree; return the number of its files."""
    series, mask = _images(root.parent)
    rng = np.random.default_rng(0)
    columns = ['trans_x', *(f'a_comp_cor_{i:02d}' for i in range(60))]
    values = rng.standard_normal((N_VOLUMES, len(columns))).round(6).astype(str)
    confounds = '\n'.join(['\t'.join(columns), *('\t'.join(row) for row in values)])
    rows = [f'{2 + 3 * i}\t2\ttrial\timages/{i % 8:02d}.png' for i in range(24)]
    events = '\n'.join(['onset\tduration\ttrial_type\tstim_file', *rows])
    content = {'series': series, 'mask': mask, 'confounds': confounds, 'events': events}
    derived = root / 'derivatives' / 'fmriprep'
    for folder, kind in ((root, 'raw'), (derived, 'derivative')):
        folder.mkdir(parents=True)
        description = {'Name': 'x', 'BIDSVersion': '1.10.0', 'DatasetType': kind}
        (folder / 'dataset_description.json').write_text(json.dumps(description))
    (root / 'task-img_bold.json').write_text('{"RepetitionTime": 2.0, "TaskName": "img"}')
    _pictures(root / 'stimuli' / 'images')
    n_files = 0
    for number in range(n_participants):
        label = f'{number + 1:03d}'
        for session in range(SESSIONS):
            place = Path(f'sub-{label}') / f'ses-{session + 1:02d}' / 'func'
            for folder in (root, derived):
                (folder / place).mkdir(parents=True)
            for run in range(RUNS):
                stem = f'sub-{label}_ses-{session + 1:02d}_task-img_run-{run + 1:02d}'
                for owner, name, what in _names(stem):
                    file = (root if owner == 'raw' else derived) / place / name
                    if what in {'series', 'mask'}:
                        file.hardlink_to(content[what])
                    else:
                        file.write_text(content.get(what, what))
                    n_files += 1
    return n_files


def _names(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield the files of a run: in which dataset, name, and what is in it."""
    for name in ('bold.nii.gz', 'sbref.nii.gz', 'sbref.json', 'physio.tsv.gz', 'physio.json'):
        yield 'raw', f'{stem}_{name}', ''
    yield 'raw', f'{stem}_bold.json', '{"EchoTime": 0.03}'
    yield 'raw', f'{stem}_events.json', '{}'
    yield 'raw', f'{stem}_events.tsv', 'events'
    for space in SPACES:
        yield 'derived', f'{stem}{space}_desc-preproc_bold.nii.gz', 'series'
        yield 'derived', f'{stem}{space}_desc-preproc_bold.json', '{"RepetitionTime": 2.0}'
        yield 'derived', f'{stem}{space}_desc-brain_mask.nii.gz', 'mask'
        for name in ('desc-brain_mask.json', 'boldref.nii.gz', 'boldref.json'):
            yield 'derived', f'{stem}{space}_{name}', ''
        for seg in ('aseg', 'aparcaseg'):
            yield 'derived', f'{stem}{space}_desc-{seg}_dseg.nii.gz', ''
            yield 'derived', f'{stem}{space}_desc-{seg}_dseg.json', ''
    yield 'derived', f'{stem}_desc-confounds_timeseries.tsv', 'confounds'
    yield 'derived', f'{stem}_desc-confounds_timeseries.json', '{}'
    for space in ('fsnative', 'fsaverage', 'fsaverage5', 'fsaverage6'):
        for hemi in 'LR':
            yield 'derived', f'{stem}_hemi-{hemi}_space-{space}_bold.func.gii', ''
            yield 'derived', f'{stem}_hemi-{hemi}_space-{space}_bold.json', ''
    yield 'derived', f'{stem}_space-fsLR_den-91k_bold.dtseries.nii', ''
    yield 'derived', f'{stem}_space-fsLR_den-91k_bold.json', ''
    for number in range(12):
        yield 'derived', f'{stem}_from-orig_to-boldref_mode-image_desc-x{number}_xfm.txt', ''


def _images(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    values = (100 + rng.standard_normal((4, 4, 3, N_VOLUMES))).astype(np.float32)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    image = nib.Nifti1Image(values, affine)
    image.header.set_zooms((3, 3, 3, 2.0))
    image.header.set_xyzt_units('mm', 'sec')
    series, mask = folder / 'series.nii.gz', folder / 'mask.nii.gz'
    nib.save(image, series)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 3), dtype=np.uint8), affine), mask)
    return series, mask


def _pictures(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(8):
        Image.new('RGB', (16, 16), (20 * number, 90, 20)).save(folder / f'{number:02d}.png')


def timed(python: str, code: str, *arguments: str) -> str:
    """Run code in a process of its own and return what it printed last; a dash if it failed."""
    result = subprocess.run(
        [python, '-c', code, *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode:
        print(result.stderr, file=sys.stderr)
        return '-'
    return result.stdout.strip().splitlines()[-1]


def bench(n_participants: int, peers: str | None, *, with_pybids: bool, pair_all: bool) -> None:
    """Make one tree and print what everyone takes on it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'raw'
        start = time.perf_counter()
        n_files = make_tree(root, n_participants)
        print(f'{n_participants} participants, {n_files} files', end=' ')
        print(f'(made in {time.perf_counter() - start:.0f} s)', flush=True)
        one = json.loads(timed(sys.executable, OURS, str(root), '001', 'pair'))
        pair = ['pair'] if pair_all else []
        everyone = json.loads(timed(sys.executable, OURS, str(root), 'all', *pair))
        for who, times in (('one participant', one), ('all', everyone)):
            for what, (wall, cpu) in times.items():
                print(f'  ours, {who}: {what} {wall:.2f} s (CPU {cpu:.2f} s)', flush=True)
        others = [('bids2table', peers, BIDS2TABLE), ('ancpbids', peers, ANCPBIDS)]
        if with_pybids:
            others.append(('pybids', sys.executable, PYBIDS))
        for name, python, code in others:
            if python is None:
                continue
            said = timed(python, code, str(root))
            if said != '-':
                wall, cpu = map(float, said.split())
                ratios = [a / b for a, b in zip(everyone['index'], (wall, cpu), strict=True)]
                print(f'  {name}, all: index {wall:.2f} s (CPU {cpu:.2f} s);', end=' ')
                print(f'ours / {name}: {ratios[0]:.2f} (CPU {ratios[1]:.2f})', flush=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--participants', type=int, nargs='+', default=[20, 200])
    parser.add_argument('--peers', help='an interpreter with bids2table and ancpbids')
    parser.add_argument('--pybids-up-to', type=int, default=20, metavar='N')
    parser.add_argument('--pair-all-up-to', type=int, default=20, metavar='N')
    given = parser.parse_args()
    for n in given.participants:
        bench(
            n,
            given.peers,
            with_pybids=n <= given.pybids_up_to,
            pair_all=n <= given.pair_all_up_to,
        )


if __name__ == '__main__':
    main()
