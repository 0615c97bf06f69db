import json
import os
import re
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.bids.description import name_of
from bids_neurodecode.bids.entities import natural_key, nearest, parse_entities
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.series import Grid, check_values
from bids_neurodecode.bids.timing import TextTable, check_timing
from bids_neurodecode.errors import ArgumentsError, InputError


def find(data, **request):
    return find_inputs(Request(bids_dir=data.root, **request))


def renamed(path, old, new):
    path.rename(path.with_name(path.name.replace(old, new)))


# what is found


@pytest.mark.parametrize(
    ('written', 'name'),
    [
        ('{"Name": "Faces\\n and  houses"}', 'Faces and houses'),
        ('{"Name": " "}', 'data'),
        ('{"Name": null}', 'data'),
        ('{}', 'data'),
        (None, 'data'),
    ],
)
def test_a_dataset_is_called_by_its_own_name(tmp_path, written, name):
    folder = tmp_path / 'data'
    folder.mkdir()
    if written is not None:
        (folder / 'dataset_description.json').write_text(written)
    assert name_of(folder) == name


def test_each_run_gets_its_own_files(make_dataset):
    data = make_dataset(participants=('01', '02'), sessions=('a', 'b'))
    inputs = find(data)
    assert [person.label for person in inputs.participants] == ['01', '02']
    for person in inputs.participants:
        assert len(person.runs) == 4
        for run in person.runs:
            own = {key: run.entities[key] for key in ('sub', 'ses', 'task', 'run')}
            assert run.bold == data.bold(**own)
            assert run.mask == data.mask(**own)
            assert run.confounds == data.confounds(**own)
            assert run.events == data.events(**own)
            assert (run.repetition_time, run.n_volumes) == (2.0, 20)
            assert (run.space, run.resolution) == ('MNI152NLin6Asym', None)
    assert inputs.participants[0].stimuli == ('a.png', 'b.png', 'faces/c.png')
    assert inputs.participants[0].paradigm == 'images'


def test_record_survives_json(make_dataset):
    (person,) = find(make_dataset()).participants
    assert ParticipantInput.from_json(person.to_json()) == person


def test_sources_are_bids_uris(make_dataset):
    data = make_dataset()
    run = find(data).participants[0].runs[0]
    assert run.sources[0] == f'bids:fmriprep:{run.bold.relative_to(data.derivatives)}'
    assert run.sources[-1] == f'bids:raw:{run.events.relative_to(data.root)}'


def test_runs_are_in_the_order_people_count(make_dataset):
    data = make_dataset(runs=('1', '2', '10'))
    (person,) = find(data).participants
    assert [run.entities['run'] for run in person.runs] == ['1', '2', '10']


def test_movie_is_told_from_its_file(make_dataset):
    (person,) = find(make_dataset(film='clips/f.mp4')).participants
    assert (person.paradigm, person.stimuli) == ('movie', ('clips/f.mp4',))


def test_nothing_outside_of_the_request_is_read(make_dataset):
    data = make_dataset(participants=('01', '02', '03'), sessions=('a', 'b'))
    data.mask(sub='02').unlink()
    (data.root / 'sub-03' / 'ses-a' / 'func').joinpath('broken.json').write_text('{')
    inputs = find(data, participants=('01',), sessions=('b',), runs=('2',))
    (person,) = inputs.participants
    assert [run.label for run in person.runs] == ['ses-b task-img run-02']
    assert inputs.failures == {}


def test_space_that_is_asked_for(make_dataset):
    data = make_dataset(spaces=('MNI152NLin6Asym', None))
    (person,) = find(data, space='func').participants
    assert {run.space for run in person.runs} == {None}
    (person,) = find(data, space='space-MNI152NLin6Asym').participants
    assert {run.mask for run in person.runs} == {data.mask(run='01'), data.mask(run='02')}


def test_several_resolutions_of_a_space_are_a_choice(make_dataset):
    data = make_dataset(spaces=('MNI_res-1', 'MNI_res-2'))
    with pytest.raises(InputError, match=r'several spaces: MNI:res-1, MNI:res-2'):
        find(data, space='MNI')
    (person,) = find(data, space='MNI:res-2').participants
    assert {(run.space, run.resolution) for run in person.runs} == {('MNI', '2')}
    assert all('res-2' in run.mask.name for run in person.runs)


def test_only_task_with_stimuli_is_taken_and_said(make_dataset):
    data = make_dataset(tasks=('img', 'rest'))
    for run in data.each_run():
        if run['task'] == 'rest':
            data.events(**run).unlink()
    inputs = find(data)
    assert {person.task for person in inputs.participants} == {'img'}
    assert any("Task 'img' was taken" in note and 'rest' in note for note in inputs.notes)


