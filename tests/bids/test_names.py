"""Names of outputs."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bids_neurodecode.bids import names
from bids_neurodecode.bids.names import clean_label, unique_labels
from bids_neurodecode.errors import DataError

SUB = {'sub': '01', 'task': 'img'}


@pytest.mark.parametrize(
    ('key', 'more', 'expected'),
    [
        (
            'betas',
            {},
            'func/sub-01_task-img_space-T_res-2_stat-effect_desc-singletrial_statmap.nii.gz',
        ),
        ('betas_events', {}, 'func/sub-01_task-img_desc-singletrial_events.tsv'),
        ('tsnr', {}, 'func/sub-01_task-img_space-T_res-2_stat-tsnr_boldmap.nii.gz'),
        (
            'reliable',
            {'desc': 'fdr'},
            'func/sub-01_task-img_space-T_res-2_label-reliable_desc-fdr_mask.nii.gz',
        ),
        (
            'dseg',
            {'atlas': 'Schaefer2018', 'seg': '7n', 'scale': '1000'},
            'func/sub-01_task-img_space-T_atlas-Schaefer2018_seg-7n_scale-1000_res-2_dseg.nii.gz',
        ),
        ('metrics', {'desc': 'linear'}, 'func/sub-01_task-img_desc-linear_metrics.tsv'),
        ('model', {'desc': 'linear'}, 'models/sub-01_task-img_desc-linear_model.safetensors'),
    ],
)  # fmt: skip
def test_product_paths(key, more, expected):
    path = names.product_path(key, SUB, space='T', resolution='2', **more)
    assert path.as_posix() == f'sub-01/{expected}'


def test_sessions_have_their_folder():
    path = names.product_path('delayed', {'sub': '1', 'ses': 'a', 'task': 'm', 'run': '2'})
    assert path.as_posix() == 'sub-1/ses-a/func/sub-1_ses-a_task-m_run-2_desc-aligned_bold.nii.gz'


def test_no_space_without_space():
    assert 'space' not in names.product_path('tsnr', SUB).name


@pytest.mark.parametrize('key', names.PRODUCTS)
def test_sidecar_has_the_same_stem(key):
    file = names.product_path(key, SUB, desc='x').name
    sidecar = names.product_path(key, SUB, extension='.json', desc='x').name
    assert sidecar == file.split('.')[0] + '.json'


def test_errors():
    with pytest.raises(DataError, match="No entity is called 'colour'"):
        names.build_name({'colour': 'red'}, 'bold', '.nii.gz')
    with pytest.raises(DataError, match="value 'a_b' of the entity 'desc'"):
        names.build_name({'desc': 'a_b'}, 'bold', '.nii.gz')
    with pytest.raises(DataError, match='needs a participant'):
        names.product_path('tsnr', {'task': 'img'})


def test_entity_order_is_that_of_the_schema():
    shuffled = dict.fromkeys(reversed(names.ENTITY_ORDER), 'x')
    found = re.findall(r'([a-z]+)-x', names.build_name(shuffled, 'bold', '.nii.gz'))
    assert tuple(found) == names.ENTITY_ORDER


@given(
    st.lists(
        st.text(st.characters(exclude_characters='/\0', exclude_categories=['C']), min_size=1),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
@example(['run_1-1.mp4', 'run_11.mp4', 'RUN11.mkv', '电影.mp4', '映画.mp4', 'a+b.mp4', 'a+b.mkv'])
def test_labels_of_stimuli_are_injective_and_allowed(files):
    labels = unique_labels(files)
    assert set(labels) == set(files)
    assert len({label.casefold() for label in labels.values()}) == len(files)
    for label in labels.values():
        assert label
        assert clean_label(label) == label
