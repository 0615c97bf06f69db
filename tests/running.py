"""How tests run the program: nodes in their own process, and pages left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = ['--use-plugin', str(Path(__file__).with_name('data') / 'here.yml')]
"""Options that run nodes in the test's own process: a worker imports for seconds."""
WORKERS = ['--nprocs', '1']
"""Options that run nodes in a worker.

Small generators, conditions, groups of images, :mod:`.test_resilience`, :mod:`.test_extension` and
the films of :mod:`.test_science` do: each kind of step is seen to leave the process that plans it.
"""


@contextmanager
def without_pages() -> Iterator[None]:
    """Leave the pages of participants and groups empty: they take longer than all else.

    Of runs in this process.
    """
    with pytest.MonkeyPatch.context() as patch:
        for writer in (
            'participant_page.write_participant_report',
            'group_page.write_group_report',
        ):
            patch.setattr(f'bids_neurodecode.levels.{writer}', _write_nothing)
        yield


def _write_nothing(_: object, html: Path, *__: object, **___: object) -> None:
    html.write_text('')
