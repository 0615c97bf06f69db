"""Images made in two stages through the program: outputs, report, resumption, predict mode."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_neurodecode.bids.imagesets import read_image_set
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.config import load_config
from bids_neurodecode.extras import has_packaged
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.stimuli.features import judges_of
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    ASKED,
    PUBLISHED_WEIGHTS,
)
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import (
    GenerationFacts,
    write_made,
)
from bids_neurodecode.systems.reconstruction.generation.steps.training import generate
from bids_neurodecode.workflow.files import save_json
from bids_neurodecode.workflow.process import MADE
from bids_neurodecode.workflow.step import PROCESS
from tests.browser import chromium, find_browser
from tests.running import HERE, WORKERS

pytestmark = pytest.mark.slow
TINY = """
[evaluation]
n_permutations = 20
n_bootstrap = 20
[split]
by = "stimulus"
n_folds = 1
test_fraction = 0.4
[reconstruction]
generator = "{generator}"
prior_size = 16
prior_steps = 4
refiner_steps = 4
n_steps = 4
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """One participant who saw 15 images twice, with a generator that hardly learned.

    Both its training and its use run in workers, and what these start.
    """
    folder = tmp_path_factory.mktemp('pictures')
    spec = SimulationSpec(n_subjects=1, n_runs=2, n_images=15, n_repeats=2, voxel_size=14.0, snr=3)
    simulate_dataset(folder / 'data', spec)
    assert call(folder, 'out', 'small', where=WORKERS) == 0
    return folder


def call(folder: Path, out: str, generator: str, *more: str, where: Sequence[str] = HERE) -> int:
    settings = folder / f'{generator}.toml'
    settings.write_text(TINY.format(generator=generator))
    return main(
        [
            *(str(folder / 'data'), str(folder / out), 'participant', '-w', str(folder / 'work')),
            *('--skip-bids-validation', *where, '--device', 'cpu'),
            *('--config-file', str(settings), *more),
        ]
    )


def record(folder: Path, out: str) -> dict:
    (file,) = (folder / out / 'sub-01' / 'log').glob('*_results.json')
    return json.loads(file.read_text())


def pictures(folder: Path, out: str) -> dict[str, Path]:
    return {f.name: f for f in (folder / out / 'stimuli').rglob('*.png')}


def test_each_held_out_picture_is_made_in_two_stages(trained):
    (file,) = (trained / 'out' / 'sub-01' / 'func').glob('*_desc-generated_predictions.tsv')
    table = pd.read_csv(file, sep='\t')
    assert len(table) == 6
    assert set(table.n_repeats) == {2}
    found = pictures(trained, 'out')
    assert len(found) == 2 * len(table)
    for name, stimulus in zip(table.picture, table.stimulus, strict=True):
        assert Path(stimulus).stem == name
        for stage in ('initial', 'final'):
            with Image.open(found[f'{name}_desc-{stage}_image.png']) as picture:
                assert (picture.mode, picture.size) == ('RGB', (16, 16))


def test_the_scores_stand_in_one_table_with_retrieval_and_baselines(trained):
    (file,) = (trained / 'out' / 'sub-01' / 'func').glob('*_desc-generated_metrics.tsv')
    table = pd.read_csv(file, sep='\t')
    retrieved = table[(table.model == 'ridge') & (table.space == 'single-trial')]
    assert retrieved.metric.tolist() == ['identification_top1', 'identification_2way']
    final = table[table.space == 'final']
    assert set(final.protocol) == {'hold-out-by-stimulus/bd-982'}
    names = {'ridge', 'baseline-mean-image', 'baseline-nearest-blurred', 'baseline-shuffled'}
    assert {*names, 'reference-true-latents-and-features'} <= set(final.model)
    own = final[(final.model == 'ridge') & (final.metric == 'identification_2way')].iloc[0]
    assert own.n == 6
    assert own.chance == 0.5
    assert own.ci_low <= own.value <= own.ci_high
    assert own.p >= 1 / 21
    brain = table[table.metric == 'brain_correlation'].set_index('model')
    assert set(brain.space) == ({'final-single-trial'} if has_packaged('mobilenetv2') else set())
    if len(brain):
        assert 'reference-true-image' in brain.index
        assert brain.ceiling.isna().all()
    assert not table.duplicated(['model', 'protocol', 'split', 'space', 'metric']).any()
    linear = pd.read_csv(str(file).replace('desc-generated', 'desc-linear'), sep='\t')
    assert not linear.space.isin(['initial', 'final']).any()


