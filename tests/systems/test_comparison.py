"""Differences between models are over independent units, in every row that is a reference."""

import numpy as np
import pytest

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score, scores_of, scores_table
from bids_neurodecode.systems.comparison import (
    OTHER_UNITS,
    compare_models,
    compare_rows,
    load_kept,
    median_without,
    save_kept,
    unit_values,
)

QUICK = EvaluationSettings(n_permutations=999, n_bootstrap=999)


def row(model, space='final', value=0.5):
    return Score('reconstruction', model, 'p', 'test', space, 'pixcorr', value, 12)


def test_repeats_of_an_image_are_one_unit():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(8), 3)
    own, other = rng.normal(size=24) + 1, rng.normal(size=24)
    kept = {
        ('gru', 'final', 'pixcorr'): (own, units),
        ('baseline-nearest', 'final', 'pixcorr'): (other, units),
        ('gru', 'initial', 'pixcorr'): (other, units),
        ('reference-true-latents', 'final', 'pixcorr'): (other, units),
    }
    rows = [
        row('gru'),
        row('baseline-nearest'),
        row('gru', 'initial'),
        row('reference-true-latents'),
        row('baseline-shuffled'),
    ]
    own_row, nearest, initial, ceiling, unknown = compare_rows(
        rows, kept, 'gru', QUICK, np.random.default_rng(1), stages={'initial': 'final'}
    )
    assert own_row.difference is ceiling.difference is unknown.difference is None
    for found in (nearest, initial):
        assert found.n_units == 8
        assert found.difference == pytest.approx((own - other).mean())
        assert (found.compared_model, found.compared_space) == ('gru', 'final')
        assert found.difference_low < found.difference < found.difference_high
        assert 0 < found.difference_p <= 1


def test_below_six_units_there_is_a_difference_and_no_test():
    units = np.arange(4)
    kept = {(m, 'final', 'pixcorr'): (np.ones(4), units) for m in ('gru', 'baseline-nearest')}
    found = compare_rows([row('baseline-nearest')], kept, 'gru', QUICK, np.random.default_rng(0))
    assert (found[0].difference, found[0].difference_p) == (0.0, None)


def test_without_resamplings_there_is_the_mean_over_units_alone():
    """Units of one, two and three samples count alike."""
    values, units = np.array([6.0, 1, 3, 3, 4, 5]), np.array([0, 1, 1, 2, 2, 2])
    kept = {
        ('gru', 'final', 'pixcorr'): (values, units),
        ('baseline-nearest', 'final', 'pixcorr'): (np.ones(6), units),
    }
    settings = EvaluationSettings(n_permutations=0, n_bootstrap=0)
    (found,) = compare_rows([row('baseline-nearest')], kept, 'gru', settings, None)
    assert found.difference == (5 + 1 + 3) / 3
    assert (found.difference_p, found.difference_low, found.n_units) == (None, None, 3)


def test_units_of_a_mean_are_its_values():
    values = np.random.default_rng(0).normal(size=9)
    without = (values.sum() - values) / 8
    np.testing.assert_allclose(unit_values(values.mean(), without), values)


@pytest.mark.parametrize(('n', 'tested'), [(240, True), (60, False)])
def test_frames_are_compared_over_blocks_of_30_s(n, tested):
    from bids_neurodecode.systems.movie.frames import judge_frames
    from bids_neurodecode.systems.movie.judging import FilmScorer

    rng = np.random.default_rng(0)
    truth = rng.random((n, 16, 16, 3)).astype(np.float32)
    decoded = (0.5 * truth + 0.5 * rng.random(truth.shape)).astype(np.float32)
    _, (own, mean, _), _ = judge_frames(
        truth, decoded, truth.mean(axis=0), parts=np.repeat(['a', 'b'], n // 2),
        surrogates=lambda looked, n_draws: [decoded[looked]] * n_draws,
        scorer=FilmScorer('p', 1.0, QUICK, rng),
    )  # fmt: skip
    assert own.difference is None
    assert (mean.n_units, mean.units) == (n // 30, 'blocks of 30 s')
    assert own.image_size == mean.image_size == 16
    assert mean.difference > 0.1
    assert (mean.difference_p is not None) == tested


def test_a_model_is_compared_with_one_that_was_judged_elsewhere(tmp_path):
    """The difference stands in the row of the reference, unit by unit, and saved values do."""
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(9), 2)
    own, other = rng.normal(size=18) + 2, rng.normal(size=18)
    for model, values in (('cnn', own), ('ridge', other)):
        save_kept(tmp_path / f'{model}.npz', {(model, 'final', 'pixcorr'): (values, units)})
    kept = load_kept(tmp_path / 'cnn.npz') | load_kept(tmp_path / 'ridge.npz')
    rows = [row('ridge'), row('ridge', 'initial'), row('baseline-shuffled')]
    found = compare_models(rows, kept, 'cnn', 'ridge', QUICK, np.random.default_rng(1))
    assert found[1:] == tuple(rows[1:])
    assert (found[0].compared_model, found[0].compared_space) == ('cnn', 'final')
    assert found[0].difference == pytest.approx((own - other).mean())
    assert found[0].n_units == 9
    assert found[0].difference_low > 0
    kept['cnn', 'final', 'pixcorr'] = own[:-1], units[:-1]
    with pytest.raises(DataError) as error:
        compare_models(rows, kept, 'cnn', 'ridge', QUICK, np.random.default_rng(1))
    assert str(error.value) == OTHER_UNITS.format(own='cnn', reference='ridge', metric='pixcorr')


def test_scores_come_back_from_their_table(tmp_path):
    import pandas as pd

    scores = (row('ridge'), row('cnn', value=float('nan')))
    scores_table(scores).to_csv(tmp_path / 'm.tsv', sep='\t', index=False, na_rep='n/a')
    again = scores_of(pd.read_csv(tmp_path / 'm.tsv', sep='\t', na_values='n/a'))
    assert again[0] == scores[0]
    assert np.isnan(again[1].value)


def test_medians_over_voxels_of_equally_good_models_do_not_differ():
    """Two predictions of equal worth: .05 of the differences may be significant, and few more."""
    from bids_neurodecode.evaluation.paired import paired_difference
    from bids_neurodecode.systems.encoding.scores import weighted_r

    rng = np.random.default_rng(0)
    n, n_voxels, n_sets = 24, 120, 80
    without = (1 - np.eye(n)).astype(np.float32)
    significant = 0
    for _ in range(n_sets):
        mix = rng.normal(size=(6, n_voxels)) * rng.uniform(0.2, 1, n_voxels)
        one, other = rng.normal(size=(2, n, 6)) @ mix
        noise = rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_voxels))
        truth = 0.3 * (one + other) + 0.4 * noise + rng.normal(size=one.shape)
        values = []
        for predicted in (one, other):
            x, y = ((v - v.mean(0)) / v.std(0) for v in (truth, predicted))
            r = (x * y).mean(axis=0)
            each = weighted_r(x.astype(np.float32), y.astype(np.float32), without)
            values.append(unit_values(float(np.median(r)), median_without(r, each)))
            assert values[-1].mean() == pytest.approx(np.median(r))
        significant += paired_difference(*values, rng=rng, n_resamples=299).p <= 0.05
    assert significant <= 10  # .05 of 80 is 4; with medians jackknifed as they are it is 37
