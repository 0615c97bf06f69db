"""Predicted runs: planted betas come back from the GLM, off the grid too, and by hand."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialtypes import SingleTrialOptions
from bids_neurodecode.systems.encoding.synthesis import predict_run, trial_responses

TR, DURATION = 1.6, 3.0


def test_betas_come_back_from_the_glm():
    """A run made of betas gives them back, with each voxel's own response found again."""
    rng = np.random.default_rng(0)
    n_volumes, n_voxels = 220, 40
    volumes = np.arange(2, 200, 6)
    betas = 2 + rng.standard_normal((len(volumes), n_voxels))
    index = rng.integers(0, 20, n_voxels)
    series = predict_run(
        betas,
        volumes * TR,
        index,
        n_volumes=n_volumes,
        repetition_time=TR,
        stimulus_duration=DURATION,
    )
    assert series.shape == (n_volumes, n_voxels)
    baseline = rng.uniform(500, 1500, n_voxels)
    # percent of the mean over the run, which is what single-trial betas refer to
    mean = 1 / (1 - series.mean(axis=0) / 100)
    bold = baseline * (1 + series * mean / 100)
    np.testing.assert_allclose(bold.mean(axis=0), baseline * mean, rtol=1e-6)
    bold += 1e-3 * rng.standard_normal(bold.shape)
    found = estimate_single_trials(
        [bold],
        [volumes],
        [np.arange(len(volumes))],
        TR,
        DURATION,
        options=SingleTrialOptions(models=('B',)),
    )
    assert np.mean(found.hrf_index == index) > 0.9
    same = found.hrf_index == index
    np.testing.assert_allclose(found.betas['B'][:, same], betas[:, same], atol=0.02)


def test_one_trial_is_the_response():
    response = hrf_library(TR, DURATION)
    betas = np.array([[1.0, 2.0]])
    series = predict_run(
        betas,
        [4 * TR],
        [3, 17],
        n_volumes=50,
        repetition_time=TR,
        stimulus_duration=DURATION,
    )
    expected = np.zeros((50, 2))
    expected[4 : 4 + len(response)] = response[:46][:, [3, 17]] * betas
    np.testing.assert_allclose(series, expected, atol=1e-5)


def test_off_the_grid_and_start_time():
    """Half a volume later is the response half a volume earlier on its way."""
    options = {'n_volumes': 30, 'repetition_time': TR, 'stimulus_duration': DURATION}
    late = trial_responses(np.array([3.2]), **options)
    moved = trial_responses(np.array([4.0]), **options, start_time=0.8)
    np.testing.assert_allclose(moved, late, atol=1e-9)
    between = trial_responses(np.array([4.0]), **options)[0, :, 0]
    assert between[2] == 0 < between[4]
    fine = trial_responses(
        np.array([4.0]),
        n_volumes=60,
        repetition_time=TR / 2,
        stimulus_duration=DURATION,
        beta_repetition_time=TR,
    )[0, :, 0]
    np.testing.assert_allclose(fine[::2], between, atol=1e-9)


def test_trials_add_up_and_none_before_its_onset():
    rng = np.random.default_rng(1)
    betas, onsets = rng.standard_normal((3, 5)), [0.0, 10.0, 100.0]
    index = np.zeros(5, dtype=int)
    options = {'n_volumes': 40, 'repetition_time': TR, 'stimulus_duration': DURATION}
    together = predict_run(betas, onsets, index, **options)
    alone = sum(
        predict_run(betas[k : k + 1], onsets[k : k + 1], index, **options) for k in range(3)
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not predict_run(betas[2:], onsets[2:], index, **options).any()  # after the run


def test_bad_runs():
    betas = np.zeros((2, 3))
    options = {'n_volumes': 10, 'repetition_time': TR, 'stimulus_duration': DURATION}
    with pytest.raises(DataError, match='one finite onset a trial'):
        predict_run(betas, [0.0], [0, 0, 0], **options)
    with pytest.raises(DataError, match='1 of them not finite'):
        predict_run(betas, [0.0, np.nan], [0, 0, 0], **options)
    with pytest.raises(DataError, match=r'0 to 19.* from 0 to 20'):
        predict_run(betas, [0.0, 1.0], [0, 1, 20], **options)
    with pytest.raises(DataError, match='at least one volume'):
        predict_run(betas, [0.0, 1.0], [0, 0, 0], **{**options, 'n_volumes': 0})
