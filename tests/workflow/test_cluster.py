"""Batch systems: what nodes ask for, and what is said of jobs that were ended."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from bids_neurodecode.workflow import cluster
from bids_neurodecode.workflow import run as running
from bids_neurodecode.workflow.run import PluginSettings

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / 'docs' / 'hpc').glob('*.yml'))
FAKE_SBATCH = """#!/bin/bash
# runs the job at once, as Slurm would later; "lose" in its name: kills it instead
echo "$@" >> "$JOBS"
n=$(wc -l < "$JOBS")
if [[ "$*" == *lose* ]]; then
  batch=$(dirname "${@: -1}")
  echo 'slurmstepd-vm: error: StepId=9.batch exceeded memory limit (2 > 1), being killed' \\
    > "$batch/slurm-$n.out"
else
  bash "${@: -1}" > /dev/null
fi
echo "Submitted batch job $n"
"""


def one():
    return 1


def node(name, folder, memory=0.6, threads=1):
    made = pe.Node(Function(function=one, output_names=['out']), name, mem_gb=memory)
    made.n_procs = threads
    made.base_dir = str(folder)
    made.config = {'execution': {'crashdump_dir': str(folder / 'crashes')}}
    return made


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm of two scripts: jobs run while they are submitted, the queue is always empty."""
    commands = tmp_path / 'commands'
    commands.mkdir()
    for name, text in {'sbatch': FAKE_SBATCH, 'squeue': '#!/bin/bash\necho JOBID\n'}.items():
        (commands / name).write_text(text, encoding='utf-8')
        (commands / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{commands}:/usr/bin:/bin')
    monkeypatch.setenv('JOBS', str(tmp_path / 'jobs.txt'))
    monkeypatch.setenv('LOGNAME', 'ada')
    monkeypatch.setitem(cluster.EXECUTION, 'job_finished_timeout', '0.1')
    monkeypatch.setitem(cluster.EXECUTION, 'poll_sleep_duration', '0.1')
    return tmp_path / 'jobs.txt'


def execute(folder, names, sbatch_args=''):
    workflow = pe.Workflow('test_wf', base_dir=str(folder))
    workflow.add_nodes([node(name, folder) for name in names])
    for section, values in running.execution_config(stop_on_first_crash=False).items():
        workflow.config.setdefault(section, {}).update(values)
    states = []
    plugin = PluginSettings('SLURM', {'sbatch_args': sbatch_args})
    failures = running.run_workflow(workflow, plugin, lambda *state: states.append(state))
    return failures, states


def test_a_job_that_was_ended_is_one_line(tmp_path, slurm):
    failures, states = execute(tmp_path, ['well', 'lose'], '--partition=big')
    assert [failure.node for failure in failures] == ['test_wf.lose']
    assert 'StepId=9.batch exceeded memory limit (2 > 1), being killed' in failures[0].reason
    assert 'the same command again' in failures[0].reason
    assert '\n' not in failures[0].reason
    assert ('test_wf.well', 'finished') in states
    asked = slurm.read_text('utf-8')
    assert '--mem=1024M --cpus-per-task=1 --partition=big' in asked

    failures, states = execute(tmp_path, ['well'])
    assert not failures
    assert states[-1] == ('test_wf.well', 'reused')


def test_a_stale_result_is_not_taken_for_that_of_a_lost_job(tmp_path, slurm):
    folder = tmp_path / 'test_wf' / 'lose'
    folder.mkdir(parents=True)
    (folder / 'result_lose.pklz').write_bytes(b'of earlier inputs')
    failures, _ = execute(tmp_path, ['lose'])
    assert 'The batch system ended job 1' in failures[0].reason


def test_asked_of_slurm():
    inputs = SimpleNamespace(device='cuda')
    gpu = SimpleNamespace(mem_gb=4.0, n_procs=2, inputs=inputs, plugin_args={})
    cpu = SimpleNamespace(mem_gb=0.2, n_procs=None, inputs=SimpleNamespace(), plugin_args={})
    cluster.ask_for_resources([gpu, cpu], {'sbatch_args': '--mem=9G'})
    assert gpu.plugin_args == {
        'sbatch_args': '--mem=6144M --cpus-per-task=2 --gres=gpu:1 --mem=9G',
        'overwrite': True,
    }
    assert cpu.plugin_args['sbatch_args'] == '--mem=1024M --cpus-per-task=1 --mem=9G'


@pytest.mark.parametrize(
    ('log', 'says'),
    [
        (
            'slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***\n',
            'JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT',
        ),
        ('slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n', 'oom_kill event'),
        ('all is well\n', 'most often for want of memory or time'),
    ],
)
def test_end_of_job(tmp_path, log, says):
    (tmp_path / 'slurm-7.out').write_text(log, encoding='utf-8')
    (tmp_path / 'slurm-17.out').write_text('error: out of memory\n', encoding='utf-8')
    assert says in cluster.end_of_job(tmp_path, 7)


def test_an_interrupted_run_takes_its_jobs_along(tmp_path, monkeypatch):
    qstat = tmp_path / 'qstat'  # Nipype's SGE asks it at once, and waits where it is not
    qstat.write_text('#!/bin/sh\necho "<job_info><queue_info/></job_info>"\n', encoding='utf-8')
    qstat.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    called = []
    monkeypatch.setattr(subprocess, 'run', lambda words, **_: called.append(words))
    for name, runner in cluster.RUNNERS.items():
        made = runner({})
        made._pending = {4: 'folder', 5: 'folder'}
        made.terminate()
        assert called.pop() == [{'SLURM': 'scancel'}.get(name, 'qdel'), '4', '5']


@pytest.mark.parametrize('file', EXAMPLES, ids=lambda file: file.stem)
def test_examples(file):
    settings = PluginSettings.read(file)
    assert settings.name.removesuffix('Graph') in cluster.RUNNERS
    options = set(yaml.safe_load(file.read_text('utf-8'))['plugin_args'])
    known = {'sbatch_args', 'qsub_args', 'max_jobs', 'dont_resubmit_completed_jobs'}
    assert options <= known
