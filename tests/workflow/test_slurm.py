"""On a real Slurm: arrays and plugins give what one machine gives, and jobs that die are named.

Runs where a Slurm answers (``sinfo``); ``.ci/slurm`` starts one of one node.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name('bids_neurodecode')
TOOLS = Path(sys.executable).with_name('bids_neurodecode-tools')
SMALL = ['--n-runs', '4', '--n-images', '12', '--n-repeats', '4', '--voxel-size', '16']
RETRIEVAL = ['--preset', 'retrieval']
ENOUGH = '--time=10 --mem=1500 -c1'
TINY = """
schema_version = 1
[reconstruction]
generator = "small"
prior_size = 16
prior_steps = 20
refiner_steps = 20
"""
STUDY = """
title = "Penalties"
question = "Does the penalty of ridge regression matter?"
system = "reconstruction"
metrics = ["identification_2way"]
[settings.evaluation]
n_permutations = 20
n_bootstrap = 20
[settings.reconstruction]
generator = "none"
[[axes]]
name = "penalty"
[[axes.variants]]
label = "small"
settings.ridge.alphas = [0.1]
[[axes.variants]]
label = "large"
settings.ridge.alphas = [1000.0]
"""
TOO_LITTLE = '--time=10 --mem=170 -c1'
"""Enough for the first nodes, not for the betas."""

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]


def call(*words, cwd=None, expect=0):
    result = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, cwd=cwd
    )
    said = result.stdout + result.stderr
    assert result.returncode == expect, said
    return said


def same(folder, other):
    """The same files and numbers, by the script that the containers are checked with."""
    said = call(sys.executable, ROOT / '.ci' / 'compare_outputs.py', folder, other)
    sys.stdout.write(said)  # .ci/slurm passes it on


def plugin(folder, sbatch_args, name='SLURM'):
    file = folder / 'plugin.yml'
    file.write_text(
        f"plugin: {name}\nplugin_args: {{sbatch_args: '{sbatch_args}'}}\n", encoding='utf-8'
    )
    return file


@pytest.fixture(scope='module', autouse=True)
def slurm():
    """Skip where no Slurm answers."""
    if shutil.which('sinfo') is None:
        pytest.skip('Slurm is not installed')
    if subprocess.run(['sinfo', '-h'], capture_output=True, check=False).returncode:
        pytest.skip('no Slurm answers (.ci/slurm starts one)')
    os.environ.setdefault('LOGNAME', 'ci')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('slurm') / 'raw'
    call(TOOLS, 'demo', folder, '--n-subjects', '2', *SMALL)
    return folder


@pytest.fixture(scope='module')
def reference(dataset):
    """Outputs of MultiProc on this machine."""
    out = dataset.parent / 'reference'
    run = [PROGRAM, dataset, out, 'participant', '-w', dataset.parent / 'work', *RETRIEVAL]
    call(*run, '--nprocs', '2')
    return out


def submit(script, folder):
    """Submit a script and wait for its end; return the exit code and the logs by task."""
    (folder / 'job.sh').write_text(script, encoding='utf-8')
    for log in folder.glob('*.log'):
        log.unlink()
    result = subprocess.run(
        ['sbatch', '--wait', 'job.sh'], cwd=folder, capture_output=True, text=True, check=False
    )
    assert 'Submitted batch job' in result.stdout, result.stderr
    return result.returncode, [log.read_text('utf-8') for log in sorted(folder.glob('*.log'))]


def array_script(dataset, out, work, options=''):
    return call(
        TOOLS, 'slurm', dataset, out, '-w', work, '--mem', '3G', '--cpus', '1', '--time', '10',
        f'--options=--preset retrieval {options}',
    )  # fmt: skip


def test_betas_in_blocks(dataset, tmp_path):
    cut = ['--use-plugin', plugin(tmp_path, ENOUGH), '--blocks', '2']
    betas = []
    for name, more in (('whole', ['--nprocs', '1']), ('cut', cut)):
        places = [dataset, tmp_path / name, 'participant', '-w', tmp_path / f'work-{name}']
        call(PROGRAM, *places, '--participant-label', '01', '--level', 'betas', *more)
        (file,) = (tmp_path / name).rglob('*desc-singletrial_statmap.nii.gz')
        betas.append(file.read_bytes())
    same(tmp_path / 'whole', tmp_path / 'cut')
    assert betas[0] == betas[1]


def test_array(dataset, reference, tmp_path):
    out = tmp_path / 'out'
    code, logs = submit(array_script(dataset, out, tmp_path / 'work'), tmp_path)
    assert code == 0, logs
    assert len(logs) == 2
    same(reference, out)


def test_plugin(dataset, reference, tmp_path):
    out, work = tmp_path / 'out', tmp_path / 'work'
    file = plugin(tmp_path, ENOUGH)
    call(PROGRAM, dataset, out, 'participant', '-w', work, *RETRIEVAL, '--use-plugin', file)
    same(reference, out)


def test_pictures_are_made_in_a_job(dataset, tmp_path):
    """Training runs in a process below the job's own."""
    out, settings = tmp_path / 'out', tmp_path / 'tiny.toml'
    settings.write_text(TINY, encoding='utf-8')
    options = ['--participant-label', '01', '--config-file', settings]
    file = plugin(tmp_path, '--time=10 --mem=3000 -c1')
    run = [PROGRAM, dataset, out, 'participant', '-w', tmp_path / 'work', *options]
    said = call(*run, '--use-plugin', file)
    assert 'small generator' in said
    assert list((out / 'stimuli' / 'sub-01').rglob('*_desc-final_image.png'))


