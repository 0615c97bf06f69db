"""The benchmark: every contender runs, the table and the history say what was measured."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import bench, bench_memory, gpu_check


# the networks of the other one are in their published size
@pytest.mark.slow
@pytest.mark.parametrize('problem', sorted({*bench.PROBLEMS} - {'VDVAE latents'}))
def test_every_contender_runs(problem):
    for name in bench.PROBLEMS[problem](0.02):
        if name == 'GLMsingle' and find_spec('glmsingle') is None:
            continue
        found = bench.measure_here(problem, 0.02, name)
        assert found['seconds'] >= 0
        assert found['peak_gib'] > 0


def test_table_growth_and_history(tmp_path):
    found = [
        bench.Measured('p', scale, name, factor * scale**3, 0.5)
        for scale in (0.25, 0.5, 1.0)
        for name, factor in (('ours', 2.0), ('peer', 5.0))
    ]
    assert np.isclose(bench.growth([m for m in found if m.contender == 'ours']), 3)
    lines = bench.table(found).splitlines()
    assert lines[0] == '| problem | contender | 0.25 | 0.5 | 1 | x ours | growth | GiB |'
    assert lines[3] == '| p | peer | 0.08 | 0.62 | 5.00 | 2.50 | 3.00 | 0.5 |'
    for _ in range(2):
        bench.remember(found, tmp_path / 'history.tsv')
    rows = [row.split('\t') for row in (tmp_path / 'history.tsv').read_text().splitlines()]
    assert tuple(rows[0]) == bench.COLUMNS
    assert len(rows) == 1 + 2 * len(found)
    assert {len(row) for row in rows} == {len(bench.COLUMNS)}


def test_contenders_take_turns(monkeypatch, tmp_path):
    told = []

    def measure(problem, scale, contender, tree):
        told.append((contender, tree.name))
        return {'seconds': float(len(told)), 'peak_gib': 1.0}

    monkeypatch.setattr(bench, 'measure', measure)
    contenders = {'ours': ('ours', tmp_path), 'ours at x': ('ours', tmp_path / 'x')}
    own, other = bench.compare('p', 1.0, contenders, rounds=3)
    assert [tree for _, tree in told] == [tmp_path.name, 'x'] * 3
    assert (own.seconds, other.seconds) == (3.0, 4.0)


@pytest.mark.slow
def test_every_part_of_the_check_of_a_gpu_runs(tmp_path, capsys):
    parts = ['ridge', 'films', 'image', 'betas']
    file = tmp_path / 'check.json'
    arguments = ['--device', 'cpu', '--tiny', '--json', str(file)]
    assert gpu_check.main([*parts, *arguments]) == 0, capsys.readouterr().out
    told = json.loads(file.read_text())
    assert list(told['parts']) == parts
    found = told['parts']
    assert found['ridge']['share_of_float32_matrix_rate'] > 0
    assert found['films']['share of time waiting for data'].endswith('%')
    assert min(found['image']['warm_seconds_of_stages']) > 0
    assert found['betas']['warm_seconds'] > 0
    assert found['betas']['share_of_voxels_with_the_same_choices'] > 0.9


def test_a_part_that_fails_is_told_and_the_next_one_runs(tmp_path, monkeypatch):
    def broken(sizes, device):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(
        gpu_check, 'PARTS', {'ridge': broken, 'betas': lambda sizes, device: {'voxels': 1}}
    )
    file = tmp_path / 'check.json'
    assert gpu_check.main(['--device', 'cpu', '--tiny', '--json', str(file)]) == 1
    found = json.loads(file.read_text())['parts']
    assert found['ridge']['error'] == 'RuntimeError: out of memory'
    assert found['betas']['voxels'] == 1


def test_a_gpu_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check.torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        gpu_check.main(['--json', str(tmp_path / 'check.json')])


@pytest.mark.slow
def test_a_step_that_fails_fails_the_benchmark_of_memory(monkeypatch, capsys):
    call = ['--columns', '40', '--trials', '60', '--steps']
    assert bench_memory.main([*call, 'reliability']) == 0
    done = subprocess.run

    def broken(_, **more):
        return done([sys.executable, '-S', '-c', 'raise SystemExit("no room")'], **more)

    monkeypatch.setattr(subprocess, 'run', broken)
    assert bench_memory.main([*call, 'cifti']) == 1
    out, err = capsys.readouterr()
    assert "'step': 'reliability'" in out
    assert 'no room' in err
    assert 'failed: cifti with 60 trials' in err
