"""Encoding models through the program: planted tuning, networks, new images, bad input."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids.captions import NO_CAPTIONS, NOT_CAPTIONED
from bids_neurodecode.bids.newpictures import FILMS_SHOWN, NO_EVENTS, NO_FOLDER, NO_PICTURES
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.systems import WHICH_MODEL
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.config import build_config
from bids_neurodecode.models.storage import load_arrays
from bids_neurodecode.models.weights import MISSING
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import EncodingResults, ParticipantResults
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.checks import NOT_SELECTED
from bids_neurodecode.systems.encoding.encoders import load_encoder, predict
from bids_neurodecode.systems.encoding.report.section import encoding_section
from bids_neurodecode.systems.encoding.steps.training import encode
from bids_neurodecode.systems.steps.records import read_results
from tests.report.test_sections import plots
from tests.running import HERE

pytestmark = pytest.mark.slow
FAST = """
[evaluation]
n_permutations = {n_permutations}
n_bootstrap = 30
[split]
by = "stimulus"
n_folds = {n_folds}
[betas]
model = "B"
[encoding]
{encoding}
"""
SPACE = 'space-MNI152NLin2009aSym'


def settings(folder: Path, encoding: str = '', n_folds: int = 3, n_permutations: int = 200) -> str:
    text = FAST.format(encoding=encoding, n_folds=n_folds, n_permutations=n_permutations)
    file = folder / f'settings{len(list(folder.glob("settings*")))}.toml'
    file.write_text(text)
    return str(file)


def call(folder: Path, out: str, *more: str, data: str = 'data', file: str | None = None) -> int:
    places = [str(folder / data), str(folder / out), 'participant', '-w', str(folder / 'work')]
    common = ['--system', 'encoding', '--skip-bids-validation', *HERE]
    common += ['--device', 'cpu', '--config-file', file or settings(folder)]
    return main([*places, *common, *more])


def predicting(folder: Path) -> list[str]:
    return ['--mode', 'predict', '--models-from', str(folder / 'out')]


def refused(capsys, message: str, **fields) -> bool:
    """Whether the one line was said, whatever the fields that are not given."""
    said = capsys.readouterr().err
    parts = [part.split('}')[-1] for part in message.split('{')]
    return all(part in said for part in parts) and all(str(x) in said for x in fields.values())


def the(folder: Path, end: str) -> Path:
    (file,) = folder.rglob(f'*{end}')
    return file


def read(folder: Path, end: str) -> np.ndarray:
    return nib.load(the(folder, end)).get_fdata()


def metrics(folder: Path, out: str) -> pd.DataFrame:
    return pd.read_csv(the(folder / out / 'sub-01', '_metrics.tsv'), sep='\t')


def record(folder: Path, out: str) -> dict:
    return json.loads(the(folder / out, '_results.json').read_text())


def value(table: pd.DataFrame, model: str, space: str, metric: str) -> pd.Series:
    rows = table[(table.model == model) & (table.space == space) & (table.metric == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """One participant who saw images, ridge on Gabor features, and an atlas."""
    folder = tmp_path_factory.mktemp('encoding')
    spec = SimulationSpec(n_subjects=1, n_runs=3, n_images=72, n_repeats=2, voxel_size=14.0, snr=4)
    simulate_dataset(folder / 'data', spec)
    (atlas,) = (folder / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    assert call(folder, 'out', '--atlas', str(atlas)) == 0
    return folder


@pytest.fixture(scope='module')
def without_bold(trained):
    """A dataset of events and images, some of them new; without any BOLD."""
    data, new = trained / 'data', trained / 'new'
    shutil.copytree(data / 'stimuli', new / 'stimuli')
    shutil.copy(data / 'dataset_description.json', new)
    source = the(data / 'sub-01', 'run-01_events.tsv')
    target = new / source.relative_to(data)
    target.parent.mkdir(parents=True)
    events = pd.read_csv(source, sep='\t').head(12)
    # an image that was not in the training: another one upside down
    name = str(events['stim_file'].iloc[0])
    image = load_images([data / 'stimuli' / name])[0][::-1]
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(image)).save(new / 'stimuli' / 'turned.png')
    events.loc[0, 'stim_file'] = 'turned.png'
    events.to_csv(target, sep='\t', index=False, na_rep='n/a')
    assert call(trained, 'new-out', *predicting(trained), data='new') == 0
    return events


def own_predictions(folder: Path, stimuli_dir: Path, names: list[str]) -> np.ndarray:
    """What the model says when it is called by hand."""
    arrays, about = load_arrays(the(folder / 'out', '_model.safetensors'))
    state = {k.removeprefix('encoder.'): v for k, v in arrays.items() if k.startswith('encoder.')}
    images = load_images([stimuli_dir / name for name in names], size=about['image_size'])
    features = PerStimulus(tuple(names), extract_features(images, get_extractor('gabor')))
    return predict(load_encoder(state, about['encoder']), {'gabor': features}, names)


def test_planted_tuning_is_found_and_nothing_else(trained):
    """What Gabor energies drive is predicted close to its ceiling; the untuned are at chance."""
    truth = trained / 'data' / 'derivatives' / 'simulated-truth' / 'sub-01'
    out = trained / 'out'
    r = read(out, 'stat-pearsonr_desc-ridge_statmap.nii.gz')
    inside = read(out, 'label-encoded_desc-ridge_mask.nii.gz') > 0
    labels = read(out, 'atlas-Sim_dseg.nii.gz')
    names = pd.read_csv(the(out, 'atlas-Sim_dseg.tsv'), sep='\t').set_index('index')['name']
    early = np.isin(labels, [i for i, name in names.items() if 'EarlyVisual' in name])
    responsive = read(truth, 'label-responsive_mask.nii.gz') > 0
    significant = read(out, 'label-predicted_desc-ridge_mask.nii.gz') > 0
    assert np.median(r[early & responsive]) > 0.6
    assert abs(np.median(r[inside & ~responsive])) < 0.08
    assert significant[early & responsive].mean() > 0.8
    assert significant[inside & ~responsive].mean() < 0.05
    ceiling = read(out, 'stat-noiseceiling_desc-ridge_statmap.nii.gz')
    assert np.median(ceiling[early & responsive]) > np.median(ceiling[inside & ~responsive])


def test_reliable_voxels_are_a_region_to_use_later(trained):
    """Those whose repeats agree over all trials, and not those that the model is of."""
    truth = trained / 'data' / 'derivatives' / 'simulated-truth' / 'sub-01'
    out = trained / 'out'
    reliable = read(out, 'label-reliable_desc-fdr_mask.nii.gz') > 0
    inside = read(out, 'label-encoded_desc-ridge_mask.nii.gz') > 0
    responsive = read(truth, 'label-responsive_mask.nii.gz') > 0
    assert reliable[responsive & inside].mean() > 0.5
    assert reliable[inside & ~responsive].mean() < 0.05
    about = json.loads(the(out, 'label-reliable_desc-fdr_mask.json').read_text())
    assert 'repeats of a stimulus agree over runs' in about['Description']
    kept = read_results(the(out, '_results.json'))
    assert 'reliable' not in kept.maps
    assert kept.encoding.voxels.name.endswith('label-encoded_desc-ridge_mask.nii.gz')


def test_metrics_have_regions_chance_and_a_baseline(trained):
    table = metrics(trained, 'out')
    assert set(table.system) == {'encoding'}
    assert set(table.protocol) == {'3-fold-by-stimulus'}
    region = {
        name: value(table, 'ridge', f'repeat-average/{name}', 'voxel_r_median').value
        for name in ('LH_EarlyVisual', 'RH_EarlyVisual', 'LH_Auditory')
    }
    assert min(region['LH_EarlyVisual'], region['RH_EarlyVisual']) > 0.5 > region['LH_Auditory']
    two_way = value(table, 'ridge', 'repeat-average', 'identification_2way')
    assert two_way.chance == 0.5
    assert two_way.value > 0.7
    assert two_way.p < 0.01
    shuffled = value(table, 'baseline-shuffled', 'repeat-average', 'identification_2way')
    assert shuffled.value < two_way.value
    assert {'noise_normalized_median', 'noise_normalized_paper'} <= set(table.metric)


def test_predicted_betas_and_runs_go_together(trained):
    """A GLM on the predicted runs would give the predicted betas back: same trials, same scale."""
    out = trained / 'out'
    betas = nib.load(the(out, 'stat-effect_desc-predicted_statmap.nii.gz'))
    table = pd.read_csv(the(out, 'desc-predicted_events.tsv'), sep='\t')
    measured = nib.load(the(out, 'stat-effect_desc-singletrial_statmap.nii.gz'))
    assert betas.shape == measured.shape  # every trial is held out once
    assert table['sample'].tolist() == list(range(betas.shape[3]))
    r = read(out, 'stat-pearsonr_desc-ridge_statmap.nii.gz')
    best = np.unravel_index(np.argmax(r), r.shape)
    predicted, real = (np.asarray(image.dataobj)[best] for image in (betas, measured))
    assert np.corrcoef(predicted, real)[0, 1] > 0.5
    series = nib.load(the(out, f'run-01_{SPACE}_desc-predicted_bold.nii.gz'))
    bold = nib.load(the(trained / 'data' / 'derivatives', 'run-01_*desc-preproc_bold.nii.gz'))
    assert series.shape == bold.shape
    assert series.header.get_zooms()[3] == 2.0
    signal = np.asarray(bold.dataobj, dtype=float)[best]
    volumes = np.arange(len(signal))
    detrended = signal - np.polyval(np.polyfit(volumes, signal, 3), volumes)
    assert np.corrcoef(np.asarray(series.dataobj)[best], detrended)[0, 1] > 0.3
    sidecar = json.loads(the(out, f'run-01_{SPACE}_desc-predicted_bold.json').read_text())
    held_out = table[table['run_label'].str.contains('run-01')]
    assert sidecar['TrialOnsets'] == held_out['onset'].tolist()
    assert 'did not see it' in sidecar['Description']


def test_outputs_are_valid_and_the_page_shows_the_model(trained, check_pybids):
    assert validate_dataset(trained / 'out') == {}
    check_pybids(trained / 'out', trained / 'data')
    page = (trained / 'out' / 'sub-01.html').read_text()
    assert 'Encoding model' in page
    figures = {file.name for file in (trained / 'out' / 'sub-01' / 'figures').iterdir()}
    for name in ('accuracy', 'regions', 'volumes', 'measuredglass', 'predictedglass', 'null'):
        assert any(f'desc-{name}_' in figure for figure in figures), name
    # nothing was decoded
    assert not any('desc-examples_' in figure for figure in figures)
    citation = (trained / 'out' / 'logs' / 'CITATION.md').read_text()
    assert 'Responses were predicted from' in citation
    assert 'Voxel selection: all voxels of the brain mask' in citation


def test_the_group_puts_encoding_together(trained, check_pybids):
    places = [str(trained / 'data'), str(trained / 'out'), 'group', '-w', str(trained / 'work')]
    assert main([*places, '--skip-bids-validation']) == 0
    page = (trained / 'out' / 'group.html').read_text()
    assert 'Scores of regions' in page
    table = pd.read_csv(trained / 'out' / 'group' / 'task-images_metrics.tsv', sep='\t')
    assert 'repeat-average/LH_EarlyVisual' in set(table.space)
    check_pybids(trained / 'out', trained / 'data')


def test_a_network_on_whole_volumes_stands_beside_ridge(trained, no_page, check_pybids):
    """Few images and few epochs: what counts is that all of it is there."""
    network = 'model = "cnn"\nvoxels = "volume"\nn_epochs = 2\nn_training = 30\nloss = "huber"'
    file = settings(trained, network, n_folds=2, n_permutations=20)
    assert call(trained, 'cnn', file=file) == 0
    check_pybids(trained / 'cnn', trained / 'data')
    table = metrics(trained, 'cnn')
    assert table.model.iloc[0] == 'cnn'
    assert {'cnn', 'ridge', 'baseline-shuffled'} == set(table.model)
    n_voxels = int((read(trained / 'cnn', 'label-encoded_desc-cnn_mask.nii.gz') > 0).sum())
    rows = table[table.metric == 'voxel_r_median']
    assert set(rows.n) == {n_voxels}  # of the mask, though the network predicts all of the box
    curves = pd.read_csv(the(trained / 'cnn', 'desc-cnn_curves.tsv'), sep='\t')
    assert set(curves.fold) == {1, 2}
    assert set(curves.part) == {'training', 'validation'}
    assert curves.epoch.max() == 2
    assert any('30 training images' in line for line in record(trained, 'cnn')['warnings'])
    arrays, about = load_arrays(the(trained / 'cnn', 'desc-cnn_model.safetensors'))
    grid = arrays['mask'].shape
    assert about['encoder']['design']['n_voxels'] == np.prod(grid)
    blocks = encoding_section(Reader(read_results(the(trained / 'cnn', '_results.json'))))
    assert {'accuracy', 'againstridge', 'curves', 'volumes'} <= plots(blocks).keys()
    assert validate_dataset(trained / 'cnn') == {}


def test_new_pictures_get_the_models_own_predictions(trained, without_bold):
    """Events without BOLD: a volume an image, and runs through each voxel's own response."""
    out = trained / 'new-out'
    table = pd.read_csv(the(out, 'desc-predicted_events.tsv'), sep='\t')
    names = sorted(set(without_bold['stim_file']))
    assert table['stim_file'].tolist() == names
    mask = read(out, 'label-encoded_desc-ridge_mask.nii.gz') > 0
    betas = read(out, 'stat-effect_desc-predicted_statmap.nii.gz')[mask].T
    expected = own_predictions(trained, trained / 'new' / 'stimuli', names)
    np.testing.assert_allclose(betas, expected, atol=1e-4)
    bold = nib.load(the(out, 'run-01_*desc-predicted_bold.nii.gz'))
    last = (without_bold['onset'] + without_bold['duration']).max()
    assert bold.shape[3] == np.ceil((last + 20) / 2.0)
    # the first trial alone: its beta times a response whose peak is 1, before the second starts
    series = np.asarray(bold.dataobj)[mask]
    first = betas[names.index('turned.png')]
    up = series[:, : int((without_bold['onset'].iloc[1] + 2) / 2)].sum(axis=1)
    strong = np.abs(first) > np.quantile(np.abs(first), 0.8)
    assert np.corrcoef(first[strong], up[strong])[0, 1] > 0.7
    warnings = record(trained, 'new-out')['warnings']
    assert any('images trained the model' in line for line in warnings)
    assert validate_dataset(out) == {}
    assert 'were not measured' in (out / 'sub-01.html').read_text()


