"""The base of every interface: load, call one function, save; time and memory on the side."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nipype.interfaces.base import SimpleInterface

from bids_neurodecode.bids.sink import write_text

STAGE_FILE = 'stage.json'


class Stage(SimpleInterface):
    """An interface whose :meth:`_compute` returns its outputs.

    Beside them it leaves ``stage.json`` in its folder: wall seconds and peak memory (GB).
    """

    @abstractmethod
    def _compute(self, folder: Path) -> dict[str, object]:
        """Load the inputs, call one function, save into ``folder``; return the outputs."""

    def _run_interface(self, runtime: Any) -> Any:
        folder = Path(runtime.cwd)
        with measured(folder / STAGE_FILE):
            self._results.update(self._compute(folder))
        return runtime


@contextmanager
def measured(file: Path) -> Iterator[None]:
    """Write the wall time and the peak resident memory of the block to a JSON file."""
    _reset_peak()
    start = time.perf_counter()
    yield
    content = {'seconds': round(time.perf_counter() - start, 3), 'memory_gb': _peak_gb()}
    write_text(file, json.dumps(content))


def _reset_peak() -> None:
    """Let the kernel count this process's peak anew (Linux; a container may forbid it)."""
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')
    except OSError:
        return


def _peak_gb() -> float | None:
    """Return the peak resident memory in GB since the last reset; None where it is not known."""
    status = Path('/proc/self/status')
    if not status.exists():
        return None
    for line in status.read_text(encoding='ascii').splitlines():
        if line.startswith('VmHWM:'):
            return round(int(line.split()[1]) / 1024**2, 3)
    return None
