"""Damaged files: a short part of ``make fuzz``, and what it takes for a finding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from bids_neurodecode.errors import InputError


@pytest.mark.slow
def test_damaged_files_are_read_or_refused():
    chosen = set(fuzz.targets())
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.fuzz', '--cases', '24', '--only', *sorted(chosen)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert 'refused' in done.stdout


def test_a_case_is_made_again_by_its_number(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        fuzz.targets()['tables'].make(tmp_path / name)
    spoiled = [
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in fuzz.damaged(fuzz.targets()['tables'], tmp_path / name, 3, 17)
        }
        for name in ('a', 'b')
    ]
    assert spoiled[0] == spoiled[1]


def raise_key(_: Path) -> None:
    raise KeyError('x')


def refuse(_: Path) -> None:
    raise InputError('Fix it.')


def take_memory(_: Path) -> None:
    np.ones(int(fuzz.MEMORY_GB * 2**30))


@pytest.mark.parametrize(
    ('read', 'came'),
    [
        (raise_key, 'KeyError at'),
        (take_memory, 'MemoryError at'),
        (lambda _: os.kill(os.getpid(), 15), 'signal SIGTERM'),
        (refuse, fuzz.REFUSED),
        (lambda _: None, fuzz.READ),
    ],
)
def test_what_comes_of_a_case(read, came, tmp_path):
    assert fuzz.apart(fuzz.Target(lambda _: None, read), tmp_path).startswith(came)


def test_values_of_json_are_put_anywhere():
    rng = np.random.default_rng(0)
    content = {'a': [1, {'b': 'c'}], 'd': 'e'}
    changed = {json.dumps(fuzz._value(content, rng)) for _ in range(200)}
    assert len(changed) > 50
    assert json.loads(json.dumps(content)) == content