def test_combined_echo_is_taken_and_said(make_dataset):
    data = make_dataset()
    for run in data.each_run():
        for echo in '12':
            path = data.bold(**run)
            shutil.copy(path, path.with_name(path.name.replace('_space', f'_echo-{echo}_space')))
    inputs = find(data)
    assert all('echo' not in run.entities for run in inputs.participants[0].runs)
    assert any('4 single-echo series were left out' in note for note in inputs.notes)


def test_ignored_rows_may_lie_anywhere(make_dataset):
    data = make_dataset()
    data.rewrite_events(
        [[-5, 1, 'pulse', 'n/a'], [2, 2, 'x', 'a.png'], [3, 0, 'key', 'n/a'], [90, 1, 'p', 'n/a']]
    )
    assert len(find(data).participants) == 1


def test_git_annex_links_are_followed(make_dataset):
    data = make_dataset()
    store = data.root / '.git' / 'annex' / 'objects' / 'x'
    store.mkdir(parents=True)
    file = data.root / 'stimuli' / 'a.png'
    file.rename(store / 'key.png')
    file.symlink_to('../.git/annex/objects/x/key.png')
    assert 'a.png' in find(data).participants[0].stimuli


# inheritance


def test_events_of_the_task_apply_to_all_runs(make_dataset):
    data = make_dataset()
    for run in data.each_run()[1:]:
        data.events(**run).unlink()
    shared = data.root / 'task-img_events.tsv'
    data.events().rename(shared)
    (person,) = find(data).participants
    assert {run.events for run in person.runs} == {shared}


def test_nearest_events_win(make_dataset):
    data = make_dataset()
    shutil.copy(data.events(), data.root / 'task-img_events.tsv')
    (person,) = find(data).participants
    assert [run.events for run in person.runs] == [data.events(run='01'), data.events(run='02')]


def test_repetition_time_from_the_raw_sidecar(make_dataset):
    data = make_dataset()
    for run in data.each_run():
        data.bold(**run, extension='.json').unlink()
    assert find(data).participants[0].runs[0].repetition_time == 2.0


@pytest.mark.parametrize(('units', 'step'), [(2 + 16, 2000), (2 + 24, 2e6), (6, 2), (0xFF, 2)])
def test_header_in_other_units(make_dataset, units, step):
    """Milliseconds, microseconds, and codes that NIfTI does not know."""
    data = make_dataset()
    for run in data.each_run():
        image = nib.load(data.bold(**run))
        image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        image.header.set_zooms((3, 3, 3, step))
        image.header['xyzt_units'] = units
        nib.save(image, data.bold(**run))
    assert find(data).participants[0].runs[0].repetition_time == 2.0


def test_two_equally_near_events_are_an_error(tmp_path):
    target = tmp_path / 'sub-01_task-a_acq-x_run-1_bold.nii.gz'
    twins = [tmp_path / 'task-a_acq-x_events.tsv', tmp_path / 'task-a_run-1_events.tsv']
    with pytest.raises(InputError, match='apply equally'):
        nearest(target, tmp_path, twins)


@pytest.mark.parametrize(
    ('candidate', 'applies'),
    [
        ('events.tsv', True),
        ('task-a_events.tsv', True),
        ('task-b_events.tsv', False),
        ('sub-01/sub-01_task-a_events.tsv', True),
        ('sub-01/ses-1/func/sub-01_ses-1_task-a_events.tsv', True),
        ('sub-01/ses-2/task-a_events.tsv', False),
        ('sub-02/task-a_events.tsv', False),
        ('sub-01/ses-1/func/sub-01_ses-1_task-a_acq-z_events.tsv', False),
    ],
)
def test_inheritance(tmp_path, candidate, applies):
    target = tmp_path / 'sub-01_ses-1_task-a_run-1_space-T1w_desc-preproc_bold.nii.gz'
    found = nearest(target, tmp_path, [tmp_path / candidate])
    assert found == (tmp_path / candidate if applies else None)


# pairing


@pytest.mark.parametrize('entity', ['acq-x', 'ce-x', 'rec-x', 'dir-AP'])
def test_files_are_paired_on_every_entity(make_dataset, entity):
    data = make_dataset()
    for path in (data.mask(), data.confounds(), data.events(), data.bold()):
        shutil.copy(path, path.with_name(path.name.replace('_run-01', f'_{entity}_run-01')))
    (person,) = find(data).participants
    assert len(person.runs) == 3
    for run in person.runs:
        for path in (run.mask, run.confounds, run.events):
            assert (f'_{entity}_' in path.name) == (f'_{entity}_' in run.bold.name)


def test_mask_of_another_space_is_not_taken(make_dataset):
    data = make_dataset()
    renamed(data.mask(), 'MNI152NLin6Asym', 'T1w')
    with pytest.raises(InputError, match=r'No brain mask for .*space-MNI152NLin6Asym'):
        find(data)


