"""Settings: round trips through TOML, layers, and the errors that name a key."""

import tomllib
from importlib import resources
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode import config
from bids_neurodecode.config import (
    Config,
    build_config,
    load_config,
    merge,
    preset_names,
    read_settings,
)
from bids_neurodecode.errors import ArgumentsError

some_settings = st.fixed_dictionaries(
    {},
    optional={
        'system': st.sampled_from(['auto', 'movie', 'reconstruction', 'encoding']),
        'seed': st.integers(0, 2**32 - 1),
        'clean': st.fixed_dictionaries(
            {},
            optional={
                'strategy': st.lists(st.sampled_from(['motion', 'wm_csf', 'scrub'])),
                'columns': st.lists(st.sampled_from(['trans_x', 'csf', 'a"b\\c', 'ü'])),
                'high_pass': st.none() | st.floats(0, 1),
                'scaling': st.sampled_from(['psc', 'zscore', 'none']),
            },
        ),
        'betas': st.fixed_dictionaries(
            {},
            optional={
                'n_components': st.none() | st.integers(0, 10),
                'fraction': st.none() | st.floats(0.05, 1),
                'precomputed': st.none() | st.just('other'),
            },
        ),
        'features': st.fixed_dictionaries(
            {}, optional={'n_components': st.none() | st.integers(1, 500)}
        ),
        'selection': st.fixed_dictionaries(
            {},
            optional={
                'measure': st.sampled_from(['auto', 'none', 'tsnr']),
                'threshold': st.floats(-1e6, 1e6),
            },
        ),
        'atlas': st.sampled_from([{}, {'name': 'Schaefer2018'}, {'file': 'a/b_dseg.nii.gz'}]),
        'ridge': st.fixed_dictionaries(
            {}, optional={'alphas': st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=4)}
        ),
    },
)


@given(values=some_settings)
def test_toml_gives_back_the_same_settings(values):
    one = build_config(values)
    text = one.to_toml()
    assert build_config(tomllib.loads(text)) == one
    assert build_config(tomllib.loads(text)).to_toml() == text


def test_file_round_trip_and_defaults_are_written(tmp_path):
    file = tmp_path / 'config.toml'
    file.write_text(Config().to_toml(), 'utf-8')
    assert load_config(file) == Config()
    assert tomllib.loads(file.read_text())['clean']['high_pass'] == 0.008


def test_files_are_named_from_the_folder_of_the_settings(tmp_path):
    """What is published says nothing of a machine, and is read where it lies."""
    file = tmp_path / 'out' / 'log' / 'config.toml'
    file.parent.mkdir(parents=True)
    rois = {'FFA': f'{tmp_path}/rois/sub-{{sub}}_stat-z_statmap.nii.gz > 3.1'}
    for atlas in ({'file': str(tmp_path / 'data' / 'a_dseg.nii.gz')}, {'rois': rois}):
        config = build_config({'atlas': atlas})
        text = config.to_toml(file.parent)
        assert str(tmp_path) not in text
        assert '"{here}/../../' in text
        file.write_text(text, 'utf-8')
        assert load_config(file) == config
    moved = tmp_path / 'elsewhere' / 'log' / 'config.toml'
    moved.parent.mkdir(parents=True)
    moved.write_text(build_config({'atlas': {'file': '/x/dseg.nii'}}).to_toml(Path('/x/out')))
    assert load_config(moved).atlas.file == tmp_path / 'elsewhere' / 'dseg.nii'


def test_switched_off_is_not_left_out():
    off = build_config({'clean': {'high_pass': 'none'}, 'features': {'n_components': None}})
    assert off.clean.high_pass is None
    written = tomllib.loads(off.to_toml())
    assert written['clean']['high_pass'] == 'none'
    assert written['features']['n_components'] == 'none'
    assert 'n_components' not in written['betas']


def test_every_preset_is_valid_and_default_is_the_default():
    assert 'default' in preset_names()
    for name in preset_names():
        build_config(read_settings(name))
    assert build_config(read_settings('default')) == Config()
    packaged = resources.files('bids_neurodecode') / 'presets' / 'default.toml'
    assert tomllib.loads(packaged.read_text('utf-8')) == read_settings('default')


