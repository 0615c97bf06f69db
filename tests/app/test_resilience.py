"""The program as a process: killed and started again, and several of it at once."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from tests.running import HERE

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
    """Contents of all outputs; run ids, the command on the page and logs aside."""
    files = {}
    for path in sorted(out.rglob('*')):
        name = path.relative_to(out).as_posix()
        if path.is_file() and not re.search(r'log/2\d{7}T|^logs/.*\.log$', name):
            content = RUN_ID.sub(b'RUN', path.read_bytes())
            content = re.sub(rb'Command: [^<\n]*', b'Command', content)
            files[name] = content.replace(str(out).encode(), b'OUT')
    return files


@pytest.fixture(scope='module')
def whole(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    log = run(dataset, folder / 'out', folder / 'work', '--participant-label', '01')
    assert f'{len(STEPS)} of {len(STEPS)} steps were run' in log
    return folder / 'out'


@pytest.fixture(scope='module')
def uninterrupted(whole):
    return tree(whole)


def kill_when(dataset: Path, folder: Path, line: str) -> str:
    """Start the program, kill it when its log says ``line``, and see that no worker is left.

    Returns what was logged until then.
    """
    process = subprocess.Popen(
        command(dataset, folder / 'out', folder / 'work', '--participant-label', '01', '-v'),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    log = ''
    for said in process.stderr:
        log += said
        if line in said:
            break
    else:
        pytest.fail(f'never said {line!r}')
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, 'workers outlived the program'
    return log


def test_killed_and_started_again_and_again(dataset, tmp_path, uninterrupted):
    """Each call goes on from where the one before was killed, to the same bytes."""
    kill_when(dataset, tmp_path, 'betas: finished')
    log = kill_when(dataset, tmp_path, 'Started sub-01 decode')
    assert log.count(': reused') >= 4
    log = kill_when(dataset, tmp_path, 'outputs: finished')
    assert log.count(': reused') >= 5
    assert not list((tmp_path / 'out').rglob('sub-01.html'))
    log = run(dataset, tmp_path / 'out', tmp_path / 'work', '--participant-label', '01')
    assert log.count(': reused') >= 6
    again = {k: v for k, v in tree(tmp_path / 'out').items() if '.tmp-' not in k}
    assert again.keys() == uninterrupted.keys()
    different = [name for name, content in again.items() if content != uninterrupted[name]]
    assert different == []


def test_a_disk_that_fills_up(dataset, tmp_path, uninterrupted):
    """One line and no half file; with room again, the same bytes."""
    out, ballast = tmp_path / 'out', tmp_path / 'out' / '.ballast'
    out.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64m', 'none', str(out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip('nothing can be mounted on this machine')
    try:
        arguments = command(dataset, out, tmp_path / 'work', '--participant-label', '01', '-v')
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        log = ''
        for said in process.stderr:
            log += said
            if 'betas: finished' in said:
                with ballast.open('wb', buffering=0) as stream, suppress(OSError):
                    while stream.write(bytes(1 << 12)):
                        pass
        assert process.wait() == 1, log
        assert re.search(rf'error: There is no space left .* in {out}.*Free some', log), log
        assert 'Traceback' not in log
        ballast.unlink()
        run(dataset, out, tmp_path / 'work', '--participant-label', '01')
        again = tree(out)
        assert again.keys() == uninterrupted.keys()
        assert [x for x, content in again.items() if content != uninterrupted[x]] == []
    finally:
        subprocess.run(['umount', '-l', str(out)], check=False)


def test_the_config_of_a_run_alone_makes_the_same_bytes(dataset, tmp_path, whole, uninterrupted):
    (config,) = whole.glob('sub-01/log/*/config.toml')
    shutil.copy(config, tmp_path / 'its.toml')
    more = ('--participant-label', '01', *HERE)
    arguments = command(dataset, tmp_path / 'out', tmp_path / 'work', *more)
    arguments[arguments.index('--config-file') + 1] = str(tmp_path / 'its.toml')
    subprocess.run(arguments, check=True, capture_output=True, timeout=300)
    again = tree(tmp_path / 'out')
    assert again.keys() == uninterrupted.keys()
    assert [name for name, content in again.items() if content != uninterrupted[name]] == []


def test_two_threads_make_the_same_numbers(dataset, tmp_path, whole):
    more = ('--participant-label', '01', '--omp-nthreads', '2')
    run(dataset, tmp_path / 'out', tmp_path / 'work', *more)
    compare = Path(__file__).parents[2] / '.ci' / 'compare_outputs.py'
    done = subprocess.run(
        # other threads add in another order: correlations near 0 differ in their fourth digit
        [sys.executable, str(compare), str(whole), str(tmp_path / 'out'), '1e-3'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_default_run_tries_no_connection(dataset, tmp_path):
    """With the validator, a HOME that is empty, and no network to be had."""
    # the kernel stops the program at that call alone, not at every one
    trace = ['--seccomp-bpf', '-e', 'trace=connect']
    apart = ['unshare', '-rn', 'strace', '-f', '-qq', *trace, '-o']
    calls = tmp_path / 'calls'
    try:
        subprocess.run([*apart, str(calls), 'true'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('no namespace without a network, or no strace, on this machine')
    arguments = command(dataset, tmp_path / 'out', tmp_path / 'work', '--participant-label', '01')
    arguments.remove('--skip-bids-validation')
    (tmp_path / 'home').mkdir()
    done = subprocess.run(
        [*apart, str(calls), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'HOME': str(tmp_path / 'home')},
    )
    assert done.returncode == 0, done.stderr
    assert [x for x in calls.read_text().splitlines() if 'AF_INET' in x] == []


def test_two_settings_do_not_write_the_same_results(dataset, tmp_path):
    """Work folders of their own, one output folder: the second call is refused."""
    first = subprocess.Popen(
        command(dataset, tmp_path / 'out', tmp_path / 'a', '--participant-label', '01'),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stderr is not None
    for said in first.stderr:
        if 'finished' in said:
            break
    other = command(dataset, tmp_path / 'out', tmp_path / 'b', '--participant-label', '01')
    second = subprocess.run(other, capture_output=True, text=True, timeout=300, check=False)
    first.terminate()
    assert first.wait(timeout=60) == 130
    assert second.returncode == 2
    assert 'task images, in ' in second.stderr
    assert 'being written by another run' in second.stderr


def test_four_participants_as_four_processes(dataset, tmp_path):
    out = tmp_path / 'out'
    processes = [
        subprocess.Popen(
            command(dataset, out, tmp_path / 'work', '--participant-label', f'0{n}', *HERE),
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
    """The second call waits for nothing and breaks nothing: it says what another run writes."""
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
    assert 'are being written by another run' in second.stderr
    first.terminate()
    assert first.wait(timeout=60) == 130
