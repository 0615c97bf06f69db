"""The schema validator works beside the checks, and does not outlive them."""

import json
import os
import sys
import time

import pytest

from bids_neurodecode.cli import validation
from bids_neurodecode.cli.validation import NO_VALIDATOR, VALIDATOR, Validator, validate_dataset
from bids_neurodecode.errors import ResourceError

LATE = """
echo yes > "$1/started"
while [ ! -e "$1/go" ]; do sleep .02; done
echo '{"issues": {"issues": [{"code": "X", "severity": "error", "location": "/sub-01/a"}]}}'
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a script in the place of the validator."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setattr(sys, 'executable', str(folder / 'python'))

    def put(script):
        file = folder / VALIDATOR
        file.write_text(f'#!/bin/sh\n{script}')
        file.chmod(0o755)

    return put


def wait_for(file):
    end = time.monotonic() + 30
    while not file.exists() or not file.read_text().endswith('\n'):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_works_while_something_else_is_done(install, tmp_path):
    install(LATE)
    with Validator(tmp_path) as validator:
        validator.start()
        validator.start()
        wait_for(tmp_path / 'started')
        (tmp_path / 'go').touch()
        found = validate_dataset(tmp_path, validator)
    assert list(found) == ['01']
    assert 'X' in found['01']


def test_it_ends_with_what_it_works_beside(install, tmp_path):
    install('echo $$ > "$1/number"\nexec sleep 600')

    def fail():
        with Validator(tmp_path) as validator:
            validator.start()
            wait_for(tmp_path / 'number')
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'number').read_text()), 0)


def test_much_that_it_says_is_read(install, tmp_path):
    install("""
awk 'BEGIN {for (i = 0; i < 200000; i++) print "warning " i}' >&2
echo '{"issues": {"issues": []}}'
""")
    assert validate_dataset(tmp_path) == {}


def test_its_errors_are_told_in_one_order(install, tmp_path):
    issues = [
        {'code': code, 'severity': 'error', 'location': location}
        for code, location in (
            ('B', '/sub-02/a'),
            ('C', '/z.txt'),
            ('B', '/sub-01/b'),
            ('B', '/sub-01/a'),
            ('A', '/sub-01/a'),
        )
    ]
    told = []
    for found in (issues, issues[::-1]):
        install(f"echo '{json.dumps({'issues': {'issues': found}})}'")
        told.append([*validate_dataset(tmp_path).items()])
    assert told[0] == told[1]
    assert [label for label, _ in told[0]] == ['', '01', '02']
    assert 'first A at /sub-01/a' in told[0][1][1]


def test_without_one_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
    monkeypatch.setattr(validation.shutil, 'which', lambda name: None)
    with pytest.raises(ResourceError) as error:
        validate_dataset(tmp_path)
    assert str(error.value) == NO_VALIDATOR.format(name=VALIDATOR)