def test_later_layers_win_key_by_key():
    first = {'clean': {'scaling': 'zscore', 'high_pass': 0.02}, 'seed': 1}
    second = {'clean': {'high_pass': 0.03}, 'ridge': {'alphas': [1.0]}}
    built = build_config(first, second)
    assert (built.clean.scaling, built.clean.high_pass, built.seed) == ('zscore', 0.03, 1)
    assert built.ridge.alphas == (1.0,)
    assert first == {'clean': {'scaling': 'zscore', 'high_pass': 0.02}, 'seed': 1}


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from('abc'), inner), max_leaves=8
)
layer = st.dictionaries(st.sampled_from('abc'), nested)


@given(a=layer, b=layer, c=layer)
def test_merging_does_not_depend_on_the_grouping_and_keeps_its_input(a, b, c):
    whole = repr((a, b, c))
    grouped = merge(merge(a, b), c)
    assert merge(a, b, c) == grouped
    assert merge(a, a) == merge(a)
    assert merge({}, a) == a
    assert repr((a, b, c)) == whole


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError, match='frozen'):
        Config().seed = 3
    with pytest.raises(pydantic.ValidationError, match='frozen'):
        Config().clean.high_pass = 3


@pytest.mark.parametrize(
    ('values', 'key', 'reason'),
    [
        ({'sed': 1}, 'sed', 'unknown key'),
        ({'clean': {'hihg_pass': 1}}, 'clean.hihg_pass', 'unknown key'),
        ({'clean': 3}, 'clean', 'dictionary'),
        ({'clean': {'strategy': ['magic']}}, 'clean.strategy.0', "'motion'"),
        ({'clean': {'high_pass': -1}}, 'clean.high_pass', 'greater than or equal to 0'),
        ({'clean': {'high_pass': float('inf')}}, 'clean.high_pass', 'finite'),
        ({'selection': {'threshold': float('nan')}}, 'selection.threshold', 'finite'),
        ({'betas': {'n_components': 11}}, 'betas.n_components', 'less than or equal to 10'),
        ({'betas': {'fraction': 0}}, 'betas.fraction', 'greater than 0'),
        ({'seed': -1}, 'seed', 'greater than or equal to 0'),
        ({'seed': 2**32}, 'seed', 'less than'),
        ({'ridge': {'alphas': []}}, 'ridge.alphas', 'at least 1'),
        ({'ridge': {'alphas': [1, 0]}}, 'ridge.alphas.1', 'greater than 0'),
        ({'split': {'test_fraction': 1}}, 'split.test_fraction', 'less than 1'),
        ({'atlas': {'name': 'a', 'file': 'b'}}, 'atlas', 'one of name, file and rois'),
        ({'atlas': {'regions': ['Vis']}}, 'atlas', 'regions need an atlas'),
        ({'schema_version': 2}, 'schema_version', '1'),
    ],
)
def test_a_bad_setting_is_named_by_its_key(values, key, reason):
    with pytest.raises(ArgumentsError) as error:
        build_config(values, source='my.toml')
    message = str(error.value)
    assert message.startswith(f'Invalid setting in my.toml: {key}: ')
    assert reason in message
    assert '\n' not in message


def test_files_that_cannot_be_used_are_named(tmp_path):
    presets = ', '.join(preset_names())

    def message(source):
        with pytest.raises(ArgumentsError) as error:
            read_settings(source)
        assert '\n' not in str(error.value)
        return str(error.value)

    unknown = {'name': 'nothing', 'near': '', 'presets': presets}
    assert message('nothing') == config.UNKNOWN_PRESET.format(**unknown)
    file = tmp_path / 'my.toml'
    file.write_text('seed = \n')
    assert message(file).startswith(f'Cannot read the settings in {file}: ')
    file.write_bytes(b'\xff\xfe\x00')
    assert message(file).startswith(f'Cannot read the settings in {file}: ')
    file.write_text('schema_version = 99\n')
    assert message(file) == config.OTHER_VERSION.format(
        file=file, found=99, expected=config.SCHEMA_VERSION, presets=presets
    )
