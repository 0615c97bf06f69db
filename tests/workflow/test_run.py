"""Running a graph: reuse, failures, killed workers, text crash files."""

import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits
from nipype.pipeline import engine as pe

from bids_neurodecode.cli.levels import code_of, costs_of
from bids_neurodecode.cli.progress import Progress
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.levels.pages import make_report
from bids_neurodecode.systems.reconstruction.generation.steps.training import generate
from bids_neurodecode.systems.reconstruction.steps.decoding import decode
from bids_neurodecode.systems.reconstruction.steps.training import publish_pictures
from bids_neurodecode.systems.steps.betas import betas
from bids_neurodecode.systems.steps.plan import plan_trials
from bids_neurodecode.systems.steps.responses import picture_features
from bids_neurodecode.workflow import run as running
from bids_neurodecode.workflow.stage import Stage


class CountInput(BaseInterfaceInputSpec):
    number = traits.Int(mandatory=True)
    after = File(exists=True)
    how = traits.Enum('well', 'error', 'killed', usedefault=True)


class GpuInput(BaseInterfaceInputSpec):
    number = traits.Int(mandatory=True)
    use_gpu = traits.Bool(True, usedefault=True)


class CountOutput(TraitedSpec):
    file = File(exists=True)


class Count(Stage):
    """Writes a number, or fails on request."""

    input_spec = CountInput
    output_spec = CountOutput
    executions: ClassVar[list[int]] = []

    def _compute(self, folder: Path):
        if self.inputs.how == 'error':
            raise DataError('run-01 holds nothing. Remove it.')
        if self.inputs.how == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / 'number.txt').write_text(str(self.inputs.number))
        return {'file': folder / 'number.txt'}


class OnGpu(Stage):
    """Writes the GPU that it sees, its threads, and when it ran."""

    input_spec = GpuInput
    output_spec = CountOutput

    def _compute(self, folder: Path):
        start = time.time()
        time.sleep(0.5)
        seen = [os.environ[name] for name in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')]
        (folder / 'seen.txt').write_text(' '.join([*seen, str(start), str(time.time())]))
        return {'file': folder / 'seen.txt'}


def graph(folder, how='well'):
    """Two participants of two nodes each; the first node of the first may fail."""
    workflow = pe.Workflow('bids_neurodecode_wf', base_dir=str(folder / 'work'))
    for label in ('01', '02'):
        sub = pe.Workflow(f'sub_{label}_wf')
        first = pe.Node(Count(number=1, how=how if label == '01' else 'well'), 'first')
        second = pe.Node(Count(number=2), 'second')
        sub.connect(first, 'file', second, 'after')
        workflow.add_nodes([sub])
    for name in workflow.list_node_names():
        crashes = str(folder / 'crashes')
        workflow.get_node(name).config = {'execution': {'crashdump_dir': crashes}}
    for section, values in running.execution_config(stop_on_first_crash=False).items():
        workflow.config.setdefault(section, {}).update(values)
    return workflow


PLUGIN = running.PluginSettings('MultiProc', {'n_procs': 1})


@pytest.mark.slow
def test_second_run_reuses_everything(tmp_path):
    first = Progress(4)
    assert running.run_workflow(graph(tmp_path), PLUGIN, first) == []
    assert (len(first.finished), len(first.reused)) == (4, 0)
    second = Progress(4)
    assert running.run_workflow(graph(tmp_path), PLUGIN, second) == []
    assert (len(second.finished), len(second.reused)) == (0, 4)
    assert '4 were reused from the work folder' in second.summary()


@pytest.mark.slow
@pytest.mark.parametrize('plugin', ['MultiProc', 'Linear'])
def test_one_participants_failure_leaves_the_other_whole(tmp_path, plugin):
    progress = Progress(4)
    settings = running.PluginSettings(plugin, {'n_procs': 1} if plugin == 'MultiProc' else {})
    (failure,) = running.run_workflow(graph(tmp_path, 'error'), settings, progress)
    assert failure.reason == 'run-01 holds nothing. Remove it.'
    assert failure.participant == '01'
    assert failure.crash_file.suffix == '.txt'
    assert 'Traceback' in failure.crash_file.read_text()
    assert {node.split('.')[1] for node in progress.finished} == {'sub_02_wf'}
    assert len(progress.finished) == 2
    assert progress.reused == []
    assert code_of([failure]) == 1


@pytest.mark.slow
def test_a_killed_worker_is_a_failed_node_not_a_hang(tmp_path):
    progress = Progress(4)
    start = time.monotonic()
    failures = running.run_workflow(graph(tmp_path, 'killed'), PLUGIN, progress)
    assert time.monotonic() - start < 60
    assert any('A worker was killed while it ran' in failure.reason for failure in failures)
    assert failures[0].participant == '01'
    # what had not been killed is there, and the next run goes on from it
    again = Progress(4)
    assert running.run_workflow(graph(tmp_path), PLUGIN, again) == []
    assert len(again.finished) + len(again.reused) == 4


@pytest.mark.slow
@pytest.mark.parametrize(('visible', 'expected'), [('', {'0', '1'}), ('5,7', {'5', '7'})])
def test_each_node_has_a_gpu_of_its_own(tmp_path, monkeypatch, visible, expected):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    workflow = pe.Workflow('bids_neurodecode_wf', base_dir=str(tmp_path / 'work'))
    for number in range(4):
        node = pe.Node(OnGpu(number=number), f'node{number}', n_procs=2)
        node.config = {'execution': {'crashdump_dir': str(tmp_path / 'crashes')}}
        workflow.add_nodes([node])
    for section, values in running.execution_config(stop_on_first_crash=False).items():
        workflow.config.setdefault(section, {}).update(values)
    settings = {'n_procs': 8, 'fresh_workers': True, 'n_gpu_procs': 2}
    plugin = running.PluginSettings('MultiProc', settings)
    assert running.run_workflow(workflow, plugin, Progress(4)) == []
    rows = [file.read_text().split() for file in (tmp_path / 'work').rglob('seen.txt')]
    assert {gpu for gpu, *_ in rows} == expected
    assert {threads for _, threads, *_ in rows} == {'2'}
    for gpu in expected:
        times = sorted((float(a), float(b)) for g, _, a, b in rows if g == gpu)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_stages_leave_time_and_memory(tmp_path):
    running.run_workflow(graph(tmp_path), running.PluginSettings('Linear', {}), Progress(4))
    files = list((tmp_path / 'work').rglob('stage.json'))
    assert len(files) == 4
    assert all('seconds' in file.read_text() for file in files)


def test_reports_alone_are_exit_code_3():
    def failure(node):
        return running.Failure(node, 'reason', Path('crash.txt'))

    assert code_of([]) == 0
    assert code_of([failure('w.sub_01_wf.report')]) == 3
    assert code_of([failure('w.sub_01_wf.report'), failure('w.sub_02_wf.betas')]) == 1


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('- 1', 'no plugin is named'),
        ('plugin: [', 'expected'),
        ('plugin: 3', 'no plugin'),
        ('plugin: SLUMR', "no plugin 'SLUMR' .it has .*SLURM"),
    ],
)
def test_bad_plugin_files(tmp_path, text, reason):
    file = tmp_path / 'plugin.yml'
    file.write_text(text)
    with pytest.raises(ArgumentsError, match=reason) as caught:
        running.PluginSettings.read(file)
    assert str(file) in str(caught.value)


