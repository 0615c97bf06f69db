"""What another package adds, installed outside of the tree and run through the program."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from tests.running import HERE

pytestmark = pytest.mark.slow
RECONSTRUCTION = """
[reconstruction]
generator = "{}"
[features]
extractor = "{}"
[split]
by = "stimulus"
n_folds = 1
test_fraction = 0.2
[evaluation]
n_permutations = 20
n_bootstrap = 20
"""
PACKAGE = Path(__file__).parents[1] / 'extension_package'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the installed package and simulated images."""
    folder = tmp_path_factory.mktemp('extension')
    copy = folder / 'source'
    subprocess.run(['cp', '-r', str(PACKAGE), str(copy)], check=True)
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index']
    pip += ['--no-build-isolation', '--target', str(folder / 'site'), str(copy)]
    subprocess.run(pip, check=True)
    spec = SimulationSpec(n_subjects=1, n_runs=2, n_images=12, n_repeats=2, voxel_size=14.0)
    simulate_dataset(folder / 'data', spec)
    return folder


def call(place, *arguments, module='bids_neurodecode.cli'):
    path = os.pathsep.join([str(place / 'site'), *(str(Path(x).absolute()) for x in sys.path)])
    return subprocess.run(
        [sys.executable, '-m', module, *arguments],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        check=False,
    )


def run(place, out, settings, *more):
    (place / f'{out}.toml').write_text(settings)
    options = [
        '--skip-bids-validation',
        '--nprocs',
        '1',
        '--config-file',
        str(place / f'{out}.toml'),
    ]
    places = [str(place / 'data'), str(place / out), 'participant', '-w', str(place / 'work')]
    return call(place, *places, *options, *more)


@pytest.fixture(scope='module')
def done(place):
    settings = 'system = "contrast"\n[extensions.contrast]\nprefix = "{}"\n'
    names = sorted(file.name for file in (place / 'data' / 'stimuli').rglob('*.png'))
    result = run(place, 'out', settings.format(names[0]))
    assert result.returncode == 0, result.stderr
    return place / 'out'


@pytest.fixture(scope='module')
def made(place):
    """Images reconstructed by the package's generator, identified by its extractor's features."""
    result = run(place, 'made', RECONSTRUCTION.format('eigenimages', 'mean-colour'), *HERE)
    assert result.returncode == 0, result.stderr
    return place / 'made'


def test_its_options_are_shown(place):
    listed = call(place, 'systems', module='bids_neurodecode.cli.tools').stdout
    assert 'contrast (neurodecode_contrast:SYSTEM): for images' in listed
    assert "extensions.contrast.prefix = ''" in listed
    for kind in ('extractor mean-colour', 'generator eigenimages', 'recipe small-simulation'):
        assert f'{kind} (neurodecode_contrast.added:' in listed


def test_its_recipe_knows_the_dataset(place, done):
    listed = call(place, 'datasets', 'list', module='bids_neurodecode.cli.tools').stdout
    assert 'small-simulation: A small simulation' in listed
    (config,) = (done / 'sub-01' / 'log').rglob('config.toml')
    assert tomllib.loads(config.read_text())['betas']['model'] == 'B'
    assert 'recognised as A small simulation by its name' in (done / 'sub-01.html').read_text()


def test_its_generator_makes_images_and_its_extractor_describes_them(made):
    (file,) = made.rglob('*_desc-generated_metrics.tsv')
    scores = pd.read_csv(file, sep='\t')
    assert {'initial', 'final', 'latents'} <= set(scores['space'])
    assert len([*made.rglob('*_desc-final_image.png')]) == 2
    page = ' '.join((made / 'sub-01.html').read_text().split())
    assert 'can show nothing that those do not' in page
    assert 'Generator eigenimages of another package: 5,376 parameters' in page
    (record,) = made.rglob('*_results.json')
    said = json.loads(record.read_text())['generation']
    assert ('can show nothing' in said['caution'], said['guided_by']) == (True, ['mean-colour'])
    methods = (made / 'logs' / 'CITATION.md').read_text()
    assert 'made of eigenimages of the training images' in methods
    assert 'the extractor mean-colour of another package, images of 48 pixels' in methods
    kept = [*(made.parent / 'work').rglob('features/mean-colour/*/*.npy')]
    assert np.load(kept[0]).shape == (48,)


