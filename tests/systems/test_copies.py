"""Images of the same content are one stimulus, wherever stimuli are held together."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings, RidgeSettings, build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import scores_table
from bids_neurodecode.samples import (
    Responses,
    Samples,
    Split,
    VoxelMask,
    contents,
    relabelled,
    split_by_group,
)
from bids_neurodecode.stimuli.duplicates import ImageHashes, shown_among
from bids_neurodecode.systems.applying import apply_decoder
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding import encoders
from bids_neurodecode.systems.encoding import network as encoding_network
from bids_neurodecode.systems.encoding import newcomers as encoding_newcomers
from bids_neurodecode.systems.encoding import shared as encoding_shared
from bids_neurodecode.systems.encoding.applying import apply_encoder
from bids_neurodecode.systems.outcomes import OWN_MODEL, judge
from bids_neurodecode.systems.reconstruction import recipe as reconstruction
from bids_neurodecode.systems.reconstruction.generation import fit as generation_fit
from bids_neurodecode.systems.refitting import relabellings
from bids_neurodecode.systems.scoring import FEW_GROUPS, Pairing

N, N_VOXELS = 40, 12
RIDGE = RidgeSettings(alphas=(1.0, 100.0), n_folds=3)
NAMES = tuple(f'{k:02d}.png' for k in range(N))
# 01 is a copy of 00, 03 of 02, and so on
CONTENT = {name: NAMES[k - k % 2] for k, name in enumerate(NAMES)}


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(N) for _ in range(2)])
    names = [NAMES[k] for k in order]
    table = pd.DataFrame(
        {
            'stimulus': names,
            'run': np.repeat([0, 1], N),
            'content': [CONTENT[name] for name in names],
        }
    )
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    values = rng.standard_normal((2 * N, N_VOXELS)).astype(np.float32)
    return Samples(Responses(values, mask), table)


@pytest.fixture
def features():
    rng = np.random.default_rng(1)
    return PerStimulus(NAMES, rng.standard_normal((N, 8)).astype(np.float32))


def held_out(module, monkeypatch, name='fit_ridge'):
    """Note the groups that penalties are chosen by."""
    seen, real = [], getattr(module, name)

    def spy(*arrays, **options):
        seen.append(np.asarray(options['groups']))
        return real(*arrays, **options)

    monkeypatch.setattr(module, name, spy)
    return seen


def test_names_go_by_what_they_show():
    first = pd.DataFrame({'stimulus': ['b', 'a'], 'content': ['a', 'a']})
    second = pd.DataFrame({'stimulus': ['c', 'b'], 'content': ['b', 'b']})
    assert contents(['c', 'd', 'a'], first, second).tolist() == ['a', 'd', 'a']
    assert contents(['c', 'b'], first).tolist() == ['c', 'a']
    assert contents(['b'], first.drop(columns='content')).tolist() == ['b']
    other = relabelled(first, np.array(['a', 'b']))
    assert (other['stimulus'].tolist(), other['content'].tolist()) == (['a', 'b'], ['a', 'a'])


def test_copies_are_one_unit_of_tests_and_intervals(samples, features):
    split = split_by_group(samples.table, 'stimulus', n_folds=4)
    decoder = reconstruction.fit(samples, features, reconstruction.DecoderSettings(ridge=RIDGE))
    outcomes = [
        judge(
            OWN_MODEL,
            decoder.components,
            decoder,
            samples.take(fold.test),
            features,
            NAMES,
            fold=number,
            average=True,
        )
        for number, fold in enumerate(split)
    ]
    pairing = Pairing.of(outcomes, split)
    content = [CONTENT[name] for o in outcomes for name in o.table['stimulus']]
    np.testing.assert_array_equal(pairing.groups, pd.factorize(np.array(content))[0])
    np.testing.assert_array_equal(pairing.units, pairing.groups)
    assert pairing.shared == pytest.approx(1)
    by_name = Split('stimulus', split.folds, samples.table.drop(columns='content'))
    assert len(set(Pairing.of(outcomes, by_name).groups)) == N


def test_fewer_than_six_contents_are_too_few(samples, features):
    few = samples.take(np.flatnonzero(samples.table['stimulus'].isin(NAMES[:10])))
    decoder = reconstruction.fit(samples, features, reconstruction.DecoderSettings(ridge=RIDGE))
    found = apply_decoder(
        decoder, few, features, EvaluationSettings(n_permutations=20), np.random.default_rng(0)
    )
    assert found.notes == (FEW_GROUPS.format(n=5, what='stimuli', need=6),)
    table = scores_table(found.scores)
    assert table[['p', 'ci_low', 'ci_high']].isna().all(axis=None)
    encoder = encoders.fit(
        samples,
        {'a': features},
        encoders.EncoderSettings(ridge=RIDGE),
        rng=np.random.default_rng(0),
    )
    judged = apply_encoder(
        encoder,
        few,
        {'a': features},
        EvaluationSettings(n_permutations=20),
        model='ridge',
        threshold=0.0,
        rng=np.random.default_rng(0),
    )
    assert judged is not None
    assert {s.p for s in judged.scores} == {None}


def test_repeats_of_new_images_are_exchanged_together(samples, features):
    decoder = reconstruction.fit(samples, features, reconstruction.DecoderSettings(ridge=RIDGE))
    table = pd.DataFrame({'stimulus': np.repeat(NAMES[:7], 2), 'run': 0})
    equal = np.repeat(samples.values[:7], 2, axis=0)
    found = apply_decoder(
        decoder,
        Samples(Responses(equal, samples.responses.mask), table),
        features,
        EvaluationSettings(n_permutations=20, n_bootstrap=0),
        np.random.default_rng(0),
    )
    # both repeats of an image are right, or both are wrong
    assert np.ptp(found.null) > 0
    np.testing.assert_allclose(7 * found.null, np.rint(7 * found.null), atol=1e-9)


def test_exchanged_labels_of_copies_stay_together(samples):
    split = split_by_group(samples.table, 'stimulus', n_folds=4)
    parts = [samples.fold(fold) for fold in split]
    draws, whole = relabellings(parts, split, 5, np.random.default_rng(0))
    assert whole
    for labels in draws:
        given = pd.Series([CONTENT[name] for name in labels])
        assert (given.groupby(samples.table['content'].to_numpy()).nunique() == 1).all()


def test_penalties_are_chosen_with_copies_on_one_side(samples, features, monkeypatch):
    content = samples.table['content'].to_numpy()
    decoding = held_out(reconstruction, monkeypatch, 'fit_ridges')
    reconstruction.fit(samples, features, reconstruction.DecoderSettings(ridge=RIDGE))
    ridge = held_out(encoders, monkeypatch)
    banded = held_out(encoders, monkeypatch, 'fit_banded')
    rng = np.random.default_rng(0)
    bands = {'a': features, 'b': features}
    for model in ('ridge', 'banded'):
        settings = encoders.EncoderSettings(model=model, ridge=RIDGE, n_mixtures=2)
        encoders.fit(samples, bands, settings, rng=rng)
        averaged = encoders.EncoderSettings(
            model=model, ridge=RIDGE, n_mixtures=2, average_training=True
        )
        encoders.fit(samples, bands, averaged, rng=rng)
    for groups in (decoding[0], ridge[0], banded[0]):
        np.testing.assert_array_equal(groups, content)
    for groups in (ridge[1], banded[1]):
        assert sorted(groups) == sorted(CONTENT.values())


def test_networks_stop_by_pictures_without_copies_in_training(samples, monkeypatch):
    train, validation = encoding_network._hold_out(samples, 0.3, np.random.default_rng(0))
    assert not set(train.table['content']) & set(validation.table['content'])
    assert validation.table['content'].nunique() == 6


def test_the_two_stage_pipeline_holds_copies_together(samples):
    stage = SimpleNamespace(
        stimuli=NAMES, latents=np.zeros((N, 2), dtype=np.float32), conditions={}
    )
    config = build_config({})
    rows = generation_fit.training_rows(samples, stage, config, np.random.default_rng(0))
    assert rows.library == tuple(dict.fromkeys(samples.table['stimulus']))
    assert list(rows.names) == [CONTENT[name] for name in NAMES]
    np.testing.assert_array_equal(rows.groups, rows.names)


def picture(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))


def test_copies_of_held_out_pictures_are_not_learned_from():
    from PIL import Image

    own = np.stack([picture(k) for k in range(3)])
    small = Image.fromarray(own[1]).resize((62, 62)).resize((64, 64))
    inputs = SimpleNamespace(
        pictures=PerStimulus(('a', 'b', 'c'), own),
        extra=SimpleNamespace(pictures=np.stack([picture(9), np.asarray(small)])),
    )
    generation_fit.check_extra(inputs, ['a', 'c'])
    generation_fit.check_extra(inputs, [])
    with pytest.raises(DataError) as error:
        generation_fit.check_extra(inputs, ['a', 'b'])
    assert str(error.value) == generation_fit.HELD_OUT_AMONG_EXTRA.format(name='b')


def test_shared_heads_hold_copies_together(samples, features, monkeypatch):
    pytest.importorskip('torch')
    from bids_neurodecode.models import shared
    from bids_neurodecode.models.trainingsettings import TrainingSettings

    parts = []
    monkeypatch.setattr(
        shared, 'train_shared', lambda _, train, *__, validation: parts.append((train, validation))
    )
    settings = encoding_shared.SharedSettings(
        n_latent=2, n_components=None, training=TrainingSettings(n_epochs=1, device='cpu')
    )
    people = {'01': samples, '02': samples}
    head = encoding_shared.train_head(
        people, {'a': features}, settings, rng=np.random.default_rng(0)
    )
    ((train, validation),) = parts
    row = {tuple(np.round(x, 4)): k for k, x in enumerate(head.space.transform(features.values))}
    sides = [
        {CONTENT[NAMES[row[tuple(np.round(x, 4))]]] for x in part['01'][0]}
        for part in (train, validation)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 2


def test_newcomers_are_judged_on_pictures_without_copies_in_training(
    samples, features, monkeypatch
):
    tests = []
    real = encoding_newcomers._split

    def spy(samples, test):
        tests.append(test)
        return real(samples, test)

    monkeypatch.setattr(encoding_newcomers, '_split', spy)

    def stop(*_, **__):
        raise DataError('enough')

    monkeypatch.setattr(encoding_newcomers, 'train_head', stop)
    people = dict.fromkeys(('01', '02', '03'), samples)
    with pytest.raises(DataError, match='enough'):
        encoding_newcomers.study_newcomers(people, {'a': features}, rng=np.random.default_rng(0))
    test = tests[0]
    assert len(test) == 8
    assert {CONTENT[name] for name in test} & {CONTENT[n] for n in set(NAMES) - test} == set()


def test_hashes_come_back_from_arrays():
    hashes = ImageHashes.of([picture(0), picture(1)])
    again = ImageHashes.from_state(hashes.state())
    assert again.digests == hashes.digests
    np.testing.assert_array_equal(again.thumbnails, hashes.thumbnails)
    both = hashes + ImageHashes.of([picture(2)])
    assert shown_among(both, again).tolist() == [True, True, False]
    assert not shown_among(hashes, ImageHashes.of([])).any()