def test_plugin_file(tmp_path):
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: SLURM\nplugin_args: {sbatch_args: --time=5}\n')
    settings = running.PluginSettings.read(file)
    assert settings == running.PluginSettings('SLURM', {'sbatch_args': '--time=5'})


def test_costs_are_known_by_the_names_that_progress_is_told(tmp_path):
    workflow = graph(tmp_path)
    progress = Progress(4, costs=costs_of(workflow))
    running.run_workflow(workflow, running.PluginSettings('Linear', {}), progress)
    assert set(progress.costs) == set(progress.finished)


RECORDED = (
    (0.0, 'sub-01 plan', 'started'), (0.0, 'sub-01 quality', 'started'),
    (3.9, 'sub-01 plan', 'finished'), (4.6, 'sub-01 features', 'started'),
    (5.0, 'sub-01 quality', 'finished'), (6.1, 'sub-02 plan', 'started'),
    (7.0, 'sub-02 plan', 'finished'), (7.7, 'sub-02 quality', 'started'),
    (8.5, 'sub-02 quality', 'finished'), (10.0, 'sub-02 features', 'started'),
    (34.5, 'sub-01 features', 'finished'), (35.2, 'sub-01 betas', 'started'),
    (39.6, 'sub-02 features', 'finished'), (40.7, 'sub-02 betas', 'started'),
    (50.2, 'sub-01 betas', 'finished'), (51.3, 'sub-01 reliability', 'started'),
    (51.6, 'sub-01 reliability', 'finished'), (52.7, 'sub-01 decode', 'started'),
    (54.6, 'sub-02 betas', 'finished'), (55.7, 'sub-01 generate', 'started'),
    (63.6, 'sub-01 decode', 'finished'), (64.6, 'sub-02 reliability', 'started'),
    (64.8, 'sub-02 reliability', 'finished'), (65.8, 'sub-02 decode', 'started'),
    (76.3, 'sub-02 decode', 'finished'), (77.3, 'sub-02 generate', 'started'),
    (680.9, 'sub-01 generate', 'finished'), (681.5, 'sub-01 outputs', 'started'),
    (682.8, 'sub-01 outputs', 'finished'), (683.4, 'sub-01 report', 'started'),
    (712.8, 'sub-01 report', 'finished'), (716.5, 'sub-02 generate', 'finished'),
    (716.8, 'sub-02 outputs', 'started'), (717.2, 'sub-02 outputs', 'finished'),
    (717.4, 'sub-02 report', 'started'), (729.8, 'sub-02 report', 'finished'),
)  # fmt: skip
"""Steps of a run of ``make demo`` on two busy cores: seconds, step, what became of it."""
COSTS = {
    each.name: each.seconds
    for each in (
        *(plan_trials, picture_features, betas, decode, generate),
        *(publish_pictures, make_report),
    )
}