def test_its_generator_is_read_again_for_new_responses(place, made):
    more = ('--mode', 'predict', '--models-from', str(made), *HERE)
    result = run(place, 'again', RECONSTRUCTION.format('eigenimages', 'mean-colour'), *more)
    assert result.returncode == 0, result.stderr
    assert len([*(place / 'again').rglob('*_desc-final_image.png')]) == 12


def test_a_generator_that_nobody_brings(place):
    result = run(place, 'no', RECONSTRUCTION.format('eigenimage', 'mean-colour'))
    assert result.returncode == 2
    assert (
        "no generator 'eigenimage'. Did you mean eigenimages? Known: auto, none" in result.stderr
    )
    assert 'eigenimages' in result.stderr


def test_its_map_is_what_it_says(place, done):
    func = done / 'sub-01' / 'func'
    (file,) = func.glob('*_stat-effect_desc-contrast_statmap.nii.gz')
    assert json.loads(file.with_name(file.name.replace('.nii.gz', '.json')).read_text())['Units']
    (trials,) = func.glob('*_events.tsv')
    table = pd.read_csv(trials, sep='\t')
    counts = pd.read_csv(next(func.glob('*_desc-contrast_metrics.tsv')), sep='\t')
    assert counts['n'].tolist() == [2, len(table) - 2]
    values = nib.load(file).get_fdata()
    assert np.isfinite(values).all()
    assert np.abs(values).max() > 0


def test_its_section_stands_in_the_page_and_its_words_in_the_methods(done):
    page = (done / 'sub-01.html').read_text()
    assert 'Mean response less that to others' in page  # from the sidecar of its map
    assert 'id="contrast"' in page
    assert 'against all others' in page
    assert 'Responses to some stimuli were compared' in (done / 'logs' / 'CITATION.md').read_text()
    described = (done / 'descriptions.tsv').read_text()
    assert 'desc-contrast\tResponses to some stimuli against those to all others' in described
    config = next((done / 'sub-01' / 'log').rglob('config.toml')).read_text()
    assert '[extensions.contrast]' in config


def test_its_outputs_are_valid(done):
    from bids_neurodecode.cli.validation import validate_dataset

    assert validate_dataset(done) == {}


def test_a_wrong_setting_is_named(place):
    result = run(place, 'wrong', 'system = "contrast"\n[extensions.contrast]\nprefx = "a"\n')
    assert result.returncode == 2
    assert 'did you mean prefix?' in result.stderr


def test_it_refuses_what_cannot_work_before_anything_runs(place):
    result = run(place, 'none', 'system = "contrast"\n[extensions.contrast]\nprefix = "zebra"\n')
    assert result.returncode == 2
    assert "No stimulus of sub-01 has a name that begins with 'zebra'." in result.stderr
    assert not (place / 'none').exists()


def test_it_says_what_is_resolved(place):
    result = run(place, 'dry', 'system = "contrast"\n', '--dry-run')
    assert result.returncode == 0, result.stderr
    assert 'compared: stimuli of 1 participants' in result.stdout


def test_it_has_no_predict_mode(place, done):
    (done / 'sub-01' / 'models').mkdir()
    (done / 'sub-01' / 'models' / 'sub-01_task-images_model.safetensors').touch()
    more = ('--mode', 'predict', '--models-from', str(done))
    result = run(place, 'never', 'system = "contrast"\n', *more)
    assert result.returncode == 2
    assert "'contrast' has no predict mode" in result.stderr


def test_without_the_package_its_name_is_unknown(place, done, tmp_path, capsys):
    from bids_neurodecode.cli.main import main

    places = [str(place / 'data'), str(done), 'participant', '-w', str(tmp_path / 'work')]
    assert main([*places, '--system', 'contrast']) == 2
    assert "there is no system 'contrast'" in capsys.readouterr().err
    assert main([*places, '--reports-only', '--skip-bids-validation']) == 2
    assert "there is no system 'contrast'" in capsys.readouterr().err
