"""Every kind of bad input (``tests/bad``) is refused in one line; what passes, and who goes on."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bids_neurodecode.cli import checks_places, levels
from bids_neurodecode.cli.checks import check_all
from bids_neurodecode.cli.describe import describe
from bids_neurodecode.cli.exits import FAILED, USAGE
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.parser import parse_arguments, settings_from
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.levels import participant
from bids_neurodecode.workflow import resources
from bids_neurodecode.workflow.resources import DataSize, chosen_share
from tests.bad import fault
from tests.bad_input import (
    FILM,
    check,
    command,
    edit_json,
    left_out,
    listing,
    refused,
    run_cli,
    set_stimulus,
    spoiled,
    write_atlas,
)


def with_some_fast(kinds):
    """Mark all but each sixth kind of bad input as slow: the matrix is large."""
    return [
        kind if number % 6 == 0 else pytest.param(*kind.values, id=kind.id, marks=pytest.mark.slow)
        for number, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(('spoil', 'line', 'spec'), with_some_fast(fault.all))
def test_refused(spoil, line, spec, make_dataset, datasets, tmp_path, capsys):
    data = make_dataset(**spec)
    refused(command(data, spoiled(spoil, data, datasets)), line, tmp_path, capsys)


@pytest.mark.parametrize(('spoil', 'line', 'spec'), with_some_fast(fault.of_one))
def test_others_go_on(spoil, line, spec, make_dataset, datasets):
    left_out(spoil, line, make_dataset(**spec, participants=('01', '02', '03')), datasets)


@pytest.mark.parametrize('spec', [{}, FILM, {'sessions': ('a', 'b')}, {'spaces': (None,)}])
def test_good_input_passes_and_writes_nothing(make_dataset, tmp_path, spec):
    data = make_dataset(**spec)
    before = listing(tmp_path)
    inputs = check(data)
    assert [person.label for person in inputs.participants] == ['01']
    assert inputs.failures == {}
    assert listing(tmp_path) == before


def test_accents_and_marks_of_other_systems_are_read(make_dataset):
    """Names as macOS spells them, and text as Windows' editors write it."""
    data = make_dataset()
    shutil.copy(data.root / 'stimuli' / 'a.png', data.root / 'stimuli' / 'cafe\u0301.png')
    set_stimulus(data, 'caf\u00e9.png')
    for file in (data.events(), data.bold(extension='.json')):
        file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes().replace(b'\n', b'\r\n'))
    settings = data.root.parent / 'config.toml'
    # of so few trials no image can be generated
    settings.write_bytes(b'\xef\xbb\xbfseed = 3\r\n[reconstruction]\r\ngenerator = "none"\r\n')
    (person,) = check(data, ['--config-file', str(settings)]).participants
    assert 'cafe\u0301.png' in person.stimuli


def test_results_go_into_a_home_that_holds_nothing_else(make_dataset, monkeypatch, tmp_path):
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.setenv('HOME', str(home))
    extra = ['OUTPUT', str(home)]
    assert check(make_dataset(), extra).participants
    (home / 'letter.txt').write_text('')
    with pytest.raises(ArgumentsError, match='is the home of the user'):
        check(make_dataset('again'), extra)


def test_too_little_memory_is_one_line(make_dataset, capsys, monkeypatch):
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr('bids_neurodecode.cli.checks.check_all', no_memory)
    code, stderr = run_cli(command(make_dataset()), capsys)
    assert (code, stderr.count('error: There is not enough memory')) == (FAILED, 1)


def test_a_word_longer_than_a_name_of_a_file_shows_nothing(make_dataset):
    data = make_dataset(stimuli=('a.png', 'b.png', 'c.png', 'd.png'))
    set_stimulus(data, 'x' * 300)
    # of so few trials no image can be generated
    settings = data.root.parent / 'config.toml'
    settings.write_text('[reconstruction]\ngenerator = "none"\n')
    notes = check(data, ['--config-file', str(settings)]).notes
    assert any('is no file while most values are' in note for note in notes)