def test_same_run_in_two_derivatives_needs_a_choice(make_dataset):
    data = make_dataset()
    other = data.derivatives.with_name('other')
    shutil.copytree(data.derivatives, other)
    with pytest.raises(InputError, match='is there twice'):
        find(data)
    inputs = find(data, derivatives={'mine': other})
    assert inputs.derivatives == {'mine': other}
    assert all(run.bold.is_relative_to(other) for run in inputs.participants[0].runs)


def test_derivatives_that_are_none_are_passed_over_and_said(make_dataset):
    data = make_dataset()
    other = data.derivatives.with_name('odd')
    other.mkdir()
    for text in ('{"Name": "x"}', 'no JSON', ''):
        (other / 'dataset_description.json').write_text(text)
        assert any('odd was left out' in note for note in find(data).notes)
    # those that hold series are not silently replaced by others
    (data.derivatives / 'dataset_description.json').write_text('no JSON')
    with pytest.raises(InputError, match=r'Cannot read .*fmriprep/dataset_description\.json'):
        find(data)


# filters


def test_filter_selects_and_is_said(make_dataset):
    data = make_dataset(sessions=('a', 'b'))
    inputs = find(data, filters={'bold': {'session': 'a', 'run': ['01', '02']}})
    assert [run.entities['ses'] for run in inputs.participants[0].runs] == ['a', 'a']
    assert any('filter of bold (session=a' in note and '2 files' in note for note in inputs.notes)


def test_filter_null_means_absent(make_dataset):
    data = make_dataset(spaces=('MNI', None))
    (person,) = find(data, filters={'bold': {'space': None}}).participants
    assert {run.space for run in person.runs} == {None}


# the kept index


def test_index_is_kept_reused_and_made_anew(make_dataset, tmp_path):
    data = make_dataset(sessions=('a', 'b'))
    first = find(data, database_dir=tmp_path / 'index')
    assert any('is kept in' in note for note in first.notes)
    again = find(data, database_dir=tmp_path / 'index')
    assert sum('was reused' in note for note in again.notes) == 2
    assert again.participants == first.participants
    for path in (data.bold(ses='b'), data.bold(ses='b', run='02')):
        path.unlink()
    later = time.time() + 100
    os.utime(data.bold(ses='b').parent, (later, later))
    last = find(data, database_dir=tmp_path / 'index')
    assert any('was older than' in note for note in last.notes)
    assert {run.entities['ses'] for run in last.participants[0].runs} == {'a'}


def test_index_of_some_is_not_taken_for_all(make_dataset, tmp_path):
    data = make_dataset(participants=('01', '02'))
    find(data, database_dir=tmp_path / 'index', participants=('01',))
    inputs = find(data, database_dir=tmp_path / 'index')
    assert [person.label for person in inputs.participants] == ['01', '02']


# precomputed betas


def write_betas(data, datasets, n_trials=4, rows=4):
    folder = data.root / 'derivatives' / 'glm'
    datasets.write_json(
        folder / 'dataset_description.json',
        {'Name': 'x', 'BIDSVersion': '1.10.0', 'DatasetType': 'derivative'},
    )
    stem = folder / 'sub-01' / 'func' / 'sub-01_task-img'
    betas = stem.with_name(
        f'{stem.name}_space-MNI152NLin6Asym_stat-effect_desc-singletrial_statmap.nii.gz'
    )
    datasets.write_series(betas, np.ones((4, 4, 3, n_trials)), 1.0)
    table = stem.with_name(f'{stem.name}_desc-singletrial_events.tsv')
    shown = [[8 * i, 2, 'a.png'] for i in range(rows)]
    datasets.write_table(table, [['onset', 'duration', 'stim_file'], *shown])
    return betas, table


def test_precomputed_betas(make_dataset, datasets):
    data = make_dataset()
    betas, table = write_betas(data, datasets)
    data.confounds().unlink()  # not needed then
    (person,) = find(data, betas_from='glm').participants
    assert (person.betas, person.betas_events) == (betas, table)
    assert person.runs[0].confounds is None


def test_betas_and_their_table_must_fit(make_dataset, datasets):
    data = make_dataset()
    write_betas(data, datasets, n_trials=4, rows=3)
    with pytest.raises(InputError, match=r'has 3 rows.*4 volumes'):
        find(data, betas_from='glm')


def test_betas_of_unknown_derivatives(make_dataset):
    with pytest.raises(ArgumentsError, match='No derivatives are called'):
        find(make_dataset(), betas_from='glm')


# pieces


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_natural_order_of_numbers(numbers):
    labels = sorted((str(n) for n in numbers), key=natural_key)
    assert [int(label) for label in labels] == sorted(numbers)


