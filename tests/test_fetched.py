"""Stand-ins for content that was not fetched are told from the files themselves."""

import re

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched, stand_in

KEY = '.git/annex/objects/Xx/Yy/MD5E-s9--ab.nii.gz/MD5E-s9--ab.nii.gz'
LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n'
STAND_INS = {
    'link': lambda file: file.symlink_to(f'../../{KEY}'),
    'link to nowhere': lambda file: file.symlink_to('../../x/none'),
    'pointer': lambda file: file.write_text('/annex/objects/MD5E-s9--ab.nii.gz\n'),
    'pointer without an end': lambda file: file.write_text('/annex/objects/MD5E-s9--ab.nii.gz'),
    'link as text': lambda file: file.write_text(f'../../{KEY}'),
    'other link as text': lambda file: file.write_text('../../x/none.json'),
    'lfs': lambda file: file.write_text(LFS),
}
FILES = {
    'bold': lambda data: data.bold(run='02'),
    'mask': lambda data: data.mask(run='02'),
    'confounds': lambda data: data.confounds(run='02'),
    'events': lambda data: data.events(run='02'),
    'sidecar': lambda data: data.bold(run='02', extension='.json'),
    'image': lambda data: data.root / 'stimuli' / 'a.png',
    'description': lambda data: data.root / 'dataset_description.json',
    'derived description': lambda data: data.derivatives / 'dataset_description.json',
}


@pytest.mark.parametrize('which', FILES)
@pytest.mark.parametrize('kind', STAND_INS)
def test_every_file_that_is_read(make_dataset, kind, which):
    data = make_dataset()
    file = FILES[which](data)
    file.unlink()
    STAND_INS[kind](file)
    with pytest.raises(InputError) as error:
        find_inputs(Request(data.root))
    line = str(error.value)
    assert f'{file} was not fetched' in line
    assert '\n' not in line
    assert ('lfs pull' if kind == 'lfs' else f'datalad get {file}') in line


def test_other_participants_are_unharmed(make_dataset):
    data = make_dataset(participants=('01', '02'))
    data.bold(sub='02').unlink()
    STAND_INS['link'](data.bold(sub='02'))
    found = find_inputs(Request(data.root))
    assert [person.label for person in found.participants] == ['01']
    assert 'was not fetched' in found.failures['02']


def test_raw_series_are_not_needed(make_dataset):
    data = make_dataset(raw_bold=True)
    for file in data.root.glob('sub-*/func/*_bold.nii.gz'):
        file.unlink()
        STAND_INS['link'](file)
    assert len(find_inputs(Request(data.root)).participants) == 1


def test_tasks_whose_events_were_not_fetched_are_not_passed_over(make_dataset):
    data = make_dataset(tasks=('img', 'loc'))
    for run in data.each_run():
        if run['task'] == 'loc':
            data.events(**run).unlink()
            STAND_INS['pointer'](data.events(**run))
    with pytest.raises(InputError, match='was not fetched'):
        find_inputs(Request(data.root))


def test_subdatasets_that_are_not_installed(make_dataset):
    data = make_dataset()
    for file in data.derivatives.rglob('*'):
        if file.is_file():
            file.unlink()
    for folder in sorted((p for p in data.derivatives.rglob('*')), reverse=True):
        folder.rmdir()
    modules = f'[submodule "x"]\n\tpath = derivatives/{data.derivatives.name}\n\turl = y\n'
    (data.root / '.gitmodules').write_text(modules)
    with pytest.raises(InputError, match=r'subdataset that is not installed.*datalad get'):
        find_inputs(Request(data.root))


def test_links_of_folders(tmp_path):
    (tmp_path / 'stimuli').symlink_to('../elsewhere')
    with pytest.raises(InputError, match=re.escape(str(tmp_path / 'stimuli'))):
        check_fetched(tmp_path / 'stimuli' / 'a.png')


def test_files_themselves_pass(tmp_path):
    tables = {'a.tsv': 'onset\tduration\n1\t2\n', 'b.json': '{"a": "../x"}', 'c.tsv': '', 'd': 'x'}
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
        assert stand_in(tmp_path / name) is None
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / 'e.nii.gz')
    (tmp_path / 'f.json').symlink_to(tmp_path / 'b.json')
    for name in ('e.nii.gz', 'f.json', 'missing.tsv'):
        assert stand_in(tmp_path / name) is None


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'No file has a name as long as .*xxx'):
        check_fetched(tmp_path / ('x' * 5000))
