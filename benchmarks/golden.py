"""Golden runs: every kind of run on small data, and whether two commits write the same.

``python benchmarks/golden.py run FOLDER LABEL`` makes the data once and keeps what this commit
writes as FOLDER/LABEL; ``python benchmarks/golden.py compare FOLDER LABEL OTHER`` compares byte by
byte, with run ids, times and memory scrubbed, and lists lines of text that differ. On another
processor bytes differ by rounding: ``.ci/compare_outputs.py`` compares numbers.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.published import make_nsd

ROOT = Path(__file__).parents[1]
SCRUBBED = (
    (re.compile(r'\d{8}T\d{6}Z-[0-9a-f]+'), 'RUN'),
    (re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?'), 'TIME'),
    (re.compile(r'\b\d\d:\d\d:\d\d\b'), 'TIME'),
    (re.compile(r'Command: [^<\n]*'), 'Command'),
    (re.compile(r'"(seconds|memory_gb|wall_seconds|peak_gb)": [\d.]+(null)?'), r'"\1": N'),
)
"""What may differ between two runs of one commit."""
TIMED = re.compile(r'((resources|stage|timings?)[^/]*\.(tsv|json)|\.log)$')
"""Files of times and memory: that they are there is compared, not what they say."""
TEXTS = frozenset({'.tsv', '.json', '.toml', '.md', '.html', '.txt', '.bib', '.svg', '.log', ''})

QUICK = """
[evaluation]
n_permutations = 20
n_bootstrap = 20
"""
# bytes do not depend on which networks are installed
PICTURES = f"""{QUICK}
[features]
extractor = "gabor"
[split]
by = "stimulus"
n_folds = 2
"""
RETRIEVAL = f"""{PICTURES}
[reconstruction]
generator = "none"
protocol = "bd-982"
"""
SMALL = f"""{QUICK}
[features]
extractor = "gabor"
[split]
by = "stimulus"
n_folds = 1
test_fraction = 0.4
[reconstruction]
generator = "small"
protocol = "bd-982"
prior_size = 16
prior_steps = 4
refiner_steps = 4
n_steps = 4
"""
ENCODING = f"""{PICTURES}
[betas]
model = "B"
[encoding]
bands = ["gabor"]
"""
FILMS = f"""{QUICK}
[features]
image_size = 32
n_components = 10
[split]
test_fraction = 0.3
gap = 6.0
"""
AGREEING = f"""{FILMS}
[selection]
measure = "isc"
rule = "top"
fraction = 0.1
[movie]
target = "participant"
motion = "changes"
banded = "off"
"""
# betas as NSD publishes them, and its split
GIVEN = f"""{QUICK}
[features]
extractor = "gabor"
n_components = 6
[reconstruction]
generator = "none"
[encoding]
bands = ["gabor"]
"""
BLOCKS = f"""{QUICK}
[features]
extractor = "gabor"
[betas]
model = "B"
[reconstruction]
generator = "none"
"""
NETWORK = f"""{FILMS}
[movie]
model = "network"
design = "small"
frame_size = 24
widths = [2, 3, 2, 3, 4]
max_voxels = 60
n_epochs = 2
patience = 20
learning_rate = 3e-3
explain = ["perturbation"]
explain_random = 19
explain_frames = 3
explain_regions = 3
"""


@dataclass(frozen=True)
class Golden:
    """One kind of run.

    Parameters
    ----------
    data
        A name of ``DATA`` or ``MADE``.
    settings
        TOML.
    options
        Further options of the command line.
    level
        Level of the analysis.
    after
        The run whose output it goes on with (a group: compared as a part of it), or whose
        models it applies.
    """

    data: str
    settings: str
    options: tuple[str, ...] = ()
    level: str = 'participant'
    after: str = ''


ONE = ('--participant-label', '01')
ENCODE = ('--system', 'encoding', *ONE)
RUNS = {
    'retrieval': Golden('pictures', RETRIEVAL, ('--atlas', 'ATLAS')),
    'retrieval-group': Golden('pictures', RETRIEVAL, level='group', after='retrieval'),
    'retrieval-predict': Golden('pictures', QUICK, (*ONE, '--mode', 'predict'), after='retrieval'),
    'small': Golden('few', SMALL, ONE),
    'small-predict': Golden('few', QUICK, (*ONE, '--mode', 'predict'), after='small'),
    'ridge': Golden('pictures', f'{ENCODING}model = "ridge"\n', (*ENCODE, '--atlas', 'ATLAS')),
    'ridge-predict': Golden('pictures', QUICK, (*ENCODE, '--mode', 'predict'), after='ridge'),
    'banded': Golden('pictures', f'{ENCODING}model = "banded"\n', ENCODE),
    'mlp': Golden('few', f'{ENCODING}model = "mlp"\nn_epochs = 2\n', ENCODE),
    'films': Golden('films', FILMS, (*ONE, '--atlas', 'ATLAS')),
    'films-network': Golden('films', NETWORK, (*ONE, '--atlas', 'ATLAS')),
    'films-predict': Golden('films', QUICK, (*ONE, '--mode', 'predict'), after='films-network'),
    'films-agreeing': Golden('films', AGREEING),
    'films-brain': Golden(
        'films',
        AGREEING.replace('target = "participant"', 'target = "group"'),
        level='group',
        after='films-agreeing',
    ),
    'conditions': Golden('pictures', QUICK, ('--system', 'conditions', *ONE)),
    'nsd': Golden('nsd', GIVEN),
    'nsd-ridge': Golden('nsd', GIVEN, ENCODE),
    'haxby': Golden('haxby', BLOCKS),
}
DATA = {
    'pictures': '--n-subjects 2 --n-runs 3 --n-images 24 --n-repeats 2 --voxel-size 12 --snr 3',
    'few': '--n-subjects 1 --n-runs 2 --n-images 15 --n-repeats 2 --voxel-size 14 --snr 3',
    'films': '--paradigm movie --n-subjects 3 --n-runs 2 --film-duration 105 --voxel-size 14 '
    '--snr 2',
}
HAXBY = Path(os.environ.get('BIDS_NEURODECODE_SHARED', ROOT.parent / 'shared')) / 'data/haxby2001'
MADE = {'nsd': make_nsd, 'haxby': lambda place: HAXBY.exists() and place.symlink_to(HAXBY)}
"""What writes data that are not simulated: the layout of NSD, and those of Haxby et al. (2001)."""
SKIPPED = '{name}: skipped, {data} is not there (for Haxby, set BIDS_NEURODECODE_SHARED)\n'


def simulate(folder: Path, names: set[str]) -> None:
    """Make the data that are named, where they are not there yet."""
    (folder / 'data').mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        place = folder / 'data' / name
        if name in DATA and not place.exists():
            tool = [sys.executable, '-m', 'bids_neurodecode.cli.tools', 'demo']
            subprocess.run([*tool, str(place), *DATA[name].split()], check=True)
        elif not place.exists():
            MADE[name](place)


def run(folder: Path, label: str, names: list[str]) -> int:
    """Run what is named; return how many failed.

    Records hold the paths of what they speak of, so that nothing can be moved afterwards.
    """
    simulate(folder, {RUNS[name].data for name in names})
    failed = 0
    for name in names:
        golden = RUNS[name]
        data, place = folder / 'data' / golden.data, folder / label / name
        if not data.exists():
            sys.stdout.write(SKIPPED.format(name=name, data=data))
            continue
        shutil.rmtree(place, ignore_errors=True)
        (place / 'work').mkdir(parents=True)
        out = place / 'out'
        options = list(golden.options)
        if golden.after and golden.level == 'group':
            out = folder / label / golden.after / 'out'
        elif golden.after:
            options += ['--models-from', str(folder / label / golden.after / 'out')]
        if 'ATLAS' in options:
            (atlas,) = data.rglob('*atlas-Sim_dseg.nii.gz')
            options[options.index('ATLAS')] = str(atlas)
        (place / 'settings.toml').write_text(golden.settings)
        (place / 'plugin.yml').write_text('plugin: Linear\n')
        command = [
            *(sys.executable, '-m', 'bids_neurodecode.cli', str(data), str(out), golden.level),
            *('-w', str(place / 'work'), '--skip-bids-validation', '--device', 'cpu'),
            *('--use-plugin', str(place / 'plugin.yml'), '--omp-nthreads', '1'),
            *('--config-file', str(place / 'settings.toml'), *options),
        ]
        began = time.perf_counter()
        with (place / 'log.txt').open('w') as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
        failed += done.returncode != 0
        shutil.rmtree(place / 'work')
        seconds = time.perf_counter() - began
        sys.stdout.write(f'{name:20s} exit {done.returncode} {seconds:5.0f} s\n')
        sys.stdout.flush()
    return failed


def contents(root: Path) -> dict[str, bytes]:
    """Read every file, scrubbed, by its scrubbed name."""
    own = str(root.parents[1])
    return {
        scrub(str(file.relative_to(root))): content(file, own)
        for file in sorted(root.rglob('*'))
        if file.is_file() and not file.is_symlink()
    }


def scrub(text: str) -> str:
    """Take out run ids, times and memory.

    Examples
    --------
    >>> scrub('log/20260101T101010Z-0a1b/config.toml')
    'log/RUN/config.toml'
    """
    for pattern, put in SCRUBBED:
        text = pattern.sub(put, text)
    return text


def content(file: Path, own: str) -> bytes:
    """Return what is compared of a file; ``own`` is the folder of the label."""
    if TIMED.search(file.name):
        return b''
    raw = file.read_bytes()
    if file.suffix == '.gz':
        raw = gzip.decompress(raw)
    if file.suffix not in TEXTS:
        return hashlib.sha256(raw).hexdigest().encode()
    return scrub(raw.decode('utf-8', 'replace').replace(own, 'FOLDER')).encode()


def differences(one: Path, other: Path) -> Iterator[str]:
    """Say what differs, file by file."""
    mine, theirs = contents(one), contents(other)
    for name in sorted(set(mine) | set(theirs)):
        if name not in theirs or name not in mine:
            yield f'only in {one if name in mine else other}: {name}'
        elif mine[name] != theirs[name]:
            yield f'differs: {name}'
            if Path(name).suffix in TEXTS:
                pair = (x[name].decode().splitlines() for x in (mine, theirs))
                lines = list(difflib.unified_diff(*pair, lineterm='', n=0))
                yield from (f'    {line[:200]}' for line in lines[3:15])


def compare(folder: Path, label: str, other: str, names: list[str]) -> int:
    """Print what differs; return how many runs do."""
    different = 0
    for name in names:
        data = folder / 'data' / RUNS[name].data
        if RUNS[name].level == 'group' or not data.exists():
            sys.stdout.write('' if data.exists() else SKIPPED.format(name=name, data=data))
            continue
        places = folder / label / name / 'out', folder / other / name / 'out'
        if not all(place.is_dir() for place in places):
            lines = [f'not run under both labels: {[str(p) for p in places if not p.is_dir()]}']
        else:
            lines = list(differences(*places))
        number = len(contents(places[0])) if places[0].is_dir() else 0
        sys.stdout.write(f'{name}: {"DIFFERENT" if lines else f"{number} files, the same"}\n')
        sys.stdout.writelines(f'  {line}\n' for line in lines)
        different += bool(lines)
    return different


def main() -> int:
    """Run or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('command', choices=('run', 'compare'))
    parser.add_argument('folder', type=lambda text: Path(text).resolve())
    parser.add_argument('label', help='a commit, or any other name')
    parser.add_argument('other', nargs='?', default='', help='what is compared with it')
    parser.add_argument('--only', nargs='*', default=list(RUNS), choices=list(RUNS))
    args = parser.parse_args()
    if args.command == 'run':
        return run(args.folder, args.label, args.only)
    return compare(args.folder, args.label, args.other, args.only)


if __name__ == '__main__':
    sys.exit(main())