def test_a_plain_folder_of_pictures(trained, without_bold, no_page):
    pictures = trained / 'pictures'
    (pictures / 'more').mkdir(parents=True)
    shutil.copy(trained / 'new' / 'stimuli' / 'turned.png', pictures / 'more' / 'a.png')
    shutil.copy(trained / 'new' / 'stimuli' / 'turned.png', pictures / 'b.png')
    folder = ['--stimuli-dir', str(pictures)]
    assert call(trained, 'folder', *predicting(trained), *folder) == 0
    betas = read(trained / 'folder', 'stat-effect_desc-predicted_statmap.nii.gz')
    table = pd.read_csv(the(trained / 'folder', 'desc-predicted_events.tsv'), sep='\t')
    assert table['stim_file'].tolist() == ['b.png', 'more/a.png']
    np.testing.assert_array_equal(betas[..., 0], betas[..., 1])
    assert not list((trained / 'folder').rglob('*_bold.nii.gz'))
    events = pd.read_csv(the(trained / 'new-out', 'desc-predicted_events.tsv'), sep='\t')
    same = events['stim_file'].tolist().index('turned.png')
    again = read(trained / 'new-out', 'stat-effect_desc-predicted_statmap.nii.gz')[..., same]
    np.testing.assert_allclose(betas[..., 0], again, atol=1e-5)  # rounding, by the other images


