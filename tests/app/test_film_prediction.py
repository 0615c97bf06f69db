"""Trained models of films on new films and on new BOLD, through the program."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids.newfilms import NO_FILMS, films_of
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.config import build_config, load_config
from bids_neurodecode.errors import InputError
from bids_neurodecode.models.storage import load_arrays
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.stimuli.features import get_extractor
from bids_neurodecode.stimuli.films import read_frames
from bids_neurodecode.stimuli.filmstore import FilmChunks, FilmRecipe, build_store
from bids_neurodecode.systems.movie.applying import NO_DECODER, NO_NETWORK, encoder_from
from bids_neurodecode.systems.movie.network import MovieNetwork
from bids_neurodecode.systems.movie.steps.model import OTHER_GRID, OTHER_TR, facts_of, load_models
from bids_neurodecode.systems.movie.steps.prediction import Applied, Measured, clock_of_films
from tests.running import HERE

pytestmark = pytest.mark.slow
TR = 2.0


def predict(folder: Path, out: str, *more: str, data: str = 'data', models: str = 'out') -> int:
    quick = folder / 'quick.toml'
    quick.write_text('[evaluation]\nn_permutations = 20\nn_bootstrap = 20\n')
    return main(
        [
            *('--config-file', str(quick)),
            *(str(folder / data), str(folder / out), 'participant', '-w', str(folder / 'work')),
            *('--mode', 'predict', '--models-from', str(folder / models)),
            *('--skip-bids-validation', *HERE, '--device', 'cpu', *more),
        ]
    )


def model_file(explained: Path, desc: str = 'linear') -> Path:
    (file,) = (explained / 'out/sub-01/models').glob(f'*_desc-{desc}_model.safetensors')
    return file


def series(folder: Path, out: str, ending: str) -> tuple[Path, np.ndarray]:
    (file,) = (folder / out / 'sub-01' / 'func').glob(f'*{ending}_bold.nii.gz')
    return file, np.asarray(nib.load(file).dataobj)


@pytest.fixture(scope='module')
def new_films(explained):
    """Predictions for the films of the training alone, as if nobody had seen them."""
    films = explained / 'data' / 'stimuli'
    assert predict(explained, 'films', '--stimuli-dir', str(films)) == 0
    return explained


@pytest.fixture(scope='module')
def new_bold(explained):
    """Predictions and reconstructions for the runs of the training, as if they were new."""
    assert predict(explained, 'bold') == 0
    return explained


def test_linear_predictions_are_those_of_the_model(new_films):
    file, volumes = series(new_films, 'films', 'acq-film01_*desc-predicted')
    facts = facts_of(model_file(new_films))
    encoder = encoder_from(*load_arrays(model_file(new_films)))
    n = volumes.shape[-1]
    onsets = np.arange(n) * TR
    times = (onsets[:, None] + (np.arange(4) + 0.5) * TR / 4).ravel()
    frames = read_frames(new_films / 'data/stimuli/film01.mp4', times, (32, 32))
    features = get_extractor('gabor').transform(frames).reshape(n, 4, -1).mean(axis=1)
    expected = encoder.predict(features, np.zeros(n))
    np.testing.assert_allclose(facts.mask.extract(volumes), expected, rtol=1e-4, atol=1e-4)
    sidecar = json.loads(Path(str(file).replace('.nii.gz', '.json')).read_text())
    assert sidecar['StimFile'] == 'film01.mp4'
    assert (sidecar['StartTime'], sidecar['Delay'], sidecar['RepetitionTime']) == (0, 0, TR)
    assert not facts.mask.mask.all()
    assert not volumes[~facts.mask.mask].any()


def test_the_network_puts_its_delay_back(new_films):
    file, volumes = series(new_films, 'films', 'acq-film01_*desc-networkpredicted')
    weights = model_file(new_films, 'network')
    network = MovieNetwork.read(weights, weights.with_suffix('.json'))
    n = volumes.shape[-1]
    recipe = FilmRecipe(n, TR, chunk=16, size=24)
    store = build_store(new_films / 'data/stimuli/film01.mp4', new_films / 'own', recipe)
    expected = network.predict(FilmChunks([store]))
    (voxels,) = (new_films / 'out/sub-01/func').glob('*label-network_desc-chosen_mask.nii.gz')
    found = VoxelMask.load(voxels).extract(volumes)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    sidecar = json.loads(Path(str(file).replace('.nii.gz', '.json')).read_text())
    assert sidecar['StartTime'] == sidecar['Delay'] == 5.2
    assert nib.load(file).header['toffset'] == pytest.approx(5.2)


def test_films_alone_leave_a_valid_dataset_and_a_page(new_films, check_pybids):
    assert validate_dataset(new_films / 'films') == {}
    check_pybids(new_films / 'films', new_films / 'data')
    page = (new_films / 'films' / 'sub-01.html').read_text()
    assert 'film01.mp4' in page


def test_new_bold_is_predicted_reconstructed_and_scored(new_bold, check_pybids):
    out = new_bold / 'bold'
    (file,) = (out / 'sub-01' / 'func').glob('*desc-applied_metrics.tsv')
    table = pd.read_csv(file, sep='\t')
    # these are the runs that trained the models
    assert set(table.protocol) == {'in-sample'}
    assert table['p'].isna().all()
    assert {'network', 'ridge', 'baseline-shuffled', 'baseline-mean-image'} <= set(table.model)
    assert {'voxel_r_median', 'frame_ssim'} <= set(table.metric)
    films = {path.name for path in (out / 'stimuli' / 'sub-01').rglob('*.*')}
    assert {'film01_desc-recon_video.mp4', 'film01_desc-recon_image.png'} <= films
    figures = {path.name for path in (out / 'sub-01' / 'figures').iterdir()}
    assert any('desc-frames_' in name for name in figures)
    assert validate_dataset(out) == {}
    check_pybids(out, new_bold / 'data')


def test_held_out_volumes_are_predicted_as_in_training(new_bold):
    """The network of the one fold is what was saved."""
    for run in ('01', '02'):
        trained, a = series(new_bold, 'out', f'run-{run}_*desc-networkpredicted')
        applied, b = series(new_bold, 'bold', f'run-{run}_*desc-networkpredicted')
        times = [
            json.loads(Path(str(f).replace('.nii.gz', '.json')).read_text())['RunOnsets']
            for f in (trained, applied)
        ]
        rows = [times[1].index(t) for t in times[0]]
        np.testing.assert_allclose(b[..., rows], a, rtol=1e-4, atol=1e-4)


def test_other_repetition_time_and_grid_are_refused_before_work(explained, tmp_path, capsys):
    model = model_file(explained)
    slow = copy_data(explained, tmp_path / 'slow')
    for file in slow.rglob('*_bold.json'):
        file.write_text(json.dumps({**json.loads(file.read_text()), 'RepetitionTime': 2.5}))
    for file in slow.rglob('*_bold.nii.gz'):
        image = nib.load(file)
        image.header.set_zooms((*image.header.get_zooms()[:3], 2.5))
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), file)
    assert predict(tmp_path, 'out', data='slow', models=str(explained / 'out')) == 2
    said = capsys.readouterr().err
    assert OTHER_TR.split('{bold}')[0].format(file=model, model=TR) in said
    moved = copy_data(explained, tmp_path / 'moved')
    for file in moved.rglob('*space-*.nii.gz'):
        image = nib.load(file)
        affine = image.affine.copy()
        affine[0, 3] += 3
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header), file)
    assert predict(tmp_path, 'out', data='moved', models=str(explained / 'out')) == 2
    shape = facts_of(model).mask.mask.shape
    assert OTHER_GRID.split('{bold}')[0].format(file=model, model=shape) in capsys.readouterr().err


def copy_data(explained: Path, target: Path) -> Path:
    shutil.copytree(explained / 'data', target)
    return target


def test_events_without_bold_and_a_film_alone(explained, tmp_path, capsys):
    """What events name is predicted where there is no BOLD; one film can be given by itself."""
    data = tmp_path / 'events'
    shutil.copytree(
        explained / 'data', data, ignore=shutil.ignore_patterns('derivatives', '*_bold.*')
    )
    dry = ('--dry-run',)
    assert predict(tmp_path, 'out', *dry, data='events', models=str(explained / 'out')) == 0
    assert 'there is no preprocessed BOLD' in capsys.readouterr().out
    film = ('--stimuli-dir', str(data / 'stimuli' / 'film02.mp4'))
    assert predict(tmp_path, 'out', *dry, *film, data='events', models=str(explained / 'out')) == 0
    assert 'the 1 films in' in capsys.readouterr().out
    models = tmp_path / 'of-another'
    (models / 'sub-02' / 'models').mkdir(parents=True)
    (models / 'sub-02' / 'models' / 'sub-02_task-movie_desc-linear_model.safetensors').touch()
    shutil.copy(explained / 'out' / 'dataset_description.json', models)
    assert predict(tmp_path, 'out', *film, data='events', models=str(models)) == 2
    assert 'found: none' in capsys.readouterr().err


def test_without_a_network_or_a_decoder_nothing_is_reconstructed_and_said_so(explained, tmp_path):
    """Predictions are made all the same: it is no error, but it is in the report."""
    models = load_models(model_file(explained))
    (film,) = (explained / 'data' / 'stimuli').glob('film01.mp4')
    table = clock_of_films({film.name: 8.0}, TR)
    measured = Measured(models.facts.mask, None, None, model='')
    alone = Applied(tmp_path, build_config({}), replace(models, network=None), table, measured)
    alone.network(film.parent, tmp_path)
    assert alone.warnings == [NO_NETWORK]
    config = load_config(model_file(explained).with_suffix('.toml'))
    blind = replace(models.network, encoder=None, decoder=None)
    silent = Applied(tmp_path, config, replace(models, network=blind), table, measured)
    silent.network(film.parent, tmp_path)
    assert silent.warnings == [NO_DECODER]


def test_a_folder_without_films_is_refused(tmp_path):
    with pytest.raises(InputError, match=NO_FILMS.split('(')[0]):
        films_of(tmp_path)
