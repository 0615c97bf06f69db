"""The tool that scores: values that must come out, what is read, what is refused."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import bids_neurodecode as nd
from bids_neurodecode.bids import imagesets, responsesets
from bids_neurodecode.cli import score as module
from bids_neurodecode.cli import tools
from bids_neurodecode.evaluation.metrics import COLUMNS
from bids_neurodecode.evaluation.protocols import PROTOCOLS, get_protocol, published_scores
from bids_neurodecode.systems.encoding.steps import response_scores
from bids_neurodecode.systems.reconstruction.steps import image_scores

FAST = ('--n-permutations', '19')


@pytest.fixture(scope='module')
def images():
    """Structure at all scales, so that blur takes something away."""
    rng = np.random.default_rng(0)
    layers = [
        np.stack(
            [
                np.asarray(Image.fromarray(x).resize((64, 64), 2), dtype=float)
                for x in rng.integers(0, 256, (9, side, side, 3), dtype=np.uint8)
            ]
        )
        for side in (4, 8, 16, 32)
    ]
    return np.rint(np.mean(layers, axis=0)).astype(np.uint8)


def write(folder, images, name='{}.png'):
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(k))
    return folder


class ByPlaces:
    """Stands in for a network: what it sees are pixels through fixed random filters."""

    def __call__(self, pixels, layers):
        rng = np.random.default_rng(0)
        filters = rng.normal(size=(64, 3, 8, 8)).astype(np.float32)
        small = torch.from_numpy(np.ascontiguousarray(pixels))
        found = torch.nn.functional.conv2d(small, torch.from_numpy(filters), stride=8)
        return {layer: found.relu().numpy() for layer in layers}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The protocols at a size at which they cost little."""
    for name, protocol in PROTOCOLS.items():
        metrics = tuple(dataclasses.replace(m, size=64) for m in protocol.metrics)
        less = dataclasses.replace(protocol, first_size=None, pixel_size=64, metrics=metrics)
        monkeypatch.setitem(PROTOCOLS, name, less)


@pytest.fixture
def networks(monkeypatch):
    """Every network of the protocols, as if their weights were there."""
    names = {m.network for p in PROTOCOLS.values() for m in p.metrics}
    found = dict.fromkeys(names, ByPlaces())
    monkeypatch.setattr(image_scores, 'protocol_networks', lambda *_: found)
    return found


def scores_of(images, made, protocol='bd-982', nets=None, *, baselines=False):
    names = [str(k) for k in range(len(images))]
    found = image_scores.score_images(
        images, made, names, protocol, nets or {}, baselines=baselines, n_permutations=0, seed=0
    )
    return {(s.model, s.metric): s for s in found.scores}


@pytest.mark.parametrize('protocol', ['bd-982', 'seed'])
def test_values_that_must_come_out(images, networks, protocol):
    """The truth scores 1 (0 of distances); other images, and the mean image, are at chance."""
    itself = scores_of(images, images, protocol, networks, baselines=True)
    for (model, metric), score in itself.items():
        if model == image_scores.MODEL:
            assert score.value == pytest.approx(0 if metric.endswith('distance') else 1, abs=1e-6)
            assert abs(score.value - score.chance) > 0.05
        elif model == image_scores.MEAN_IMAGE and metric.endswith('2way'):
            assert score.value == pytest.approx(0.5)
        assert score.protocol == protocol
    rounds = [np.roll(images, k, axis=0) for k in range(1, len(images))]
    shuffled = [scores_of(images, made, protocol, networks) for made in rounds]
    for (model, metric), score in itself.items():
        if model == image_scores.MODEL and not metric.startswith('ssim'):
            mean = np.mean([found[model, metric].value for found in shuffled])
            # all rounds but the one in place are all pairs: two-way loses the pair with itself
            lost = 0.5 / (len(images) - 1) if metric.endswith('2way') else 0
            lost = 1 / len(images) if metric == 'pixel_top1' else lost
            assert mean == pytest.approx(score.chance - lost, abs=0.03), metric