def test_with_bold_there_are_scores_too(trained, no_page):
    assert call(trained, 'again', *predicting(trained)) == 0
    table = metrics(trained, 'again')
    assert set(table.split) == {'new'}
    # these were the training trials: no p value, no interval, no map of significance
    assert set(table.protocol) == {'in-sample'}
    assert table[['p', 'ci_low', 'ci_high']].isna().all(axis=None)
    assert not list((trained / 'again').rglob('*significant*'))
    assert 'of the 3 runs trained the model' in record(trained, 'again')['leaks'][0]
    assert value(table, 'ridge', 'repeat-average', 'identification_2way').value > 0.9
    assert any('is no test' in line for line in record(trained, 'again')['warnings'])
    assert len(list((trained / 'again').rglob('*desc-predicted_bold.nii.gz'))) == 3


def test_bad_input_is_refused_in_one_line(trained, tmp_path, capsys):
    file = settings(trained, 'bands = ["gabor", "clip"]')
    none = ['--weights-dir', str(tmp_path)]
    assert call(trained, 'never', *none, file=file) == 2
    assert refused(capsys, MISSING, name='clip-vit-l14')
    (tmp_path / 'select.toml').write_text('[selection]\nmeasure = "tsnr"\n')
    assert call(trained, 'never', file=str(tmp_path / 'select.toml')) == 2
    assert refused(capsys, NOT_SELECTED, measure='tsnr')
    assert call(trained, 'never', '--stimuli-dir', str(tmp_path)) == 2
    assert f'is not there: no file {tmp_path}' in capsys.readouterr().err
    models = predicting(trained)
    assert call(trained, 'never', *models, '--stimuli-dir', str(tmp_path / 'none')) == 2
    assert refused(capsys, NO_FOLDER, folder=tmp_path / 'none')
    assert call(trained, 'never', *models, '--stimuli-dir', str(tmp_path)) == 2
    assert refused(capsys, NO_PICTURES, folder=tmp_path)
    for text, key in (
        ('partition = true', 'encoding'),
        ('voxels = "volume"', 'encoding'),
        ('bands = ["gabor", "gabor"]', 'encoding'),
        ('bands = ["resnet"]', 'encoding.bands'),
    ):
        assert call(trained, 'never', file=settings(trained, text)) == 2
        assert key in capsys.readouterr().err
    assert not (trained / 'never').exists()