def test_one_participant_with_bad_data_does_not_stop_the_others(make_dataset):
    data = make_dataset(participants=('01', '02', '03', '04'))
    data.rewrite_bold(np.zeros_like, sub='02')
    data.mask(sub='03').unlink()
    shutil.rmtree(data.derivatives / 'sub-04')
    inputs = check(data)
    assert [person.label for person in inputs.participants] == ['01']
    assert set(inputs.failures) == {'02', '03', '04'}
    assert 'is zero in the whole mask' in inputs.failures['02']
    assert 'No brain mask' in inputs.failures['03']
    assert 'of sub-04' in inputs.failures['04']
    assert all('\n' not in line for line in inputs.failures.values())


def test_all_participants_with_bad_data_is_an_error(make_dataset, capsys):
    data = make_dataset(participants=('01', '02'))
    data.rewrite_bold(np.zeros_like, sub='02')
    data.mask(sub='01').unlink()
    code, stderr = run_cli(command(data), capsys)
    assert code == USAGE
    assert 'No brain mask' in stderr
    assert 'all 2 participants: sub-01, sub-02' in stderr


def test_cuda_that_is_not_there(make_dataset, capsys, monkeypatch):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    code, stderr = run_cli(command(make_dataset(), ['--device', 'cuda']), capsys)
    assert (code, 'no CUDA device' in stderr) == (USAGE, True)


def test_more_gpus_than_there_are(make_dataset, capsys, monkeypatch):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    code, stderr = run_cli(command(make_dataset(), ['--n-gpus', '2']), capsys)
    assert (code, '2 GPUs, and 1 are there' in stderr) == (USAGE, True)


def test_folder_that_cannot_be_written(make_dataset, capsys, monkeypatch):
    data = make_dataset()
    locked = data.root.parent / 'locked'
    locked.mkdir()
    allowed = os.access  # root may write anywhere, so the answer is made
    monkeypatch.setattr(
        os, 'access', lambda path, mode: allowed(path, mode) and os.fspath(path) != str(locked)
    )
    code, stderr = run_cli(command(data, ['OUTPUT', str(locked / 'out')]), capsys)
    assert code == USAGE
    assert re.search(r'output folder .*locked/out cannot be written', stderr)


def test_too_little_disk(make_dataset, capsys, monkeypatch):
    data = make_dataset()
    full = shutil.disk_usage('/')._replace(free=10)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: full)
    code, stderr = run_cli(command(data), capsys)
    assert code == USAGE
    assert re.search(r'GB of disk are needed in .*, and 0\.00 GB are free', stderr)


class TestValidator:
    """The schema validator, run on the raw dataset."""

    def check(self, data):
        argv = [word for word in command(data) if word != '--skip-bids-validation']
        arguments = parse_arguments(argv)
        return check_all(arguments, settings_from(arguments))

    def test_valid(self, make_dataset):
        inputs = self.check(make_dataset(raw_bold=True))
        assert any('validator found no error' in note for note in inputs.notes)

    @pytest.mark.slow
    def test_files_that_are_never_read_stop_nothing(self, make_dataset):
        data = make_dataset(raw_bold=True)
        (data.root / 'oops.dat').write_text('x')
        inputs = self.check(data)
        assert [person.label for person in inputs.participants] == ['01']
        (note,) = (note for note in inputs.notes if 'not valid BIDS' in note)
        assert re.search(r'^Warning: .*raw is not valid BIDS: 1 error.*/oops\.dat', note)

    @pytest.mark.slow
    def test_fields_that_are_never_read_stop_nothing(self, make_dataset):
        data = make_dataset(raw_bold=True)
        edit_json(data.root / 'dataset_description.json', Funding='')
        inputs = self.check(data)
        assert any('JSON_SCHEMA_VALIDATION_ERROR Funding' in note for note in inputs.notes)

    def test_error_of_one_participant(self, make_dataset):
        data = make_dataset(raw_bold=True, participants=('01', '02'))
        (data.root / 'sub-02' / 'func' / 'oops.dat').write_text('x')
        inputs = self.check(data)
        assert [person.label for person in inputs.participants] == ['01', '02']
        (note,) = (note for note in inputs.notes if 'not valid BIDS' in note)
        assert 'Warning: sub-02 is not valid BIDS' in note
        assert 'NOT_INCLUDED at /sub-02/func/oops.dat' in note

    @pytest.mark.slow
    def test_raw_series_that_were_not_fetched(self, make_dataset):
        data = make_dataset(raw_bold=True)
        for raw in (data.root / 'sub-01' / 'func').glob('*_bold.nii.gz'):
            raw.unlink()
            raw.symlink_to('../../.git/annex/objects/aa/bb/MD5E-s1--0.nii.gz')
        inputs = self.check(data)
        assert len(inputs.participants[0].runs) == 2


