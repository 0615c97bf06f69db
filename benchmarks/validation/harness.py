"""Count false positives and coverage over simulated data sets, and say what they show.

A check simulates one data set, runs the program's own function on it, and returns what came out.
The unit is the data set: many p values of one data set (voxels, metrics) are averaged first, so
the intervals of the counts do not take neighbours for independent evidence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

LEVELS = (0.05, 0.01, 0.001)
FALSE_POSITIVES = (0.03, 0.07)
COVERAGE = (0.93, 0.97)
"""What a test of level .05 and an interval of 95 % may show (wider only as chance allows)."""

Kind = Literal['p', 'any', 'covers']
Given = ParamSpec('Given')
Found = TypeVar('Found')


@dataclass(frozen=True)
class Check:
    """One statement of the program, and a world in which the right answer is known.

    Parameters
    ----------
    family
        What it belongs to: the heading of its table (``films``, ``identification``).
    name
        The p value or interval that is checked, as the program calls it.
    world
        The simulated data in a few words, with what matters (lengths, AR coefficients).
    kind
        ``p``: ``simulate`` returns one or more p values of null hypotheses that are true (NaN:
        none was given). ``any``: it returns whether anything was called significant although
        nothing is (a family-wise or FDR rate). ``covers``: it returns whether the interval holds
        the true value (NaN: no interval was given), one or more.
    simulate
        Makes one data set from a random generator, and returns the above.
    n
        Data sets of the full validation.
    quick
        Data sets of the part that runs in the tests; 0: not in the tests.
    before
        What was measured before a mend, for the table (share, low, high); None: not measured.
    note
        What is known of a check that does not hold, or not tightly: said at the top of the page.
    """

    family: str
    name: str
    world: str
    kind: Kind
    simulate: Callable[[np.random.Generator], npt.ArrayLike]
    n: int = 2000
    quick: int = 0
    before: tuple[float, float, float] | None = None
    note: str = ''

    @property
    def label(self) -> str:
        """What is checked, as its table names it."""
        what = {'p': 'p', 'any': 'any false positive', 'covers': '95 % interval'}[self.kind]
        return f'{self.name} ({what})'

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its row from others: heading and the first two cells."""
        return self.family, self.label, self.world


@dataclass(frozen=True)
class Share:
    """A share of data sets, (n_sets,) averaged, with its 95 and 99 % intervals."""

    value: float
    low: float
    high: float
    low99: float
    high99: float