@pytest.mark.slow
def test_blur_takes_from_networks_what_pixels_forgive(images, networks):
    """Distances grow with each step of blur; pixel correlation with noise is raised by it."""
    made = [gaussian_filter(images, (0, s, s, 0)) for s in (0.5, 1, 2, 4, 8)]
    rows = [scores_of(images, x, nets=networks) for x in made]
    for metric in ('efficientnet_distance', 'swav_distance'):
        values = [row[image_scores.MODEL, metric].value for row in rows]
        assert (np.diff(values) > 0).all(), metric
    rng = np.random.default_rng(0)
    noisy = np.clip(images + rng.normal(0, 90, images.shape), 0, 255).astype(np.uint8)
    smooth = gaussian_filter(noisy, (0, 2, 2, 0))
    sharp, soft = (scores_of(images, x)[image_scores.MODEL, 'pixcorr'] for x in (noisy, smooth))
    assert soft.value > sharp.value + 0.1


@pytest.mark.slow
def test_table_json_and_page(images, networks, tmp_path, capsys):
    truth = write(tmp_path / 'truth', images)
    made = write(tmp_path / 'made', gaussian_filter(images, (0, 2, 2, 0))[:8])
    out = tmp_path / 'scores' / 'mine.tsv'
    arguments = ['score', str(truth), str(made), '--protocol', 'bd-982', '--output', str(out)]
    assert tools.main([*arguments, *FAST]) == 0
    said = capsys.readouterr().out
    assert '1 of 9 true images without a reconstruction (8)' in said
    assert 'published: Brain-Diffuser' in said
    table = pd.read_csv(out, sep='\t')
    assert table.columns.tolist() == list(COLUMNS)
    assert set(table.model) == {
        image_scores.MODEL, image_scores.MEAN_IMAGE, image_scores.BLURRED,
    }  # fmt: skip
    own = table[table.model == image_scores.MODEL].set_index('metric')
    wanted = {m.metric for m in get_protocol('bd-982').metrics}
    assert {'pixcorr', 'ssim_2d', 'ssim_columnwise_legacy', *wanted} == set(own.index) - {
        'pixel_2way', 'pixel_top1',
    }  # fmt: skip
    assert own[['chance', 'ci_low', 'ci_high']].notna().all(axis=None)
    assert own.loc[sorted(wanted), 'p'].between(0.05, 1).all()
    others = table[table.model != image_scores.MODEL]
    assert (others.compared_model == image_scores.MODEL).all()
    described = json.loads(out.with_suffix('.json').read_text())
    assert set(described['metric']['Levels']) == set(own.index)
    assert any('without a reconstruction' in x for x in described['Scoring']['Notes'])
    assert described['Scoring']['Published'][3]['scores']['pixcorr'] == 0.254
    page = out.with_suffix('.html').read_text()
    assert 'Ozcelik and VanRullen 2023' in page
    assert 'Blurred' in page or 'blurred truth' in page
    by_function = nd.score_reconstructions(
        truth, made, protocol='bd-982', baselines=True, n_permutations=19
    )
    np.testing.assert_allclose(by_function['value'], table['value'], atol=1e-8)
    np.testing.assert_allclose(by_function['p'], table['p'], atol=1e-8)


def test_arrays_of_other_programs_are_read(images, tmp_path):
    """MindEye2: floating point, channels first, .pt; Brain-Diffuser: bytes, .npy, 0.png;
    Brain-IT: bytes, .npy, img_0000.png."""
    first = torch.from_numpy(images).permute(0, 3, 1, 2)
    torch.save((first / 255).half(), tmp_path / 'all_recons.pt')
    np.save(tmp_path / 'nsd_test_stim_sub1.npy', images)
    np.savez(tmp_path / 'one.npz', images=images)
    write(tmp_path / 'diffuser', images)
    write(tmp_path / 'brainit', images, 'img_{:04d}.png')
    sets = [
        imagesets.read_image_set(tmp_path / name)
        for name in ('all_recons.pt', 'nsd_test_stim_sub1.npy', 'one.npz', 'diffuser', 'brainit')
    ]
    for one in sets:
        matched = imagesets.match_images(sets[1], one, 64)
        np.testing.assert_array_equal(matched.made, images)
        assert matched.notes == (
            () if 'brainit' not in one.source else (imagesets.BY_NUMBER.format(last=8),)
        )


