"""The wrapper around the glmsingle package, with a stand-in that behaves as badly."""

import sys

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.signals import glmsingle
from bids_neurodecode.signals.badness import NO_REPEATS
from bids_neurodecode.signals.glmsingle import estimate_with_glmsingle
from bids_neurodecode.signals.trialtypes import SingleTrialOptions

STAND_IN = """
import os, shutil
import numpy as np

print('noise on the terminal')

class GLM_single:
    def __init__(self, params):
        self.params = params

    def fit(self, design, data, stimdur, tr, outputdir=None, figuredir=None):
        if tr == 9.0:
            raise ValueError('something inside went wrong.')
        if os.path.exists(outputdir):
            shutil.rmtree(outputdir)
        os.makedirs(outputdir)
        os.makedirs(os.path.join(os.getcwd(), 'GLMestimatesingletrialfigures'), exist_ok=True)
        open('left_behind.txt', 'w').write('here')
        # in this stand-in a beta is the datum at the trial's onset
        betas = np.concatenate(
            [d[:, np.flatnonzero(x.any(axis=1))] for d, x in zip(data, design)], axis=1
        )
        n = len(betas)
        for part in (*data, *design):
            part *= 0
        shape = n, 1, 1
        fixed = self.params['pcstop'] <= 0
        # and ON-OFF R2 says which extra regressors arrived, run by run
        extra = self.params.get('extra_regressors', [])
        arrived = sum(10**run * x.sum() for run, x in enumerate(extra)) if extra else 1
        kept = int(''.join(str(flag) for flag in self.params['wantmemoryoutputs']))
        found = {
            'typea': {'onoffR2': np.full(shape, arrived), 'meanvol': np.full(shape, kept)},
            'typeb': {'HRFindex': np.full(shape, 7), 'R2': np.ones(shape),
                      'betasmd': betas.reshape(n, 1, 1, -1)},
        }
        shared = {
            'R2': np.ones(shape), 'betasmd': betas.reshape(n, 1, 1, -1) + 1,
            'pcnum': -self.params['pcstop'] if fixed else 3,
            'noisepool': np.ones(shape, bool),
            'xvaltrend': None if fixed else np.zeros(11),
            'glmbadness': None if fixed else np.zeros((n, 1, 1, 11)),
        }
        if self.params['wantglmdenoise']:
            found['typec'] = shared
        if self.params['wantfracridge']:
            fracs = self.params['fracs']
            found['typed'] = {
                **shared, 'FRACvalue': np.full(shape, fracs[0]),
                'rrbadness': np.arange(n * len(fracs)).reshape(n, 1, 1, -1),
            }
        return found
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / 'site' / 'glmsingle'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text('')
    (folder / 'glmsingle.py').write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(folder.parent))
    for name in ('glmsingle', 'glmsingle.glmsingle'):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    series = [rng.normal(100, 5, (n, 6)).astype(np.float32) for n in (60, 60)]
    onsets = [np.array([20, 4, 12]), np.array([5, 15, 30])]
    return series, onsets, [['a', 'b', 'c'], ['c', 'b', 'a']], 2.0, 3.0


def test_nothing_of_the_caller_changes(package, inputs, tmp_path, monkeypatch):
    here = tmp_path / 'here'
    mine = here / 'GLMestimatesingletrialoutputs'
    mine.mkdir(parents=True)
    (mine / 'precious.txt').write_text('mine')
    monkeypatch.chdir(here)
    kept = [run.copy() for run in inputs[0]]
    for run in inputs[0]:
        run.setflags(write=False)
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    found = estimate_with_glmsingle(*inputs, scratch=scratch)
    for run, before in zip(inputs[0], kept, strict=True):
        np.testing.assert_array_equal(run, before)
    assert [path.name for path in here.rglob('*')] == [mine.name, 'precious.txt']
    assert list(scratch.iterdir()) == []
    # rows are trials in the order given, although the package counts them in time
    expected = np.concatenate([run[rows] for run, rows in zip(inputs[0], inputs[1], strict=True)])
    np.testing.assert_allclose(found.betas['B'], expected, rtol=1e-6)
    np.testing.assert_allclose(found.betas['D'], expected + 1, rtol=1e-6)
    assert found.n_components == 3
    tried = found.fraction_badness.size // 6
    np.testing.assert_array_equal(found.fraction_badness, np.arange(6 * tried).reshape(6, tried))
    assert found.tuned == ()
    assert found.warnings == (glmsingle.TUNED_ON_ALL,)


def test_bad_voxels_never_reach_the_package(package, inputs):
    inputs[0][1][3, 2] = np.nan
    found = estimate_with_glmsingle(*inputs)
    np.testing.assert_array_equal(found.usable, [True, True, False, True, True, True])
    assert np.isnan(found.betas['C'][:, 2]).all()
    assert np.isfinite(found.betas['C'][:, found.usable]).all()
    np.testing.assert_array_equal(found.hrf_index, [7, 7, -1, 7, 7, 7])
    assert not found.noise_pool[2]


def test_fixed_values_reach_the_package(package, inputs):
    options = SingleTrialOptions(n_components=2, fraction=0.4)
    found = estimate_with_glmsingle(*inputs, options=options)
    assert found.n_components == 2
    assert found.component_curve is None
    np.testing.assert_allclose(found.fraction, 0.4)
    assert found.warnings == ()


def test_extra_regressors_reach_the_package(package, inputs):
    extra = [np.full((60, 2), 0.1), None]
    found = estimate_with_glmsingle(*inputs, extra_regressors=extra)
    np.testing.assert_allclose(found.onoff_rsquared, 12, rtol=1e-6)
    extra = [np.full((60, 1), 0.1), np.full((60, 3), 0.5)]
    found = estimate_with_glmsingle(*inputs, extra_regressors=extra)
    np.testing.assert_allclose(found.onoff_rsquared, 6 + 10 * 90, rtol=1e-6)


@pytest.mark.parametrize(
    ('models', 'kept'), [(('B',), '1100'), (('B', 'C'), '1110'), (('D',), '1101')]
)
def test_only_what_was_asked_for_is_held(package, inputs, models, kept):
    # the stand-in says with the mean volume what it was told to keep in memory
    found = estimate_with_glmsingle(*inputs, options=SingleTrialOptions(models=models))
    np.testing.assert_array_equal(found.mean_volume, int(kept))


def test_model_b_alone(package, inputs):
    found = estimate_with_glmsingle(*inputs, options=SingleTrialOptions(models=('B',)))
    assert set(found.betas) == {'B'}
    assert found.n_components is None
    assert not found.noise_pool.any()


def test_without_the_package(inputs, monkeypatch):
    monkeypatch.setattr(glmsingle, 'find_spec', lambda name: None)
    with pytest.raises(ArgumentsError) as caught:
        estimate_with_glmsingle(*inputs)
    assert str(caught.value) == glmsingle.MISSING
    assert 'betas.engine = "native"' in glmsingle.MISSING


def test_its_failures_are_one_line(package, inputs):
    series, onsets, conditions, _, duration = inputs
    with pytest.raises(DataError) as caught:
        estimate_with_glmsingle(series, onsets, conditions, 9.0, duration)
    reason = 'ValueError: something inside went wrong'
    assert str(caught.value) == glmsingle.FAILED.format(reason=reason)


def test_what_it_cannot_take_is_refused_before(package, inputs):
    series, onsets, conditions, *times = inputs
    with pytest.raises(DataError) as caught:
        estimate_with_glmsingle(series, onsets, [['a', 'b', 'c'], ['d', 'e', 'f']], *times)
    assert str(caught.value) == NO_REPEATS.format(where='')
    short = [series[0], series[1][:50]]
    extra = [np.random.default_rng(1).normal(size=(len(run), 2)) for run in short]
    with pytest.raises(DataError) as caught:
        estimate_with_glmsingle(short, onsets, conditions, *times, extra_regressors=extra)
    assert str(caught.value) == glmsingle.UNEQUAL_WITH_EXTRA.format(shortest=50, longest=60)