@dataclass(frozen=True)
class Result:
    """What a check gave."""

    check: Check
    n_sets: int
    n_refused: int
    seconds: float
    shares: dict[float, Share] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``holds``, ``conservative`` or ``short``: by the whole 99 % interval only."""
        if not self.shares:
            return 'refuses'
        covers = self.check.kind == 'covers'
        share = self.shares[0.95 if covers else 0.05]
        low, high = COVERAGE if covers else FALSE_POSITIVES
        if share.high99 < low:
            return 'short' if covers else 'conservative'
        if share.low99 > high:
            return 'conservative' if covers else 'short'
        return 'holds'


def share_of(values: npt.ArrayLike, each: float = 1) -> Share:
    """Average shares of data sets, each in [0, 1], with Clopper-Pearson or normal intervals.

    Parameters
    ----------
    values
        One share a data set, (n_sets,); where all are 0 or 1 the intervals are exact (binomial),
        else they come from the spread between data sets.
    each
        Numbers behind one share: a few data sets that happen to agree do not spread less than
        as many independent numbers.
    """
    from scipy.stats import binomtest, t

    x = np.asarray(values, dtype=np.float64)
    if np.isin(x, (0, 1)).all():
        test = binomtest(int(x.sum()), x.size)
        wide, wider = (test.proportion_ci(c, method='exact') for c in (0.95, 0.99))
        return Share(float(x.mean()), wide.low, wide.high, wider.low, wider.high)
    mean = float(x.mean())
    independent = mean * (1 - mean) / each
    error = math.sqrt(max(float(x.var(ddof=1)), independent) / x.size)
    half, half99 = (float(t.ppf(q, x.size - 1)) * error for q in (0.975, 0.995))
    return Share(mean, max(0.0, mean - half), mean + half, max(0.0, mean - half99), mean + half99)


class _Clock:
    """Time of the processor, as if no data set had been remembered: all of a world count alike."""

    saved = 0.0

    @classmethod
    def now(cls) -> float:
        return time.process_time() + cls.saved


def once(
    simulate: Callable[Concatenate[np.random.Generator, Given], Found],
) -> Callable[Concatenate[np.random.Generator, Given], Found]:
    """Let checks of the same world share their data sets: what was simulated is remembered.

    Parameters
    ----------
    simulate
        Takes a fresh random generator and hashable arguments; returns something small.
    """
    known: dict[object, tuple[Found, float]] = {}

    @wraps(simulate)
    def remembered(
        rng: np.random.Generator, /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Found:
        key = (str(rng.bit_generator.state), args, tuple(sorted(kwargs.items())))
        if key in known:
            _Clock.saved += known[key][1]
        else:
            began = time.process_time()
            found = simulate(rng, *args, **kwargs)
            known[key] = found, time.process_time() - began
        return known[key][0]

    return remembered


def run_check(check: Check, n_sets: int, seed: int = 0, seconds: float = math.inf) -> Result:
    """Simulate data sets until there are ``n_sets`` or time is up, and count.

    Parameters
    ----------
    check
        What is simulated.
    n_sets
        Number of data sets.
    seed
        Data set k is drawn from the generator of ``(seed, k)``.
    seconds
        No new data set is begun after this many seconds of the processor (those that other checks
        of the world have spent count).
    """
    began = _Clock.now()
    outcomes = []
    for number in range(n_sets):
        if _Clock.now() - began > seconds:
            break
        rng = np.random.default_rng((seed, number))
        outcomes.append(np.atleast_1d(np.asarray(check.simulate(rng), dtype=np.float64)))
    spent = _Clock.now() - began
    given = [x[np.isfinite(x)] for x in outcomes]
    given = [x for x in given if x.size]
    refused = len(outcomes) - len(given)
    if not given:
        return Result(check, len(outcomes), refused, spent)
    each = float(np.mean([x.size for x in given]))
    if check.kind == 'p':
        shares = {a: share_of([np.mean(x <= a) for x in given], each) for a in LEVELS}
    else:
        main = 0.95 if check.kind == 'covers' else 0.05
        shares = {main: share_of([x.mean() for x in given], each)}
    return Result(check, len(outcomes), refused, spent, shares)


COLUMNS = (
    'what is printed',
    'world',
    'data sets',
    'before',
    'now',
    'at .01',
    'at .001',
    'verdict',
)


def table_row(result: Result) -> str:
    """Write one result as a row of a table."""
    check, shares = result.check, result.shares
    main = shares.get(0.95 if check.kind == 'covers' else 0.05)
    now = 'none given' if main is None else f'{main.value:.3f} ({main.low:.3f} to {main.high:.3f})'
    before = '' if check.before is None else '{:.3f} ({:.3f} to {:.3f})'.format(*check.before)
    deeper = [f'{shares[a].value:.4f}' if a in shares else '' for a in LEVELS[1:]]
    sets = f'{result.n_sets}' + (f', {result.n_refused} refused' if result.n_refused else '')
    cells = [check.label, check.world, sets, before, now, *deeper, result.verdict]
    return '| ' + ' | '.join(cells) + ' |'


def rows_of(page: str) -> dict[tuple[str, str, str], str]:
    """Read the rows of a page that was written before, by what they check."""
    rows, family = {}, ''
    for line in page.splitlines():
        if line.startswith('## '):
            family = line[3:].lower()
        cells = line.strip('| ').split(' | ')
        if line.startswith('| ') and cells[0] not in {COLUMNS[0], '---'}:
            rows[family, cells[0], cells[1]] = line
    return rows


def markdown(checks: Sequence[Check], rows: Mapping[tuple[str, str, str], str]) -> str:
    """Write rows as one table per family, after a list of what does not hold tightly.

    Parameters
    ----------
    checks
        All there are, in the order of the page; those without a row are left out.
    rows
        Of :func:`table_row` or :func:`rows_of`.
    """
    done = [check for check in checks if check.key in rows]
    verdicts = {check.key: rows[check.key].rstrip(' |').split(' | ')[-1] for check in done}
    lines: list[str] = []
    if len(done) < len(checks):
        lines += [f'{len(checks) - len(done)} of {len(checks)} checks were not run yet.', '']
    for verdict, words in (
        ('short', 'Short: more false positives, or less coverage, than wanted'),
        ('conservative', 'Conservative: on the safe side, effects are missed'),
        ('refuses', 'No value is given'),
    ):
        mine = [check for check in done if verdicts[check.key] == verdict]
        lines += [f'**{words}** ({len(mine)} of {len(done)} checks).', '']
        for note in dict.fromkeys(check.note for check in mine):
            named = [f'{c.label}: {c.world}' for c in mine if c.note == note]
            lines.append(f'- {"; ".join(named)}.' + (f' {note}' if note else ''))
        lines += [''] if mine else []
    for family in dict.fromkeys(check.family for check in done):
        lines += [f'## {family.capitalize()}', '']
        lines += ['| ' + ' | '.join(COLUMNS) + ' |', '| ' + ' | '.join(['---'] * 8) + ' |']
        lines += [rows[check.key] for check in done if check.family == family]
        lines.append('')
    return '\n'.join(lines)
