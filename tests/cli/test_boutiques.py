"""The descriptor says what the parser does, and bosh takes it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_neurodecode._version import __version__
from bids_neurodecode.cli import tools
from bids_neurodecode.cli.boutiques import descriptor
from bids_neurodecode.cli.parser import build_parser, parse_arguments

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTOR = ROOT / 'boutiques.json'
INVOCATIONS = sorted((ROOT / 'docs' / 'boutiques').glob('*.json'))


def bosh(*arguments):
    """Run bosh of this environment; skip where it is not installed."""
    pytest.importorskip('boutiques')
    program = shutil.which('bosh', path=str(Path(sys.executable).parent)) or shutil.which('bosh')
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_committed_file_is_what_the_parser_gives(capsys):
    assert tools.main(['boutiques']) == 0
    assert capsys.readouterr().out == DESCRIPTOR.read_text('utf-8'), (
        'run: bids_neurodecode-tools boutiques > boutiques.json'
    )


def test_every_option_is_an_input():
    content = descriptor()
    options = {action.dest for action in build_parser()._actions}
    assert {entry['id'] for entry in content['inputs']} == options - {'help', 'version', 'notrack'}
    assert content['tool-version'] == __version__
    types = {entry['id']: entry['type'] for entry in content['inputs']}
    assert types['bids_dir'] == types['weights_dir'] == 'File'
    assert types['nprocs'] == types['random_seed'] == 'Number'
    assert types['mem_gb'] == types['participant_label'] == types['task_id'] == 'String'
    assert types['dry_run'] == 'Flag'
    smallest = {entry['id']: entry.get('minimum') for entry in content['inputs']}
    assert (smallest['nprocs'], smallest['n_gpus']) == (1, 0)


def test_valid():
    result = bosh('validate', DESCRIPTOR)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize('file', INVOCATIONS, ids=lambda file: file.stem)
def test_examples_give_commands_that_the_parser_takes(file):
    result = bosh('exec', 'simulate', '-i', file, DESCRIPTOR)
    assert result.returncode == 0, result.stdout + result.stderr
    command = result.stdout.strip().splitlines()[-1].split()
    assert command[0] == 'bids_neurodecode'
    arguments = parse_arguments(command[1:])
    given = json.loads(file.read_text('utf-8'))
    assert arguments.analysis_level == given['analysis_level']
    assert list(arguments.participant_label) == given.get('participant_label', [])
    assert arguments.nprocs == given.get('nprocs')


@pytest.mark.parametrize(
    'change', [{'analysis_level': 'session'}, {'nprocs': 0}, {'colour': 'red'}, {'dry_run': 'yes'}]
)
def test_bad_invocations_are_refused(tmp_path, change):
    given = {'bids_dir': '/data', 'output_dir': '/out', 'analysis_level': 'group', **change}
    (tmp_path / 'call.json').write_text(json.dumps(given), encoding='utf-8')
    assert bosh('exec', 'simulate', '-i', tmp_path / 'call.json', DESCRIPTOR).returncode != 0


def test_every_input_has_an_id_of_its_own():
    inputs = descriptor()['inputs']
    assert len({entry['id'] for entry in inputs}) == len(inputs)
    assert len({entry['value-key'] for entry in inputs}) == len(inputs)