def test_names_decide_and_nothing_is_matched_by_place(images, tmp_path):
    truth = write(tmp_path / 'truth', images, 'nsd{:05d}.png')
    order = [3, 0, 7]
    made = tmp_path / 'made'
    (made / 'below').mkdir(parents=True)
    for k in order:
        Image.fromarray(images[k]).save(made / 'below' / f'nsd{k:05d}.jpg', quality=95)
    matched = imagesets.match_images(
        imagesets.read_image_set(truth), imagesets.read_image_set(made), 64
    )
    assert sorted(matched.names) == [f'nsd{k:05d}' for k in sorted(order)]
    assert matched.notes[0] == imagesets.BY_STEM
    assert np.abs(matched.truth.astype(int) - matched.made).mean() < 6
    # rows of an array are not the numbers of other names
    np.save(tmp_path / 'some.npy', images[:5])
    with pytest.raises(imagesets.InputError, match='Name each reconstruction like its image'):
        imagesets.match_images(
            imagesets.read_image_set(truth), imagesets.read_image_set(tmp_path / 'some.npy'), 64
        )


def test_images_of_several_sizes_are_padded_as_the_program_pads(images, tmp_path):
    folder = tmp_path / 'truth'
    folder.mkdir()
    Image.fromarray(images[0]).crop((0, 0, 64, 32)).save(folder / 'a.png')
    Image.fromarray(images[1]).save(folder / 'b.png')
    found = imagesets.read_image_set(folder)
    matched = imagesets.match_images(found, found, 96)
    assert matched.truth.shape == (2, 96, 96, 3)
    assert (matched.truth[0, :20] == 128).all()
    assert matched.notes == (imagesets.PADDED.format(size=96),)


def test_our_outputs_are_matched_by_what_was_shown(images, tmp_path):
    """The table beside them says of which stimulus each is; two may be of one."""
    data, out = tmp_path / 'data', tmp_path / 'out'
    (data / 'stimuli').mkdir(parents=True)
    (data / 'dataset_description.json').write_text('{}')
    write(data / 'stimuli' / 'pets', images[:2], 'cat {}.png')
    place = out / 'stimuli' / 'sub-01' / 'task-img'
    place.mkdir(parents=True)
    (out / 'dataset_description.json').write_text('{}')
    rows = [('petscat0fold00', 'pets/cat 0.png'), ('petscat0fold01', 'pets/cat 0.png')]
    rows.append(('petscat1', 'pets/cat 1.png'))
    for picture, stimulus in rows:
        for stage, dark in (('final', 0), ('initial', 50)):
            shown = np.clip(images[int('1' in stimulus)].astype(int) - dark, 0, 255)
            file = place / f'{picture}_desc-{stage}_image.png'
            Image.fromarray(shown.astype(np.uint8)).save(file)
    func = out / 'sub-01' / 'func'
    func.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=['picture', 'stimulus'])
    name = 'sub-01_task-img_space-x_desc-generated_predictions.tsv'
    table.to_csv(func / name, sep='\t', index=False)
    truth = imagesets.read_image_set(data)
    for where in (out, place):
        matched = imagesets.match_images(truth, imagesets.read_image_set(where), 64)
        assert matched.names == ('pets/cat 0', 'pets/cat 0', 'pets/cat 1')
        np.testing.assert_array_equal(matched.truth, matched.made)
    first = imagesets.match_images(truth, imagesets.read_image_set(out, 'initial'), 64)
    assert (first.made <= first.truth).all()
    (out / 'stimuli' / 'sub-02').mkdir()
    (out / 'stimuli' / 'sub-02' / 'task-img').symlink_to(place)
    with pytest.raises(imagesets.InputError, match='several participants'):
        imagesets.read_image_set(out)


