"""Refitted permutations are whole analyses of exchanged labels, and hold their level."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings, RidgeSettings, build_config
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.encoding.recipe import NOT_REFITTED, encode_pictures
from bids_neurodecode.systems.linear import DecoderSettings
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds
from bids_neurodecode.systems.refitting import relabellings
from bids_neurodecode.systems.voxels import Estimates

RIDGE = RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3)
SETTINGS = DecoderSettings(n_components=6, ridge=RIDGE)


def world(n_stimuli, n_runs, signal, seed=0, n_voxels=25):
    rng = np.random.default_rng(seed)
    names = tuple(f's{k:02d}.png' for k in range(n_stimuli))
    features = rng.normal(size=(n_stimuli, 12))
    order = np.concatenate([rng.permutation(n_stimuli) for _ in range(n_runs)])
    responses = signal * features[order] @ rng.normal(size=(12, n_voxels))
    responses += rng.normal(size=responses.shape)
    table = pd.DataFrame(
        {
            'stimulus': [names[k] for k in order],
            'run': np.repeat(np.arange(n_runs), n_stimuli),
            'session': '01',
        }
    )
    mask = VoxelMask(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(responses.astype(np.float32), mask), table)
    return samples, PerStimulus(names, features.astype(np.float32))


def relabelled(samples, labels):
    return Samples(samples.responses, samples.table.assign(stimulus=labels))


def score_all(samples, split, features, evaluation, seed=1):
    return evaluate_folds(
        [samples.fold(fold) for fold in split],
        split,
        features,
        SETTINGS,
        evaluation=evaluation,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize(
    ('n_stimuli', 'by', 'n_folds'),
    [(6, 'run', None), (24, 'run', None), (12, 'stimulus', 4), (12, 'stimulus', 1)],
)
def test_each_permutation_is_the_analysis_of_exchanged_labels(n_stimuli, by, n_folds):
    samples, features = world(n_stimuli, 6, 0.4)
    split = split_by_group(
        samples.table, by, n_folds=n_folds, test_fraction=0.5, rng=np.random.default_rng(0)
    )
    n, seed = 3, 5
    found = score_all(
        samples, split, features,
        EvaluationSettings(n_permutations=n, n_bootstrap=0, permutation='refit'), seed,
    )  # fmt: skip
    pool_rng = np.random.default_rng(seed).spawn(2)[1]
    parts = [samples.fold(fold) for fold in split]
    draws, _ = relabellings(parts, split, n, pool_rng.spawn(1)[0])
    for number, labels in enumerate(draws):
        again = score_all(
            relabelled(samples, labels), split, features,
            EvaluationSettings(n_permutations=0, n_bootstrap=0),
        )  # fmt: skip
        scores = {
            f'{s.space}/{s.metric}': s.value
            for s in again.scores
            if s.model == 'ridge' and s.metric.startswith('identification')
        }
        assert set(scores) == set(found.nulls)
        for name, value in scores.items():
            assert found.nulls[name][number] == pytest.approx(value, abs=1e-9), name


def test_the_table_says_what_was_done():
    samples, features = world(6, 6, 0.6)
    split = split_by_group(samples.table, 'run')
    evaluation = EvaluationSettings(n_permutations=99, n_bootstrap=99, permutation='refit')
    found = score_all(samples, split, features, evaluation)
    done = {(s.model, s.test) for s in found.scores if s.p is not None}
    assert ('ridge', 'refit') in done
    assert ('baseline-nearest', 'labels') in done
    top1 = next(s for s in found.scores if s.model == 'ridge')
    assert top1.p == 0.01
    assert found.nulls['single-trial/identification_top1'].mean() == pytest.approx(1 / 6, abs=0.05)


def test_labels_stay_within_runs_or_test_parts():
    samples, _ = world(8, 3, 0.0)
    for by, n_folds in (('run', None), ('stimulus', 4)):
        split = split_by_group(samples.table, by, n_folds=n_folds)
        parts = [samples.fold(fold) for fold in split]
        draws, whole = relabellings(parts, split, 5, np.random.default_rng(0))
        table = samples.table
        n_moved = 0
        for labels in draws:
            moved = table.assign(label=labels)
            n_moved += int((moved['label'] != moved['stimulus']).sum())
            if by == 'run':
                assert not whole
                assert all(set(x['label']) == set(x['stimulus']) for _, x in moved.groupby('run'))
            else:
                assert whole
                assert (moved.groupby('stimulus')['label'].nunique() == 1).all()
                for fold in split:
                    own = moved.iloc[fold.test]
                    assert set(own['label']) == set(own['stimulus'])
        assert n_moved > 0


def encode(samples, split, features, options=None, **evaluation):
    cfg = build_config(
        {
            'evaluation': {'n_bootstrap': 20, **evaluation},
            'ridge': {'alphas': list(RIDGE.alphas), 'n_folds': 3},
            'seed': 5,
        }
    )
    settings = EncoderSettings.of(cfg, baseline=False, **(options or {}))
    return encode_pictures(Estimates(samples, split), features, cfg, settings=settings)


@pytest.mark.parametrize(
    ('by', 'n_folds', 'options'),
    [
        ('run', None, {}),
        ('stimulus', 4, {}),
        ('stimulus', 4, {'n_training': 8, 'average_training': True}),
    ],
)
def test_each_permutation_of_an_encoder_is_the_analysis_of_exchanged_labels(by, n_folds, options):
    samples, features = world(12, 6, 0.4)
    split = split_by_group(samples.table, by, n_folds=n_folds, rng=np.random.default_rng(0))
    found = encode(samples, split, features, options, n_permutations=3, permutation='refit')
    judge_rng = np.random.default_rng(5).spawn(len(split) + 2)[0]
    parts = [samples.fold(fold) for fold in split]
    draws, _ = relabellings(parts, split, 3, judge_rng.spawn(1)[0])
    space = found.maps.space
    for number, labels in enumerate(draws):
        again = encode(relabelled(samples, labels), split, features, options, n_permutations=0)
        for metric in ('voxel_r_median', 'voxel_r_mean', 'identification_2way'):
            value = next(s.value for s in again.scores if (s.metric, s.space) == (metric, space))
            null = found.evaluation.nulls[f'{space}/{metric}']
            assert null[number] == pytest.approx(value, abs=2e-4), metric
    rows = {s.metric: s for s in found.scores if s.space == space}
    # folds that predict one another do so in the null too, so a median over them has a p value
    assert rows['voxel_r_median'].p is not None
    assert rows['voxel_r_median'].test == rows['identification_top1'].test == 'refit'


def test_models_that_are_not_fitted_again_are_named():
    samples, features = world(12, 6, 0.4)
    split = split_by_group(samples.table, 'run')
    cfg = build_config(
        {'evaluation': {'n_permutations': 9, 'n_bootstrap': 0, 'permutation': 'refit'}}
    )
    bands = {'a': features, 'b': features}
    settings = EncoderSettings.of(cfg, model='banded', n_mixtures=1, baseline=False)
    found = encode_pictures(Estimates(samples, split), bands, cfg, settings=settings)
    assert NOT_REFITTED.format(model='banded') in found.warnings
    assert {s.test for s in found.scores if s.p is not None} == {'labels'}
