"""Atomic, repeatable writing."""

import errno
import gzip
import json
import logging
import os
import stat
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids import provenance, sink
from bids_neurodecode.bids.writer import NO_LIST, ProductWriter
from bids_neurodecode.errors import InputError


def test_atomic_leaves_nothing_when_it_fails(tmp_path):
    target = tmp_path / 'a' / 'file.txt'

    def fail():
        with sink.atomic(target) as temporary:
            temporary.write_text('half')
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_names_the_file(tmp_path):
    for number, name in ((errno.ENOSPC, str(tmp_path / 'a')), (errno.EIO, None)):
        with pytest.raises(OSError, match='as write') as caught, sink.atomic(tmp_path / 'a'):
            raise OSError(number, 'as write says it')
        assert caught.value.filename == name


def test_atomic_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / 'file.txt'
    sink.write_text(target, 'old')
    with sink.atomic(target) as temporary:
        temporary.write_text('new')
        assert target.read_text() == 'old'
    assert target.read_text() == 'new'


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        sink.write_text(tmp_path / 'file.txt', 'x')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'file.txt').stat().st_mode) == 0o640


def test_images_have_the_same_bytes_whenever_written(tmp_path):
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(4, 3, 2, 5)), np.eye(4))
    sink.write_image(tmp_path / 'a.nii.gz', image, repetition_time=1.5)
    time.sleep(1.1)
    sink.write_image(tmp_path / 'b.nii.gz', image, repetition_time=1.5)
    assert (tmp_path / 'a.nii.gz').read_bytes() == (tmp_path / 'b.nii.gz').read_bytes()
    again = nib.load(tmp_path / 'a.nii.gz')
    assert again.header.get_zooms()[3] == 1.5
    np.testing.assert_array_equal(again.get_fdata(), image.get_fdata())
    with gzip.open(tmp_path / 'a.nii.gz') as stream:
        assert len(stream.read()) > 300


def test_tables_write_missing_values_as_bids_wants(tmp_path):
    sink.write_tsv(tmp_path / 't.tsv', pd.DataFrame({'a': [1.0, np.nan], 'b': ['x', None]}))
    assert (tmp_path / 't.tsv').read_text() == 'a\tb\n1\tx\nn/a\tn/a\n'


def test_dataset_files_gather_links_of_several_runs(tmp_path):
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    raw.mkdir()
    (raw / 'dataset_description.json').write_text('{"Name": "x", "License": "CC0"}')
    for name in ('fmriprep', 'betas'):
        provenance.write_dataset_files(
            out, bids_dir=raw, derivatives={name: tmp_path / name}, citation={'md': 'cite'}
        )
    content = json.loads((out / 'dataset_description.json').read_text())
    assert content['DatasetLinks'] == {
        'raw': '../raw',
        'fmriprep': '../fmriprep',
        'betas': '../betas',
    }
    assert content['License'] == 'CC0'
    assert content['GeneratedBy'][0]['Name'] == 'bids_neurodecode'
    assert (out / 'logs' / 'CITATION.md').read_text() == 'cite'
    assert '*_statmap.*' in (out / '.bidsignore').read_text().splitlines()


def test_a_users_bidsignore_is_kept(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / '.bidsignore').write_text('mine\n')
    (tmp_path / 'dataset_description.json').write_text('{}')
    provenance.write_dataset_files(tmp_path / 'out', bids_dir=tmp_path, derivatives={})
    assert 'mine' in (tmp_path / 'out' / '.bidsignore').read_text().splitlines()


def test_another_programs_folder_is_refused(tmp_path):
    file = tmp_path / 'dataset_description.json'
    provenance.check_output(tmp_path)
    file.write_text(json.dumps({'GeneratedBy': [{'Name': 'fMRIPrep'}]}))
    with pytest.raises(InputError, match=r'belongs to another program \(fMRIPrep\)'):
        provenance.check_output(tmp_path)
    file.write_text('{')
    with pytest.raises(InputError, match='Cannot read'):
        provenance.check_output(tmp_path)


def test_container_is_recorded(monkeypatch):
    monkeypatch.setenv('BIDS_NEURODECODE_CONTAINER', 'docker:lab/app:1.0')
    assert provenance.generated_by()[0]['Container'] == {'Type': 'docker', 'Tag': 'lab/app:1.0'}


