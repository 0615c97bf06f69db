"""Names of outputs."""

import re
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bids_neurodecode import extensions
from bids_neurodecode.bids import names
from bids_neurodecode.bids.names import clean_label, told_apart, unique_labels
from bids_neurodecode.cli import systems as cli_systems
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.levels.participant import workflow_name
from bids_neurodecode.signals.atlas import region_table
from bids_neurodecode.systems.steps.publish import atlas_entities
from bids_neurodecode.workflow.run import Failure

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
@example([f'{x}{"a" * 240}.png' for x in 'bc'] + [f'{"a" * 240}{x}.png' for x in 'ab'])
def test_labels_of_stimuli_are_injective_and_allowed(files):
    labels = unique_labels(files)
    bands = told_apart({name: clean_label(name) for name in files})
    for found in (labels, bands):
        assert set(found) == set(files)
        assert len({label.casefold() for label in found.values()}) == len(files)
        for label in found.values():
            assert 0 < len(label) < 200
            assert clean_label(label) == label


@given(st.lists(st.from_regex(r'[a-zA-Z0-9+]{1,6}', fullmatch=True), min_size=2, unique=True))
@example(['a+b', 'apb', 'p', '+', '++', 'A', 'a'])
def test_names_of_participants_are_injective(labels):
    nodes = {workflow_name(label): label for label in labels}
    assert len(nodes) == len(labels)
    paths = {names.product_path('betas', {'sub': label, 'task': 'a'}) for label in labels}
    assert len(paths) == len(labels)
    for node, label in nodes.items():
        assert Failure(f'x.{node}.betas', '', Path()).participant == label


@pytest.mark.slow
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6))
@example(['V1', 'V1', 'V1 (1)', 'V1 (1)', 'V1 (3)'])
@example(['0', '0\0'])  # the same to nunique of older pandas
def test_names_of_parcels_are_injective(parcels):
    table = pd.DataFrame({'index': range(1, len(parcels) + 1), 'name': parcels})
    found = region_table(table)['name']
    assert len(set(found)) == len(parcels)


@given(st.lists(st.text('aB-_ lineark', min_size=1, max_size=6), min_size=1, unique=True))
@example(['my-system', 'mysystem', 'network', 'Linear', 'other', '电影', '-'])
def test_names_of_models_are_injective(systems):
    """Over participants, tasks and systems, those of other packages too."""
    points = dict.fromkeys(systems)
    accepted = []
    with (
        patch.object(extensions, 'installed', lambda: points),
        patch.object(cli_systems, 'find_system', lambda name: extensions.System(name, (), print)),
    ):
        for name in systems:
            with suppress(ArgumentsError):
                cli_systems.check_declarations(name)
                accepted.append(clean_label(name))
    descs = [*cli_systems.own_models(), *accepted]
    people = [('01', 'a'), ('01', 'b'), ('1', 'a'), ('0+1', 'a')]
    paths = [
        names.product_path('model', {'sub': sub, 'task': task}, desc=desc).as_posix().casefold()
        for sub, task in people
        for desc in descs
    ]
    assert len(set(paths)) == len(people) * len(descs)


def atlas(name):
    return atlas_entities(build_config({'atlas': {'file': name}}))


def test_an_atlas_of_other_letters_has_a_label():
    assert atlas('/a/my_space-x_dseg.nii.gz') == {'atlas': 'my'}
    assert atlas('/a/atlas-A_desc-_dseg.nii.gz') == {'atlas': 'A'}
    first, other = atlas('/a/电影.nii.gz')['atlas'], atlas('/a/映画.nii.gz')['atlas']
    assert first != other
    assert clean_label(first) == first