def test_atlas_that_fits(make_dataset):
    data = make_dataset()
    inputs = check(data, ['--atlas', str(write_atlas(data, np.ones((4, 4, 3))))])
    assert len(inputs.participants) == 1


def test_dry_run_lists_what_is_read_run_and_written(make_dataset):
    data = make_dataset(participants=('01', '02'))
    data.mask(sub='02').unlink()
    arguments = parse_arguments(command(data, ['-v']))
    settings = settings_from(arguments)
    text = describe(arguments, settings, check_all(arguments, settings))
    files = [data.bold(), data.mask(run='02'), data.confounds(), data.events()]
    for path in files:
        assert str(path) in text
    brief = parse_arguments(command(data))
    short = describe(brief, settings, check_all(brief, settings))
    assert not any(str(path) in short for path in files)
    assert 'files: -v' in short
    assert 'system: reconstruction (task' in short
    assert 'reconstruction.generator: small' in short
    assert re.search(r'split\.by: \w+ \(', short)
    assert re.search(r'betas\.model: ', short)
    assert re.search(r'\d+ steps: .*betas \(\d\.\d GB\).*report', short)
    assert 'GB for the largest step' in short
    assert re.search(r'time: very roughly \D*\d+ ', short)
    assert f'single-trial betas, model {settings.betas.model}' in text
    assert f'results: {data.root.parent / "out"}' in text
    assert re.search(r'left out, sub-02: No brain mask', text)


@pytest.mark.parametrize(
    'more',
    [
        ['--system', 'encoding'],
        ['--level', 'betas'],
        ['--config-file', 'third.toml'],
        ['--config-file', 'few.toml'],
        [],  # with generated images, all different
    ],
)
def test_a_study_of_91_282_columns_and_30_000_trials_is_planned_within_16_gb(
    make_dataset, monkeypatch, tmp_path, capsys, more
):
    """Without data: what the headers would say is put in the place of what they say."""
    size = DataSize(91_282, (300,) * 480, 10_000 if more else 30_000, 1.0, 30_000)

    def large(_, selection=None):
        return replace(size, chosen=chosen_share(selection or build_config({}).selection))

    for module in (participant, resources):
        monkeypatch.setattr(module, 'data_size', large)
    monkeypatch.setattr(checks_places, 'disk_needed', lambda *_: (0.0, 0.0))
    for module in (checks_places, levels):
        monkeypatch.setattr(module, 'total_memory_gb', lambda: 16.0)
    third = '[reconstruction]\ngenerator = "none"\n'
    few = f'[selection]\nrule = "top"\nfraction = 0.2\n{third}'
    for name, text in (('third', third), ('few', few)):
        (tmp_path / f'{name}.toml').write_text(text)
    data = make_dataset()
    more = [str(tmp_path / each) if each.endswith('.toml') else each for each in more]
    argv = command(data, ['--dry-run', '--mem', '16G', *more])
    assert main(argv) == 0
    out = capsys.readouterr().out
    found = re.search(r'memory: ([\d.]+) GB for the largest step, up to ([\d.]+) GB at once', out)
    assert found is not None
    assert float(found[1]) <= 16
    assert float(found[2]) <= 16


@pytest.mark.slow
@pytest.mark.real
def test_haxby(shared, tmp_path):
    argv = [str(shared / 'data' / 'haxby2001'), str(tmp_path / 'out'), 'participant']
    arguments = parse_arguments([*argv, '-w', str(tmp_path / 'work')])
    inputs = check_all(arguments, settings_from(arguments))
    (person,) = inputs.participants
    assert (len(person.runs), person.paradigm, len(person.stimuli)) == (12, 'images', 8)
    assert {(run.repetition_time, run.n_volumes, run.space) for run in person.runs} == {
        (2.5, 121, None)
    }
    assert inputs.failures == {}
