"""What several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder with real data and golden results; tests that need it skip where it is not."""
    default = Path(__file__).resolve().parents[2] / 'shared'
    folder = Path(os.environ.get('BIDS_NEURODECODE_SHARED', default))
    if not (folder / 'data').is_dir():
        pytest.skip(f'no folder with real data at {folder} (set BIDS_NEURODECODE_SHARED)')
    return folder