def test_everything_lies_under_its_name_and_is_valid(trained, check_pybids):
    out = trained / 'out'
    names = {path.name for path in (out / 'sub-01').rglob('*')}
    for end in (
        *('desc-generated_model.safetensors', 'desc-generated_model.toml'),
        *('desc-generated_model.md', 'desc-generated_curves.tsv', 'desc-pictures_sheet.png'),
    ):
        assert any(name.endswith(end) for name in names), end
    (curves,) = out.rglob('*desc-generated_curves.tsv')
    assert {'prior', 'refiner'} <= set(pd.read_csv(curves, sep='\t').network)
    (card,) = out.rglob('*desc-generated_model.md')
    assert 'by part: ' in card.read_text()
    assert '; prior (very deep VAE) ' in card.read_text()
    assert validate_dataset(out) == {}
    check_pybids(out, trained / 'data')


def test_the_page_shows_pictures_and_says_what_made_them(trained):
    page = (trained / 'out' / 'sub-01.html').read_text()
    assert ASKED.format(name='small') in page
    assert 'shows nothing that training images do not' in ' '.join(page.split())
    assert 'the average of the repeats of each image (2 trials)' in ' '.join(page.split())
    figures = {path.name for path in (trained / 'out' / 'sub-01' / 'figures').iterdir()}
    for name in ('pictures', 'picturescores', 'learning'):
        assert any(f'desc-{name}_figure' in figure for figure in figures), name
    assert ASKED.format(name='small') in record(trained, 'out')['notes']
    citation = (trained / 'out' / 'logs' / 'CITATION.md').read_text()
    assert 'Brain-Diffuser' in citation
    assert 'Versatile' not in citation


def job_of(trained: Path) -> dict:
    # other tests may have run the program too
    files = (trained / 'work').rglob('generate/job.json')
    file = min(files, key=lambda file: file.stat().st_mtime_ns)
    return json.loads(file.read_text()) | {'folder': str(file.parent)}


def test_a_killed_training_goes_on_to_the_same_model(trained, tmp_path):
    job = job_of(trained)
    own = {
        'step': job['step'],
        'checkpoints': str(tmp_path / 'checks'),
        'inputs': job['inputs'] | {'generators': str(tmp_path / 'generators')},
    }
    (tmp_path / 'job.json').write_text(json.dumps(own))
    command = [sys.executable, '-m', PROCESS, str(tmp_path), str(os.getpid())]
    process = subprocess.Popen(command)
    while process.poll() is None and not list(tmp_path.rglob('prior/step-*')):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / MADE).exists()
    (prior,) = tmp_path.rglob('prior/step-*/state.json')
    written = prior.stat().st_mtime_ns
    assert subprocess.run(command, check=False).returncode == 0
    assert prior.stat().st_mtime_ns == written, 'the prior was trained again'
    for name in ('model.safetensors', 'initial.npy', 'final.npy'):
        whole = Path(job['folder']) / name
        assert (tmp_path / name).read_bytes() == whole.read_bytes(), name


def test_checkpoints_are_those_of_the_same_data(trained, tmp_path):
    inputs = job_of(trained)['inputs']
    key = generate.key(inputs)
    shutil.copy(inputs['features'], tmp_path / 'features.npy')
    assert generate.key(inputs | {'features': str(tmp_path / 'features.npy')}) == key
    np.save(tmp_path / 'features.npy', np.load(inputs['features']) + 1)
    assert generate.key(inputs | {'features': str(tmp_path / 'features.npy')}) != key
    settings = json.loads(inputs['config'])
    settings['evaluation']['n_bootstrap'] = 7
    assert generate.key(inputs | {'config': json.dumps(settings)}) == key
    settings['reconstruction']['prior_steps'] = 5
    assert generate.key(inputs | {'config': json.dumps(settings)}) != key


@pytest.mark.skipif(find_browser() is None, reason='no Chromium on this machine')
def test_the_page_has_at_most_twelve_screens(trained, tmp_path):
    with chromium(find_browser(), tmp_path) as tab:
        tab.open(trained / 'out' / 'sub-01.html', width=1280)
        assert tab.evaluate('document.documentElement.scrollHeight') <= 12 * 720


def test_new_responses_become_pictures_too(trained, check_pybids):
    options = ('--mode', 'predict', '--models-from', str(trained / 'out'))
    assert call(trained, 'applied', 'small', *options, where=WORKERS) == 0
    check_pybids(trained / 'applied', trained / 'data')
    found = pictures(trained, 'applied')
    assert len(found) == 2 * 15
    table = pd.read_csv(
        next((trained / 'applied').rglob('*_desc-generated_predictions.tsv')), sep='\t'
    )
    assert table.pixcorr_final.between(-1, 1).all()
    page = ' '.join((trained / 'applied' / 'sub-01.html').read_text().split())
    assert 'new data: the average of the repeats of each image (2 trials)' in page
    for out in ('out', 'applied'):  # the model told the second
        (folder,) = (trained / out / 'stimuli').glob('sub-*/task-*')
        (model,) = (trained / 'out').rglob('*_desc-generated_model.toml')
        described = judges_of(load_config(model).features.extractor)
        assert read_image_set(folder).guided_by == tuple(sorted(described))


