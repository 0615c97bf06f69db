"""The page says what its tests of voxels could find, and draws no ceiling of 0."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.evaluation import statistics
from bids_neurodecode.systems.encoding.report.figures import plot_regions
from bids_neurodecode.systems.encoding.report.section import _resolution


@pytest.mark.parametrize(
    ('n_permutations', 'says'),
    [
        (20, 'only if 1,029 of 1,080 reach it at once'),
        (19, 'no voxel can be found'),
        (999, 'only if 22 of 1,080 reach it at once'),
        (100_000, ''),
        (0, ''),
    ],
)
def test_few_permutations_are_said_to_find_few_voxels(n_permutations, says):
    text = _resolution(0, 1080, n_permutations)
    assert says in text if says else not text
    assert bool(text) == ('evaluation.n_permutations' in text)


def test_the_number_of_voxels_is_where_the_false_discovery_rate_passes():
    p = np.ones(1080)
    p[:1028] = 1 / 21
    assert not (statistics.fdr(p) < 0.05).any()
    p[1028] = 1 / 21
    assert (statistics.fdr(p) < 0.05).sum() == 1029


def test_voxels_that_were_found_need_no_word_unless_all_or_none_are():
    assert not _resolution(300, 1080, 999)
    assert 'the smallest possible p is 0.048' in _resolution(1040, 1080, 20)


def test_a_region_whose_ceiling_is_0_has_no_diamond():
    rows = pd.DataFrame(
        {
            'region': ['a', 'b'],
            'value': [0.5, 0.1],
            'ci_low': [0.4, 0.0],
            'ci_high': [0.6, 0.2],
            'ceiling': [0.8, 0.0],
            'chance': [0.0, 0.0],
            'n': [20, 20],
        }
    )
    (diamonds,) = [x for x in plot_regions(rows).axes[0].lines if x.get_marker() == 'D']
    assert np.array_equal(diamonds.get_xdata(), [0.8, np.nan], equal_nan=True)
