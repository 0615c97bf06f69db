"""Progress of long steps, as lines of the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bids_neurodecode.text import coarse

EVERY = 15.0
"""Seconds between two lines."""
LOGGER = logging.getLogger('bids_neurodecode')


def log_progress(who: str) -> Callable[[int, int], None]:
    """Return a listener that logs a line now and then, and the last.

    What was done before (a killed run that goes on) does not count as fast.
    """
    started = time.monotonic()
    said = [started]
    first: list[int] = []

    def listen(done: int, total: int) -> None:
        now = time.monotonic()
        first.append(done) if not first else None
        if now - said[0] < EVERY and done < total:
            return
        said[0] = now
        speed = (done - first[0]) / max(now - started, 1e-9)
        rest = total - done
        left = f', about {coarse(rest / speed)} left' if speed > 0 and rest else ''
        LOGGER.info('%s: %.0f %% done%s', who, 100 * done / total, left)

    return listen