def seconds_of(text):
    """Read a duration as the terminal shows it."""
    units = {'h': 3600, 'min': 60, 's': 1}
    words = text.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    return sum(int(number) * units[unit] for number, unit in pairs)


def told(monkeypatch, caplog, events, costs):
    """Return when time was said to be left, and how much, in seconds."""
    now, start = [0.0], events[0][0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    monkeypatch.setattr(logging.getLogger('bids_neurodecode'), 'propagate', True)
    progress = Progress(len(costs), costs=costs, start=start)
    found = []
    for at, name, state in events:
        now[0] = at
        caplog.clear()
        with caplog.at_level(logging.INFO, logger='bids_neurodecode'):
            progress(name, state)
        if left := re.search(r'about (.*) left', caplog.text):
            found.append((at, seconds_of(left[1])))
    return found


@pytest.mark.parametrize('slower', [0.2, 1.0, 5.0])
def test_time_left_is_about_right_and_does_not_jump(monkeypatch, caplog, slower):
    """At first it is known from what steps take elsewhere, later from these steps."""
    costs = {name: COSTS.get(name.split()[-1], 1.0) for _, name, _ in RECORDED}
    events = [(slower * at, name, state) for at, name, state in RECORDED]
    found = told(monkeypatch, caplog, events, costs)
    assert len(found) == len(costs) - 1
    end = events[-1][0]
    factor = 2 if slower == 1 else 4.5
    for at, left in found:
        if end - at > 60:
            assert (end - at) / factor < left < (end - at) * factor, at
    said = [left for at, left in found if at >= slower * 34]  # the first long step has ended
    ups = [after / before for before, after in itertools.pairwise(said)]
    assert max(ups) < 1.2
    assert said[-1] <= max(120, 120 * slower)


def test_a_long_step_that_is_still_to_come_is_not_forgotten(monkeypatch, caplog):
    """Seventeen short steps in 34 s, and one that takes as long as 240 of them, are not 2 s."""
    names = [f'wf.sub_01_wf.step{n}' for n in range(17)]
    costs = dict.fromkeys(names, 1.0) | {'wf.sub_01_wf.generate': 240.0}
    events = [
        (2.0 * n + after, name, state)
        for n, name in enumerate(names)
        for after, state in ((0.0, 'started'), (2.0, 'finished'))
    ]
    assert 240 <= told(monkeypatch, caplog, events, costs)[-1][1] <= 480


def test_time_left_is_said_without_costs_and_after_reuse(monkeypatch, caplog):
    monkeypatch.setattr('time.monotonic', lambda: 60.0)
    monkeypatch.setattr(logging.getLogger('bids_neurodecode'), 'propagate', True)
    progress = Progress(4, start=0.0)
    with caplog.at_level(logging.INFO, logger='bids_neurodecode'):
        progress('a', 'reused')
        assert 'left' not in caplog.text, 'nothing was run that it could be told from'
        progress('b', 'finished')
        assert 'left)' in caplog.text


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel is asked as Linux is')
@pytest.mark.parametrize('parent_lives', [True, False])
def test_a_worker_ends_with_its_run_even_where_that_ended_first(parent_lives):
    """A worker that starts as its run is killed would wait for ever for something to do."""
    parent = os.getpid() if parent_lives else 2**22 + 1  # beyond all process ids
    code = f'from bids_neurodecode.processes import die_with; die_with({parent}); print("works")'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=False)
    assert (done.stdout, done.returncode) == ((b'works\n', 0) if parent_lives else (b'', 1))
