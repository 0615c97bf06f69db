"""Brain correlation finds what is planted, and nothing where there is nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.evaluation.metrics import TRUE_IMAGE
from bids_neurodecode.samples import Samples, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.reconstruction.generation import brain_correlation as brain
from bids_neurodecode.systems.reconstruction.generation.data import Inputs
from bids_neurodecode.systems.reconstruction.generation.run import generate_pictures
from bids_neurodecode.systems.voxels import Estimates
from tests.systems.reconstruction.test_generation import (
    N_VOXELS,
    Blocks,
    Pixels,
    config_of,
    make_cheap,
    resize,
    world,
)

SPACE = 'final-single-trial'
VIEWERS = {'gabor': {}, 'pixels': {'all': Pixels()}}


@pytest.fixture(autouse=True, scope='module')
def _cheap_scores():
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        yield


def reconstruct(samples, pictures, *, viewers=VIEWERS, by='stimulus', more=None, **told):
    features = Pixels().transform(resize(pictures.values, 8))
    inputs = Inputs(
        PerStimulus(pictures.stimuli, features),
        pictures,
        Pixels(),
        viewers=viewers,
        **(more or {}),
    )
    n_runs = samples.table['run'].nunique()
    n_folds = 1 if by == 'stimulus' else None
    split = split_by_group(samples.table, by, n_folds=n_folds, rng=np.random.default_rng(0))
    estimates = Estimates(samples, split, tsnr_runs=np.ones((n_runs, N_VOXELS), np.float32))
    return generate_pictures(estimates, inputs, Blocks([]), config_of(**told))


def rows(result):
    return {s.model: s for s in result.scores if s.metric == brain.METRIC}


def test_reconstructions_of_planted_images_give_the_responses_of_other_runs():
    found = rows(reconstruct(*world(n_runs=3, noise=2.0)))
    own, mean = found['ridge'], found['baseline-mean-image']
    assert set(found) == {'ridge', 'baseline-mean-image', brain.RETRIEVED, TRUE_IMAGE}
    assert {row.space for row in found.values()} == {SPACE}
    assert own.p < 0.05
    assert own.chance < 0.15 < own.ci_low < own.value < own.ci_high
    assert found[TRUE_IMAGE].value > own.value
    assert (own.n, own.n_units, own.units) == (24, 8, 'stimuli')
    # the mean image says the same of all images: shuffling its reconstructions changes nothing
    assert mean.value == pytest.approx(mean.chance)
    assert mean.difference_low > 0
    assert found[brain.RETRIEVED].difference > 0


def test_noise_alone_is_at_chance_though_it_correlates_with_what_it_was_made_from():
    samples, pictures = world(n_runs=3, noise=1e3)
    own = rows(reconstruct(samples, pictures))['ridge']
    assert abs(own.value - own.chance) < 0.1
    assert own.p > 0.05
    # decoded and encoded again by the same training noise: why the trial itself is left out
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(2, 60, 40))
    features = rng.normal(size=(60, 10))
    decode = np.linalg.lstsq(train, features, rcond=None)[0]
    encode = np.linalg.lstsq(features, train, rcond=None)[0]
    again = test @ decode @ encode
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(again, test, strict=True)]) > 0.2


@pytest.mark.slow
def test_without_repeats_over_runs_or_a_network_it_is_left_out_and_said():
    samples, pictures = world(n_stimuli=12, n_runs=2)
    for viewers, told, note in (
        ({'gabor': {}}, {}, brain.NO_NETWORK),
        (VIEWERS, {'brain_correlation': False}, None),
    ):
        result = reconstruct(samples, pictures, viewers=viewers, **told)
        assert not rows(result)
        assert [n for n in result.notes if 'Brain' in n] == ([note] if note else [])
    result = reconstruct(samples, pictures, by='run')
    assert not rows(result)
    assert brain.NO_RUNS in result.notes


def test_nothing_of_held_out_trials_is_fitted_to_and_equal_images_are_described_once(monkeypatch):
    monkeypatch.setattr(brain, 'AT_ONCE', 8)
    samples, pictures = world(n_runs=2)
    seen = []

    class Counting(Pixels):
        def transform(self, images):
            seen.append(len(images))
            return super().transform(images)

    viewer = brain.Viewer({'all': Counting()}, EncoderSettings(n_components=12))
    train = samples.take(np.flatnonzero(samples.table['stimulus'] < 's30.png'))
    changed = pictures.values.copy()
    changed[30:] = 0
    fits = [
        viewer.fit(train, PerStimulus(pictures.stimuli, values))
        for values in (pictures.values, changed)
    ]
    assert seen == [8, 8, 8, 6]  # never a copy of all
    mean = pictures.mean(pictures.stimuli)
    np.testing.assert_array_equal(mean, pictures.values.mean(axis=0, dtype=np.float64))
    for a, b in zip(*(fit.state().values() for fit in fits), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(train, Samples)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=14),
    st.integers(0, 2**16),
)
def test_each_trial_is_compared_with_means_of_other_runs_alone(pairs, seed):
    rows, images = brain.shown_elsewhere([str(a) for a, _ in pairs], [b for _, b in pairs])
    shown = {str(a) for a, _ in pairs if len({b for other, b in pairs if other == a}) > 1}
    assert set(images) == shown
    assert [str(pairs[row][0]) for row in rows] == [str(a) for a, _ in pairs if str(a) in shown]
    if not len(rows):
        return
    rng = np.random.default_rng(seed)
    predicted, measured = rng.normal(size=(2, len(rows), 5))
    codes = np.array([images.index(str(pairs[row][0])) for row in rows])
    runs = np.array([pairs[row][1] for row in rows])
    found = brain.with_other_runs(predicted, measured, codes, runs)
    for i in range(len(rows)):
        for image in range(len(images)):
            other = measured[(codes == image) & (runs != runs[i])].mean(axis=0)
            expected = np.corrcoef(predicted[i], other)[0, 1]
            assert found[i, image] == pytest.approx(expected, abs=1e-9)
