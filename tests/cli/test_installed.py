"""What settings that nobody set become where small networks are installed, and where not."""

from types import SimpleNamespace

import pytest

from bids_neurodecode.cli import installed
from bids_neurodecode.config import build_config
from bids_neurodecode.evaluation.protocols import get_protocol
from bids_neurodecode.stimuli.features import networks_of
from bids_neurodecode.systems.encoding.checks import BANDS


def call(**changes):
    known = {
        'analysis_level': 'participant', 'level': 'full', 'models_from': None, 'weights_dir': None,
    }  # fmt: skip
    return SimpleNamespace(**known | changes)


def people(*paradigms):
    return SimpleNamespace(participants=[SimpleNamespace(paradigm=p) for p in paradigms])


@pytest.fixture
def networks(monkeypatch, tmp_path):
    monkeypatch.setattr(installed, 'has_packaged', lambda name: True)
    monkeypatch.setenv('BIDS_NEURODECODE_WEIGHTS', str(tmp_path))


def test_images_are_described_by_a_network_that_does_not_judge_them(networks):
    config, notes = installed.with_installed(build_config({}), call(), people('images'))
    assert config.features.extractor == 'gabor+efficientnet-lite0'
    assert config.reconstruction.protocol == 'cpu-1'
    assert len(notes) == 2
    assert notes[0].startswith('features.extractor = "gabor+efficientnet-lite0": the')
    judges = {metric.network for metric in get_protocol('cpu-1').metrics}
    assert judges - {*networks_of(config.features.extractor)} >= {installed.JUDGE}


def test_encoding_keeps_gabor_energies_as_a_band(networks):
    given = build_config({'system': 'encoding'})
    config, _ = installed.with_installed(given, call(), people('images'))
    assert config.encoding.bands == BANDS
    assert config.encoding.bands[0] == 'gabor'
    assert config.features == given.features
    network = build_config({'system': 'encoding', 'encoding': {'model': 'mlp'}})
    assert installed.with_installed(network, call(), people('images'))[0] == network


@pytest.mark.parametrize(
    'told',
    [
        {'features': {'extractor': 'gabor'}, 'reconstruction': {'protocol': 'bd-982'}},
        {'system': 'encoding', 'encoding': {'bands': ['gabor']}},
        {'system': 'movie'},
    ],
)
def test_what_is_set_is_kept(networks, told):
    config = build_config(told)
    assert installed.with_installed(config, call(), people('images')) == (config, [])


def test_films_and_groups_are_described_as_ever(networks):
    config = build_config({})
    for who, how in ((people('images', 'movie'), {}), (people('images'), {'level': 'betas'})):
        assert installed.with_installed(config, call(**how), who) == (config, [])
    group = call(analysis_level='group')
    assert installed.with_installed(config, group, people('images')) == (config, [])


def test_without_networks_one_line_says_so():
    config = build_config({})
    assert installed.with_installed(config, call(), people('images')) == (
        config,
        [installed.NOT_INSTALLED],
    )


def test_new_images_are_described_as_the_model_was_trained(networks, monkeypatch, tmp_path):
    model = tmp_path / 'sub-01_desc-linear_model.safetensors'
    trained = build_config({'features': {'extractor': 'mobilenetv2'}})
    model.with_suffix('.toml').write_text(trained.to_toml())
    asked = []
    monkeypatch.setattr(
        'bids_neurodecode.cli.systems.find_model', lambda *of: asked.append(of[2]) or model
    )
    config, notes = installed.with_installed(
        build_config({}), call(models_from=tmp_path), people('images')
    )
    assert config.features.extractor == 'mobilenetv2'
    assert notes == ['features.extractor = "mobilenetv2", as the model was trained with.']
    assert asked == ['reconstruction']


def test_methods_text_knows_every_feature_space():
    from typing import get_args

    from bids_neurodecode.report.boilerplate import described_by
    from bids_neurodecode.settings.encoding import TABLE, Band

    for band in set(get_args(get_args(Band)[0])) - {TABLE}:
        assert described_by(band)
    assert described_by('efficientnet-lite0:stage5').endswith(', layer stage5')
