"""What the terminal shows while nodes run: done / total, and the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bids_neurodecode.text import clock, coarse

LOGGER = logging.getLogger('bids_neurodecode')
TRUST = 20.0
"""Seconds of work that weigh as much as what was expected of all steps."""


@dataclass
class Progress:
    """Counts nodes and logs a line for each that ends.

    Parameters
    ----------
    total
        Number of nodes.
    titles
        What nodes are called, by their full names; others by :func:`short_name`.
    costs
        About how many seconds nodes take, by their full names; one each if left out. What is
        left is counted in these, since one step may take longer than all others together.
    """

    total: int
    titles: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)
    reused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    worked: dict[str, float] = field(default_factory=dict)

    def __call__(self, node: str, state: str) -> None:
        """Take note of a node's new state."""
        now = time.monotonic()
        if state == 'started':
            self.running[node] = now
            LOGGER.debug('Started %s', self._name(node))
            return
        started = self.running.pop(node, now)
        if state in {'finished', 'failed'}:
            self.worked[node] = now - started
        getattr(self, state).append(node)
        done = len(self.reused) + len(self.finished) + len(self.failed) + len(self.skipped)
        level = logging.ERROR if state == 'failed' else logging.INFO
        LOGGER.log(
            level, '[%*d/%d] %s: %s%s',
            len(str(self.total)), done, self.total, self._name(node), state, self._left(now),
        )  # fmt: skip

    def _name(self, node: str) -> str:
        return self.titles.get(node) or short_name(node)

    def _left(self, now: float) -> str:
        """Say how long the rest takes: steps as slow as those before, as many at once.

        What was expected counts like ``TRUST`` seconds of work, so that the short steps at the
        beginning, in which libraries are loaded, do not speak for a long one. A running step that
        takes longer than expected counts at once, and not only when it ends.
        """
        over = {*self.worked, *self.reused, *self.skipped}
        if not self.worked or len(over) >= self.total:
            return ''
        running = {node: now - start for node, start in self.running.items()}
        spent = TRUST + sum(self.worked.values())
        expected = TRUST + sum(map(self._cost, self.worked))
        late = [node for node in running if running[node] > spent / expected * self._cost(node)]
        spent += sum(running[node] for node in late)
        expected += sum(map(self._cost, late))
        pace = spent / expected
        rest = [
            max(pace * self._cost(node) - running.get(node, 0.0), 0.0)
            for node in self.costs
            if node not in over
        ] or [pace] * (self.total - len(over))
        busy = sum(self.worked.values()) + sum(running.values())
        at_once = max(busy / max(now - self.start, 1e-3), 1.0)
        # the longest step sets a limit, however many run at once
        return f' (about {coarse(max(sum(rest) / at_once, *rest))} left)'

    def _cost(self, node: str) -> float:
        return self.costs.get(node, 1.0)

    def summary(self) -> str:
        """Return one line: what was run, what was reused, how long it took."""
        took = clock(time.monotonic() - self.start)
        line = f'{len(self.finished)} of {self.total} steps were run in {took}'
        if self.reused:
            line += f'; {len(self.reused)} were reused from the work folder'
        if self.failed:
            line += f'; {len(self.failed)} failed'
        if self.skipped:
            line += f'; {len(self.skipped)} could not be run'
        return line + '.'


def short_name(node: str) -> str:
    """Drop the workflow from a node's full name.

    Examples
    --------
    >>> short_name('bids_neurodecode_wf.sub_01_wf.betas')
    'sub-01 betas'
    """
    parts = node.split('.')[1:] or [node]
    return ' '.join(part.replace('sub_', 'sub-').removesuffix('_wf') for part in parts)