def test_study_on_the_cluster(dataset, tmp_path):
    """Variants as jobs give the table that one machine gives; what they share is one job."""
    study = tmp_path / 'penalties.toml'
    study.write_text(STUDY, encoding='utf-8')
    tables = []
    for name, more in (
        ('here', ['--nprocs', '2']),
        ('there', ['--use-plugin', plugin(tmp_path, ENOUGH)]),
    ):
        out, work = tmp_path / name, tmp_path / f'work-{name}'
        run = [PROGRAM, dataset, out, 'participant', '--participant-label', '01', '-w', work]
        call(*run, '--study', study, *more)
        tables.append((out / 'studies' / 'penalties' / 'penalties_metrics.tsv').read_text())
        assert len(list(work.rglob('betas_*/stage.json'))) == 1, name
    assert tables[0] == tables[1]
    assert {'small', 'large'} <= set(tables[0].split())


def test_killed_for_its_memory(dataset, reference, tmp_path):
    out, work = tmp_path / 'out', tmp_path / 'work'
    run = [PROGRAM, dataset, out, 'participant', '-w', work, *RETRIEVAL, '--use-plugin']
    said = call(*run, plugin(tmp_path, TOO_LITTLE), expect=1)
    lines = [line for line in said.splitlines() if 'exceeded memory limit' in line]
    assert lines, said
    assert all(re.search(r'bids_neurodecode_wf\.sub_0[12]_wf\.\w+: ', line) for line in lines)
    assert 'Traceback' not in said
    said = call(*run, plugin(tmp_path, ENOUGH))
    assert 'reused from the work folder' in said
    same(reference, out)


def test_out_of_time(dataset, reference, tmp_path):
    """The shortest limit of Slurm is a minute: more permutations than a minute allows."""
    out, work = tmp_path / 'out', tmp_path / 'work'
    settings = tmp_path / 'long.toml'
    settings.write_text(
        'schema_version = 1\n[evaluation]\nn_permutations = 5000000\n', encoding='utf-8'
    )
    script = array_script(dataset, out, work, f'--config-file {settings}')
    code, logs = submit(script.replace('--time=10', '--time=1'), tmp_path)
    assert code != 0, logs
    assert all('DUE TO TIME LIMIT' in log for log in logs), logs
    assert all('interrupted: what is done is kept' in log for log in logs), logs
    assert not any('Traceback' in log for log in logs), logs
    code, logs = submit(array_script(dataset, out, work), tmp_path)
    assert code == 0, logs
    assert all('betas: reused' in log for log in logs), logs
    same(reference, out)


def wait_for(done, seconds=600):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, call('squeue')
        time.sleep(0.5)


def test_head_is_killed(dataset, tmp_path):
    """Jobs outlive a killed head: the next run writes nothing beside them."""
    run = [PROGRAM, dataset, tmp_path / 'out', 'participant', '-w', tmp_path / 'work']
    run += ['--participant-label', '01', '--level', 'betas', '--skip-bids-validation']
    with (tmp_path / 'log').open('w') as log:
        waiting = plugin(tmp_path, f'{ENOUGH} --begin=now+600')
        head = subprocess.Popen([*run, '--use-plugin', waiting], stdout=log, stderr=log)
        wait_for(lambda: call('squeue', '-h').strip())
        head.kill()
        assert head.wait() == -9
    assert 'still in its queue' in call(*run, '--nprocs', '2', expect=2)
    call('scancel', *call('squeue', '-h', '--format=%i').split())
    wait_for(lambda: not call('squeue', '-h').strip())
    call(*run, '--nprocs', '2')


def test_job_is_cancelled(dataset, tmp_path):
    """What ``scancel`` ends says that it was interrupted, and leaves nothing in the queue."""
    script = array_script(dataset, tmp_path / 'out', tmp_path / 'work')
    (tmp_path / 'job.sh').write_text(script, encoding='utf-8')
    said = subprocess.run(
        ['sbatch', '--parsable', 'job.sh'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    logs = lambda: ''.join(log.read_text('utf-8') for log in tmp_path.glob('*.log'))  # noqa: E731
    wait_for(lambda: 'betas' in logs())
    call('scancel', said.stdout.strip())
    wait_for(lambda: not call('squeue', '-h').strip())
    assert 'interrupted: what is done is kept' in logs()
    assert 'Traceback' not in logs()


def test_graph(dataset, reference, tmp_path):
    """All jobs at once; the second call, on one machine, finds them done."""
    out, work = tmp_path / 'out', tmp_path / 'work'
    run = [PROGRAM, dataset, out, 'participant', '-w', work, *RETRIEVAL]
    said = call(*run, '--use-plugin', plugin(tmp_path, ENOUGH, 'SLURMGraph'))
    assert 'steps were submitted' in said
    wait_for(lambda: not call('squeue', '-h').strip())
    said = call(*run, '--nprocs', '1')
    for label in ('01', '02'):
        assert f'sub-{label} betas: reused' in said, said
        assert f'sub-{label} decode: reused' in said, said
    same(reference, out)
