"""``weights`` as the command line runs it."""

import argparse
import subprocess
import sys

import pytest

from bids_neurodecode.cli import weights as cli
from bids_neurodecode.cli.tools import main
from bids_neurodecode.cli.weights import add_weights_parser, networks_of, run_weights
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.models.generators import recipe_names
from bids_neurodecode.models.weights import WeightsEntry, load_manifest

SOME = WeightsEntry(
    name='some', kind='file', licence='CC0-1.0', about='Nothing much', used_by=('tests',),
    urls=('https://example.org/some.bin',), file='some.bin',
)  # fmt: skip


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, 'load_manifest', lambda: {'some': SOME})
    monkeypatch.setattr(cli, 'find_entry', lambda name, *_: {'some': SOME}[name])
    monkeypatch.setenv('BIDS_NEURODECODE_WEIGHTS', str(tmp_path / 'weights'))

    def call(*argv):
        parser = argparse.ArgumentParser()
        add_weights_parser(parser.add_subparsers())
        options = parser.parse_args(['weights', *map(str, argv)])
        assert options.run is run_weights
        return run_weights(options)

    return call


def test_import_list_and_verify(run, tmp_path, capsys):
    (tmp_path / 'copy.bin').write_bytes(b'weights')
    assert run('list') == 0
    assert 'some: missing' in capsys.readouterr().out
    assert run('import', 'some', tmp_path / 'copy.bin') == 0
    assert str(tmp_path / 'weights' / 'some' / 'some.bin') in capsys.readouterr().out
    assert run('list') == 0
    out = capsys.readouterr().out
    assert 'some: here' in out
    assert 'licence CC0-1.0' in out
    assert run('verify') == 0
    assert 'some: good' in capsys.readouterr().out


def test_verify_says_what_is_damaged_and_fails(run, tmp_path, capsys):
    (tmp_path / 'copy.bin').write_bytes(b'weights')
    run('import', 'some', tmp_path / 'copy.bin')
    (tmp_path / 'weights' / 'some' / 'some.bin').write_bytes(b'WEIGHTS')
    assert run('verify') == 1
    assert 'some: damaged (the SHA-256 of some.bin differs)' in capsys.readouterr().out


def test_verify_passes_over_what_is_absent_unless_it_is_named(run, capsys):
    assert run('verify') == 0
    assert capsys.readouterr().out == ''
    assert run('verify', 'some') == 1


def test_another_folder(run, tmp_path):
    (tmp_path / 'copy.bin').write_bytes(b'weights')
    run('import', 'some', tmp_path / 'copy.bin', '--weights-dir', tmp_path / 'mounted')
    assert (tmp_path / 'mounted' / 'some' / 'some.bin').is_file()
    assert not (tmp_path / 'weights').exists()


def test_fetch_asks_what_and_shows_how_far_it_is(run, tmp_path, monkeypatch, capsys):
    with pytest.raises(ArgumentsError, match=r'Say which weights to fetch \(some\), or --all'):
        run('fetch')

    def pretend(entry, folder, *, progress, endpoint):
        assert endpoint is None
        for done in range(0, 1001, 10):
            progress(done, 1000)
        return folder / entry.file

    monkeypatch.setattr('bids_neurodecode.models.weights_fetch.fetch_weights', pretend)
    assert run('fetch', '--all') == 0
    out, err = capsys.readouterr()
    assert 'licence CC0-1.0' in out
    assert err.count('\n') == 20
    assert err.endswith('some: 100 % of 0.0 MB\n')


def test_import_of_what_is_not_there(run, tmp_path):
    with pytest.raises(InputError, match='There is no file'):
        run('import', 'some', tmp_path / 'none.bin')


def test_the_parser_needs_no_heavy_library():
    code = (
        'import sys, bids_neurodecode.cli.weights as w; w.load_manifest(); '
        'heavy = {"torch", "pooch", "requests", "huggingface_hub"} & set(sys.modules); '
        'sys.exit(f"imported {heavy}" if heavy else 0)'
    )
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_a_preset_needs_is_listed_with_its_total(tmp_path, capsys):
    (tmp_path / 'own.toml').write_text('[reconstruction]\ngenerator = "kandinsky-2.2"\n')
    place = ['--weights-dir', str(tmp_path)]
    assert main(['weights', 'list', '--for', str(tmp_path / 'own.toml'), *place]) == 0
    said = capsys.readouterr().out
    names = ('vdvae-imagenet64', 'kandinsky-2.2-prior', 'kandinsky-2.2-decoder')
    *lines, judges = said.splitlines()
    assert 'that judge images are not counted: alexnet, ' in judges
    listed = [line.split(':')[0] for line in lines[1:-1] if not line.startswith(' ')]
    assert listed == list(names)
    entries = [load_manifest()[name] for name in names]
    total = sum(entry.size or 10**6 * entry.about_mb for entry in entries) / 1e6
    assert f'needs 3 of these, {total:,.1f} MB in all' in said
    for generator in recipe_names():
        config = build_config({'reconstruction': {'generator': generator}}, source='test')
        needed = networks_of(config)[0]
        assert set(needed) <= set(load_manifest())
        assert 'vdvae-imagenet64' in needed
