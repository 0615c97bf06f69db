"""Caches below the work folder, and nothing in HOME, whoever runs it."""

import configparser
import os
import signal
import subprocess
import sys

import pytest

from bids_neurodecode.cli import checks_places
from bids_neurodecode.cli.environment import (
    CACHES,
    configure_nipype,
    set_environment,
    threads_of,
)
from bids_neurodecode.cli.main import own_folders
from bids_neurodecode.cli.parser import parse_arguments


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Changes to the environment end with the test."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    for name in (*CACHES, 'HF_HOME', 'TEMPLATEFLOW_HOME', 'LOGNAME', 'USER'):
        os.environ.pop(name, None)


@pytest.mark.parametrize(
    ('asked', 'nprocs', 'available', 'threads'),
    [(None, None, 1, 1), (None, None, 2, 1), (None, None, 6, 5), (None, None, 64, 8),
     (None, 4, 64, 3), (3, None, 2, 3), (12, 4, 64, 12)],
)  # fmt: skip
def test_threads_of_a_node_by_the_processors(monkeypatch, asked, nprocs, available, threads):
    monkeypatch.setattr(checks_places, 'n_processors', lambda: available)
    assert threads_of(asked, nprocs) == threads


def test_home_that_cannot_be_written(tmp_path):
    os.environ['HOME'] = str(tmp_path / 'nowhere')
    set_environment(tmp_path / 'cache', threads=3)
    for name in (*CACHES, 'HF_HOME', 'TEMPLATEFLOW_HOME'):
        assert os.environ[name].startswith(str(tmp_path / 'cache'))
    assert os.environ['OMP_NUM_THREADS'] == '3'
    assert os.environ['LOGNAME'] == os.environ['USER'] == 'user'
    assert not (tmp_path / 'cache').exists()


def test_what_is_shared_stays_at_home_and_what_is_set_stays(tmp_path):
    os.environ |= {'HOME': str(tmp_path), 'MPLCONFIGDIR': '/mine', 'USER': 'ada'}
    os.environ['OPENBLAS_THREAD_TIMEOUT'] = '20'
    set_environment(tmp_path / 'cache')
    assert os.environ['GOMP_SPINCOUNT'] == '1000'
    assert os.environ['OPENBLAS_THREAD_TIMEOUT'] == '20'
    assert 'TEMPLATEFLOW_HOME' not in os.environ
    assert os.environ['MPLCONFIGDIR'] == '/mine'
    assert os.environ['LOGNAME'] == 'ada'


def test_nipype_reads_its_file(tmp_path):
    configure_nipype(tmp_path / 'nipype', level='CRITICAL')
    parser = configparser.ConfigParser()
    parser.read(tmp_path / 'nipype' / 'nipype.cfg')
    assert parser['logging']['workflow_level'] == 'CRITICAL'
    assert [file.name for file in (tmp_path / 'nipype').iterdir()] == ['nipype.cfg']
    code = 'from nipype import config; print(config.get("logging", "workflow_level"))'
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == 'CRITICAL'


def test_the_program_leaves_no_handler_behind_and_runs_in_a_thread(tmp_path, capsys):
    from concurrent.futures import ThreadPoolExecutor

    from bids_neurodecode.cli.main import main

    words = [str(tmp_path / 'none'), str(tmp_path / 'out'), 'participant']
    for before in (signal.SIG_DFL, lambda *_: None):
        earlier = signal.signal(signal.SIGTERM, before)
        try:
            assert main(words) == 2
            assert signal.getsignal(signal.SIGTERM) == before
        finally:
            signal.signal(signal.SIGTERM, earlier)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, words).result() == 2
    assert 'There is no folder' in capsys.readouterr().err


def test_a_dry_run_keeps_its_folders_apart(tmp_path):
    call = [str(tmp_path), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]
    (tmp_path / 'work' / 'cache').mkdir(parents=True)
    with own_folders(parse_arguments([*call, '--dry-run'])) as folders:
        for folder in folders:
            assert not folder.is_relative_to(tmp_path / 'work')
            folder.mkdir()
    assert not any(folder.exists() for folder in folders)
    with own_folders(parse_arguments(call)) as folders:
        assert folders == (tmp_path / 'work' / 'cache', tmp_path / 'work' / 'layout')