def test_events_that_cannot_be_predicted_are_refused(trained, make_dataset, capsys):
    data = make_dataset('nobold')
    shutil.rmtree(data.root / 'derivatives')
    models = ['--mode', 'predict', '--models-from', str(trained / 'out')]
    places = [str(data.root), str(data.root.parent / 'never'), 'participant', *models]
    common = ['--system', 'encoding', '--skip-bids-validation']
    # a model of another task is taken where there is no other
    assert main([*places, *common, '--dry-run']) == 0
    capsys.readouterr()
    assert main([*places, *common, '--task-id', 'other']) == 2
    assert refused(capsys, NO_EVENTS, label='01')
    film = make_dataset('film', film='film.mp4')
    shutil.rmtree(film.root / 'derivatives')
    assert main([str(film.root), *places[1:], *common]) == 2
    assert refused(capsys, FILMS_SHOWN)
    other = make_dataset('other', participants=('02',))
    shutil.rmtree(other.root / 'derivatives')
    assert main([str(other.root), *places[1:], *common]) == 2
    assert refused(capsys, WHICH_MODEL, system='encoding', label='02')


def test_captions_are_checked(trained, tmp_path, capsys, monkeypatch):
    """BLIP with captions: the table is asked for before any weights are read."""
    monkeypatch.setattr('bids_neurodecode.models.weights.weights_path', lambda *_: tmp_path)
    file = settings(trained, 'bands = ["blip-caption"]')
    assert call(trained, 'never', file=file) == 2
    assert refused(capsys, NO_CAPTIONS)
    captions = trained / 'data' / 'stimuli' / 'captions.tsv'
    captions.write_text('stim_file\tcaption\ndisc001.png\ta disc\n')
    assert call(trained, 'never', file=file) == 2
    assert refused(capsys, NOT_CAPTIONED)
    captions.unlink()