class Evil:
    def __reduce__(self):
        return (print, ('this must not run',))


def test_what_cannot_be_scored_is_said_in_one_line(images, tmp_path, capsys):
    truth = write(tmp_path / 'truth', images[:2])
    torch.save(Evil(), tmp_path / 'evil.pt')
    torch.save({'a': torch.zeros(2), 'b': 1}, tmp_path / 'many.pt')
    torch.save(torch.zeros(2, 3, 8, 8) - 1, tmp_path / 'signed.pt')
    np.save(tmp_path / 'ints.npy', np.zeros((2, 8, 8, 3), dtype=np.int64))
    np.save(tmp_path / 'flat.npy', np.zeros((2, 8)))
    np.savez(tmp_path / 'objects.npz', a=np.array([{}, None]))
    np.savez(tmp_path / 'several.npz', a=np.array([{}]), b=np.zeros(2))
    (tmp_path / 'damaged.npz').write_bytes(b'PK\x03\x04 and no more')
    torch.save(torch.eye(3).to_sparse(), tmp_path / 'sparse.pt')
    np.save(tmp_path / 'nothing.npy', np.zeros((2, 0, 0, 3)))
    (tmp_path / 'empty').mkdir()
    write(tmp_path / 'other', images[:2], 'x{}a.png')
    Image.fromarray(images[0]).save(tmp_path / 'other' / '0.png')
    cases = {
        'evil.pt': 'Cannot use the array',
        'many.pt': 'it holds dict (a, b), not one array',
        'signed.pt': 'image 0 holds values from -1 to -1',
        'ints.npy': 'it holds int64',
        'flat.npy': 'its shape is (2, 8)',
        'objects.npz': 'Cannot use the array',
        'several.npz': 'it holds dict (a, b), not one array',
        'damaged.npz': 'Cannot use the array',
        'sparse.pt': 'Cannot use the array',
        'nothing.npy': 'its shape is (2, 0, 0, 3)',
        'empty': 'There are no images',
        'gone': 'is not there',
        'other': 'Scores need two images or more; 1 matched by name.',
    }
    for name, says in cases.items():
        arguments = ['score', str(truth), str(tmp_path / name), '--protocol', 'bd-982']
        assert tools.main(arguments) == 2
        out, error = capsys.readouterr()
        assert says in error, name
        assert error.count('\n') == 1
        assert 'this must not run' not in out
    here = ['score', str(truth), str(truth)]
    for more, says in (
        ((), 'Name the protocol'),
        (('--protocol', 'bd-982', '--ncsnr', 'x'), module.NOT_OF_IMAGES.format(option='--ncsnr')),
        (('--protocol', 'bd-982', '--responses'), 'leave it out with --responses'),
        (('--protocol', 'bd-982', '--output', 'x.csv'), 'must end in .tsv'),
        (('--protocol', 'bd-982', '--output', str(tmp_path / 'flat.npy' / 'x.tsv')), 'written ('),
        (('--protocol', 'bd-982', '--seed', '-1'), 'whole number'),
        (('--protocol', 'bd-982', '--n-permutations', '-3'), 'whole number'),
    ):
        assert tools.main([*here, *more]) == 2
        assert says in capsys.readouterr().err


def test_published_rows_are_of_metrics_that_their_protocol_has():
    for name in PROTOCOLS:
        protocol = get_protocol(name)
        known = {m.metric for m in protocol.metrics} | {'pixcorr', *protocol.ssim}
        for row in published_scores(name):
            assert set(row.scores) <= known, row.label
            assert all(0 <= value <= 1 for value in row.scores.values())
    assert len(published_scores('bd-982')) == 6
    assert len(published_scores('me2-1000')) == 10


