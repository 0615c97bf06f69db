"""The script of a job array, read by bash; it runs on a real Slurm in tests/workflow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bids_neurodecode.cli import tools


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / 'raw data'
    for label in ('01', '02', '10'):
        (folder / f'sub-{label}').mkdir(parents=True)
    (folder / 'dataset_description.json').write_text(
        json.dumps({'Name': 'x', 'BIDSVersion': '1.10.0'}), encoding='utf-8'
    )
    return folder


def script(capsys, *arguments):
    assert tools.main(['slurm', *map(str, arguments)]) == 0
    return capsys.readouterr().out


def run_with(tmp_path, text, task):
    """Run the script with a program that prints its arguments in place of the real one."""
    program = tmp_path / 'env' / 'bin' / 'bids_neurodecode'
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n', encoding='utf-8')
    environment = {**os.environ, 'SLURM_ARRAY_TASK_ID': str(task)}
    return subprocess.run(
        ['bash'], input=text, capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()


@pytest.fixture
def environment(tmp_path):
    program = tmp_path / 'env' / 'bin' / 'bids_neurodecode'
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    return tmp_path / 'env'


def test_each_task_is_a_participant(dataset, environment, tmp_path, capsys):
    out, work = tmp_path / 'out', tmp_path / 'w'
    text = script(
        capsys, dataset, out, '-w', work, '--environment', environment,
        '--mem', '2G', '--cpus', 3, '--time', '1-12', '--at-once', 2, '--account', 'lab',
        '--options=--system encoding --derivatives "a=/x y"',
    )  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == '#!/bin/bash'
    for directive in ('array=0-2%2', 'time=1-12', 'cpus-per-task=3', 'mem=2048M', 'account=lab'):
        assert f'#SBATCH --{directive}' in lines
    assert run_with(tmp_path, text, 2) == [
        str(dataset), str(out), 'participant',
        '--participant-label', '10', '--work-dir', str(work),
        '--nprocs', '3', '--mem', '1843M', '--system', 'encoding', '--derivatives', 'a=/x y',
    ]  # fmt: skip
    assert out.is_dir()
    assert work.is_dir()


def test_default_is_this_environment(dataset, tmp_path, capsys):
    text = script(capsys, dataset, tmp_path / 'out', '--participant-label', 'sub-02')
    assert f'exec {Path(sys.prefix) / "bin" / "bids_neurodecode"} ' in text
    assert 'participants=(02)' in text
    assert '#SBATCH --array=0-0\n' in text


def test_image_with_gpus(dataset, tmp_path, capsys):
    image = tmp_path / 'app.sif'
    image.touch()
    text = script(
        capsys, dataset, tmp_path / 'out', '-w', tmp_path / 'w', '--image', image,
        '--gpus', 2, '--bind', '/weights:/weights:ro',
    )  # fmt: skip
    assert '#SBATCH --gres=gpu:2\n' in text
    assert 'exec apptainer run --cleanenv --no-home --nv --bind ' in text
    assert f"'{dataset}:{dataset}:ro'" in text
    assert '--bind /weights:/weights:ro' in text
    assert '--device cuda --n-gpus 2' in text
    assert subprocess.run(['bash', '-n'], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--participant-label', '03'], 'There is no participant 03'),
        (['--image', '/nowhere.sif'], 'There is no image /nowhere.sif'),
        (['--environment', '/nowhere'], 'There is no program /nowhere/bin'),
        (['--time', 'soon'], 'is no time limit of Slurm'),
        (['--mem', '16'], 'is no amount of memory'),
    ],
)
def test_errors(dataset, tmp_path, capsys, arguments, says):
    assert tools.main(['slurm', str(dataset), str(tmp_path / 'out'), *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert not captured.out


def test_not_a_dataset(tmp_path, capsys):
    assert tools.main(['slurm', str(tmp_path), str(tmp_path / 'out')]) == 2
    assert 'dataset_description.json' in capsys.readouterr().err
