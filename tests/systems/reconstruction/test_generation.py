"""The two-stage pipeline finds a planted truth, never leaks, and says what its switches did."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import Config, SelectionSettings
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.evaluation import images, metrics
from bids_neurodecode.evaluation.images import ssim_table
from bids_neurodecode.evaluation.protocols import get_protocol
from bids_neurodecode.models.sampling import SamplingSettings, picture_seed
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.pooling import CLOSED_SET
from bids_neurodecode.systems.reconstruction.generation import fit as generation_fit
from bids_neurodecode.systems.reconstruction.generation import model as generation_model
from bids_neurodecode.systems.reconstruction.generation import record as generation_record
from bids_neurodecode.systems.reconstruction.generation import run as generation_run
from bids_neurodecode.systems.reconstruction.generation import scores as scoring
from bids_neurodecode.systems.reconstruction.generation.data import ExtraPictures, Inputs
from bids_neurodecode.systems.reconstruction.generation.generators import resize
from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel, noisy
from bids_neurodecode.systems.reconstruction.generation.run import (
    apply_generation,
    generate_pictures,
)
from bids_neurodecode.systems.voxels import Estimates

SIDE, N_VOXELS = 16, 90


class Pixels:
    """Features of an image: its pixels at a small size."""

    name, version, params = 'pixels', '1', {}

    def transform(self, pictures):
        return resize(pictures, 4).reshape(len(pictures), -1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Blocks:
    """A generator without networks: latents are coarse pixels, refining mixes noise in.

    It notes what it was fitted to and asked for.
    """

    log: list
    name: str = 'blocks'
    picture_size: int = SIDE
    n_latents: int = 1
    sampling: SamplingSettings = SamplingSettings()  # noqa: RUF009
    used: frozenset = frozenset()

    def fit(self, training, *, seed, checkpoint_dir=None, progress=None):
        self.log.append(('fit', training.pictures.copy(), training.n_stimuli))
        if progress is not None:
            progress(1, 1)
        return self

    def encode(self, pictures):
        return resize(pictures, 4).reshape(len(pictures), -1).astype(np.float32)

    def decode(self, latents, seeds):
        small = np.clip(np.rint(latents), 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)
        return np.repeat(np.repeat(small, SIDE // 4, axis=1), SIDE // 4, axis=2)

    def conditions(self, of, folder=None):
        return {'features': of.components}

    def refine(self, start, conditions, seeds, sampling, use, *, trust=None):
        self.log.append(('refine', start, conditions, tuple(seeds), sampling, use))
        noise = np.stack(
            [np.random.default_rng(s).integers(0, 40, (SIDE, SIDE, 3)) for s in seeds]
        )
        base = np.full_like(noise, 100) if start is None else start.astype(int)
        return np.clip(base + noise - 20, 0, 255).astype(np.uint8)

    def state(self):
        return {}

    def describe(self):
        return {'generator': 'blocks'}

    def curves(self):
        return [{'network': 'prior', 'part': 'training', 'step': 1, 'loss': 0.5}]


@pytest.fixture(autouse=True)
def _cheap_scores(monkeypatch):
    """Compare images at a size, and by a stand-in, that cost less."""
    make_cheap(monkeypatch)


def make_cheap(patch):
    patch.setattr(
        generation_record,
        'get_protocol',
        lambda name: replace(get_protocol(name), pixel_size=24),
    )
    patch.setattr(generation_record, 'STAND_IN_FREQUENCIES', (1.0, 2.0))


def world(n_stimuli=40, n_runs=2, noise=0.5, seed=0):
    """Every run shows every image once; voxels are linear in its coarse pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, size=(n_stimuli, 2, 2, 3)).astype(np.uint8)
    pictures = np.repeat(np.repeat(coarse, SIDE // 2, axis=1), SIDE // 2, axis=2)
    names = tuple(f's{k:02d}.png' for k in range(n_stimuli))
    pixels = Pixels().transform(pictures)
    signal = (pixels - pixels.mean(axis=0)) @ rng.normal(size=(48, N_VOXELS))
    signal /= signal.std()
    order = np.concatenate([rng.permutation(n_stimuli) for _ in range(n_runs)])
    values = signal[order] + noise * rng.normal(size=(len(order), N_VOXELS)) + 3
    table = pd.DataFrame(
        {
            'stimulus': [names[k] for k in order],
            'run': np.repeat(np.arange(n_runs), n_stimuli),
        }
    )
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    return samples, PerStimulus(names, pictures)


def config_of(**told):
    return Config.model_validate(
        {
            'reconstruction': {'n_hidden': 8, 'n_epochs': 3, 'patience': None, **told},
            'evaluation': {'n_permutations': 49, 'n_bootstrap': 50},
            'selection': {'measure': 'none'},
            'features': {'image_size': 8, 'n_components': 12},
            'ridge': {'alphas': [1.0, 100.0, 10_000.0], 'n_folds': 3},
        }
    )


def run(samples, pictures, config=None, *, by='stimulus', generator=None, **options):
    config = config or config_of()
    features = Pixels().transform(resize(pictures.values, 8))
    inputs = Inputs(
        options.pop('features', PerStimulus(pictures.stimuli, features)),
        pictures,
        Pixels(),
        extra=options.pop('extra', None),
        regions=options.pop('regions', None),
    )
    split = split_by_group(samples.table, by, rng=np.random.default_rng(0))
    n_runs = samples.table['run'].nunique()
    estimates = Estimates(samples, split, tsnr_runs=np.ones((n_runs, N_VOXELS), np.float32))
    return generate_pictures(estimates, inputs, generator or Blocks([]), config, **options), split


@pytest.fixture(scope='module')
def found():
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        log = []
        told = []
        result, split = run(*world(), generator=Blocks(log), progress=lambda *at: told.append(at))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done), 'progress never goes back'
    assert set(totals) == {done[-1]}, 'and ends with the last score'
    return result, split, log


def score(result, model, space, metric):
    rows = [s for s in result.scores if (s.model, s.space, s.metric) == (model, space, metric)]
    assert len(rows) == 1, (model, space, metric)
    return rows[0]


def test_planted_pictures_are_found(found):
    result, _, _ = found
    initial = score(result, 'ridge', 'initial', 'pixcorr')
    assert initial.value > 0.7
    assert initial.p == pytest.approx(1 / 50)
    assert initial.ci_low < initial.value < initial.ci_high
    assert initial.ceiling is None
    assert score(result, metrics.TRUE_LATENTS, 'initial', 'pixcorr').value > initial.value
    final = score(result, 'ridge', 'final', 'identification_top1')
    assert final.value > 0.7
    assert final.chance == pytest.approx(1 / 8)
    assert final.protocol == 'hold-out-by-stimulus/bd-982'
    assert score(result, 'baseline-shuffled', 'final', 'pixcorr').value < 0.5 * initial.value
    assert score(result, 'baseline-mean-image', 'final', 'pixcorr').value < initial.value
    ours = score(result, 'ridge', 'latents', 'latent_mse')
    assert ours.value < score(result, 'baseline-shuffled', 'latents', 'latent_mse').value
    assert ours.p == pytest.approx(1 / 50)
    assert ours.chance > ours.value > 0
    assert score(result, 'ridge', 'features', 'retrieval_image_top1').value > 0.7
    assert score(result, 'ridge', 'features', 'retrieval_brain_top1').value > 0.7
    labelled = {s.metric for s in result.scores if s.model == 'ridge' and s.space == 'final'}
    assert {'ssim_2d', 'ssim_columnwise_legacy', 'gabor-standin_2way'} <= labelled
    assert not any('alexnet' in s.metric or 'clip' in s.metric for s in result.scores)


FIVE = metrics.Metric('Among five', unit='share', low=0, high=1)


@pytest.mark.slow
def test_the_other_protocol_of_pictures(monkeypatch):
    """MindEye's: its own similarity, and retrieval among as many random candidates as it has."""
    monkeypatch.setattr(scoring, 'POOL', 5)
    for kind in ('image', 'brain'):
        monkeypatch.setitem(metrics.METRICS, f'retrieval_{kind}_top1_of5', FIVE)
    samples, pictures = world()
    result, _ = run(samples, pictures, config_of(protocol='me2-1000'))
    protocols = {s.protocol for s in result.scores}
    assert protocols == {'hold-out-by-stimulus/me2-1000'}
    assert 'ssim_columnwise_legacy' not in {s.metric for s in result.scores}
    few = score(result, 'ridge', 'features', 'retrieval_image_top1_of5')
    all_of_them = score(result, 'ridge', 'features', 'retrieval_image_top1')
    assert few.value >= all_of_them.value > 0.7
    assert (few.chance, few.p) == (1 / 5, pytest.approx(1 / 50))
    assert score(result, 'ridge', 'features', 'retrieval_brain_top1_of5').value > 0.7


def test_averages_and_single_trials_are_both_reconstructed(found):
    result, split, _ = found
    table = result.pictures.table
    trials = table[table['space'] == 'single-trial']
    assert sorted(trials['sample']) == sorted(split.folds[0].test)
    averages = table[table['space'] == 'repeat-average']
    assert len(averages) == trials['stimulus'].nunique() == 8
    assert (averages['n_repeats'] == 2).all()
    assert table['picture'].is_unique
    assert table['picture'].str.fullmatch(r'[A-Za-z0-9-]+').all()
    assert not any(name.split('.')[0] in p for name in table['stimulus'] for p in table['picture'])
    for part in ('initial', 'final', 'prior', 'truth', 'nearest'):
        assert len(getattr(result.pictures, part)) == len(table)
    train = set(split.table['stimulus'].iloc[split.folds[0].train])
    assert set(table['nearest']) <= train
    assert score(result, 'ridge', 'final-single-trial', 'pixcorr').n == 16
    mean = averages['pixcorr_final'].mean()
    assert mean == pytest.approx(score(result, 'ridge', 'final', 'pixcorr').value, abs=1e-6)
    assert averages['identified'].mean() == pytest.approx(
        score(result, 'ridge', 'final', 'identification_top1').value
    )
    row = int(averages.index[0])
    truth, made = result.pictures.truth[[row]], result.pictures.initial[[row]]
    assert averages['pixcorr_initial'].iloc[0] == pytest.approx(
        images.pixcorr(truth, made)[0], abs=0.05
    )


@pytest.mark.slow
def test_nothing_that_was_fitted_depends_on_held_out_pictures_or_responses():
    samples, pictures = world()
    split = split_by_group(samples.table, 'stimulus', rng=np.random.default_rng(0))
    test = split.folds[0].test
    held = set(samples.table['stimulus'].iloc[test])
    changed = pictures.values.copy()
    for row, name in enumerate(pictures.stimuli):
        if name in held:
            changed[row] = 255 - changed[row]
    first, second = [], []
    a, _ = run(samples, pictures, generator=Blocks(first))
    b, _ = run(samples, PerStimulus(pictures.stimuli, changed), generator=Blocks(second))
    np.testing.assert_array_equal(a.pictures.initial, b.pictures.initial)
    np.testing.assert_array_equal(a.pictures.final, b.pictures.final)
    np.testing.assert_array_equal(a.pictures.nearest, b.pictures.nearest)
    fits = [entry for entry in first if entry[0] == 'fit']
    assert len(fits) == 1
    assert len(fits[0][1]) == 32
    values = samples.values.copy()
    values[test[0]] += 5
    other = Samples(Responses(values, samples.responses.mask), samples.table)
    c, _ = run(other, pictures)
    rows = a.pictures.table['stimulus'] != samples.table['stimulus'].iloc[test[0]]
    np.testing.assert_array_equal(a.pictures.initial[rows], c.pictures.initial[rows])


def test_voxels_of_a_fold_do_not_depend_on_held_out_responses():
    samples, pictures = world(n_stimuli=24)
    top = {'measure': 'ncsnr', 'rule': 'top', 'fraction': 0.5}
    config = config_of().model_copy(update={'selection': SelectionSettings(**top)})
    whole, split = run(samples, pictures, config)
    values, test = samples.values.copy(), split.folds[0].test
    values[test] = 50 * np.random.default_rng(3).normal(size=values[test].shape)
    other, _ = run(
        Samples(Responses(values, samples.responses.mask), samples.table), pictures, config
    )
    np.testing.assert_array_equal(other.fold_selections[0].keep, whole.fold_selections[0].keep)
    assert (other.selection.keep != whole.selection.keep).any()


@pytest.mark.slow
def test_same_seed_same_result_and_another_seed_another_noise():
    samples, pictures = world(n_stimuli=24)
    a, _ = run(samples, pictures)
    b, _ = run(samples, pictures)
    np.testing.assert_array_equal(a.pictures.final, b.pictures.final)
    assert a.scores == b.scores
    c, _ = run(samples, pictures, config_of().model_copy(update={'seed': 5}))
    assert not np.array_equal(a.pictures.final, c.pictures.final)


@pytest.mark.slow
def test_a_closed_set_learns_its_pictures_once_and_identifies_among_all():
    samples, pictures = world(n_stimuli=6, n_runs=6, noise=1.5)
    log = []
    result, _ = run(samples, pictures, by='run', generator=Blocks(log))
    assert [entry[0] for entry in log].count('fit') == 1
    row = score(result, 'ridge', 'final', 'identification_top1')
    assert row.n == 36
    assert row.chance == pytest.approx(1 / 6)
    assert row.p <= 0.05
    assert CLOSED_SET in result.notes
    assert set(result.pictures.table['space']) == {'single-trial'}


@pytest.mark.slow
def test_noise_of_a_picture_does_not_tell_its_stimulus():
    """With the stimulus as its seed, noise alone would tell a closed set apart."""
    samples, pictures = world(n_stimuli=6, n_runs=4)
    log = []
    run(samples, pictures, config_of(start='noise'), by='run', generator=Blocks(log))
    seeds = [seed for e in log if e[0] == 'refine' for seed in e[3]]
    assert len(set(seeds)) == 24


def test_switches_reach_the_second_stage(found):
    _, _, log = found
    plain = next(e for e in log if e[0] == 'refine')
    assert plain[1] is not None
    assert plain[5] == 'both'
    assert plain[4] == SamplingSettings(strength=0.75)
    samples, pictures = world(n_stimuli=12, n_runs=1)
    told = {'noise': 256.0, 'conditions': 'none', 'strength': 0.5, 'n_steps': 10, 'guidance': 3.0}
    log = []
    a, _ = run(samples, pictures, config_of(**told), generator=Blocks(log))
    entry = next(e for e in log if e[0] == 'refine')
    assert entry[1] is None
    assert entry[5] == 'none'
    assert (entry[4].strength, entry[4].n_steps, entry[4].guidance) == (0.5, 10, 3.0)
    told['noise'], told['start'] = 0.0, 'noise'
    b, _ = run(samples, pictures, config_of(**told))
    np.testing.assert_array_equal(a.pictures.final, b.pictures.final)


def test_noise_is_the_same_draw_at_every_level():
    pictures = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    a, b = (noisy(pictures, level, [1, 2]).astype(float) - 128 for level in (8, 16))
    assert np.abs(2 * a - b).max() <= 1.5
    assert a.std() == pytest.approx(8, rel=0.05)
    assert not np.array_equal(a[0], a[1])
    assert noisy(pictures, 0, [1, 2]) is pictures
    assert noisy(pictures, 256, [1, 2]) is None


def test_other_regressors_stand_beside_ridge():
    samples, pictures = world(n_stimuli=24)
    regions = np.repeat([1, 2, 0], N_VOXELS // 3)
    config = config_of(regressor='regions-gru')
    result, _ = run(samples, pictures, config, regions=regions)
    assert score(result, 'regions-gru', 'final', 'pixcorr').n == 5
    assert score(result, 'baseline-ridge', 'final', 'pixcorr').n == 5
    assert {'latents', 'prior'} == set(result.curves['network'])
    with pytest.raises(DataError) as error:
        run(samples, pictures, config)
    assert str(error.value) == generation_run.NO_REGIONS.format(name='regions-gru')


@pytest.mark.slow
def test_renorm_is_named_and_changes_deviations():
    samples, pictures = world(noise=3.0)
    spread = {}
    for renorm in ('inductive', 'transductive', 'none'):
        result, _ = run(samples, pictures, config_of(renorm=renorm))
        spread[renorm] = result.pictures.initial.std(axis=0).mean()
        told = generation_run.TRANSDUCTIVE in result.notes
        assert told == (renorm == 'transductive')
    assert spread['none'] < 0.8 * min(spread['inductive'], spread['transductive'])


def test_synthetic_samples_come_from_extra_pictures_alone():
    samples, pictures = world(n_stimuli=24)
    _, more = world(n_stimuli=30, seed=9)
    extra = ExtraPictures(more.values, Pixels().transform(resize(more.values, 8)))
    result, _ = run(samples, pictures, config_of(synthetic=1.0), extra=extra)
    assert score(result, 'ridge', 'initial', 'pixcorr').value > 0.5
    assert set(result.model.library) == set(pictures.stimuli)
    with pytest.raises(DataError) as error:
        run(samples, pictures, config_of(synthetic=1.0))
    assert str(error.value) == generation_fit.NO_PICTURES


def test_a_held_out_picture_among_the_extra_ones_is_refused():
    samples, pictures = world(n_stimuli=24)
    extra = ExtraPictures(pictures.values, Pixels().transform(resize(pictures.values, 8)))
    with pytest.raises(DataError, match='is also among the further images'):
        run(samples, pictures, extra=extra)


def test_the_final_model_applies_to_new_responses(found):
    result, _, _ = found
    samples, pictures = world(seed=0)
    names = ['a', 'b', 'c']
    config = config_of()
    made = apply_generation(result.model, samples.values[:3], names, config)
    assert made.initial.shape == (3, SIDE, SIDE, 3)
    truth = pictures.of(samples.table['stimulus'].iloc[:3])
    assert images.pixcorr(truth, made.initial).mean() > 0.7
    again = GenerationModel.from_state(
        result.model.state(), result.model.describe(), fitted=result.model.fitted
    )
    other = apply_generation(again, samples.values[:3], names, config)
    np.testing.assert_array_equal(made.final, other.final)
    with pytest.raises(InputError) as error:
        GenerationModel.from_state(result.model.state(), result.model.describe())
    assert str(error.value) == generation_model.OTHER_GENERATOR.format(name='blocks')
    with pytest.raises(DataError) as error:
        apply_generation(result.model, samples.values[:3], ['a'], config)
    assert str(error.value) == generation_run.NAMES_DIFFER.format(n=3, found=1)
    with pytest.raises(DataError) as error:
        apply_generation(result.model, samples.values[:3, :5], names, config)
    assert str(error.value) == generation_model.OTHER_VOXELS.format(expected=N_VOXELS, found=5)
    assert picture_seed(config.seed, 'a') != picture_seed(config.seed, 'b')


def test_the_table_of_similarities_is_that_of_the_library():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 40, 36, 3)), rng.random((3, 40, 36, 3))
    a[1] = np.clip(b[0] + 0.05 * rng.normal(size=b[0].shape), 0, 1)
    table = ssim_table(a, b)
    for i in range(2):
        for j in range(3):
            known = images.ssim_2d(a[[i]], b[[j]])[0]
            assert table[i, j] == pytest.approx(known, abs=2e-4)


def test_one_image_for_all_has_no_width():
    """Its share of pairs is fixed: the interval of single images says nothing of it."""
    rng = np.random.default_rng(0)
    truth = np.arange(12)
    same = np.repeat(rng.random((1, 12)), 12, axis=0)
    assert scoring._one_for_all(same, truth)
    assert not scoring._one_for_all(rng.random((12, 12)), truth)
    assert not scoring._one_for_all(same, np.r_[truth[:-1], 0]), 'one is never true'
    row = metrics.Score(
        system='reconstruction', model='baseline-mean-image', protocol='x', split='test',
        space='final', metric='pixel_2way', value=0.5, n=12, ci_low=0.3, ci_high=0.7,
    )  # fmt: skip
    exact = scoring._exact(row)
    assert (exact.ci_low, exact.ci_high) == (0.5, 0.5)
    pixels = replace(row, metric='pixcorr')
    assert scoring._exact(pixels) == pixels, 'correlations do vary over images'
