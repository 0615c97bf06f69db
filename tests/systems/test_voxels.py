"""Without repeats, voxels that respond are kept, whatever their temporal signal-to-noise ratio."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Fold, Responses, Samples, Split, VoxelMask
from bids_neurodecode.signals.gathering import UNSEEN_SESSIONS
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.steps.betas import trial_samples
from bids_neurodecode.systems.voxels import (
    Estimates,
    choose_voxels,
    predicted_share,
    scored_ceiling,
    scored_ncsnr,
)

N_TRIALS, N_VOXELS, N_RUNS = 240, 90, 6


def world(seed, *, stimulus=0.0, mean=0.0, slow=0.0):
    """The first third follows features, the second third responds to anything, the last not."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((N_TRIALS, 20))
    run = np.repeat(np.arange(N_RUNS), N_TRIALS // N_RUNS)
    values = rng.standard_normal((N_TRIALS, N_VOXELS))
    values += slow * rng.standard_normal((N_RUNS, N_VOXELS))[run]
    values[:, :30] += stimulus * features @ rng.standard_normal((20, 30)) / np.sqrt(20)
    values[:, 30:60] += mean
    names = tuple(f'{k}.png' for k in range(N_TRIALS))
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    table = pd.DataFrame({'stimulus': names, 'run': run})
    return Samples(Responses(values.astype(np.float32), mask), table), PerStimulus(names, features)


def choose(train, features, **selection):
    # responses are variance over time: strong ones have the lowest ratio
    tsnr = np.tile(np.linspace(20, 80, N_VOXELS, dtype=np.float32), (N_RUNS, 1))
    config = build_config({'selection': selection})
    return choose_voxels(train, features, config, tsnr_runs=tsnr, within=None)


@pytest.mark.parametrize('size', [0.7, 5.0])
def test_voxels_that_respond_are_kept(size):
    chosen = choose(*world(0, stimulus=size, mean=0.5))
    assert chosen.measure == 'prediction'
    assert chosen.keep[:60].mean() > 0.95
    assert chosen.keep[60:].mean() < 0.7
    assert choose(*world(0, stimulus=size), measure='tsnr', rule='top').keep[:30].mean() == 0


def test_share_is_what_was_planted():
    train, features = world(1, stimulus=3.0, mean=1.0)
    share = predicted_share(train, features, build_config({}))
    assert np.median(share[:30]) == pytest.approx(0.9, abs=0.06)
    assert np.median(share[30:60]) == pytest.approx(0.5, abs=0.06)
    assert abs(np.median(share[60:])) < 0.02


def test_slow_noise_of_runs_is_no_mean_response():
    train, features = world(2, slow=1.0)
    share = predicted_share(train, features, build_config({}))
    assert abs(np.mean(share)) < 0.06


def test_no_signal_at_all_still_leaves_voxels():
    chosen = choose(*world(3))
    assert chosen.n_kept >= 20


def test_voxels_without_values_and_one_run():
    train, features = world(4, stimulus=3.0)
    values = train.values.copy()
    values[:, 3] = 1.0
    values[7, 4] = np.nan
    one = Samples(Responses(values, train.responses.mask), train.table.assign(run=0))
    share = predicted_share(one, features, build_config({}))
    assert np.isnan(share[[3, 4]]).all()
    assert np.nanmin(share[:30]) > 0.5


def sessions_world(n_sessions=3, gains=None):
    """A third responds in all sessions, a third in the first one alone, the rest never."""
    rng = np.random.default_rng(5)
    parts, rows = [], []
    signal = rng.standard_normal((24, N_VOXELS))
    for session in range(n_sessions):
        order = np.concatenate([rng.permutation(24) for _ in range(2)])
        values = rng.standard_normal((48, N_VOXELS))
        reach = 60 if session == 0 else 30
        values[:, :reach] += 2 * signal[order][:, :reach]
        run = np.repeat([2 * session, 2 * session + 1], 24)
        rows.append(pd.DataFrame({'stimulus': order, 'run': run, 'session': f's{session}'}))
        parts.append(values)
    table = pd.concat(rows, ignore_index=True).assign(stimulus=lambda t: t['stimulus'].astype(str))
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    values = np.concatenate(parts)
    if gains is not None:
        which = np.repeat(np.arange(n_sessions), 48)
        values = values * gains[which, None] + 3 * gains[which, None] ** 2
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    names = tuple(sorted(set(table['stimulus'])))
    return samples, PerStimulus(names, rng.standard_normal((24, 5)))


@pytest.mark.parametrize(
    ('how', 'share_of_one_session'), [('union', 1.0), ('majority', 0.0), ('every', 0.0)]
)
def test_sessions_are_joined_by_votes(how, share_of_one_session):
    train, features = sessions_world()
    chosen = choose(train, features, sessions=how)
    assert chosen.keep[:30].mean() > 0.9
    assert chosen.keep[30:60].mean() == pytest.approx(share_of_one_session, abs=0.1)
    assert chosen.keep[60:].mean() < 0.15
    assert f'of the 3 sessions (session s0: {chosen.description.split("s0: ")[1]}' in (
        chosen.description
    )
    assert (chosen.measure, chosen.rule) == ('ncsnr', 'fdr')
    alone = Samples(train.take(np.arange(48)).responses, train.table.iloc[:48])
    pooled = choose(alone, features)
    np.testing.assert_array_equal(choose(alone, features, sessions=how).keep, pooled.keep)


def test_joined_sessions_keep_the_least_number_and_one_measure():
    train, features = sessions_world()
    few = choose(train, features, sessions='every', min_voxels=80)
    assert few.n_kept == 80
    assert few.keep[:30].all()
    assert any('passed in each of the 3 sessions' in line for line in few.warnings)
    table = train.table.copy()
    table.loc[:47, 'stimulus'] = [f'once {k}' for k in range(48)]
    names = (*features.stimuli, *table['stimulus'][:48])
    more = PerStimulus(names, np.random.default_rng(0).standard_normal((len(names), 5)))
    unrepeated = Samples(train.responses, table)
    for given in ({}, {'measure': 'ncsnr'}):
        voted = choose(unrepeated, more, sessions='every', **given)
        assert voted.keep[:30].mean() > 0.9
        assert not voted.keep[30:].all()
        assert 'each of the 2 sessions' in voted.description
        assert any(line.startswith('Session s0 has no vote') for line in voted.warnings)
    once = unrepeated.take(np.r_[:10, 48:58])
    with pytest.raises(DataError, match='Session s0 of the training samples alone'):
        choose(once, more, sessions='union', measure='ncsnr')


def plan_of(samples, train):
    test = np.setdiff1d(np.arange(samples.n_samples), train)
    fold = Fold(np.asarray(train), test)
    return SimpleNamespace(table=samples.table, split=(fold,))


def joined(samples, train, folder, how='training'):
    settings = build_config({'betas': {'standardize': how}}).betas
    values = samples.values
    return trial_samples(
        values, [values], samples.responses.mask, plan_of(samples, train), settings, folder
    )


def test_gains_and_offsets_of_sessions_are_undone(tmp_path):
    gains = np.array([1.0, 4.0, 0.5])
    plain, _ = sessions_world()
    scaled, _ = sessions_world(gains=gains)
    train = np.flatnonzero(np.arange(144) % 4 != 0)
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    first = joined(plain, train, tmp_path / 'a')
    (one,), (other,) = first.tuned, joined(scaled, train, tmp_path / 'b').tuned
    assert first.notes == ()
    # the same but for one unit a voxel, and z-scored within sessions by training trials
    for session in range(3):
        rows = np.arange(48 * session, 48 * (session + 1))
        seen = np.intersect1d(rows, train)
        z = (plain.values - plain.values[seen].mean(0)) / plain.values[seen].std(0)
        for samples in (one, other):
            level, scale = samples.values[seen].mean(0), samples.values[seen].std(0)
            np.testing.assert_allclose(
                (samples.values[rows] - level) / scale, z[rows], rtol=1e-3, atol=1e-4
            )
    (as_they_are,) = joined(scaled, train, tmp_path, 'none').tuned
    np.testing.assert_array_equal(as_they_are.values, scaled.values)

    def predicted(samples):
        """Correlate, a voxel at a time, held-out trials with the mean of their stimulus."""
        stimuli, values = samples.table['stimulus'].to_numpy(), samples.values[:, :30]
        test = np.setdiff1d(np.arange(144), train)
        means = [values[train][stimuli[train] == stimuli[row]].mean(0) for row in test]
        r = [
            np.corrcoef(a, b)[0, 1]
            for a, b in zip(values[test].T, np.transpose(means), strict=True)
        ]
        return np.median(r)

    assert predicted(other) == pytest.approx(predicted(one), abs=1e-3)
    assert predicted(other) > predicted(as_they_are) + 0.1


def test_held_out_trials_have_no_say_and_unseen_sessions_are_said(tmp_path):
    scaled, _ = sessions_world(gains=np.array([1.0, 4.0, 0.5]))
    train = np.arange(96)  # the third session is held out
    found = joined(scaled, train, tmp_path)
    (fold,) = found.tuned
    assert found.notes == (UNSEEN_SESSIONS.format(sessions='s2'),)
    np.testing.assert_array_equal(fold.values[96:], scaled.values[96:])
    changed = scaled.values.copy()
    changed[96:] = 1000
    other = Samples(Responses(changed, scaled.responses.mask), scaled.table)
    (again,) = joined(other, train, tmp_path).tuned
    np.testing.assert_array_equal(again.values[:96], fold.values[:96])


@pytest.mark.parametrize('n_folds', [1, 2])
def test_the_ceiling_of_scored_betas_is_that_of_held_out_repeats(n_folds):
    """Planted: 30 % of the variance of averages of 3 trials; training trials hold nothing."""
    rng = np.random.default_rng(0)
    n_images, keep = 160, np.arange(N_VOXELS) < 60
    table = pd.DataFrame({'stimulus': np.repeat([f'{k}.png' for k in range(n_images)], 3)})
    table = table.assign(run=np.tile(np.arange(3), n_images), session='')
    noise = rng.standard_normal((len(table), N_VOXELS)).astype(np.float32)
    signal = np.sqrt(1 / 7) * rng.standard_normal((n_images, N_VOXELS)).repeat(3, axis=0)
    order = np.arange(len(table))
    half = order < len(table) // 2
    folds = (Fold(order[half], order[~half]), Fold(order[~half], order[half]))[:n_folds]
    split = Split('stimulus', folds, table)
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))

    def samples(values):
        return Samples(Responses(values.astype(np.float32), mask), table)

    every = samples(noise)
    tuned = []
    for fold in folds:
        values = noise.copy()
        values[fold.test] += signal[fold.test]
        tuned.append(samples(values))
    ratio = scored_ncsnr(Estimates(every, split, tuned), keep)
    assert ratio.shape == (60,)
    assert scored_ceiling(ratio, table, split) == pytest.approx(0.3, abs=0.04)
    assert scored_ncsnr(Estimates(every, split), keep) is None, 'all trials tell more'
    alone = table.assign(stimulus=[f'{k}.png' for k in range(len(table))])
    others = [Samples(part.responses, alone) for part in (every, *tuned)]
    again = Split('stimulus', folds, alone)
    found = scored_ncsnr(Estimates(others[0], again, others[1:]), keep)
    assert found is None, 'without repeats'
    assert scored_ceiling(found, alone, split) is None