def made(folder: Path, stimuli: list[str]) -> Path:
    """Write what a job leaves that made an image of each stimulus."""
    folder.mkdir()
    rng = np.random.default_rng(len(stimuli))
    table = pd.DataFrame({'picture': stimuli, 'stimulus': stimuli, 'pixcorr_final': 0.1})
    table = table.assign(space='repeat-average', fold=0, sample=range(len(stimuli)), n_repeats=2)
    table.to_csv(folder / 'pictures.tsv', sep='\t', index=False)
    for name, side in {'initial': 16, 'final': 40, 'truth': 64, 'nearest': 96}.items():
        pixels = rng.integers(256, size=(len(stimuli), side, side, 3), dtype=np.uint8)
        np.save(folder / f'{name}.npy', pixels)
    told = GenerationFacts(
        generator='small', why='so', regressor='ridge', facts=(), guided_by=('gabor',)
    )
    return save_json(folder / 'generated.json', told)


def test_pictures_of_an_earlier_run_are_removed(tmp_path):
    out = tmp_path / 'out'
    names = ['a.png', 'b/c d.png', 'b/cd.png']
    trials = pd.DataFrame({'stimulus': names, 'onset': 0.0, 'run_label': 'task-x run-1'})
    for number, stimuli in enumerate((names, names[:1])):
        writer = ProductWriter(out, {'sub': '01', 'task': 'x'})
        record = write_made(writer, made(tmp_path / str(number), stimuli), trials)
        writer.finish()
        found = sorted(path.name for path in record.folder.iterdir())
        assert (record.n_pictures, record.guided_by) == (len(stimuli), ('gabor',))
        assert len(found) == 2 * len(stimuli)
        assert np.load(record.examples.with_suffix('.npy')).shape[1:] == (4, 96, 96, 3)
    assert found == ['a_desc-final_image.png', 'a_desc-initial_image.png']


def test_pictures_are_ranked_by_the_score_that_heads_the_page(tmp_path):
    """The judge, unless it had a part in the images: then pixels; at chance they are drawn."""
    names = [f'{letter}.png' for letter in 'abcdef']
    result = made(tmp_path / 'job', names)
    table = pd.read_csv(tmp_path / 'job' / 'pictures.tsv', sep='\t')
    table = table.assign(mobilenetv2_two_way=np.linspace(0, 1, 6), pixel_two_way=[1, *5 * [0]])
    table.to_csv(tmp_path / 'job' / 'pictures.tsv', sep='\t', index=False)
    trials = pd.DataFrame({'stimulus': names, 'onset': 0.0, 'run_label': 'task-x run-1'})
    row = {'model': 'ridge', 'space': 'final', 'value': 0.7, 'chance': 0.5, 'p': 0.001}
    row |= {'ci_high': 0.9, 'units': 'stimuli', 'test': 'labels', 'n_units': 6}
    for guide, low, kinds in (
        ('gabor', 0.6, {'f.png': 'best', 'a.png': 'worst'}),
        ('mobilenetv2', 0.6, {'a.png': 'best'}),
        ('gabor', 0.4, {'a.png': 'random', 'f.png': 'random'}),
    ):
        told = json.loads(result.read_text()) | {'generator': 'theirs', 'guided_by': [guide]}
        result.write_text(json.dumps(told))
        both = [row | {'metric': m, 'ci_low': low} for m in ('mobilenetv2_2way', 'pixel_2way')]
        writer = ProductWriter(tmp_path / 'out', {'sub': '01', 'task': 'x'})
        record = write_made(writer, result, trials, None, pd.DataFrame(both))
        examples = pd.read_csv(record.examples, sep='\t').drop_duplicates('stimulus')
        found = dict(zip(examples['stimulus'], examples['kind'], strict=True))
        assert found | kinds == found
    columns = json.loads(record.table.with_suffix('.json').read_text())
    assert 'MobileNetV2' in columns['mobilenetv2_two_way']['Description']


def test_missing_weights_are_named_before_work_starts(trained, capsys):
    weights = trained / 'weights'
    weights.mkdir(exist_ok=True)
    assert call(trained, 'never', 'published', '--weights-dir', str(weights)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'bids_neurodecode-tools weights fetch {PUBLISHED_WEIGHTS[0]}' in said
    assert not (trained / 'never').exists()
