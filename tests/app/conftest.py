"""A trained movie network that several modules ask."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bids_neurodecode.cli.main import main
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec

SETTINGS = """
[movie]
model = "network"
design = "small"
frame_size = 24
widths = [2, 3, 2, 3, 4]
max_voxels = 60
n_epochs = 2
patience = 20
learning_rate = 3e-3
explain = {explain}
{concepts}
explain_random = 19
concept_permutations = 19
explain_frames = 3
explain_regions = 3
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


def train_films(folder: Path, out: str, explain: str, concepts: Path | None = None) -> int:
    """Train on the simulated participant of a folder; return the exit code."""
    (atlas,) = (folder / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    line = '' if concepts is None else f'concepts = "{concepts}"'
    file = folder / f'{out}.toml'
    file.write_text(SETTINGS.format(explain=explain, concepts=line, atlas=atlas))
    return main(
        [
            *(str(folder / 'data'), str(folder / out), 'participant', '-w', str(folder / 'work')),
            *('--skip-bids-validation', '--nprocs', '1', '--device', 'cpu'),
            *('--config-file', str(file)),
        ]
    )


def write_pictures(folder: Path, n: int) -> None:
    """Write pictures of noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for k in range(n):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / f'{k}.png')


@pytest.fixture(scope='session')
def film_training() -> Callable[..., int]:
    """Train on the films of a folder."""
    return train_films


@pytest.fixture(scope='session')
def noise_pictures() -> Callable[[Path, int], None]:
    """Write pictures of noise."""
    return write_pictures


@pytest.fixture(scope='session')
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One participant with two films, and a joint network that was asked everything."""
    folder = tmp_path_factory.mktemp('explained')
    spec = build_spec(
        paradigm='movie', n_subjects=1, n_runs=2, film_duration=90.0, voxel_size=14.0, snr=3.0
    )
    simulate_dataset(folder / 'data', spec)
    write_pictures(folder / 'concepts' / 'noisy', 12)
    asked = '["perturbation", "concepts"]'
    assert train_films(folder, 'out', asked, folder / 'concepts') == 0
    return folder
