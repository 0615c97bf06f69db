"""What the tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _no_weights_from_outside(monkeypatch):
    monkeypatch.delenv('BIDS_NEURODECODE_WEIGHTS', raising=False)
