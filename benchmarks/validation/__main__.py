"""Run the checks and write ``docs/validation.md``: ``python -m benchmarks.validation``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import benchmarks.validation as package
from benchmarks.validation.harness import Check, Result, markdown, rows_of, run_check, table_row

PAGE = Path(__file__).parents[2] / 'docs' / 'validation.md'
HEAD = """# Validation

Every p value and every interval that the program prints, on simulated data where the right
answer is known. A p value should be at most .05 in 3 to 7 % of data sets without an effect, and a
95 % interval should hold the true value in 93 to 97 %. Each share stands with its 95 % interval
(binomial, or over data sets where one data set gives many values). *short*: the whole 99 %
interval lies outside of what is wanted, on the wrong side; *conservative*: on the safe side;
*holds*: neither, so where data sets are few it says little; *refuses*: the program gives no value
there. Shares at .01 and .001 are of the same data sets
(0 also where so few permutations were drawn that p cannot be that small). *before*: what the
program, or the test it had in this place, gave before it was fixed. Networks are judged by the
functions that are checked here with ridge and banded ridge; they were not run themselves.

Where folds share training samples, nulls and intervals of encoding and of films are widened by a
bound: expect 2 to 4 % of false positives there, not 5, and intervals that are somewhat too wide.

Regenerate with `make validate` (`ARGS="--only films"` for a part).

"""


def all_checks() -> list[Check]:
    """Collect ``CHECKS`` of every module of the package, in order of name."""
    modules = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    found = (
        importlib.import_module(f'{package.__name__}.{name}')
        for name in modules
        if name not in {'__main__', 'harness'}
    )
    return [check for module in found for check in module.CHECKS]


def _run(place: tuple[int, int, float]) -> Result:
    number, n_sets, seconds = place
    return run_check(all_checks()[number], n_sets, seconds=seconds)


def main() -> int:
    """Run them, two at a time, write the page after each, and say which fall short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='', help='part of a family or a name')
    parser.add_argument('--share', type=float, default=1.0, help='share of the data sets')
    parser.add_argument('--seconds', type=float, default=60, help='processor time of one check')
    parser.add_argument('--processes', type=int, default=2, help='checks at a time')
    parser.add_argument('--output', type=Path, default=PAGE)
    args = parser.parse_args()
    checks = all_checks()
    jobs = [
        (number, max(2, round(args.share * check.n)), args.seconds)
        for number, check in enumerate(checks)
        if args.only in f'{check.family} {check.name} {check.world}'
    ]
    # a part of the checks leaves the rows of the others as they are
    kept = args.output.exists() and len(jobs) < len(checks)
    rows = rows_of(args.output.read_text('utf-8')) if kept else {}
    results = []
    with ProcessPoolExecutor(args.processes) as pool:
        for result in pool.map(_run, jobs):
            results.append(result)
            print(f'{result.seconds:6.0f} s  {result.verdict:12s} {result.check.name}', flush=True)
            # what is done is kept when the rest is cut off
            rows[result.check.key] = table_row(result)
            args.output.write_text(HEAD + markdown(checks, rows), 'utf-8')
    return 1 if any(r.verdict == 'short' for r in results) else 0


if __name__ == '__main__':
    sys.exit(main())