def test_what_a_training_depends_on_is_in_its_key(tmp_path):
    def inputs(**changes):
        config = build_config({'encoding': {'model': 'siren'}})
        folder = tmp_path / f'of-{"-".join(changes)}'
        folder.mkdir(exist_ok=True)
        files = {}
        for name in ('betas', 'mask', 'plan.json', 'trials.tsv', 'parts.tsv', 'features', 'tuned'):
            stem = name.split('.')[0]
            (folder / name).write_text(str(changes.get(stem, stem)))
            files[stem] = str(folder / name)
        return {
            **{name: files[name] for name in ('betas', 'mask', 'plan')},
            'features': [files['features']],
            'tuned': [files['tuned']],
            'model': 'siren',
            'device': changes.get('device', 'cpu'),
            'config': changes.get('config', config).model_dump_json(),
        }

    key = encode.key(inputs())
    assert key == encode.key(inputs())
    other = build_config({'encoding': {'model': 'siren', 'n_epochs': 3}})
    changed = [inputs(config=other)]
    changed += [inputs(**{name: 'x'}) for name in ('features', 'tuned', 'trials', 'parts')]
    assert len({key, *(encode.key(each) for each in changed)}) == 6
    tested = build_config({'encoding': {'model': 'siren'}, 'evaluation': {'n_permutations': 7}})
    assert key == encode.key(inputs(config=tested))


