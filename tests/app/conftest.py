"""What several modules ask: a trained movie network, and runs without a page."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_neurodecode.cli.main import main
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from tests.running import HERE, without_pages

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


@pytest.fixture
def no_page() -> Iterator[None]:
    """Leave the pages of a test's runs empty."""
    with without_pages():
        yield


def train_films(folder: Path, out: str, explain: str, concepts: Path | None = None) -> int:
    """Train on the simulated participant of a folder; return the exit code."""
    (atlas,) = (folder / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    line = '' if concepts is None else f'concepts = "{concepts}"'
    file = folder / f'{out}.toml'
    file.write_text(SETTINGS.format(explain=explain, concepts=line, atlas=atlas))
    return main(
        [
            *(str(folder / 'data'), str(folder / out), 'participant', '-w', str(folder / 'work')),
            *('--skip-bids-validation', *HERE, '--device', 'cpu'),
            *('--config-file', str(file)),
        ]
    )


def write_pictures(folder: Path, n: int) -> None:
    """Write images of noise."""
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
    """Write images of noise."""
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


def read_by_pybids(out: Path, raw: Path) -> None:
    """Index an output as users do; entities are text or numbers, and joining by them works."""
    from bids import BIDSLayout

    from bids_neurodecode.bids.provenance import pybids_config

    own = {'is_derivative': True, 'config': ['bids', 'derivatives', pybids_config()]}
    for layout in (
        BIDSLayout(out, validate=False),
        BIDSLayout(out, validate=False, **own),
        BIDSLayout(out, validate=True, is_derivative=True),
        BIDSLayout(raw, validate=False, derivatives=[out]).derivatives.get_pipeline(
            'bids_neurodecode'
        ),
    ):
        assert 'BIDS Layout' in repr(layout)
        files = layout.get()
        assert files
        for file in files:
            found = file.get_entities()
            for name in ('subject', 'session', 'task', 'run', 'space', 'desc', 'label'):
                assert isinstance(found.get(name, ''), int | str), file.path
        for name in ('run', 'session'):
            assert all(isinstance(x, int | str) for x in layout.get(target=name, return_type='id'))
    # runs have the labels of the raw names in every table
    known = {
        tuple(
            next((x[4:] for x in file.name.split('_') if x.startswith(key)), 'n/a')
            for key in ('ses-', 'run-')
        )
        for file in raw.rglob('*_events.tsv')
    }
    for file in out.rglob('sub-*/**/*.tsv'):
        if 'log' in file.parts:
            continue
        table = pd.read_csv(file, sep='\t', dtype=str, keep_default_na=False)
        if {'session', 'run'} <= set(table):
            assert set(zip(table['session'], table['run'], strict=True)) <= known, file
        sidecar = file.with_suffix('.json')
        if sidecar.exists():
            assert not {'session', 'run'} & set(json.loads(sidecar.read_text())), file
    listed = pd.read_csv(out / 'descriptions.tsv', sep='\t')
    for desc, text in zip(listed['desc_id'], listed['description'], strict=True):
        assert next(out.rglob(f'*_{desc}_*'), None) is not None, desc
        assert not text.startswith('Of its kind'), desc


@pytest.fixture(scope='session')
def check_pybids() -> Callable[[Path, Path], None]:
    """Index an output with pybids."""
    return read_by_pybids
