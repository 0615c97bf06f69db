"""Banded ridge, the choice of voxels, and how frames are judged: planted films."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings, build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_in_time
from bids_neurodecode.systems.movie.banded import LEFT_OUT, NOTHING_VARIES, encode_banded
from bids_neurodecode.systems.movie.frames import (
    TOO_SHORT,
    blurred,
    judge_frames,
    surrogate_similarity,
)
from bids_neurodecode.systems.movie.judging import FilmScorer
from bids_neurodecode.systems.movie.parts import Pool
from bids_neurodecode.systems.movie.recipe import FilmRidge
from bids_neurodecode.systems.movie.setup import (
    FilmData,
    choose_voxels,
    network_settings,
    rows_on_voxels,
)
from bids_neurodecode.systems.movie.study import NOTHING_HELD_OUT, study_network

TR = 2.0
EVALUATION = EvaluationSettings(n_permutations=50, n_bootstrap=50)


def table(n, films=2):
    onset = np.tile(np.arange(n // films) * TR, films)
    number = np.repeat(np.arange(films), n // films)
    return pd.DataFrame(
        {
            'stimulus': [f'film{f}#{o}' for f, o in zip(number, onset, strict=True)],
            'film': [f'film{f}.mp4' for f in number],
            'onset': onset,
            'run': number,
            'session': '1',
            'showing': number,
            'run_onset': onset,
        }
    )


def samples_of(values):
    shape = (values.shape[1], 1, 1)
    mask = VoxelMask(np.ones(shape, dtype=bool), np.eye(4))
    return Samples(Responses(values.astype(np.float32), mask), table(len(values)))


@pytest.fixture(scope='module')
def planted():
    """Voxels follow the frames (6), the changes (6), both two volumes later, or nothing (12)."""
    rng = np.random.default_rng(0)
    n = 240
    frames, changes = rng.normal(size=(2, n, 6)).astype(np.float32)
    values = rng.normal(size=(n, 24))
    one, other = 2 * rng.normal(size=(2, 6, 6))
    for film in np.array_split(np.arange(n), 2):
        values[film[2:], :6] += frames[film[:-2]] @ one
        values[film[2:], 6:12] += changes[film[:-2]] @ other
    return samples_of(values), frames, changes


def banded(samples, features):
    return encode_banded(
        samples,
        split_in_time(samples.table, gap=10.0, test_fraction=0.25),
        features,
        FilmRidge(TR, (2.0, 4.0)),
        evaluation=EVALUATION,
        rng=np.random.default_rng(1),
    )


def test_banded_ridge_finds_what_each_space_drives(planted):
    samples, frames, changes = planted
    judged, warnings = banded(samples, {'frames': frames, 'changes': changes})
    assert warnings == ()
    assert np.median(judged.r[:6]) > 0.6
    assert np.median(judged.r[6:12]) > 0.6
    assert abs(np.median(judged.r[12:])) < 0.2
    assert {score.model for score in judged.scores} == {'banded-ridge', 'baseline-shuffled'}
    alone, _ = banded(samples, {'frames': frames})
    assert np.median(alone.r[6:12]) < 0.3


def test_banded_ridge_says_which_features_it_left_out(planted):
    samples, frames, changes = planted
    _, warnings = banded(samples, {'frames': frames, 'changes': np.zeros_like(changes)})
    assert warnings == (LEFT_OUT.format(name='changes'),)
    with pytest.raises(DataError, match=NOTHING_VARIES):
        banded(samples, {'changes': np.ones_like(changes)})


def film_data(samples, features):
    chunks = lambda rows: [np.zeros((16, 24, 24, 3), np.uint8) for _ in rows]  # noqa: E731
    return FilmData(samples, samples, features, chunks, TR)


def test_chosen_voxels_are_those_that_training_samples_tell(planted):
    samples, frames, _ = planted
    config = build_config({'movie': {'max_voxels': 6}, 'delay': {'fir_seconds': [2.0, 4.0]}})
    train = np.arange(0, 90)
    assert choose_voxels(film_data(samples, frames), train, config).tolist() == list(range(6))
    # what is not trained on has no say
    other = samples.values.copy()
    other[120:] = np.random.default_rng(2).normal(size=other[120:].shape)
    again = choose_voxels(film_data(samples_of(other), frames), train, config)
    assert again.tolist() == list(range(6))
    everything = build_config({'movie': {'max_voxels': 'none'}})
    assert choose_voxels(film_data(samples, frames), train, everything).size == 24


def test_voxels_are_chosen_from_those_of_the_fold(planted):
    samples, frames, _ = planted
    config = build_config({'movie': {'max_voxels': 4}, 'delay': {'fir_seconds': [2.0, 4.0]}})
    within = np.arange(24) % 2 == 1
    columns = choose_voxels(film_data(samples, frames), np.arange(90), config, within=within)
    assert {1, 3, 5} < set(columns.tolist())
    assert within[columns].all()
    everything = build_config({'movie': {'max_voxels': 'none'}})
    found = choose_voxels(film_data(samples, frames), np.arange(90), everything, within=within)
    np.testing.assert_array_equal(found, np.flatnonzero(within))


def test_nothing_measured_among_what_is_held_out_is_refused_before_training(planted):
    samples, frames, _ = planted
    split = split_in_time(samples.table, gap=10.0)
    values = samples.values.copy()
    values[split.folds[0].test] = np.nan
    config = build_config({'movie': {'model': 'network', 'design': 'small', 'frame_size': 24}})
    with pytest.raises(DataError, match=NOTHING_HELD_OUT.split('{')[0]):
        study_network(
            film_data(samples_of(values), frames), split, config, rng=np.random.default_rng(0)
        )


def test_settings_reach_the_fit():
    config = build_config(
        {
            'movie': {
                'design': 'small', 'paper_bn': True, 'paper_mse': True, 'min_max': True,
                'patience': 'none', 'clip_norm': 'none', 'perceptual': 'none', 'n_epochs': 3,
            }
        }
    )  # fmt: skip
    settings = network_settings(config.movie, 7, 5, 'cpu')
    assert settings.design.n_voxels == 7
    assert settings.design.paper_bn
    assert settings.losses.paper_mse
    assert settings.losses.perceptual == 0
    assert settings.training.keep == 'last'
    assert settings.training.seed == 5
    assert settings.training.clip_norm is None
    assert settings.min_max
    stopping = network_settings(build_config({}).movie, 7, 5, 'cpu').training
    assert stopping.keep == 'best'
    assert stopping.patience == 5


@pytest.fixture(scope='module')
def frames():
    rng = np.random.default_rng(3)
    truth = rng.uniform(size=(40, 3, 3, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noisy = np.clip(truth + 0.05 * rng.normal(size=truth.shape), 0, 1)
    return truth.astype(np.float32), noisy.astype(np.float32), np.repeat(['0', '1'], 20)


def redrawn(decoded, seed=0):
    """Frames that were decoded at other times: what surrogates of white responses give."""

    def surrogates(looked, n_draws):
        rng = np.random.default_rng(seed)
        for _ in range(n_draws):
            yield decoded[rng.permutation(len(decoded))[looked]]

    return surrogates


def judge(truth, decoded, parts, seconds=2.0, **more):
    return judge_frames(
        truth,
        decoded,
        truth.mean(axis=0),
        parts=parts,
        surrogates=redrawn(decoded),
        scorer=FilmScorer('p', seconds, EVALUATION, np.random.default_rng(0)),
        **more,
    )


def test_good_reconstructions_beat_surrogates_and_baselines(frames):
    truth, decoded, parts = frames
    similarity, scores, notes = judge(truth, decoded, parts, through=truth)
    ours, through, mean, blur = scores
    assert notes == ()
    assert similarity.shape == (40,)
    assert ours.model == through.model == 'network'
    assert ours.space != through.space
    assert ours.value > max(mean.value, ours.chance) + 0.2
    assert ours.p == pytest.approx(1 / (1 + min(99, EVALUATION.n_permutations)))
    assert through.value == pytest.approx(1, abs=1e-4)
    assert mean.model == 'baseline-mean-image'
    assert blur.model == 'baseline-blurred-truth'
    # 40 frames of 2 s are two blocks of 30 s: no interval
    assert all(score.ci_low is None or np.isnan(score.ci_low) for score in scores)


def test_frames_get_intervals_over_blocks_and_none_of_less_than_a_minute(frames):
    truth, decoded, parts = frames
    *_, longer = judge(truth, decoded, parts, seconds=10.0)
    assert longer == ()
    _, scores, _ = judge(truth, decoded, parts, seconds=10.0)
    for score in scores:
        assert score.ci_low < score.value < score.ci_high
    _, scores, notes = judge(truth, decoded, parts, seconds=1.0)
    assert notes == (TOO_SHORT.format(seconds=40, need=60),)
    assert scores[0].p is None


def test_a_decoder_that_knows_nothing_is_at_chance(frames):
    truth, _, _ = frames
    same = np.broadcast_to(truth.mean(axis=0), truth.shape).copy()
    observed, null = surrogate_similarity(truth, same, redrawn(same), 20)
    np.testing.assert_allclose(null, observed, atol=1e-5)
    assert null.size == 20


def test_blurring_keeps_the_mean_and_each_frame_apart(frames):
    truth, _, _ = frames
    out = blurred(truth)
    np.testing.assert_allclose(out.mean(axis=(1, 2)), truth.mean(axis=(1, 2)), atol=0.05)
    assert out.std(axis=(1, 2)).mean() < truth.std(axis=(1, 2)).mean()


def test_other_models_are_scored_on_the_networks_voxels():
    pool = Pool(np.ones((1, 3), dtype=bool), np.ones(1))
    scores = rows_on_voxels({'ridge': np.array([[0.1, 0.2, 0.9]])}, 'p', pool)
    values = {score.metric: score.value for score in scores}
    assert values['voxel_r_median'] == pytest.approx(0.2)
    assert values['voxel_r_mean'] == pytest.approx(0.4)
    assert {score.space for score in scores} == {'selected voxels'}
    apart = Pool(np.array([[True, True, False], [False, True, True]]), np.array([1.0, 3.0]))
    scores = rows_on_voxels({'ridge': np.array([[0.1, 0.2, 9], [9, 0.4, 0.6]])}, 'p', apart)
    values = {score.metric: score.value for score in scores}
    assert values['voxel_r_mean'] == pytest.approx(0.25 * 0.15 + 0.75 * 0.5)
