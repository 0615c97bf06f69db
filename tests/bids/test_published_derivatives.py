"""Derivatives as labs and pipelines publish them: names, masks, descriptions, several tasks."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.bids import choices, description, masks, pairing, pipelines
from bids_neurodecode.bids.entities import counted, entity_names
from bids_neurodecode.bids.index import index_dataset, name_entities
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.series import read_mask
from bids_neurodecode.errors import InputError


def find(data, **request):
    made = data.root.parent / 'made'
    return find_inputs(Request(bids_dir=data.root, made_dir=made, **request))


def rename_all(folder, change):
    for file in sorted(folder.rglob('sub-*')):
        if file.is_file() and (name := change(file.name)) != file.name:
            file.rename(file.with_name(name))


def drop_masks(data):
    for run in data.each_run():
        data.mask(**run).unlink()


def stem_of(line):
    """Return the text of a message up to the first thing that is filled in."""
    return line.split('{', maxsplit=1)[0]


# numbers


@pytest.mark.parametrize(('raw', 'derived'), [('01', '1'), ('1', '001'), ('007', '7')])
def test_numbers_of_runs_are_compared_as_numbers(make_dataset, raw, derived):
    other = '2' if derived != '2' else '3'
    data = make_dataset(runs=(raw, '2'))
    rename_all(data.derivatives, lambda name: name.replace(f'_run-{raw}_', f'_run-{derived}_'))
    rename_all(data.derivatives, lambda name: name.replace('_run-2_', f'_run-{other}_'))
    (person,) = find(data, runs=('2',)).participants
    assert [run.entities['run'] for run in person.runs] == [other]
    person = find(data).participants[0]
    events = {run.entities['run']: run.events for run in person.runs}
    assert events[derived] == data.events(run=raw)
    assert all('run-' in run.mask.name and 'run-' in run.confounds.name for run in person.runs)


def test_parts_of_a_run_may_be_padded_each_in_its_own_way(make_dataset):
    data = make_dataset(runs=('1', '2'))
    for run in data.each_run():
        for path in (data.mask(**run), data.confounds(**run)):
            number = f'{int(run["run"]):03d}'
            path.rename(path.with_name(path.name.replace(f'run-{run["run"]}', f'run-{number}')))
    (person,) = find(data).participants
    for run in person.runs:
        number = int(run.entities['run'])
        assert f'run-{number:03d}' in run.mask.name
        assert f'run-{number:03d}' in run.confounds.name


def test_filter_of_a_run_counts_numbers(make_dataset):
    data = make_dataset(runs=('01', '02'))
    for wanted in (2, '2', '02', [2]):
        (person,) = find(data, filters={'bold': {'run': wanted}}).participants
        assert [run.entities['run'] for run in person.runs] == ['02']


def test_one_run_padded_in_two_ways_is_there_twice(make_dataset):
    data = make_dataset(runs=('01',))
    bold = data.bold()
    shutil.copy(bold, bold.with_name(bold.name.replace('run-01', 'run-1')))
    with pytest.raises(InputError, match='is there twice'):
        find(data)


@given(st.integers(0, 10**9), st.integers(0, 6))
def test_leading_zeros_do_not_count(number, n_zeros):
    padded = '0' * n_zeros + str(number)
    assert counted({'run': padded, 'ses': padded}) == {'run': str(number), 'ses': padded}


# names


def test_all_entities_of_pybids_are_known():
    from bids.layout.models import Config

    theirs = [e for x in ('bids', 'derivatives') for e in Config.load(x).entities.values()]
    keyed = {entity.name for entity in theirs if '-(' in (entity.pattern or '')}
    assert len(keyed) > 30
    assert keyed <= set(entity_names().values())


def test_names_are_taken_apart_as_pybids_does():
    from bids.layout import parse_file_entities

    key_of = {name: key for key, name in entity_names().items()}
    labels = {'run': '02', 'echo': '3', 'flip': '1', 'inv': '2', 'chunk': '4', 'part': 'mag'}
    labels |= {'hemi': 'L', 'mt': 'on'}
    ours_alone = {'cohort', 'stat', 'scale', 'thresh'}
    for key in entity_names():
        if key in {'from', 'to', 'mode'}:
            continue  # pybids knows these of transforms only
        middle = f'_{key}-{labels.get(key, "aB1")}' if key not in {'sub', 'ses'} else ''
        name = f'sub-01_ses-x{middle}_bold.nii.gz'
        expected = parse_file_entities(
            f'/sub-01/ses-x/func/{name}', config=['bids', 'derivatives']
        )
        expected.pop('datatype')
        found = name_entities(name)
        assert key_of[entity_names()[key]] == key
        for other, label in expected.items():
            assert str(found[other]).lstrip('0') == str(label).lstrip('0')
        assert set(found) - set(expected) <= ours_alone


@pytest.mark.parametrize(
    ('place', 'desc'),
    [
        ('space-MNI152NLin2009cAsym_res-2', 'denoised'),  # XCP-D
        ('space-MNI152NLin2009cAsym_res-2', 'denoisedSmoothed'),
        ('space-MNI152NLin6Asym_res-02', 'nonaggrDenoised'),  # fMRIPost-AROMA
        ('', 'optcom'),  # tedana
        ('', 'optcomDenoised'),
        ('space-MNIInfant_cohort-1', 'preproc'),  # nibabies
        ('space-T1w_part-mag', 'preproc'),
        ('space-fsLR_den-91k', 'preproc'),
    ],
)
def test_what_other_pipelines_write_is_read(make_dataset, place, desc):
    data = make_dataset()
    part = '_part-mag' if 'part-mag' in place else ''
    grid = f'_{place.removesuffix("_part-mag")}' if place else ''

    def change(name):
        stem = name.replace('_space-MNI152NLin6Asym', f'{part}{grid}')
        return stem.replace('desc-preproc', f'desc-{desc}')

    rename_all(data.derivatives, change)
    filters = {} if desc == 'preproc' else {'bold': {'desc': desc}}
    inputs = find(data, filters=filters)
    (person,) = inputs.participants
    assert len(person.runs) == 2
    for run in person.runs:
        assert f'desc-{desc}_bold' in run.bold.name
        assert run.mask.name == run.bold.name.replace(f'desc-{desc}_bold', 'desc-brain_mask')
        assert set(run.entities) == {'sub', 'task', 'run', *(['part'] if part else [])}


def test_cohorts_are_not_mixed(make_dataset):
    data = make_dataset()
    rename_all(data.derivatives, lambda n: n.replace('MNI152NLin6Asym', 'MNIInfant_cohort-1'))
    for file in list(data.bold().parent.glob('*cohort-1*')):
        shutil.copy(file, file.with_name(file.name.replace('cohort-1', 'cohort-2')))
    with pytest.raises(
        InputError, match=r'several spaces: MNIInfant:cohort-1, MNIInfant:cohort-2'
    ):
        find(data)
    (person,) = find(data, space='MNIInfant:cohort-2').participants
    assert all('cohort-2' in run.mask.name for run in person.runs)
    (person,) = find(data, filters={'bold': {'cohort': 1}}).participants
    assert all('cohort-1' in run.mask.name for run in person.runs)


def test_cleaned_series_come_without_confounds_and_it_is_said(make_dataset):
    data = make_dataset()
    rename_all(data.derivatives, lambda name: name.replace('desc-preproc', 'desc-denoised'))
    for run in data.each_run():
        data.confounds(**run).unlink()
    inputs = find(data, filters={'bold': {'desc': 'denoised'}})
    assert {run.confounds for run in inputs.participants[0].runs} == {None}
    message = pairing.NO_CONFOUNDS_OF.format(desc='desc-denoised', folder=data.derivatives)
    assert list(inputs.notes).count(message) == 1


def test_masks_and_confounds_of_another_pipeline_are_taken(make_dataset):
    data = make_dataset()
    other = data.derivatives.with_name('tedana')
    shutil.copytree(data.derivatives, other)
    for file in other.rglob('sub-*_desc-*'):
        if file.is_file() and '_bold.' not in file.name:
            file.unlink()
    rename_all(other, lambda name: name.replace('desc-preproc', 'desc-optcom'))
    inputs = find(data, filters={'bold': {'desc': 'optcom'}})
    for run in inputs.participants[0].runs:
        assert run.bold.is_relative_to(other)
        assert run.mask.is_relative_to(data.derivatives)
        assert run.confounds.is_relative_to(data.derivatives)
        assert [source.split(':')[1] for source in run.sources] == [
            'tedana',
            'fmriprep',
            'fmriprep',
            'raw',
        ]


def test_descs_that_are_there_instead_are_named_with_the_filter(make_dataset):
    data = make_dataset()
    rename_all(data.derivatives, lambda name: name.replace('desc-preproc', 'desc-denoised'))
    said = pipelines.OTHER_DESC.format(descs='desc-denoised', first='"denoised"')
    message = description.NOT_THESE.format(
        desc='desc-preproc_bold', folder=data.derivatives, found=said
    )
    for given_ in ({}, {'fmriprep': data.derivatives}):
        with pytest.raises(InputError) as caught:
            find(data, derivatives=given_)
        assert str(caught.value) == message
    content = json.loads(message[message.index('{') : message.rindex('}') + 1])
    assert len(find(data, filters=content).participants) == 1


def test_each_participant_may_be_of_another_cohort(make_dataset):
    data = make_dataset(participants=('01', '02'))
    rename_all(
        data.derivatives,
        lambda n: n.replace('MNI152NLin6Asym', f'MNIInfant_cohort-{n[4:6].lstrip("0")}'),
    )
    inputs = find(data)
    for person in inputs.participants:
        assert all(f'cohort-{int(person.label)}_' in run.bold.name for run in person.runs)
    assert len(find(data, space='MNIInfant').participants) == 2


# what cannot be read


def leave_only(data, names):
    """Replace the files of a derived dataset by empty ones."""
    folder = data.bold().parent
    for file in folder.iterdir():
        file.unlink()
    for name in names:
        (folder / name).write_bytes(b'')


@pytest.mark.parametrize(
    ('names', 'constant', 'words'),
    [
        (
            ['sub-01_task-img_run-01_bold_space-T1w_preproc.nii.gz'],
            pipelines.OLD_NAMES,
            ['fMRIPrep before 1.2', 'rename'],
        ),
        (
            ['sub-01_task-img_run-01_desc-coreg_boldref.nii.gz'],
            pipelines.MINIMAL,
            ['--level minimal', '--level full'],
        ),
    ],
)
def test_what_is_there_instead_is_named_with_the_way_out(make_dataset, names, constant, words):
    data = make_dataset()
    leave_only(data, names)
    for request in ({}, {'derivatives': {'x': data.derivatives}}):
        with pytest.raises(InputError) as caught:
            find(data, **request)
        line = str(caught.value)
        assert stem_of(constant) in line
        assert str(data.derivatives) in line
        assert all(word in line for word in words)
        assert '\n' not in line


# descriptions


def test_derivatives_without_description_are_read_and_said(make_dataset):
    data = make_dataset()
    (data.derivatives / 'dataset_description.json').unlink()
    message = description.UNDESCRIBED.format(folder=data.derivatives)
    for request in ({}, {'derivatives': {'mine': data.derivatives}}):
        inputs = find(data, **request)
        assert message in inputs.notes
        assert len(inputs.participants[0].runs) == 2


def test_a_folder_without_description_and_series_is_none(make_dataset):
    data = make_dataset()
    other = data.derivatives.with_name('masks')
    (other / 'sub-01' / 'func').mkdir(parents=True)
    shutil.copy(data.mask(), other / 'sub-01' / 'func')
    assert list(find(data).derivatives) == ['fmriprep']
    with pytest.raises(InputError, match=r'No dataset_description\.json in .*masks'):
        find(data, derivatives={'masks': other})


def test_named_derivatives_that_do_not_say_their_type_are_read_and_said(make_dataset):
    data = make_dataset()
    file = data.derivatives / 'dataset_description.json'
    file.write_text(json.dumps({'Name': 'x', 'BIDSVersion': '1.4.0'}))
    inputs = find(data, derivatives={'mine': data.derivatives})
    assert description.UNTYPED.format(file=file, why=description.BY_NAME) in inputs.notes
    inputs = find(data)
    assert description.UNTYPED.format(file=file, why=description.BY_SERIES) in inputs.notes
    file.write_text(json.dumps({'Name': 'x', 'BIDSVersion': '1.4.0', 'DatasetType': 'raw'}))
    with pytest.raises(InputError, match='is not a derivative dataset'):
        find(data, derivatives={'mine': data.derivatives})
    with pytest.raises(InputError, match=r'fmriprep was left out: .*does not say "DatasetType"'):
        find(data)


@pytest.mark.parametrize('described', [True, False])
@pytest.mark.parametrize('where', ['.', 'fmriprep-20.2.7/fmriprep'])
def test_pipelines_may_write_into_derivatives_itself_or_two_folders_down(
    make_dataset, where, described
):
    data = make_dataset()
    if not described:
        (data.derivatives / 'dataset_description.json').unlink()
    outputs = data.derivatives.rename(data.root / 'outputs')
    place = data.root / 'derivatives' / where
    place.mkdir(parents=True, exist_ok=True)
    for file in outputs.iterdir():
        file.rename(place / file.name)
    inputs = find(data)
    assert list(inputs.derivatives.values()) == [place]
    assert len(inputs.participants[0].runs) == 2


def test_older_outputs_two_folders_down_are_not_read_beside_others(make_dataset):
    data = make_dataset()
    shutil.copytree(data.derivatives, data.derivatives.with_name('old') / 'fmriprep')
    assert list(find(data).derivatives) == ['fmriprep']


def test_descriptions_may_begin_with_a_byte_order_mark(make_dataset):
    data = make_dataset()
    for file in data.root.rglob('*.json'):
        file.write_text(file.read_text(), 'utf-8-sig')
    assert len(find(data).participants[0].runs) == 2


# masks


def test_series_without_mask_take_the_voxels_that_vary(make_dataset):
    data = make_dataset()
    drop_masks(data)

    def still(values):
        values[0] = 7.0
        return values

    for run in data.each_run():
        data.rewrite_bold(still, **run)
    inputs = find(data)
    expected = np.ones(data.spec['shape'], dtype=bool)
    expected[0] = False
    for run in inputs.participants[0].runs:
        np.testing.assert_array_equal(read_mask(run.mask)[0], expected)
        assert run.mask.is_relative_to(data.root.parent / 'made')
    note = masks.FROM_SERIES.format(
        label='01', space=' in space-MNI152NLin6Asym', n=masks.MASK_VOLUMES
    )
    assert list(inputs.notes).count(note) == 1


@pytest.mark.parametrize('space', ['MNI152NLin6Asym', 'T1w'])
def test_the_anatomical_mask_of_the_same_space_is_resampled(make_dataset, datasets, space):
    data = make_dataset(spaces=(space,))
    drop_masks(data)
    fine = np.zeros((12, 12, 9))
    fine[3:9, :, 3:6] = 1  # 1 mm, so that it fills series' voxels 1 and 2, all, and 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -1
    anat = data.derivatives / 'sub-01' / 'anat'
    for other in ('T1w', 'MNI152NLin6Asym', 'MNI152NLin2009cAsym'):
        named = '' if other == 'T1w' else f'_space-{other}'
        inside = fine if other == space else np.ones_like(fine)
        datasets.write_mask(anat / f'sub-01{named}_desc-brain_mask.nii.gz', inside, affine)
    inputs = find(data)
    expected = np.zeros(data.spec['shape'], dtype=bool)
    expected[1:3, :, 1] = True
    for run in inputs.participants[0].runs:
        np.testing.assert_array_equal(read_mask(run.mask)[0], expected)
        assert ':sub-01/anat/sub-01' in run.sources[1]
    (note,) = (n for n in inputs.notes if 'resampled to their grid' in n)
    assert str(anat) in note


def test_anatomical_mask_of_another_person_session_or_space_is_not_taken(tmp_path):
    bold = tmp_path / 'sub-01_ses-1_task-a_space-MNI_res-2_desc-preproc_bold.nii.gz'
    names = [
        'sub-02_space-MNI_desc-brain_mask.nii.gz',
        'sub-01_ses-2_space-MNI_desc-brain_mask.nii.gz',
        'sub-01_desc-brain_mask.nii.gz',
        'sub-01_ses-1_task-b_space-MNI_desc-brain_mask.nii.gz',
    ]
    assert masks.anatomical_mask(bold, [tmp_path / name for name in names]) is None
    names += ['sub-01_space-MNI_res-1_desc-brain_mask.nii.gz']
    good = 'sub-01_space-MNI_res-2_desc-brain_mask.nii.gz'
    found = masks.anatomical_mask(bold, [tmp_path / name for name in [*names, good]])
    assert found == tmp_path / good
    native = tmp_path / 'sub-01_ses-1_task-a_desc-preproc_bold.nii.gz'
    assert masks.anatomical_mask(native, [tmp_path / names[2]]) is None


def test_a_mask_that_one_run_lacks_is_not_replaced(make_dataset):
    data = make_dataset()
    data.mask(run='02').unlink()
    with pytest.raises(InputError, match=r'No brain mask for .*run-02'):
        find(data)


def test_one_mask_for_all_runs(make_dataset, datasets):
    data = make_dataset()
    inside = np.zeros(data.spec['shape'])
    inside[1, 2] = 1
    mask = data.root.parent / 'roi.nii.gz'
    datasets.write_mask(mask, inside)
    (person,) = find(data, mask=mask).participants
    assert {run.mask for run in person.runs} == {mask}
    assert all(len(run.sources) == 3 for run in person.runs)  # series, confounds, events
    drop_masks(data)
    (person,) = find(data, mask=mask).participants
    assert {run.mask for run in person.runs} == {mask}


def test_a_named_mask_on_another_grid_is_resampled_or_refused(make_dataset, datasets):
    data = make_dataset()
    mask = data.root.parent / 'roi.nii.gz'
    fine = np.zeros((12, 12, 9))
    fine[3:9] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -1
    datasets.write_mask(mask, fine, affine)
    inputs = find(data, mask=mask)
    for run in inputs.participants[0].runs:
        inside = read_mask(run.mask)[0]
        assert inside[1:3].all()
        assert inside.sum() == inside[1:3].size
    assert any('was resampled' in note and str(mask) in note for note in inputs.notes)
    affine[:3, 3] = 90
    datasets.write_mask(mask, fine, affine)
    with pytest.raises(InputError, match=r'roi\.nii\.gz is on another grid'):
        find(data, mask=mask)
    with pytest.raises(InputError, match='There is no mask file'):
        find(data, mask=mask.with_name('none.nii.gz'))


# echoes


def add_echoes(data, where):
    for run in data.each_run():
        for echo in '123':
            name = data.bold(**run).name.replace('_space-MNI152NLin6Asym', f'_echo-{echo}{where}')
            shutil.copy(data.bold(**run), data.bold(**run).with_name(name))


def test_echoes_in_their_own_space_are_no_choice_of_space(make_dataset):
    data = make_dataset()
    add_echoes(data, '')
    inputs = find(data)
    (person,) = inputs.participants
    assert {run.space for run in person.runs} == {'MNI152NLin6Asym'}
    assert any('6 single-echo series were left out' in note for note in inputs.notes)


@pytest.mark.parametrize('label', [2, '2', '02'])
def test_one_echo_can_be_asked_for_and_takes_the_mask_of_all(make_dataset, label):
    data = make_dataset()
    add_echoes(data, '_space-MNI152NLin6Asym')
    (person,) = find(data, filters={'bold': {'echo': label}}).participants
    for run in person.runs:
        assert run.entities['echo'] == '2'
        assert run.mask == data.mask(run=run.entities['run'])
        assert run.confounds == data.confounds(run=run.entities['run'])


# the index


def test_other_participants_folders_are_not_entered(make_dataset):
    data = make_dataset(participants=('01', '02'))
    locked = data.root / 'sub-02'
    shutil.rmtree(locked / 'func')
    (locked / 'func').symlink_to(locked)  # a loop
    index, note = index_dataset(data.root, ['01'])
    assert note is None
    assert not any('sub-02' in name for folder in index.folders for name in folder.names)
    index, _ = index_dataset(data.root, ['01', '02'])
    assert index.find({'suffix': 'events', 'subject': '01'}) == sorted(
        [data.events(run='01'), data.events(run='02')]
    )


def test_links_that_lead_back_are_followed_once(make_dataset):
    data = make_dataset()
    above = data.events().parent
    for n in range(30):  # to follow all of them to any depth takes for ever
        (above / f'again{n}').symlink_to(above)
        (above / f'up{n}').symlink_to(data.root.parent)
    (data.root / 'sub-01' / 'itself').symlink_to('itself')
    index, _ = index_dataset(data.root, ['01'])
    assert len(index.find({'suffix': 'events'})) == 2


def test_copies_that_an_editor_left_are_of_no_participant(make_dataset):
    data = make_dataset()
    for file in (data.events(), data.bold(), data.mask()):
        for name in (f'Copy of {file.name}', f'{file.name}~', f'._{file.name}'):
            shutil.copy(file, file.with_name(name))
        shutil.copy(file, file.with_name(file.name.replace('.', ' (1).', 1)))
    (person,) = find(data).participants
    assert [run.bold for run in person.runs] == [data.bold(run='01'), data.bold(run='02')]


def test_a_folder_that_cannot_be_read_is_its_participants_own(make_dataset, monkeypatch):
    data = make_dataset(participants=('01', '02'))
    from bids_neurodecode.bids import index

    scan = index.os.scandir

    def refuse(path):
        if 'sub-02' in str(path):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(index.os, 'scandir', refuse)
    inputs = find(data)
    assert [person.label for person in inputs.participants] == ['01']
    assert inputs.failures['02'] == index.UNREADABLE.format(
        folder=data.root / 'sub-02', reason='Permission denied'
    )


def test_a_new_file_makes_a_kept_index_anew(make_dataset, tmp_path):
    data = make_dataset(participants=('01', '02'))
    place = tmp_path / 'kept'
    find(data, database_dir=place)
    assert sum('was reused' in note for note in find(data, database_dir=place).notes) == 2
    data.bold(sub='02', run='02').unlink()
    inputs = find(data, database_dir=place)
    assert any('was older than' in note for note in inputs.notes)
    assert [len(person.runs) for person in inputs.participants] == [2, 1]
    at = data.root.stat().st_mtime_ns
    outside = [
        {'': [at, ['../../secret_bold.nii.gz']]},
        {'sub-01/../..': [at, []]},
        {'/': [at, []]},
    ]
    for content in ('{"": 3}', '[' * 100_000, *map(json.dumps, outside)):
        for file in place.rglob('index.json'):
            file.write_text(content)
        with pytest.raises(InputError, match=r'index in .* cannot be read'):
            find(data, database_dir=place)


def test_raw_images_need_not_be_there(make_dataset):
    data = make_dataset(raw_bold=True)
    for run in data.each_run():
        raw = data.events(**run).with_name(f'{data.stem(**run)}_bold.nii.gz')
        raw.unlink()
        raw.symlink_to('../../.git/annex/objects/aa/bb/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz')
    assert len(find(data).participants[0].runs) == 2


# several tasks


def film_tasks(data):
    """Show another film in each task."""
    film = data.root / 'stimuli' / 'film.mp4'
    for task in data.spec['tasks']:
        shutil.copy(film, film.with_name(f'{task}.mp4'))
    for run in data.each_run():
        data.rewrite_events([[0, 40, 'film', f'{run["task"]}.mp4']], **run)
    film.unlink()


def test_tasks_that_show_films_are_one_analysis(make_dataset):
    data = make_dataset(film='film.mp4', tasks=('e01', 'e02', 'e10'), runs=('1',))
    film_tasks(data)
    inputs = find(data)
    (person,) = inputs.participants
    assert (person.task, person.paradigm) == ('film', 'movie')
    assert person.stimuli == ('e01.mp4', 'e02.mp4', 'e10.mp4')
    for run, task in zip(person.runs, ('e01', 'e02', 'e10'), strict=True):
        assert run.stem == f'sub-01_task-film_acq-{task}_run-1'
        assert run.bold == data.bold(task=task)
        assert run.events == data.events(task=task)
    note = choices.TOGETHER.format(known='e01, e02, e10', label='film')
    assert note in inputs.notes


def test_an_acquisition_stays_in_the_name_of_a_joint_run(make_dataset):
    data = make_dataset(film='film.mp4', tasks=('a', 'b'), runs=('1',))
    film_tasks(data)
    rename_all(data.root, lambda name: name.replace('_run-1', '_acq-mb4_run-1'))
    (person,) = find(data).participants
    assert [run.entities['acq'] for run in person.runs] == ['amb4', 'bmb4']


def test_some_of_the_tasks_can_be_asked_for(make_dataset):
    data = make_dataset(film='film.mp4', tasks=('a', 'b', 'c'), runs=('1',))
    film_tasks(data)
    inputs = find(data, tasks=('a', 'c'))
    (person,) = inputs.participants
    assert (person.task, person.stimuli) == ('film', ('a.mp4', 'c.mp4'))
    assert choices.ASKED_TOGETHER.format(known='a, c', label='film') in inputs.notes
    assert find(data, tasks=('film',)).participants[0].stimuli == ('a.mp4', 'b.mp4', 'c.mp4')
    assert find(data, tasks=('b',)).participants[0].task == 'b'
    with pytest.raises(InputError, match="no task 'd'"):
        find(data, tasks=('a', 'd'))


def test_each_participant_may_have_a_task_of_their_own(make_dataset):
    data = make_dataset(film='film.mp4', participants=('1', '2'), tasks=('x', 'y'), runs=('1',))
    film_tasks(data)
    for sub, task in (('1', 'y'), ('2', 'x')):
        for path in (data.bold, data.mask, data.confounds, data.events):
            path(sub=sub, task=task).unlink()
    inputs = find(data)
    assert {p.label: (p.task, p.stimuli) for p in inputs.participants} == {
        '1': ('x', ('x.mp4',)),
        '2': ('y', ('y.mp4',)),
    }
    assert choices.EACH_OWN.format(known='x, y') in inputs.notes
    (person,) = find(data, participants=('2',)).participants
    assert person.task == 'y'


def test_tasks_of_images_are_together_only_where_asked(make_dataset):
    data = make_dataset(tasks=('img', 'loc'))
    with pytest.raises(InputError) as caught:
        find(data)
    assert str(caught.value) == choices.SEVERAL_TASKS.format(known='img, loc')
    (person,) = find(data, tasks=('img', 'loc')).participants
    assert (person.task, person.paradigm, len(person.runs)) == ('image', 'images', 4)
    assert len({run.stem for run in person.runs}) == 4


def test_tasks_of_which_none_shows_stimuli_are_not_said_to(make_dataset):
    data = make_dataset(tasks=('a', 'b'))
    for run in data.each_run():
        data.rewrite_events([[2, 2]], columns=['onset', 'duration'], **run)
    with pytest.raises(InputError) as caught:
        find(data)
    assert str(caught.value) == choices.NO_TASK_SHOWS.format(known='a, b')


def test_masks_that_are_made_carry_the_space_of_the_series(make_dataset):
    data = make_dataset()
    drop_masks(data)
    image = nib.load(data.bold())
    image.set_sform(image.affine, code=4)
    nib.save(image, data.bold())
    (run, _) = find(data).participants[0].runs
    assert nib.load(run.mask).header.get_sform(coded=True)[1] == 4


def test_a_mask_is_refused_where_the_layout_says_what_is_inside(make_dataset, tmp_path):
    from dataclasses import replace

    from bids_neurodecode.cli import systems
    from bids_neurodecode.cli.parser import parse_arguments, settings_from
    from bids_neurodecode.errors import ArgumentsError

    data = make_dataset()
    found = find(data)
    published = replace(
        found, participants=tuple(replace(p, layout='nsd') for p in found.participants)
    )
    call = [str(data.root), str(tmp_path / 'out'), 'participant', '--mask', str(data.mask())]
    arguments = parse_arguments(call)
    config = settings_from(arguments)
    systems.check_system(arguments, config, found)
    with pytest.raises(ArgumentsError) as caught:
        systems.check_system(arguments, config, published)
    message = systems.NO_MASK_HERE.format(folder=data.root, layout='nsd')
    assert str(caught.value) == message
