"""Identification: perfect for the truth, chance for nothing, fair to ties."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.identification import (
    BAD_PAIRS,
    SINGLE_DECIMALS,
    confusion_matrix,
    identification_2way,
    nearest,
    outcomes_2way,
    outcomes_top1,
    outcomes_top1_of,
    ranks,
    similarity,
)


@pytest.mark.parametrize(('measure', 'metric'), [('pearson', 'correlation'), ('cosine', 'cosine')])
def test_similarity_equals_scipy(measure, metric):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 9)) + 2, rng.normal(size=(7, 9))
    expected = 1 - cdist(a, b, metric)
    np.testing.assert_allclose(similarity(a, b, measure), expected, atol=1e-10)
    # whatever the unit of a row, and whatever the others are
    scaled = similarity(a * 10.0 ** np.arange(-20, 20, 8)[:, None], b * 1e-30, measure)
    np.testing.assert_allclose(scaled, expected, atol=1e-10)
    singles = a.astype(np.float32), b.astype(np.float32)
    doubles = [x.astype(np.float64) for x in singles]
    np.testing.assert_allclose(similarity(*doubles, measure), expected, atol=1e-6)
    # computed in double, told to the decimals that single precision holds
    rounded = np.round(similarity(*doubles, measure), SINGLE_DECIMALS)
    for pair in (singles, (singles[0], doubles[1]), (doubles[0], singles[1])):
        np.testing.assert_array_equal(similarity(*pair, measure), rounded)
    assert (similarity(a, b) == similarity(a, b, 'cosine')).all()


def test_similarity_of_nothing_is_zero():
    b = np.random.default_rng(1).normal(size=(3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (similarity(np.full((2, 4), 0.1), b, 'pearson') == 0).all()
        # centring leaves rounding noise of these three
        for size in (1e-20, 1, 1e20):
            assert (similarity(np.full((2, 3), 0.1 * size), b[:, 1:], 'pearson') == 0).all()
        assert (similarity(b, np.zeros((5, 4)), 'pearson') == 0).all()
    assert (similarity(np.zeros((2, 4)), b, 'cosine') == 0).all()
    assert (similarity(np.full((2, 4), 0.1), b, 'cosine') != 0).all()


def test_cosine_does_not_depend_on_the_axes():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(5, 6)), rng.normal(size=(7, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    np.testing.assert_allclose(similarity(a @ turn, b @ turn), similarity(a, b), atol=1e-10)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_candidates_that_are_equally_far_tie_in_the_arithmetic_of_their_type(dtype):
    # as the whitened features of a few stimuli are: a wrong one says nothing of the right one
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    apart = ((np.eye(16) - 1 / 16) @ turn).astype(dtype)
    alike = similarity(apart[rng.permutation(16)] * dtype(3.7), apart)
    wrong = alike.argmax(axis=1) != np.arange(16)
    assert wrong.any()
    # the one that was taken is ahead, the other 14 tie
    assert ranks(alike[wrong], np.flatnonzero(wrong)).tolist() == [9.0] * wrong.sum()


def top1(alike, truth):
    """Share of samples whose true candidate is the most similar."""
    return outcomes_top1(alike)[np.arange(len(alike)), truth].mean()


@given(st.integers(2, 12), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_truth_identifies_itself(n, seed):
    values = np.random.default_rng(seed).normal(size=(n, 8))
    alike = similarity(values, values, 'pearson')
    truth = np.arange(n)
    assert top1(alike, truth) == 1
    assert identification_2way(alike, truth) == 1
    np.testing.assert_array_equal(ranks(alike, truth), 1)
    np.testing.assert_array_equal(confusion_matrix(alike, truth), np.eye(n))


@given(st.integers(2, 12))
def test_a_prediction_that_says_nothing_scores_chance(n):
    alike, truth = np.zeros((3, n)), np.arange(3) % n
    assert top1(alike, truth) == pytest.approx(1 / n)
    assert identification_2way(alike, truth) == pytest.approx(0.5)
    np.testing.assert_allclose(ranks(alike, truth), (n + 1) / 2)


@given(arrays(np.float64, (300, 3), elements=st.integers(-2, 2).map(float)), st.integers(0, 2))
@settings(max_examples=20)
def test_ranks_and_shares_are_those_of_sorted_rows(alike, column):
    sorted_rows = rankdata(-alike, axis=1)
    truth = np.full(len(alike), column)
    np.testing.assert_array_equal(ranks(alike, truth), sorted_rows[:, column])
    np.testing.assert_array_equal(outcomes_2way(alike), (3 - sorted_rows) / 2)
    two_way = outcomes_2way(alike)[:, column].mean()
    assert identification_2way(alike, truth) == pytest.approx(two_way, abs=1e-12)


@given(arrays(np.float64, (6, 5), elements=st.integers(-2, 2).map(float)))
@settings(max_examples=80)
def test_all_labels_together_score_chance(alike):
    np.testing.assert_allclose(outcomes_top1(alike).sum(axis=1), 1)
    np.testing.assert_allclose(outcomes_2way(alike).mean(axis=1), 0.5)


@given(
    arrays(np.float64, (6, 5), elements=st.integers(-2, 2).map(float)), st.permutations(range(5))
)
@settings(max_examples=80)
def test_order_of_candidates_does_not_matter(alike, order):
    truth = np.array([0, 1, 2, 3, 4, 0])
    inverse = np.argsort(order)
    for score in (top1, identification_2way):
        assert score(alike[:, order], inverse[truth]) == pytest.approx(score(alike, truth))


def test_random_predictions_are_at_chance():
    rng = np.random.default_rng(3)
    alike = rng.normal(size=(4000, 10))
    truth = rng.integers(0, 10, 4000)
    assert top1(alike, truth) == pytest.approx(0.1, abs=0.02)
    assert identification_2way(alike, truth) == pytest.approx(0.5, abs=0.02)


def test_two_way_equals_its_definition_in_words():
    rng = np.random.default_rng(4)
    r = rng.normal(size=(9, 9))  # prediction j x truth i
    expected = np.mean(
        [np.mean([r[j, i] < r[j, j] for i in range(9) if i != j]) for j in range(9)]
    )
    assert identification_2way(r, np.arange(9)) == pytest.approx(expected)


def test_confusion_counts_every_sample_once():
    alike = np.array([[1.0, 1, 0], [0, 0, 2], [5, 0, 0]])
    got = confusion_matrix(alike, [0, 1, 0])
    np.testing.assert_allclose(got, [[1.5, 0.5, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(nearest(alike), [0, 2, 0])


def test_errors():
    alike = np.zeros((2, 3))
    for truth in ([0, 3], [-1, 0], [0], [0.0, 1.0]):
        with pytest.raises(DataError, match='Each of the 2 samples needs its true candidate'):
            identification_2way(alike, truth)
    with pytest.raises(DataError, match='must be finite; 1 are not'):
        ranks(np.array([[np.nan, 1.0]]), [0])
    with pytest.raises(DataError, match='at least two candidates; there is 1'):
        identification_2way(np.zeros((2, 1)), [0, 0])
    with pytest.raises(DataError, match='same number of columns'):
        similarity(alike, np.zeros((2, 4)))
    for a, b in ((alike, np.zeros(3)), (np.zeros(3), alike)):
        with pytest.raises(DataError) as error:
            similarity(a, b)
        assert str(error.value) == BAD_PAIRS.format(a=a.shape, b=b.shape)


def test_top1_among_random_candidates_is_what_draws_estimate():
    rng = np.random.default_rng(0)
    similarities = rng.normal(size=(3, 12)) + 1.5 * np.eye(3, 12)
    found = outcomes_top1_of(similarities, 5)
    np.testing.assert_allclose(found.mean(axis=1), 1 / 5)
    for row, truth in ((0, 0), (1, 1), (2, 7)):
        others = np.delete(np.arange(12), truth)
        hits = [
            similarities[row, truth]
            > similarities[row, rng.choice(others, 4, replace=False)].max()
            for _ in range(4000)
        ]
        assert np.mean(hits) == pytest.approx(found[row, truth], abs=0.025)
    whole = outcomes_top1_of(similarities, 12)
    np.testing.assert_allclose(whole, outcomes_top1(similarities))
    # a tie is a loss, as for a candidate that is the same image twice
    assert outcomes_top1_of(np.array([[1.0, 1.0]]), 2).tolist() == [[0.0, 0.0]]
    many = np.arange(300.0)[None]
    for n_candidates in range(2, 301):  # the best is never lost, and never counts more than once
        best = outcomes_top1_of(many, n_candidates)[0, -1]
        assert best <= 1
        assert best == pytest.approx(1)
    with pytest.raises(DataError, match='among 13'):
        outcomes_top1_of(similarities, 13)
