"""What the program finds, on data with known truth and on real BOLD."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from bids_neurodecode.cli.main import main
from bids_neurodecode.signals.modelchoice import best_model
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from tests.running import HERE

pytestmark = pytest.mark.slow
SPACE = 'space-MNI152NLin2009aSym'


def validate(folder: Path) -> None:
    validator = Path(sys.executable).with_name('bids-validator-deno')
    done = subprocess.run(
        [validator, '--ignoreWarnings', folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def score(table: pd.DataFrame, model: str, space: str, metric: str) -> pd.Series:
    rows = table[(table.model == model) & (table.space == space) & (table.metric == metric)]
    (index,) = rows.index
    return table.loc[index]


def read(folder: Path, name: str) -> np.ndarray:
    (file,) = folder.glob(f'*{name}.nii.gz')
    return nib.load(file).get_fdata()


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp('simulated')
    data = simulate_dataset(folder / 'data', SimulationSpec(n_subjects=1))
    places = [str(data), str(folder / 'out'), 'participant', '-w', str(folder / 'work')]
    code = main([*places, '--preset', 'retrieval', *HERE])
    assert code == 0
    truth = data / 'derivatives' / 'simulated-truth' / 'sub-01' / 'func'
    return folder / 'out', truth, folder / 'out' / 'sub-01' / 'func'


def test_outputs_are_valid_bids(simulated):
    validate(simulated[0])


def test_pybids_finds_outputs_with_the_packages_configuration(simulated):
    from bids.layout import BIDSLayout

    from bids_neurodecode.bids.provenance import pybids_config

    layout = BIDSLayout(
        simulated[0],
        validate=False,
        is_derivative=True,
        config=['bids', 'derivatives', pybids_config()],
    )
    (ceiling,) = layout.get(stat='noiseceiling', extension='.nii.gz')
    assert ceiling.entities['subject'] == '01'
    assert [f.filename for f in layout.get(label='reliable', extension='.nii.gz')] == [
        f'sub-01_task-images_{SPACE}_label-reliable_desc-fdr_mask.nii.gz'
    ]


def test_the_model_of_the_betas_was_chosen_within_training(simulated):
    out, _, found = simulated
    (file,) = (out / 'sub-01' / 'log').glob('*results.json')
    betas = json.loads(file.read_text())['betas']
    fits = [betas['model'], *betas['fold_models']]
    assert len(fits) == len(betas['model_scores']) > 1
    for model, scores in zip(fits, betas['model_scores'], strict=True):
        assert model == best_model(scores)
        assert all(0.5 < value <= 1 for value in scores.values())
    (sidecar,) = found.glob('*stat-effect_desc-singletrial_statmap.json')
    said = json.loads(sidecar.read_text())
    assert (said['Model'], said['ModelOfFolds']) == (fits[0], fits[1:])
    assert said['ModelScores']['D'] == [each['D'] for each in betas['model_scores']]
    # a trained model is applied with the betas that it was fitted on
    (settings,) = (out / 'sub-01').rglob('*_desc-linear_model.toml')
    assert f'model = "{fits[0]}"' in settings.read_text()
    page = (out / 'sub-01.html').read_text()
    assert 'How the model of the betas was chosen. Among the trials of each row, runs' in page
    assert f'the final model used {fits[0]}' in page
    assert (fracridge := list(found.glob('*stat-fracridge_statmap.nii.gz'))) or fits[0] != 'D'
    assert not fracridge or fits[0] == 'D'


def test_responses_are_recovered(simulated):
    out, truth, found = simulated
    responsive = read(truth, 'label-responsive_mask') > 0
    strong = responsive & (read(truth, 'stat-ncsnr_statmap') > 1)
    results = json.loads(next((out / 'sub-01' / 'log').glob('*results.json')).read_text())
    peaks = np.asarray(results['betas']['hrf_times_to_peak'])
    estimated = peaks[read(found, 'stat-hrfindex_statmap').astype(int)]
    error = np.abs(estimated - read(truth, 'stat-timetopeak_statmap'))[strong]
    assert strong.sum() > 50
    assert np.mean(error <= 0.5) >= 0.8


def test_reliability_is_recovered(simulated):
    _, truth, found = simulated
    responsive = read(truth, 'label-responsive_mask') > 0
    true, estimated = (read(f, 'stat-noiseceiling_statmap') for f in (truth, found))
    # elsewhere the truth is zero throughout: ties have no rank
    assert spearmanr(true[responsive], estimated[responsive])[0] >= 0.8
    selected = read(found, 'label-reliable_desc-fdr_mask') > 0
    assert responsive[selected].mean() >= 0.9
    assert selected[responsive].mean() >= 0.6


def test_held_out_images_are_identified_and_shuffled_ones_are_not(simulated):
    (file,) = simulated[2].glob('*_desc-linear_metrics.tsv')
    table = pd.read_csv(file, sep='\t')
    decoded = score(table, 'ridge', 'single-trial', 'identification_top1')
    assert decoded.chance == pytest.approx(0.05)
    assert decoded.value > 4 * decoded.chance
    assert decoded.p < 0.002
    shuffled = score(table, 'baseline-shuffled', 'single-trial', 'identification_top1')
    assert shuffled.p > 0.01
    assert shuffled.value < 2 * shuffled.chance
    nearest = score(table, 'baseline-nearest', 'single-trial', 'identification_top1')
    assert decoded.value > nearest.value


@pytest.mark.real
def test_haxby_categories_of_held_out_runs(shared, tmp_path, no_page):
    """Betas of models B, C and D each name the category of 70 % of the blocks or more."""
    data = shared / 'data' / 'haxby2001'
    places = [str(data), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]
    for model in 'BCD':
        settings = tmp_path / f'{model}.toml'
        settings.write_text(f'[betas]\nmodel = "{model}"\n')
        options = ['--preset', 'retrieval', '--config-file', str(settings), *HERE]
        assert main([*places, *options]) == 0
        (file,) = (tmp_path / 'out').rglob('*_desc-linear_metrics.tsv')
        row = score(pd.read_csv(file, sep='\t'), 'ridge', 'single-trial', 'identification_top1')
        assert row.protocol == 'leave-one-out-by-run'
        assert row.n == 96
        assert row.chance == pytest.approx(0.125)
        assert row.value >= 0.70, model
        assert row.p < 0.002
    validate(tmp_path / 'out')


def test_films_from_simulation_to_intersubject_correlation(tmp_path):
    spec = SimulationSpec(paradigm='movie', n_subjects=2, film_duration=120.0, voxel_size=12.0)
    data = simulate_dataset(tmp_path / 'data', spec)
    out = tmp_path / 'out'
    atlas = next(data.rglob('*atlas-Sim_dseg.nii.gz'))
    places = [str(data), str(out)]
    options = ['-w', str(tmp_path / 'work'), '--skip-bids-validation']
    assert main([*places, 'participant', *options, '--atlas', str(atlas)]) == 0
    assert main([*places, 'group', *options]) == 0
    validate(out)
    truth = data / 'derivatives' / 'simulated-truth' / 'sub-01' / 'func'
    responsive = read(truth, 'label-responsive_mask') > 0
    isc = read(out / 'group', 'stat-isc_statmap')
    brain = isc != 0
    assert np.median(isc[responsive & brain]) > 0.2
    assert abs(np.median(isc[brain & ~responsive])) < 0.1
    names = {path.name.split('_run-01_')[-1] for path in (out / 'sub-01' / 'func').iterdir()}
    assert f'{SPACE}_desc-aligned_bold.nii.gz' in names
    assert f'{SPACE}_atlas-Sim_stat-mean_timeseries.tsv' in names
    assert (out / 'group.html').stat().st_size > 10_000
