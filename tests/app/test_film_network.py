"""The movie network through the program: outputs, report, resumption after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.models.checkpoints import load_weights
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.systems.movie.steps.network import REMEDY, WHAT, train_network
from bids_neurodecode.workflow.process import KILLED, run_in_process
from bids_neurodecode.workflow.step import PROCESS
from tests.running import HERE

pytestmark = pytest.mark.slow
TINY = """
[movie]
model = "network"
mode = "{mode}"
design = "small"
frame_size = 24
widths = [2, 3, 2, 3, 4]
max_voxels = 40
n_epochs = {n_epochs}
patience = 20
learning_rate = 3e-3
[evaluation]
n_permutations = 20
n_bootstrap = 20
[features]
image_size = 32
n_components = 20
[split]
test_fraction = 0.3
gap = 6.0
[atlas]
file = "{atlas}"
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """One participant with two short films, and a joint network."""
    folder = tmp_path_factory.mktemp('films')
    spec = build_spec(
        paradigm='movie', n_subjects=1, n_runs=2, film_duration=100.0, voxel_size=14.0, snr=3.0
    )
    simulate_dataset(folder / 'data', spec)
    assert call(folder, 'out', 'joint') == 0
    return folder


def call(folder: Path, out: str, mode: str, n_epochs: int = 2) -> int:
    (atlas,) = (folder / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    settings = folder / f'{mode}-{n_epochs}.toml'
    settings.write_text(TINY.format(mode=mode, n_epochs=n_epochs, atlas=atlas))
    return main(
        [
            *(str(folder / 'data'), str(folder / out), 'participant', '-w', str(folder / 'work')),
            *('--skip-bids-validation', *HERE, '--device', 'cpu'),
            *('--config-file', str(settings)),
        ]
    )


def metrics(folder: Path, out: str) -> pd.DataFrame:
    (file,) = (folder / out / 'sub-01' / 'func').glob('*desc-network_metrics.tsv')
    return pd.read_csv(file, sep='\t')


def test_the_network_stands_beside_the_linear_models(trained):
    table = metrics(trained, 'out')
    assert table.model.iloc[0] == 'network'
    assert {'network', 'ridge', 'banded-ridge', 'baseline-mean-image'} <= set(table.model)
    assert set(table.protocol) == {'hold-out-by-time'}
    # the same voxels are judged for all three
    selected = table[(table.space == 'selected voxels') & (table.metric == 'voxel_r_median')]
    assert {'network', 'ridge', 'banded-ridge'} <= set(selected.model)
    assert set(selected.n) == {40}


def test_everything_lies_under_its_name_and_is_valid(trained):
    out = trained / 'out'
    names = {path.name for path in (out / 'sub-01').rglob('*')}
    for end in (
        *('stat-pearsonr_desc-network_statmap.nii.gz', 'stat-saliency_desc-network_statmap.json'),
        *('run-01_space-MNI152NLin2009aSym_desc-networkpredicted_bold.nii.gz',),
        *('desc-network_model.safetensors', 'desc-network_model.md', 'desc-network_curves.tsv'),
        *('stat-saliency_desc-network_regions.tsv',),
    ):
        assert any(name.endswith(end) for name in names), end
    films = {path.name for path in (out / 'stimuli' / 'sub-01').rglob('*.*')}
    assert {'film01_desc-recon_video.mp4', 'film01_desc-recon_image.png'} <= films
    assert validate_dataset(out) == {}


def test_the_page_shows_curves_frames_and_what_the_loss_compared(trained):
    page = (trained / 'out' / 'sub-01.html').read_text()
    assert 'a bank of Gabor wavelets (no pretrained network)' in page
    figures = {path.name for path in (trained / 'out' / 'sub-01' / 'figures').iterdir()}
    for name in ('curves', 'frames', 'network', 'network_r', 'saliency'):
        assert any(f'desc-{name}_' in figure for figure in figures), name
    assert 'arXiv 2507.12009' in (trained / 'out' / 'logs' / 'CITATION.md').read_text()


def test_a_decoder_alone(trained):
    assert call(trained, 'out-decoder', 'decoder') == 0
    table = metrics(trained, 'out-decoder')
    assert set(table[table.model == 'network'].metric) == {'frame_ssim'}
    assert (trained / 'out-decoder' / 'stimuli' / 'sub-01').is_dir()


def test_an_encoder_alone(trained, tmp_path):
    copy_job(trained, tmp_path, mode='encoder')
    train(tmp_path)
    table = pd.read_csv(tmp_path / 'metrics.tsv', sep='\t')
    assert 'voxel_r_median' in set(table[table.model == 'network'].metric)
    assert 'frame_ssim' not in set(table.metric)
    assert not list(tmp_path.glob('frames-*'))
    assert not (tmp_path / 'saliency.nii.gz').exists()


def train(folder: Path) -> None:
    run_in_process(folder, PROCESS, what=WHAT, label='01', remedy=REMEDY)


def job_of(trained: Path) -> dict:
    """Return the job of the joint network."""
    jobs = [json.loads(f.read_text()) for f in (trained / 'work').rglob('network/job.json')]
    (job,) = (j for j in jobs if json.loads(j['inputs']['config'])['movie']['mode'] == 'joint')
    return job


def copy_job(trained: Path, folder: Path, **movie: object) -> None:
    """Give a folder the job of the joint network with other settings of the network."""
    job = job_of(trained)
    settings = json.loads(job['inputs']['config'])
    settings['movie'] |= movie
    folder.mkdir(exist_ok=True)
    job['inputs']['config'] = json.dumps(settings)
    job['checkpoints'] = str(folder / 'checkpoints')
    (folder / 'job.json').write_text(json.dumps(job))


def test_a_killed_training_goes_on_to_the_same_weights(trained, tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    for folder in (whole, killed):
        copy_job(trained, folder, n_epochs=6)
    train(whole)
    command = [sys.executable, '-m', PROCESS, str(killed), str(os.getpid())]
    process = subprocess.Popen(command)
    while process.poll() is None and not list((killed / 'checkpoints').rglob('*.safetensors')):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / 'made.json').exists()
    train(killed)
    a, b = (load_weights(f / 'model' / 'weights.safetensors') for f in (whole, killed))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_killed_process_is_named(tmp_path, monkeypatch):
    from bids_neurodecode.errors import ResourceError

    fake = subprocess.CompletedProcess([], -9)
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: fake)
    with pytest.raises(
        ResourceError, match=KILLED.format(what=WHAT, label='01', signal=9, remedy=REMEDY)[:40]
    ):
        train(tmp_path)


def test_checkpoints_are_those_of_the_same_data(trained, tmp_path):
    inputs = job_of(trained)['inputs']
    key, copy = train_network.key(inputs), str(tmp_path / 'features.npy')
    shutil.copy(inputs['features'], copy)
    assert train_network.key(inputs | {'features': copy}) == key
    np.save(copy, np.load(inputs['features']) + 1)
    assert train_network.key(inputs | {'features': copy}) != key
    settings = json.loads(inputs['config'])
    settings['movie']['learning_rate'] = 1e-2
    assert train_network.key(inputs | {'config': json.dumps(settings)}) != key