@pytest.fixture(scope='module')
def responses():
    """Planted: 40 images thrice, 60 voxels; the last 20 hold noise alone."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(40, 60))
    signal[:, 40:] = 0
    names = [f'im{k:02d}.png' for k in np.concatenate([rng.permutation(40) for _ in range(3)])]
    rows = [int(name[2:4]) for name in names]
    trials = signal[rows] + rng.normal(size=(120, 60))
    return signal + 0.5 * rng.normal(size=signal.shape), trials, names


def test_predicted_responses_reach_what_noise_allows(responses):
    predicted, trials, names = responses
    distinct = list(dict.fromkeys(names))
    rows = [int(name[2:4]) for name in distinct]
    regions = {'tuned': np.arange(60) < 40, 'noise': np.arange(60) >= 40}
    table = nd.score_responses(
        trials, predicted[rows], stimuli=names, regions=regions, n_permutations=99
    ).set_index(['space', 'metric'])
    mean = np.stack([trials[[n == name for n in names]].mean(axis=0) for name in distinct])
    r = [np.corrcoef(mean[:, v], predicted[rows][:, v])[0, 1] for v in range(60)]
    whole = 'repeat-average'
    assert table.loc[(whole, 'voxel_r_median'), 'value'] == pytest.approx(np.median(r))
    tuned = table.loc[(f'{whole}/tuned', 'voxel_r_mean')]
    assert tuned['value'] == pytest.approx(np.mean(r[:40]))
    assert tuned['p'] == pytest.approx(0.01)
    # 1 / (1 + .25) of the variance of the prediction is signal
    explained = table.loc[(f'{whole}/tuned', 'noise_normalized_mean')]
    assert explained['value'] == pytest.approx(0.8, abs=0.08)
    assert explained['ci_low'] < 0.8 < explained['ci_high']
    noise = table.loc[(f'{whole}/noise', 'voxel_r_mean')]
    assert noise['ci_low'] < 0 < noise['ci_high']
    assert table.loc[(whole, 'identification_2way'), 'value'] > 0.95
    itself = nd.score_responses(trials, mean, stimuli=names, n_permutations=0)
    assert response_scores.ITSELF in itself.attrs['notes']
    itself = itself.set_index('metric')['value']
    assert itself['voxel_r_median'] == itself['identification_top1'] == pytest.approx(1)
    assert itself['noise_normalized_mean'] > 1
    shuffled = nd.score_responses(
        trials, np.roll(predicted[rows], 1, axis=0), stimuli=names, n_permutations=99
    ).set_index('metric')
    assert shuffled.loc['voxel_r_mean', 'p'] > 0.05
    assert shuffled.loc['identification_2way', 'value'] == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_response_maps_are_matched_by_stimulus(responses, tmp_path, capsys):
    predicted, trials, names = responses
    func = tmp_path / 'sub-01' / 'func'
    func.mkdir(parents=True)

    def save(values, table, desc):
        volume = np.zeros((5, 4, 4, len(values)), dtype=np.float32)
        volume.reshape(80, -1)[10:70] = values.T
        stem = f'sub-01_task-img_space-MNI152NLin6Asym_stat-effect_desc-{desc}_statmap.nii.gz'
        nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2, 2, 1])), func / stem)
        file = func / f'sub-01_task-img_desc-{desc}_events.tsv'
        pd.DataFrame(table).to_csv(file, sep='\t', index=False)
        return func / stem

    timing = {'onset': np.arange(120.0), 'duration': 1.0}
    runs = [f'ses-{1 + k // 60}_run-1' for k in range(120)]
    save(trials, {**timing, 'stim_file': names, 'run_label': runs}, 'singletrial')
    order = np.random.default_rng(0).permutation(39)  # one image has no prediction
    table = {'onset': 'n/a', 'duration': 'n/a', 'stim_file': [f'im{k:02d}.png' for k in order]}
    made = save(predicted[order], table, 'predicted')
    labels = np.zeros(80, dtype=np.int16)
    labels[10:50] = 7
    dseg = tmp_path / 'own_dseg.nii.gz'
    nib.save(nib.Nifti1Image(labels.reshape(5, 4, 4), np.diag([2.0, 2, 2, 1])), dseg)
    (tmp_path / 'own_dseg.tsv').write_text('index\tname\n7\ttuned\n')
    out = tmp_path / 'r.tsv'
    arguments = ['score', str(tmp_path), str(made), '--responses', '--regions', str(dseg)]
    assert tools.main([*arguments, *FAST, '--output', str(out)]) == 0
    said = capsys.readouterr().out
    assert response_scores.OUTSIDE.format(n=20, total=80) in said
    assert response_scores.UNMATCHED.format(measured=1, predicted=0) in said
    found = pd.read_csv(out, sep='\t').set_index(['space', 'metric'])
    kept = [k for k, name in enumerate(names) if name != 'im39.png']
    distinct = list(dict.fromkeys(names[k] for k in kept))
    mean = np.stack([trials[[n == name for n in names]].mean(axis=0) for name in distinct])
    rows = [int(name[2:4]) for name in distinct]
    r = [np.corrcoef(mean[:, v], predicted[rows][:, v])[0, 1] for v in range(40)]
    value = found.loc[('repeat-average/tuned', 'voxel_r_mean'), 'value']
    assert value == pytest.approx(np.mean(r), abs=1e-6)
    assert found.loc[('repeat-average/tuned', 'noise_normalized_mean'), 'n'] == 40
    assert out.with_suffix('.html').is_file()
    made.with_name('sub-01_task-img_desc-predicted_events.tsv').unlink()
    assert tools.main(arguments) == 2
    assert 'no table sub-01_task-img_desc-predicted_events.tsv' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('folds', 'reason'),
    [
        ((0, 0, 0, 1, 1, 1), None),
        ((0, 0, 0, 0, 0, 0), ''),
        ((0, 0, 0, 0, 0, 1), response_scores.FOLD_OF_ONE),
        ((0, 0, 0, 1, 1, 1, 1), response_scores.FOLDS_SHARE),
    ],
)
def test_folds_that_cannot_be_kept_apart_are_told(folds, reason):
    values = np.random.default_rng(0).normal(size=(7, 5))[: len(folds)]
    names = tuple('abcdefa'[: len(folds)])
    scored = {'ratio': None, 'regions': {}, 'n_permutations': 19, 'seed': 0}
    measured = responsesets.ResponseSet(values[:6], names[:6])
    _, notes = response_scores.score_response_sets(
        measured, responsesets.ResponseSet(values, names, folds=folds), **scored
    )
    told = response_scores.FOLDS_IGNORED.format(n=2, reason=reason)
    assert (told in notes) == bool(reason)
    assert (response_scores.WITHIN_FOLDS.format(n=2) in notes) == (reason is None)


def test_folds_of_a_cross_validation_are_compared_within(responses, tmp_path, capsys):
    """Predictions that are their training means alone: pooled, they go against the truth."""
    _, trials, names = responses
    images = list(dict.fromkeys(names))
    mean = np.stack([trials[[n == name for n in names]].mean(axis=0) for name in images])
    fold = np.arange(len(images)) % 4
    training = np.stack([mean[fold != k].mean(axis=0) for k in fold])
    predicted = training + 0.02 * np.random.default_rng(1).normal(size=mean.shape)
    stem = tmp_path / 'sub-01_task-a_space-MNI152NLin6Asym_stat-effect_desc-{}_statmap.nii.gz'
    for desc, values, shown in (('singletrial', trials, names), ('predicted', predicted, images)):
        volume = values.T.reshape(5, 4, 3, -1).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), str(stem).format(desc))
        table = pd.DataFrame({'onset': 1.0, 'duration': 1.0, 'stim_file': shown})
        table['sample'] = np.arange(len(shown))
        events = tmp_path / f'sub-01_task-a_desc-{desc}_events.tsv'
        table.to_csv(events, sep='\t', index=False)
    pooled = nd.score_responses(tmp_path, tmp_path, n_permutations=99).set_index('metric')
    known = pd.DataFrame({'sample': np.arange(len(images)), 'fold': fold, 'space': 'single-trial'})
    known.to_csv(tmp_path / 'sub-01_task-a_desc-ridge_predictions.tsv', sep='\t', index=False)
    apart = nd.score_responses(tmp_path, tmp_path, n_permutations=99)
    assert response_scores.WITHIN_FOLDS.format(n=4) in apart.attrs['notes']
    apart = apart.set_index('metric')
    assert pooled.loc['voxel_r_mean', 'value'] < -0.15
    assert abs(apart.loc['voxel_r_mean', 'value']) < 0.1
    assert apart.loc['voxel_r_mean', 'p'] > 0.05
    # an atlas of a standard space is taken where the name of the maps says that they are in it
    labels = nib.Nifti1Image(np.full((5, 4, 3), 7, dtype=np.int16), np.eye(4))
    nib.save(labels, tmp_path / 'tpl-MNI152NLin6Asym_atlas-x_dseg.nii.gz')
    (tmp_path / 'tpl-MNI152NLin6Asym_atlas-x_dseg.tsv').write_text('index\tname\n7\tall\n')
    atlas = str(tmp_path / 'tpl-MNI152NLin6Asym_atlas-x_dseg.nii.gz')
    sides = ('score', str(tmp_path), str(tmp_path), '--responses', '--regions', atlas)
    assert tools.main([*sides, '--n-permutations', '9']) == 0
    assert 'repeat-average/all: voxel_r_mean' in capsys.readouterr().out


def test_errors_of_responses_speak_of_what_does_not_fit(responses, tmp_path):
    predicted, trials, names = responses
    for arguments, more, says in (
        ((trials, predicted[:, :5]), {}, 'the same number of voxels'),
        ((trials, predicted), {'stimuli': names[:4]}, 'one name per row'),
        ((trials[:40], predicted), {'ncsnr': np.ones(3)}, 'there are 60 voxels'),
        ((trials[:40], predicted), {'regions': {'a': np.ones(3)}}, "region 'a'"),
        ((trials[:1], predicted[:1]), {}, 'two images or more'),
        ((trials[:40], predicted), {'ncsnr': tmp_path / 'x.npy'}, 'Cannot use the array'),
    ):
        with pytest.raises((nd.UsageError, imagesets.InputError), match=says):
            nd.score_responses(*arguments, n_permutations=0, **more)
    np.save(tmp_path / 'measured.npy', trials[:40])
    np.save(tmp_path / 'predicted.npy', predicted)
    np.savez(tmp_path / 'regions.npz', tuned=np.arange(60) < 40)
    table = nd.score_responses(
        tmp_path / 'measured.npy', tmp_path / 'predicted.npy',
        regions=tmp_path / 'regions.npz', n_permutations=0,
    )  # fmt: skip
    assert response_scores.NO_CEILING in table.attrs['notes']
    assert 'repeat-average/tuned' in set(table['space'])
    with pytest.raises(imagesets.InputError, match='Regions of arrays come as'):
        responsesets.read_regions(
            tmp_path / 'x.nii.gz',
            responsesets.read_responses(tmp_path / 'measured.npy', 'predicted'),
        )


@pytest.mark.slow
def test_networks_that_had_a_part_do_not_judge(images, networks, tmp_path, capsys):
    truth = write(tmp_path / 'truth', images)
    made = write(tmp_path / 'made', np.roll(images, 1, axis=0))
    sides = ('score', str(truth), str(made), '--protocol', 'cpu-1', '--output')

    def call(name, *more):
        assert tools.main([*sides, str(tmp_path / f'{name}.tsv'), *FAST, *more]) == 0
        table = pd.read_csv(tmp_path / f'{name}.tsv', sep='\t')
        page = (tmp_path / f'{name}.html').read_text()
        written = json.loads((tmp_path / f'{name}.json').read_text())['Scoring']['Warnings']
        assert bool(written) == ('It is not known which networks' in page)
        return set(table['metric']), written, capsys.readouterr().out

    every, written, said = call('unknown')
    names = 'efficientnet-lite0, efficientnet-lite2, mobilenetv2'
    assert written == [image_scores.NOT_KNOWN.format(networks=names)]
    assert written[0] in said
    none, written, said = call('none', '--guided-by', 'none')
    assert (none, written) == (every, [])
    some, written, said = call('some', '--guided-by', 'mobilenetv2', 'efficientnet-lite0')
    assert written == []
    assert every - some == {
        f'{name}_{kind}'
        for name in ('mobilenetv2', 'efficientnet_lite0')
        for kind in ('2way', 'distance')
    }
    named = 'efficientnet-lite0, mobilenetv2'
    assert image_scores.HELD_OUT.format(networks=named) in said
    pixels, written, said = call('pixels', '--guided-by', *names.split(', '))
    assert {'pixcorr', 'ssim_2d'} <= pixels < every
    assert not any(name.replace('-', '_') in row for row in pixels for name in names.split(', '))
    assert (written, image_scores.NO_JUDGE.format(name='cpu-1') in said) == ([], True)
    out = str(tmp_path / 'x.tsv')
    assert tools.main([*sides, out, '--guided-by', 'none', 'mobilenetv2']) == 2
    assert module.NONE_AND_SOME in capsys.readouterr().err
    assert tools.main([*sides, out, '--guided-by', 'mobilenet']) == 2
    with pytest.raises(nd.UsageError, match='No network that judges'):
        nd.score_reconstructions(images, images, guided_by=['clip'])


def test_an_output_of_the_program_says_what_guided_it(images, tmp_path):
    folder = tmp_path / 'out' / 'stimuli' / 'sub-01' / 'task-a'
    folder.mkdir(parents=True)
    Image.fromarray(images[0]).save(folder / 'x_desc-final_image.png')
    assert imagesets.read_image_set(folder).guided_by is None
    models = tmp_path / 'out' / 'sub-01' / 'models'
    models.mkdir(parents=True)
    file = models / 'sub-01_task-a_desc-generated_model.toml'
    log = tmp_path / 'out' / 'sub-01' / 'log'
    log.mkdir()

    def guides(generator, record=None):
        settings = f'generator = "{generator}"\nmatch_network = "efficientnet-lite2"\n'
        extractor = 'gabor+mobilenetv2:stage5+clip'
        file.write_text(f'[features]\nextractor = "{extractor}"\n[reconstruction]\n{settings}')
        (log / 'sub-01_task-a_results.json').write_text(json.dumps({'generation': record}))
        return imagesets.read_image_set(folder).guided_by

    described = ('gabor', 'mobilenetv2', 'clip-vit-l14')
    assert guides('small') == (*described, 'efficientnet-lite2')
    assert guides('unclip-2.1') == described  # has nothing of the small one's network
    assert guides('versatile-diffusion') == (*described, 'clip-vit-l14')
    assert guides('auto') is None
    assert guides('auto', {'generator': 'small'}) == (*described, 'efficientnet-lite2')
    assert guides('auto', {'generator': 'theirs'}) is None
    assert guides('theirs') is None  # no such package here, and scores all the same
    assert guides('theirs', {'guided_by': ['mobilenetv2']}) == ('mobilenetv2',)
    assert guides('small', {'guided_by': []}) == ()
