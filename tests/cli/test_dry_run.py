"""A dry run writes nothing, whatever it is of."""

import sys
import tempfile
from types import ModuleType

import numpy as np
import pytest

from bids_neurodecode.cli.main import main
from bids_neurodecode.signals.templateflowfiles import WOULD_BE_FETCHED
from tests.bad_input import FILM, command, listing
from tests.datasets import write_mask

LABELS = ('01', '02')


def shows_categories(data):
    """Name categories in the place of images; their trials become a table in the work folder."""
    for run in data.each_run():
        rows = [[4 + 4 * n, 1, ('face', 'house')[n // 3 % 2]] for n in range(8)]
        data.rewrite_events(rows, columns=['onset', 'duration', 'trial_type'], **run)


def shows_categories_in_blocks(data):
    shows_categories(data)
    file = data.root.parent / 'blocks.toml'
    file.write_text('[conditions]\nblocks = "merge"\nblock_gap = 4.0\n')
    return ['--config-file', str(file)]


def lacks_masks(data):
    for run in data.each_run():
        data.mask(**run).unlink()


def names_one_mask(data):
    """Of another grid: it is resampled into the work folder."""
    mask = data.root.parent / 'brain.nii.gz'
    write_mask(mask, np.ones((8, 8, 6)), np.diag([1.5, 1.5, 1.5, 1.0]))
    return ['--mask', str(mask)]


def names_images_without_their_ending(data):
    """The names are completed, in a table in the work folder."""
    for run in data.each_run():
        rows = [[4 + 8 * n, 2, 'x', name] for n, name in enumerate(('a', 'b', 'c'))]
        data.rewrite_events(rows, **run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('change', 'spec', 'more'),
    [
        (None, {}, []),
        (None, FILM, []),
        (shows_categories, {}, []),
        (shows_categories, {}, ['--level', 'betas']),
        (shows_categories_in_blocks, {}, []),
        (lacks_masks, {}, []),
        (lacks_masks, {}, ['--level', 'betas', '--bids-database-dir', 'index']),
        (lacks_masks, FILM, ['--study', 'movie-delay']),
        (lacks_masks, {}, ['--blocks', '2', '--system', 'encoding']),
        (names_one_mask, {}, []),
        (names_images_without_their_ending, {}, ['-v']),
    ],
)
def test_nothing_is_written(make_dataset, tmp_path, monkeypatch, capsys, change, spec, more):
    data = make_dataset(participants=LABELS, **spec)
    own = tmp_path / 'tmp'
    own.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(own))
    extra = [] if change is None else change(data) or []
    extra += [str(tmp_path / word) if word == 'index' else word for word in more]
    before = listing(tmp_path)
    assert main([*command(data, extra), '--dry-run']) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert 'nothing is written' in said
    assert str(own) not in said
    assert listing(tmp_path) == before


@pytest.mark.parametrize(('spec', 'more'), [({}, []), (FILM, ['--study', 'movie-delay'])])
def test_an_atlas_is_not_fetched(make_dataset, tmp_path, monkeypatch, capsys, spec, more):
    home = tmp_path / 'home'

    class Api:
        def ls(self, template, extension, **_):
            name = f'tpl-{template}_res-02_atlas-Mine_dseg{extension}'
            return [home / f'tpl-{template}' / name]

        def get(self, *_, **__):
            raise AssertionError('the network was asked')

    stub = ModuleType('templateflow')
    stub.api = Api()
    monkeypatch.setitem(sys.modules, 'templateflow', stub)
    monkeypatch.delenv('TEMPLATEFLOW_HOME', raising=False)
    data = make_dataset(**spec)
    before = listing(tmp_path)
    assert main([*command(data, ['--atlas', 'Mine', *more]), '--dry-run']) == 0
    file = 'tpl-MNI152NLin6Asym_res-02_atlas-Mine_dseg.nii.gz'
    assert WOULD_BE_FETCHED.format(file=file, home=home) in capsys.readouterr().out
    assert listing(tmp_path) == before


def test_what_a_dry_run_says_it_would_make_is_made(make_dataset, tmp_path, capsys):
    """The paths are those of a run, though the files were made elsewhere."""
    data = make_dataset()
    extra = shows_categories_in_blocks(data)
    assert main(command(data, [*extra, '-v', '--dry-run'])) == 0
    said = capsys.readouterr().out
    files = {line.split()[1] for line in said.splitlines() if line.strip().startswith('events')}
    assert files
    assert all(str(tmp_path / 'work' / 'layout') in file for file in files), files
