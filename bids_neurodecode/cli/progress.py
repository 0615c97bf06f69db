"""What the terminal shows while nodes run: done / total, and the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

LOGGER = logging.getLogger('bids_neurodecode')


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
        How long nodes take beside each other, by their full names; all alike if left out. What
        is left is counted in these, since one step may take longer than all others together.
    """

    total: int
    titles: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)
    reused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __call__(self, node: str, state: str) -> None:
        """Take note of a node's new state."""
        if state == 'started':
            LOGGER.debug('Started %s', self._name(node))
            return
        getattr(self, state).append(node)
        done = len(self.reused) + len(self.finished) + len(self.failed) + len(self.skipped)
        level = logging.ERROR if state == 'failed' else logging.INFO
        LOGGER.log(
            level, '[%*d/%d] %s: %s%s',
            len(str(self.total)), done, self.total, self._name(node), state, self._left(done),
        )  # fmt: skip

    def _name(self, node: str) -> str:
        return self.titles.get(node) or short_name(node)

    def _left(self, done: int) -> str:
        worked = [*self.finished, *self.failed]
        if not worked or done >= self.total:
            return ''
        over = {*worked, *self.reused, *self.skipped}
        left = sum(cost for node, cost in self.costs.items() if node not in over)
        left = left if self.costs else self.total - done
        spent = sum(self.costs.get(node, 1.0) for node in worked)
        seconds = (time.monotonic() - self.start) / spent * left
        return f' (about {clock(seconds)} left)'

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


def clock(seconds: float) -> str:
    """Write a duration as a person reads it.

    Examples
    --------
    >>> clock(75), clock(7260), clock(4)
    ('1 min 15 s', '2 h 1 min', '4 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours} h {minutes} min'
    return f'{minutes} min {rest} s' if minutes else f'{rest} s'
