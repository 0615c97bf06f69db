"""Stand-ins for content that was not fetched are told from the files themselves."""

import io
import os
import re
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.series import read_header, read_mask
from bids_neurodecode.bids.stimuli import check_image
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched, stand_in
from bids_neurodecode.stimuli.films import check_film_once
from bids_neurodecode.stimuli.tablefiles import read_features
from tests.stimuli.test_films import write_film


def as_nifti(values):
    return nib.Nifti1Image(np.asarray(values, np.uint8), np.eye(4)).to_bytes()


def as_png(level):
    made = io.BytesIO()
    Image.new('L', (8, 8), level).save(made, 'png')
    return made.getvalue()


def as_film(level):
    with tempfile.TemporaryDirectory() as folder:
        write_film(Path(folder) / 'a.mp4', [level] * 12)
        return (Path(folder) / 'a.mp4').read_bytes()


PNG, FILM = as_png(40), as_film(120)
KINDS = {
    'table': ('a.tsv', b'onset\n1\n', b'onset\n2\n', lambda x: read_table(x)['onset'].tolist()),
    'features': (
        'b.tsv',
        b'name\ta\nx\t1\n',
        b'name\ta\nx\t2\n',
        lambda x: read_features(x).values.tolist(),
    ),
    'image': ('a.png', PNG, bytes(len(PNG)), lambda x: check_image(x, x)),
    'film': ('a.mp4', FILM, bytes(len(FILM)), lambda x: check_film_once(x).duration),
    'mask': (
        'a.nii',
        as_nifti(np.ones((2, 2, 2))),
        as_nifti(np.eye(4).reshape(4, 2, 2)[:2]),
        lambda x: int(read_mask(x)[0].sum()),
    ),
    'header': (
        'b.nii',
        as_nifti(np.ones((2, 2, 2, 6))),
        as_nifti(np.ones((2, 2, 3, 4))),
        lambda x: read_header(x).n_volumes,
    ),
}
"""What is kept while a process runs: a name, two files of one size, and what is read of one."""


def outcome(read, file):
    try:
        return read(file)
    except InputError:
        return 'damaged'


@pytest.mark.parametrize('moved', [False, True], ids=['written', 'moved'])
@pytest.mark.parametrize('kind', KINDS)
def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path, kind, moved):
    name, first, second, read = KINDS[kind]
    file, other = tmp_path / name, tmp_path / 'other' / name
    other.parent.mkdir()
    assert len(first) == len(second)
    file.write_bytes(first)
    state = file.stat()
    before = outcome(read, file)
    assert before == outcome(read, file) != 'damaged'
    time.sleep(0.02)  # a tick of the clock of the disk
    other.write_bytes(second)
    if moved:
        other.replace(file)
    else:
        file.write_bytes(second)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert outcome(read, file) != before


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