def test_every_band_is_an_extractor_and_knows_its_weights():
    from typing import get_args

    from bids_neurodecode.extras import PACKAGED
    from bids_neurodecode.models.weights import load_manifest
    from bids_neurodecode.settings.encoding import TABLE, Band
    from bids_neurodecode.stimuli.features import _CAPTIONED, extractor_names
    from bids_neurodecode.systems.encoding.steps.features import CAPTIONED, WEIGHTS

    named = set(get_args(get_args(Band)[0])) - {TABLE}
    assert named == {*extractor_names(), *_CAPTIONED}
    assert set(_CAPTIONED) == CAPTIONED
    assert set(WEIGHTS.values()) <= set(load_manifest())
    assert set(WEIGHTS) | set(PACKAGED) == named - {'gabor'}


def test_a_partition_has_figures(tmp_path):
    """Two feature spaces: the figure, and a map for each of them."""
    rng = np.random.default_rng(0)
    shape = (6, 5, 4)
    mask = np.zeros(shape, dtype=bool)
    mask[1:5, 1:4, 1:3] = True

    def save(name: str, values: np.ndarray) -> Path:
        file = tmp_path / f'{name}.nii.gz'
        nib.save(nib.Nifti1Image((values * mask).astype(np.float32), np.eye(4)), file)
        return file

    bands = ('gabor', 'clip')
    maps = {name: save(name, 0.1 * rng.random(shape)) for name in ('pearsonr', 'sharedvariance')}
    maps['significant'] = save('significant', np.ones(shape))
    r = rng.random(shape) - 0.3
    maps['pearsonr'], maps['noisenormalized'] = save('r', r), save('n', np.maximum(r, 0) ** 2)
    for band in bands:
        maps[f'uniquevariance-{band}'] = save(f'u-{band}', 0.1 * rng.random(shape))
        maps[f'unique-{band}'] = save(f's-{band}', rng.random(shape) > 0.5)
    table = tmp_path / 'betas.tsv'
    table.write_text('stim_file\na.png\nb.png\n')
    betas = tmp_path / 'betas.nii.gz'
    nib.save(nib.Nifti1Image(rng.random((*shape, 2)).astype(np.float32), np.eye(4)), betas)
    found = EncodingResults(
        model='banded',
        bands=bands,
        space='single-trial',
        voxels=save('voxels', np.ones(shape)),
        n_pictures=2,
        betas=betas,
        betas_table=table,
        maps=maps,
    )
    results = ParticipantResults(
        participant='01',
        version='0',
        run_id='x',
        system='encoding',
        paradigm='images',
        task='img',
        bids_name='d',
        runs=(),
        encoding=found,
    )
    again = ParticipantResults.from_json(results.to_json())
    assert again.encoding == found
    blocks = encoding_section(Reader(again))
    assert {'partition', 'uniquegabor', 'uniqueclip', 'volumes'} <= plots(blocks).keys()
    facts = ' '.join(blocks[0].items)
    assert f'{mask.sum()} voxels (100.0 %)' in facts
    assert f'negative in {(r[mask] < 0).sum()} of {mask.sum()} voxels' in facts
    caption = plots(blocks)['accuracy'].caption
    assert not any(color in caption for color in ('blue', 'orange', 'red ', 'grey'))


@pytest.mark.real
def test_haxby_categories_from_predicted_responses(shared, tmp_path):
    """The category of most blocks is the one whose predicted response is the most similar."""
    data = shared / 'data' / 'haxby2001'
    places = [str(data), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]
    assert main([*places, '--system', 'encoding', '--device', 'cpu', *HERE]) == 0
    table = pd.read_csv(the(tmp_path / 'out', '_desc-ridge_metrics.tsv'), sep='\t')
    top = value(table, 'ridge', 'single-trial', 'identification_top1')
    assert top.protocol == 'leave-one-out-by-run'
    assert top.chance == pytest.approx(1 / 8)
    assert top.value > 0.65
    assert top.p < 0.002
    shuffled = value(table, 'baseline-shuffled', 'single-trial', 'identification_top1')
    assert shuffled.p > 0.01
    r = read(tmp_path / 'out', 'stat-pearsonr_desc-ridge_statmap.nii.gz')
    significant = read(tmp_path / 'out', 'label-predicted_desc-ridge_mask.nii.gz') > 0
    assert significant.sum() > 50
    assert np.median(r[significant]) > 0.4
    assert validate_dataset(tmp_path / 'out') == {}
