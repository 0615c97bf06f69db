"""Methods text on published layouts and on betas that were there already."""

import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.report.boilerplate import cited, in_words, methods


def text(layout, paradigm='images', **settings) -> str:
    paragraphs = methods(build_config(settings), paradigm=paradigm, version='1.0', layout=layout)
    cited(paragraphs)
    return ' '.join(in_words(paragraph) for paragraph in paragraphs)


def test_nsd_is_named_and_nothing_is_claimed_of_series():
    words = text('nsd', betas={'repeats': 'mean', 'standardize': 'session'})
    assert 'Natural Scenes Dataset (Allen et al., 2022)' in words
    assert 'betas_fithrf_GLMdenoise_RR' in words
    assert 'were averaged' in words
    assert 'held-out trials included' in words
    for untrue in ('framewise displacement', 'signal-to-noise ratio (Murphy', 'were estimated as'):
        assert untrue not in words
    assert 'betas_fithrf)' in text('nsd', betas={'precomputed': 'betas_fithrf'})


def test_emofilm_is_named_and_motion_is_not_judged():
    words = text('emofilm', 'movie')
    assert 'ds004892' in words
    assert 'FSL' in words
    assert 'framewise displacement' not in words
    assert '(Murphy et al., 2007)' in words


@pytest.mark.parametrize('name', [None, 'other'])
def test_bids_is_as_ever(name):
    words = text('bids', betas={} if name is None else {'precomputed': name})
    assert 'organised according to BIDS' in words
    assert ('derivatives dataset other' in words) == (name is not None)
    assert ('were estimated as in GLMsingle' in words) == (name is None)
