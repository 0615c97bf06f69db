"""Reliability and scores for notebooks: oracles, planted truth, and the program's own rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from skimage.metrics import structural_similarity

import bids_neurodecode as nd
from bids_neurodecode.api import features as feature_module
from bids_neurodecode.api import reliability as module
from bids_neurodecode.api import scores
from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.networks import notes_on, pixel_scores
from bids_neurodecode.evaluation.protocols import UNKNOWN_PROTOCOL, get_protocol
from bids_neurodecode.signals import reliability as signals
from bids_neurodecode.stimuli.features import UNKNOWN_EXTRACTOR, get_extractor
from bids_neurodecode.stimuli.features import extract_features as program_features
from bids_neurodecode.systems.reconstruction.generation.scores import ReconstructionScorer


@pytest.fixture(scope='module')
def trials():
    """Planted: signal-to-noise ratios of 0, .5 and 2, eight runs of the same twelve images."""
    rng = np.random.default_rng(0)
    stimuli = np.concatenate([rng.permutation(12) for _ in range(8)])
    signal = rng.normal(size=(12, 300))
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0, ddof=1)
    ratio = np.repeat([0.0, 0.5, 2.0], 100)
    betas = signal[stimuli] * ratio + rng.normal(size=(96, 300))
    return betas, stimuli, np.repeat(np.arange(8), 12), ratio


def test_ceilings_are_those_of_the_program_and_near_the_truth(trials):
    betas, stimuli, runs, ratio = trials
    table = nd.reliability(betas, stimuli, runs=runs)
    expected = signals.ncsnr(betas, stimuli)
    np.testing.assert_array_equal(table['ncsnr'], expected)
    np.testing.assert_array_equal(nd.noise_ceiling(betas, stimuli), table['noise_ceiling_mean'])
    single = nd.noise_ceiling(betas, stimuli, n_averaged=1)
    np.testing.assert_array_equal(single, table['noise_ceiling'])
    strong = ratio == 2
    assert np.median(single[strong]) == pytest.approx(0.8, abs=0.05)
    assert np.median(table['noise_ceiling_mean'][strong]) == pytest.approx(32 / 33, abs=0.01)
    assert (table['p'][strong] < 0.01).all()
    assert (table['p'][ratio == 0] < 0.05).mean() < 0.15
    assert table.attrs['reason'] == ''


def test_without_runs_there_is_no_test(trials):
    betas, stimuli, _, _ = trials
    table = nd.reliability(betas, stimuli)
    assert table[['agreement', 'p']].isna().all(axis=None)
    assert table.attrs['reason'] == 'runs were not given'
    same = np.tile(np.arange(12), 8)
    ordered = nd.reliability(betas, same, runs=np.repeat(np.arange(8), 12))
    assert ordered['p'].isna().all()
    assert ordered.attrs['reason'] == signals.SAME_ORDER


@pytest.mark.parametrize(
    ('arguments', 'more', 'message'),
    [
        ((np.ones((4, 2)),), {}, module.NEEDS_STIMULI),
        ((np.ones((4, 2)), [1, 2, 3, 4]), {}, module.NOT_REPEATED),
        ((np.ones((4, 2)), [1, 2]), {}, module.ONE_TO_ONE),
        ((np.ones((4, 2)), [1, 1, 2, 2]), {'sessions': [1]}, module.ONE_TO_ONE),
    ],
)
def test_errors_of_reliability_speak_of_arguments(arguments, more, message):
    for function in (nd.noise_ceiling, nd.reliability):
        with pytest.raises(nd.UsageError) as error:
            function(*arguments, **more)
        assert message.split('{')[0] in str(error.value)


rows = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 8), st.just(5)), elements=st.integers(-9, 9).map(float)
)


@settings(max_examples=60)
@given(true=rows, seed=st.integers(0, 99))
def test_two_way_counts_pairs(true, seed):
    """By its definition, candidate by candidate; equal rows are one candidate."""
    predicted = np.random.default_rng(seed).normal(size=true.shape)
    candidates = np.unique(true, axis=0)
    if len(candidates) < 2:
        with pytest.raises(nd.UsageError, match=r'two different rows'):
            nd.two_way(true, predicted)
        return

    def r(a, b):
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            return 0.0
        return round(float(np.corrcoef(a, b)[0, 1]), 12)

    shares = []
    for own, guess in zip(true, predicted, strict=True):
        mine = r(guess, own)
        others = [r(guess, c) for c in candidates if not np.array_equal(c, own)]
        shares.append(np.mean([(mine > x) + 0.5 * (mine == x) for x in others]))
    assert nd.two_way(true, predicted) == pytest.approx(np.mean(shares), abs=1e-9)


def test_two_way_is_one_half_without_information():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 10))
    values = [nd.two_way(true, rng.normal(size=(40, 10))) for _ in range(50)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(nd.UsageError) as error:
        nd.two_way(true, true[:3])
    assert '(40, 10)' in str(error.value)


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (10, 6, 6, 3), dtype=np.uint8)
    true = np.stack([np.asarray(Image.fromarray(x).resize((48, 48), 2)) for x in small])
    noisy = np.clip(true + rng.normal(0, 25, true.shape), 0, 255).astype(np.uint8)
    return true, noisy


@pytest.mark.slow
@pytest.mark.parametrize('protocol', ['bd-982', 'me2-1000'])
def test_reconstructions_score_as_in_the_program(images, protocol):
    true, made = images
    table = nd.score_reconstructions(
        true, made, protocol=protocol, networks=False, n_permutations=99
    ).set_index('metric')
    kind, gabor = get_protocol(protocol), get_extractor('gabor').transform
    for score in pixel_scores(true, made, kind):
        assert table.loc[score.metric, 'value'] == pytest.approx(score.value, abs=1e-4)
    rng = np.random.default_rng(0)
    seen = ReconstructionScorer(None, EvaluationSettings(), gabor, {}, rng, kind)
    r = np.corrcoef(seen.described(made), seen.described(true))[:10, 10:]
    two_way = (r < np.diagonal(r)[:, None]).sum() / (10 * 9)
    assert table.loc['gabor-standin_2way', 'value'] == pytest.approx(two_way, abs=1e-4)
    assert {'pixcorr', 'ssim_2d', 'pixel_2way', 'gabor-standin_2way'} <= set(table.index)
    assert (table.loc[['pixel_2way', 'gabor-standin_2way'], 'chance'] == 0.5).all()
    assert table.loc['pixcorr', 'value'] > 0.8
    assert abs(table.loc['pixcorr', 'chance']) < 0.2
    assert table.loc['pixcorr', 'p'] == pytest.approx(0.01)
    low, high = table.loc['pixcorr', ['ci_low', 'ci_high']]
    assert low < table.loc['pixcorr', 'value'] < high
    assert not table.index.str.startswith('identification').any()
    assert set(notes_on(kind, {}, 10, stand_in=True)) <= set(table.attrs['notes'])
    assert any('alexnet' in note for note in table.attrs['notes'])


def test_few_images_have_neither_p_nor_interval(images):
    true, made = images
    table = nd.score_reconstructions(true[:4], made[:4], networks=False, n_permutations=99)
    assert table[['p', 'ci_low', 'ci_high']].isna().all(axis=None)
    assert any('with fewer than' in note for note in table.attrs['notes'])


@pytest.mark.slow
def test_structural_similarity_is_that_of_scikit_image(images):
    true, made = images
    table = nd.score_reconstructions(true, made, networks=False, n_permutations=0)
    size = get_protocol('bd-982').pixel_size
    values = []
    for pair in zip(true, made, strict=True):
        a, b = (
            np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC)) / 255
            for x in pair
        )
        grey = [x @ [0.2125, 0.7154, 0.0721] for x in (a, b)]
        values.append(
            structural_similarity(
                *grey,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    found = table.set_index('metric').loc['ssim_2d']
    assert found['value'] == pytest.approx(np.mean(values), abs=1e-3)
    assert np.isnan(found['p'])


@pytest.mark.slow
def test_reconstructions_of_other_images_are_at_chance(images):
    true, made = images
    shuffled = made[[*range(1, 10), 0]]
    table = nd.score_reconstructions(true, shuffled, networks=False, n_permutations=199)
    rows = table[table['metric'].isin(['pixcorr', 'pixel_2way'])]
    assert (rows['p'] > 0.05).all()


@pytest.mark.slow
def test_files_and_folders_are_read_in_order(images, tmp_path):
    true, made = (stack[:4] for stack in images)
    for name, stack in (('true', true), ('made', made)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(stack):
            Image.fromarray(image).save(tmp_path / name / f'{k}.png')
    by_folder = nd.score_reconstructions(
        tmp_path / 'true', tmp_path / 'made', networks=False, n_permutations=0
    )
    files = sorted((tmp_path / 'made').iterdir())
    by_file = nd.score_reconstructions(true, files, networks=False, n_permutations=0)
    np.testing.assert_array_equal(by_folder['value'], by_file['value'])
    found = nd.extract_features(tmp_path / 'true', size=None)
    np.testing.assert_array_equal(found, program_features(true, get_extractor('gabor')))


def test_errors_of_scores_speak_of_arguments(images, tmp_path):
    true, made = images
    with pytest.raises(nd.UsageError) as error:
        nd.score_reconstructions(true, made[:5], networks=False)
    assert str(error.value) == scores.OTHER_COUNT.format(true=10, found=5)
    with pytest.raises(nd.UsageError) as error:
        nd.score_reconstructions(true[:1], made[:1], networks=False)
    assert str(error.value) == scores.TOO_FEW.format(n=1)
    with pytest.raises(nd.UsageError) as error:
        nd.score_reconstructions(true, made, protocol='x', networks=False)
    assert UNKNOWN_PROTOCOL.split('{')[0] in str(error.value)
    with pytest.raises(nd.UsageError) as error:
        nd.extract_features(true, 'x')
    assert UNKNOWN_EXTRACTOR.split('{')[0] in str(error.value)
    with pytest.raises(nd.UsageError) as error:
        nd.extract_features(tmp_path)
    assert str(error.value) == feature_module.NO_FILES.format(folder=tmp_path)
    with pytest.raises(nd.UsageError) as error:
        nd.extract_features(7)
    assert feature_module.NOT_IMAGES.split('{')[0] in str(error.value)
