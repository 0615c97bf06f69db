"""A small part of the validation, which can fail: `make validate` runs all of it."""

import numpy as np
import pytest

from benchmarks.validation.__main__ import all_checks
from benchmarks.validation.films import selected_agreement
from benchmarks.validation.harness import (
    Check,
    markdown,
    once,
    rows_of,
    run_check,
    share_of,
    table_row,
)

QUICK = [check for check in all_checks() if check.quick]


@pytest.mark.slow
@pytest.mark.parametrize('check', QUICK, ids=lambda c: f'{c.family}-{c.name}'.replace(' ', '_'))
def test_holds_on_a_few_data_sets(check):
    assert run_check(check, check.quick, seed=1).verdict != 'short'


@pytest.mark.parametrize(('kind', 'value'), [('p', 0.01), ('any', 1.0), ('covers', 0.0)])
def test_what_does_not_hold_is_called_short(kind, value):
    """The harness itself: a test that always rejects, an interval that never covers."""
    check = Check('harness', 'wrong', 'none', kind, lambda _: value)
    assert run_check(check, 40).verdict == 'short'


def test_uniform_p_values_hold():
    check = Check('harness', 'right', 'uniform p', 'p', lambda rng: rng.random(20))
    result = run_check(check, 500)
    assert result.verdict == 'holds'
    assert result.shares[0.01].value == pytest.approx(0.01, abs=0.004)


def test_nothing_given_is_a_refusal():
    assert run_check(Check('h', 'n', 'w', 'p', lambda _: np.nan), 3).verdict == 'refuses'


def test_page_keeps_the_rows_of_checks_that_were_not_run():
    """Written, read, and written again with one row anew; what does not hold stands on top."""
    wrong = Check('first', 'always', 'none', 'p', lambda _: 0.01, note='For a reason.')
    right = Check('second', 'uniform', 'none', 'p', lambda rng: rng.random(20))
    checks = [wrong, right]
    results = {check.key: run_check(check, 60) for check in checks}
    page = markdown(checks, {key: table_row(result) for key, result in results.items()})
    top, *tables = page.split('## ')
    assert '(1 of 2 checks).\n\n- always (p): none. For a reason.' in top
    assert [table.split('\n')[0] for table in tables] == ['First', 'Second']
    rows = rows_of(page)
    assert set(rows) == set(results)
    again = rows | {right.key: table_row(run_check(right, 61))}
    changed = markdown(checks, again)
    assert [a for a, b in zip(page.split('\n'), changed.split('\n'), strict=True) if a != b] == [
        rows[right.key]
    ]
    assert markdown([right], rows).count('## ') == 1


def test_checks_of_one_world_share_their_data_sets():
    made = []

    @once
    def simulate(rng, size):
        made.append(size)
        return rng.random(size)

    checks = [Check('h', name, 'w', 'p', lambda rng: simulate(rng, 5)) for name in 'ab']
    one, other = (run_check(check, 30) for check in checks)
    assert made == [5] * 30
    assert one.shares == other.shares


def test_exact_interval_of_a_share():
    share = share_of([1.0] * 5 + [0.0] * 95)
    assert (share.low, share.high) == pytest.approx((0.0164, 0.1128), abs=1e-4)


def test_few_data_sets_that_agree_say_little():
    assert (
        run_check(Check('h', 'n', 'w', 'p', lambda _: [0.01] + [0.5] * 39), 5).verdict == 'holds'
    )
    share = share_of([0.025] * 5, 40)
    assert share.high - share.value == pytest.approx(
        2.776 * (0.025 * 0.975 / 200) ** 0.5, rel=1e-3
    )


@pytest.mark.slow
def test_voxels_that_all_folds_chose_would_flatter():
    """The world of the check tells a leak: the truth is met by folds, and exceeded by half."""
    draws = [np.random.default_rng(k) for k in range(20)]
    apart = np.mean([np.subtract(*selected_agreement(rng)) for rng in draws])
    leaky = np.mean([np.subtract(*selected_agreement(rng, leak=True)) for rng in draws])
    assert abs(apart) < 0.01
    assert leaky > 0.04
