"""The program as a process: killed and started again, and several of it at once."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec

RUN_ID = re.compile(rb'\d{8}T\d{6}Z-[0-9a-f]{8}')
SETTINGS = """
[evaluation]
n_permutations = 50
n_bootstrap = 50
[split]
n_folds = 2
[reconstruction]
generator = "none"
"""
STEPS = ('plan', 'quality', 'features', 'betas', 'reliability', 'decode', 'outputs', 'report')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('simulated')
    spec = SimulationSpec(n_subjects=4, n_runs=2, n_images=16, n_repeats=2, voxel_size=12.0)
    (folder / 'fast.toml').write_text(SETTINGS)
    return simulate_dataset(folder / 'data', spec)


def command(dataset: Path, out: Path, work: Path, *more: str) -> list[str]:
    settings = str(dataset.parent / 'fast.toml')
    places = [str(dataset), str(out), 'participant', '-w', str(work)]
    options = ['--config-file', settings, '--skip-bids-validation', '--nprocs', '1']
    return [sys.executable, '-m', 'bids_neurodecode.cli', *places, *options, *more]


def run(*args: object) -> str:
    done = subprocess.run(command(*args), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def tree(out: Path) -> dict[str, bytes]:
    """Contents of all outputs, run ids and logs aside."""
    files = {}
    for path in sorted(out.rglob('*')):
        name = path.relative_to(out).as_posix()
        if path.is_file() and not re.search(r'log/2\d{7}T|^logs/.*\.log$', name):
            content = RUN_ID.sub(b'RUN', path.read_bytes())
            files[name] = content.replace(str(out).encode(), b'OUT')
    return files


@pytest.fixture(scope='module')
def uninterrupted(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    log = run(dataset, folder / 'out', folder / 'work', '--participant-label', '01')
    assert f'{len(STEPS)} of {len(STEPS)} steps were run' in log
    return tree(folder / 'out')


def kill_when(dataset: Path, folder: Path, line: str) -> None:
    """Start the program, kill it when its log says ``line``, and see that no worker is left."""
    process = subprocess.Popen(
        command(dataset, folder / 'out', folder / 'work', '--participant-label', '01', '-v'),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            break
    else:
        pytest.fail(f'never said {line!r}')
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, 'workers outlived the program'


@pytest.mark.parametrize(
    ('line', 'at_least'),
    [('betas: finished', 4), ('Started sub-01 decode', 5), ('outputs: finished', 6)],
)
def test_killed_and_started_again(dataset, tmp_path, uninterrupted, line, at_least):
    kill_when(dataset, tmp_path, line)
    assert not list((tmp_path / 'out').rglob('sub-01.html'))
    log = run(dataset, tmp_path / 'out', tmp_path / 'work', '--participant-label', '01')
    assert log.count(': reused') >= at_least
    again = {k: v for k, v in tree(tmp_path / 'out').items() if '.tmp-' not in k}
    assert again.keys() == uninterrupted.keys()
    different = [name for name, content in again.items() if content != uninterrupted[name]]
    assert different == []


def test_four_participants_as_four_processes(dataset, tmp_path):
    out = tmp_path / 'out'
    processes = [
        subprocess.Popen(
            command(dataset, out, tmp_path / 'work', '--participant-label', f'0{n}'),
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(1, 5)
    ]
    for process in processes:
        _, log = process.communicate(timeout=400)
        assert process.returncode == 0, log
    for n in range(1, 5):
        assert (out / f'sub-0{n}.html').stat().st_size > 10_000
        assert list((out / f'sub-0{n}' / 'func').glob('*_metrics.tsv'))
    description = json.loads((out / 'dataset_description.json').read_text())
    assert description['DatasetLinks'].keys() == {'raw', 'fmriprep'}
    ignored = (out / '.bidsignore').read_text().splitlines()
    assert len(ignored) == len(set(ignored)) > 5
    assert (out / 'logs' / 'CITATION.md').read_text().startswith('# Methods')
    assert not list(out.rglob('.tmp-*'))
    validator = subprocess.run(
        [Path(sys.executable).with_name('bids-validator-deno'), '--ignoreWarnings', out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert validator.returncode == 0, validator.stdout


def test_two_processes_do_not_share_one_participants_work_folder(dataset, tmp_path):
    """The second call waits for nothing and breaks nothing: it says who holds the folder."""
    arguments = command(dataset, tmp_path / 'a', tmp_path / 'work', '--participant-label', '01')
    first = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for said in first.stderr:
        if 'finished' in said:
            break
    start = time.monotonic()
    second = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert time.monotonic() - start < 60
    assert second.returncode == 2
    assert 'is in use by another run' in second.stderr
    first.terminate()
    assert first.wait(timeout=60) == 130
