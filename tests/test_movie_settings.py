"""Settings of the movie system, and the presets of Emo-FilM."""

import pytest

from bids_neurodecode.config import build_config, preset_names, read_settings
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.settings.movie import DESIGNS, MovieSettings


def test_the_paper_preset_is_the_published_network():
    config = build_config(read_settings('emofilm-paper'))
    movie = config.movie
    published = {'chunk': 32, 'frame_size': 112, 'spatial': 32, 'temporal': 256, 'slices': 128}
    assert movie.sizes == {**published, 'merged': 64, 'decoder': 48}
    assert (movie.n_epochs, movie.batch_size, movie.learning_rate) == (11, 16, 1e-4)
    assert movie.paper_bn
    assert movie.paper_mse
    assert movie.min_max
    assert not movie.standardize
    assert (movie.timing, movie.perceptual) == ('paper', 'vgg16')
    assert movie.patience is None
    assert movie.clip_norm is None
    assert config.clean.high_pass is None


def test_the_blocked_preset_leaves_a_gap_and_stops_early():
    config = build_config(read_settings('emofilm-blocked'))
    assert config.split.by == 'time'
    assert config.split.gap == 10.4
    assert config.movie.model == 'network'
    assert config.movie.patience is not None
    assert not (config.movie.paper_bn)
    assert not (config.movie.paper_mse)
    assert not (config.movie.min_max)


def test_every_preset_survives_being_written():
    for name in preset_names():
        import tomllib

        config = build_config(read_settings(name))
        assert build_config(tomllib.loads(config.to_toml())) == config


def test_sizes_given_win_over_the_designs():
    movie = MovieSettings(design='small', chunk=32, widths=(1, 2, 3, 4, 5))
    assert movie.sizes == {
        'chunk': 32,
        'frame_size': DESIGNS['small']['frame_size'],
        'spatial': 1,
        'temporal': 2,
        'slices': 3,
        'merged': 4,
        'decoder': 5,
    }


@pytest.mark.parametrize(('model', 'banded', 'fitted'), [
    ('linear', 'auto', False), ('network', 'auto', True), ('linear', 'on', True),
    ('network', 'off', False),
])  # fmt: skip
def test_when_banded_ridge_is_fitted(model, banded, fitted):
    assert MovieSettings(model=model, banded=banded).with_banded is fitted


@pytest.mark.parametrize('values', [
    {'frame_size': 50}, {'chunk': 8}, {'widths': [0, 1, 1, 1, 1]},
    {'perceptual': 'none', 'weight_structure': 0, 'weight_smooth': 0},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(values):
    with pytest.raises(ArgumentsError, match='movie'):
        build_config({'movie': values})