label = st.from_regex(r'[a-zA-Z0-9+]+', fullmatch=True)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(['sub', 'ses', 'task', 'run', 'space']), label))
def test_entities_of_any_name_are_read_back(entities):
    name = '_'.join([*(f'{k}-{v}' for k, v in entities.items()), 'bold.nii.gz'])
    assert parse_entities(Path('folder_of-files') / name) == entities


@given(
    onsets=st.lists(st.floats(0, 90), min_size=1, max_size=8, unique=True),
    duration=st.floats(0.1, 5),
)
def test_timing_is_accepted_exactly_when_events_fit(onsets, duration):
    table = pd.DataFrame(
        {
            'onset': [repr(t) for t in onsets],
            'duration': [repr(duration)] * len(onsets),
            'stim_file': ['a.png'] * len(onsets),
        },
        dtype='string',
    )
    fits = max(onsets) < 80 and max(onsets) + duration <= 82
    gaps = np.diff(sorted(onsets))
    fits = fits and bool((gaps >= duration - 0.02).all())
    if fits:
        check_timing(TextTable.of(table), 'e.tsv', length=80, slack=2)
    else:
        with pytest.raises(InputError, match=r'overlap|lasts until'):
            check_timing(TextTable.of(table), 'e.tsv', length=80, slack=2)


def test_grids_that_differ_by_rounding_are_the_same():
    affine = np.array([[-2, 0, 0, 96.5], [0, 2, 0, -132.5], [0, 0, 2, -78.5], [0, 0, 0, 1.0]])
    grid = Grid((97, 115, 97), affine)
    assert grid.same_as(Grid((97, 115, 97), affine.astype(np.float32)))
    assert not grid.same_as(Grid((97, 115, 97), affine + np.eye(4) * 0.01))
    assert not grid.same_as(Grid((97, 115, 96), affine))


@pytest.mark.parametrize('extension', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('dtype', [np.int16, np.float32, np.float64, '>f4'])
def test_values_of_any_kind_are_read(tmp_path, extension, dtype):
    values = np.zeros((3, 4, 2, 5))
    values[1] = 7 + np.arange(5)
    path = tmp_path / f'x{extension}'
    nib.save(nib.Nifti1Image(values.astype(dtype), np.eye(4)), path)
    check_values(path, values[..., 0] > 0)
    with pytest.raises(InputError, match='zero in the whole mask'):
        check_values(path, values[..., 0] == 0)


def test_nan_outside_of_the_mask_does_no_harm(tmp_path):
    values = np.ones((3, 3, 3, 4), dtype=np.float32) + np.arange(4)
    values[0] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / 'x.nii.gz')
    check_values(tmp_path / 'x.nii.gz', np.isfinite(values[..., 0]))


def test_errors_of_one_participant_are_one_line_each(make_dataset):
    data = make_dataset(participants=('01', '02', '03'))
    data.events(sub='02').write_text('')
    data.bold(sub='03').write_bytes(b'')
    failures = find(data).failures
    assert list(failures) == ['02', '03']
    assert all('\n' not in line for line in failures.values())
    assert re.search(r'sub-02.*events\.tsv', failures['02'])


@pytest.mark.real
def test_haxby_has_no_space_and_one_slice(shared):
    inputs = find_inputs(Request(shared / 'data' / 'haxby2001'))
    (person,) = inputs.participants
    assert len(person.runs) == 12
    assert [run.entities['run'] for run in person.runs] == [f'{n:02d}' for n in range(1, 13)]
    assert all(run.mask.name.split('_desc')[0] == run.stem for run in person.runs)
    links = json.loads((inputs.derivatives['fmriprep'] / 'dataset_description.json').read_text())
    assert links['DatasetType'] == 'derivative'


@pytest.mark.parametrize(('header', 'why'), [(2000, 'a factor of 1000'), (1, 'nobody set it')])
def test_sidecars_are_believed_against_headers_known_to_lie(make_dataset, header, why):
    data = make_dataset()
    image = nib.load(data.bold())
    image.header.set_zooms((3, 3, 3, header))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), data.bold())
    found = find(data)
    assert [run.repetition_time for run in found.participants[0].runs] == [2.0, 2.0]
    (note,) = (note for note in found.notes if 'the sidecar is believed' in note)
    assert why in note
    assert str(data.bold()) in note


def test_derivatives_from_before_dataset_types_are_read_and_said(make_dataset):
    data = make_dataset()
    file = data.derivatives / 'dataset_description.json'
    old = {'Name': 'x', 'BIDSVersion': '1.1.1', 'PipelineDescription': {'Name': 'fmriprep'}}
    file.write_text(json.dumps(old))
    assert any('has no "DatasetType"' in note and str(file) in note for note in find(data).notes)
    given = find(data, derivatives={'fmriprep': data.derivatives})
    assert any('has no "DatasetType"' in note for note in given.notes)