def test_descriptions_list_what_is_there(tmp_path):
    (tmp_path / 'dataset_description.json').write_text('{}')
    out = tmp_path / 'out'
    for name in (
        'func/sub-1_desc-linear_metrics.tsv',
        'func/sub-1_label-x_desc-ridgegabor_mask.json',
        'func/sub-1_stat-r_desc-linearapplied_statmap.json',
    ):
        sink.write_text(out / 'sub-1' / name, '')
    sink.write_text(out / 'sub-1' / 'figures' / 'sub-1_desc-plot_figure.svg', '')
    sink.write_text(out / 'stimuli' / 'sub-1' / 'task-a' / 'x_desc-final_image.png', '')
    provenance.write_dataset_files(out, bids_dir=tmp_path, derivatives={})
    table = pd.read_csv(out / 'descriptions.tsv', sep='\t', index_col='desc_id')['description']
    assert table.index.tolist() == [
        *('desc-final', 'desc-linear', 'desc-linearapplied', 'desc-ridgegabor'),
    ]
    assert 'feature space' not in table['desc-linearapplied']
    assert table['desc-ridgegabor'].endswith('feature space gabor')


def test_nothing_outside_of_the_output_is_removed(tmp_path):
    """The list of what an earlier run wrote is a file that anybody may have written."""
    out = tmp_path / 'out'
    sink.write_text(tmp_path / 'precious.txt', 'x')
    sink.write_text(out / 'sub-1' / 'old.txt', 'x')
    for name in ('dataset_description.json', 'sub-2/old.txt', 'stimuli/sub-2/x.png'):
        sink.write_text(out / name, 'x')
    (out / 'sub-1' / 'link').symlink_to(tmp_path)
    others = [tmp_path / 'precious.txt', out / 'dataset_description.json', out / 'sub-2/old.txt']
    listed = ['../precious.txt', 'sub-1/../../precious.txt', 'sub-1/link/precious.txt']
    listed += ['stimuli/sub-2/x.png', *(str(path) for path in others), 'sub-1/old.txt']
    listed += [path.relative_to(out).as_posix() for path in others[1:]]
    file = out / 'sub-1' / 'log' / 'sub-1_task-a_products.json'
    sink.write_text(file, json.dumps(listed))
    ProductWriter(out, {'sub': '1', 'task': 'a'}).finish()
    assert all(path.exists() for path in (*others, out / 'stimuli' / 'sub-2' / 'x.png'))
    assert not (out / 'sub-1' / 'old.txt').exists()


@pytest.mark.parametrize('damage', ['', '{"a": 1}', '[1, 2]', '[' * 100_000, '["a"', '\0'])
def test_a_damaged_list_of_products_is_made_anew_and_told(tmp_path, caplog, damage):
    file = tmp_path / 'sub-1' / 'log' / 'sub-1_task-a_products.json'
    sink.write_text(file, damage)
    sink.write_text(tmp_path / 'sub-1' / 'old.txt', 'x')
    logger = logging.getLogger('bids_neurodecode')
    logger.addHandler(caplog.handler)
    try:
        ProductWriter(tmp_path, {'sub': '1', 'task': 'a'}).finish()
    finally:
        logger.removeHandler(caplog.handler)
    assert json.loads(file.read_text()) == []
    assert (tmp_path / 'sub-1' / 'old.txt').exists()
    assert NO_LIST.format(file=file) in caplog.messages


def test_what_the_dead_began_is_removed_and_what_the_living_write_is_not(tmp_path):
    dead = tmp_path / '.tmp-xyzlist.tsv'
    dead.write_text('ha')
    with sink.atomic(tmp_path / 'list.tsv') as living:
        living.write_text('half')
        sink.remove_begun(tmp_path.glob(f'{sink.BEGUN}*'))
        assert living.exists()
        assert not dead.exists()
    assert (tmp_path / 'list.tsv').read_text() == 'half'


def test_tables_name_runs_as_the_raw_data_do(tmp_path):
    writer = ProductWriter(tmp_path, {'sub': '1', 'task': 'a'})
    labels = ['ses-b task-a run-01', 'ses-b task-a', 'task-a run-2']
    table = pd.DataFrame({'run': [0, 1, 2], 'session': ['b', 'b', '1'], 'run_label': labels})
    columns = {name: {'Description': 'x'} for name in table}
    path = writer.table('betas_events', table, columns=columns)
    written = pd.read_csv(path, sep='\t', dtype=str, keep_default_na=False)
    assert written['run'].tolist() == ['01', 'n/a', '2']
    assert written['session'].tolist() == ['b', 'b', 'n/a']
    assert set(json.loads(path.with_suffix('.json').read_text())) == {'run_label'}
