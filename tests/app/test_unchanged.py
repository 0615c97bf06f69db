"""A second run: whom it leaves alone, and what makes it run them again."""

import errno
import os

import pytest

from bids_neurodecode.cli import checks, levels
from bids_neurodecode.cli.main import main
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from tests.running import HERE

LEFT_ALONE = 'sub-01: nothing changed since the last run'


class App:
    """A small dataset, of which betas alone are estimated."""

    def __init__(self, folder):
        self.data, self.out = folder / 'data', folder / 'out'
        self.settings, self.work = folder / 'settings.toml', folder / 'work'
        self.settings.write_text('[betas]\nmodel = "B"\n')
        spec = SimulationSpec(n_subjects=1, n_runs=2, n_images=16, n_repeats=2, voxel_size=12.0)
        simulate_dataset(self.data, spec)

    def run(self, *more, work=None):
        places = [self.data, self.out, 'participant', '-w', work or self.work]
        options = ['--level', 'betas', *HERE, '--device', 'cpu']
        options += ['--skip-bids-validation', '--config-file', self.settings]
        assert main([str(word) for word in (*places, *options, *more)]) == 0

    def outputs(self):
        """Return when each output was written, and its content; logs of the calls aside."""
        return {
            file.relative_to(self.out).as_posix(): (file.stat().st_mtime_ns, file.read_bytes())
            for file in sorted(self.out.rglob('*'))
            if file.is_file() and file.suffix not in {'.log', '.lock'}
        }

    @property
    def betas(self):
        (file,) = self.out.rglob('*_stat-effect_*_statmap.nii.gz')
        return file


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return App(tmp_path_factory.mktemp('unchanged'))


@pytest.fixture
def app(made, no_page, capsys):
    """The app after a run that ended well."""
    made.run()
    capsys.readouterr()
    return made


@pytest.mark.slow
def test_an_unchanged_run_touches_nothing(app, capsys):
    before = app.outputs()
    app.run()
    log = capsys.readouterr().err
    assert LEFT_ALONE in log
    assert 'steps' not in log
    assert app.outputs() == before


def test_the_design_of_who_is_left_alone_is_not_checked_again(app, capsys, monkeypatch):
    checked = []
    known = checks.check_design

    def check(person, config, **options):
        checked.append(person.label)
        return known(person, config, **options)

    monkeypatch.setattr(checks, 'check_design', check)
    app.run()
    assert LEFT_ALONE in capsys.readouterr().err
    assert checked == []
    app.betas.unlink()
    app.run()
    assert checked == ['01']


def test_a_run_that_ends_before_its_last_file_did_not_end_well(app, capsys, monkeypatch):
    citation = (app.out / 'logs' / 'CITATION.md').read_text()
    written = levels.write_dataset

    def full(arguments, config, inputs, results=()):
        if results:  # the last ones, which tell what was found
            raise OSError(errno.ENOSPC, 'No space left on device', 'x')
        written(arguments, config, inputs)

    app.betas.unlink()
    monkeypatch.setattr(levels, 'write_dataset', full)
    with pytest.raises(AssertionError):
        app.run()
    monkeypatch.setattr(levels, 'write_dataset', written)
    assert 'no space left' in capsys.readouterr().err
    app.run()
    assert LEFT_ALONE not in capsys.readouterr().err
    assert (app.out / 'logs' / 'CITATION.md').read_text() == citation


def test_an_output_that_is_gone_or_altered_is_made_again(app, capsys):
    whole = app.betas.read_bytes()
    app.betas.unlink()
    app.run()
    assert f'its output {app.betas} is missing' in capsys.readouterr().err
    assert app.betas.read_bytes() == whole
    app.betas.write_bytes(whole[:-1] + b'x')
    app.run()
    assert f'its output {app.betas} was altered' in capsys.readouterr().err
    assert app.betas.read_bytes() == whole
    os.utime(app.betas)  # the same content at another time is the same output
    app.run()
    assert LEFT_ALONE in capsys.readouterr().err


def test_a_tissue_map_that_the_page_shows_is_an_input(app, capsys):
    os.utime(next(app.data.rglob('sub-01/anat/*_dseg.nii.gz')))
    app.run()
    assert 'what it reads, the options or the versions' in capsys.readouterr().err


def test_a_damaged_record_is_none(app, capsys):
    (record,) = app.work.rglob('ended/*.json')
    record.write_text('{}')
    app.run()
    assert 'steps were run in' in capsys.readouterr().err


def test_what_describes_the_dataset_is_made_again(app, capsys):
    file = app.out / 'dataset_description.json'
    file.unlink()
    before = app.betas.stat()
    app.run()
    assert LEFT_ALONE in capsys.readouterr().err
    assert file.is_file()
    assert app.betas.stat() == before


@pytest.mark.slow
def test_a_changed_input_makes_betas_again(app, capsys):
    events = next(app.data.rglob('sub-01*_events.tsv'))
    betas, text = app.betas.read_bytes(), events.read_text()
    rows = text.splitlines(keepends=True)
    first = rows[1].split('\t')
    rows[1] = '\t'.join([f'{float(first[0]) + 2:g}', *first[1:]])
    events.write_text(''.join(rows))
    app.run()
    assert 'what it reads, the options or the versions' in capsys.readouterr().err
    assert app.betas.read_bytes() != betas
    events.write_text(text)
    app.run()
    assert 'sub-01 is run again' in capsys.readouterr().err
    assert app.betas.read_bytes() == betas


def test_a_changed_setting_makes_betas_again(app, capsys):
    betas, text = app.betas.read_bytes(), app.settings.read_text()
    app.settings.write_text(text.replace('B', 'C'))
    app.run()
    assert 'its settings changed' in capsys.readouterr().err
    assert app.betas.read_bytes() != betas
    app.settings.write_text(text)


def test_another_version_makes_all_again(app, capsys, monkeypatch):
    monkeypatch.setattr('bids_neurodecode.levels.participant.__version__', '99')
    app.run()
    log = capsys.readouterr().err
    assert 'sub-01 is run again' in log
    assert 'reused' not in log


def test_a_clean_or_another_work_folder_knows_no_earlier_run(app, capsys, tmp_path):
    app.run('--clean-workdir')
    app.run(work=tmp_path)
    log = capsys.readouterr().err
    assert LEFT_ALONE not in log
    assert 'is run again' not in log
    assert log.count('steps were run in') == 2
