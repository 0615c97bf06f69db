"""What several tests share."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

# a busy machine is no failure; the time limit of a test is pytest's
settings.register_profile('patient', deadline=None)
settings.register_profile('repeatable', deadline=None, derandomize=True)
settings.load_profile('patient')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out files whole, and at the end, so that no worker waits, bad input case by case.

    Both files that ask a trained movie network go to one worker, which trains it once.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            if scope.endswith(('test_film_explain.py', 'test_film_prediction.py')):
                return 'explained'
            return nodeid if scope.endswith('test_bad_input.py') else scope

    return Files(config, log) if config.getvalue('dist') == 'loadfile' else None


@pytest.fixture(scope='session', autouse=True)
def without_small_networks() -> Iterator[None]:
    """Leave features Gabor energies where a test sets nothing: networks take seconds an image.

    Tests of the networks themselves ask for them, or take the function back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('bids_neurodecode.cli.installed.has_packaged', lambda name: False)
        yield


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder with real data and golden results; tests that need it skip where it is not."""
    default = Path(__file__).resolve().parents[2] / 'shared'
    folder = Path(os.environ.get('BIDS_NEURODECODE_SHARED', default))
    if not (folder / 'data').is_dir():
        pytest.skip(f'no folder with real data at {folder} (set BIDS_NEURODECODE_SHARED)')
    return folder


@pytest.fixture(scope='session')
def datasets() -> ModuleType:
    """The module ``tests/datasets.py``: small BIDS datasets described in a dict."""
    # with --import-mode=importlib tests cannot import one another by name
    path = Path(__file__).with_name('datasets.py')
    spec = importlib.util.spec_from_file_location('datasets', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules['datasets'] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def dataset_template(datasets: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Make each kind of dataset once; to be copied, not changed."""
    made = {}

    def make(**changes: Any) -> Any:
        key = repr(sorted(changes.items()))
        if key not in made:
            made[key] = datasets.make_dataset(tmp_path_factory.mktemp('data') / 'raw', **changes)
        return made[key]

    return make


@pytest.fixture
def make_dataset(datasets: ModuleType, dataset_template: Callable, tmp_path: Path) -> Callable:
    """Return a function that writes a small BIDS dataset into the test's own folder."""

    def make(name: str = 'raw', **changes: Any) -> Any:
        template = dataset_template(**changes)
        shutil.copytree(template.root, tmp_path / name)
        return datasets.Dataset(tmp_path / name, template.spec)

    return make
