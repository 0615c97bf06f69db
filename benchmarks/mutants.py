"""Change the code a little, many times, and see whether a test notices: ``make mutants``.

``whole`` mutates all of ``samples`` and ``evaluation``, ``sampled`` a seeded sample of the other
rooms that compute. Each change is tried against the fast tests that name its module, then against
the others of its room. What changes are possible mutmut says; a change is written into a copy of
the project, and the tests run in a fork of a process that has imported the large libraries, so
that nothing of the project was imported before. Tests that reach a function through worker
processes of the workflow would be slow, so rooms that only run there (``workflow``, ``cli``) are
left out.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import random
import re
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path

import libcst
import pytest
from mutmut.mutation.file_mutation import Mutation, create_mutations

ROOT = Path(__file__).parents[1]
WHOLE = ('samples.py', 'standardizer.py', 'evaluation/*.py')
SAMPLED = ('signals/*.py', 'explain/*.py', 'systems/**/*.py', 'stimuli/*.py', 'models/*.py')
NOT_MUTATED = {'__init__', 'steps', 'report'}
"""Names of files and folders that only the workflow and the page run."""

COPIED = (
    *('bids_neurodecode', 'tests', 'benchmarks', 'docs', 'README.md', 'LICENSE'),
    *('setup.py', 'pyproject.toml'),
)
THROUGH_WORKERS = ('app', 'cli', 'data', 'workflow')
"""Folders of tests that run the program: slow, and most in processes of their own."""

FAST = ('-x', '-q', '-m', 'not slow and not real', '-p', 'no:cacheprovider', '-p', 'no:randomly')
LARGE = ('torch', 'pandas', 'scipy.stats', 'sklearn.linear_model', 'nilearn.image', 'hypothesis')
"""What is imported once, before the forks."""

LIMIT = 300
"""Seconds of the processor that the tests of one change may take."""

STATES = {
    0: 'survived',
    5: 'no test',
    -signal.SIGXCPU: 'out of time',
    -signal.SIGKILL: 'out of time',
}
"""Of the exit code of the tests (5: all tests that name the module are slow)."""


@dataclass(frozen=True)
class Mutant:
    """A change of one module.

    Parameters
    ----------
    module
        File below the package.
    number
        Place among the changes of the module.
    source
        The changed file.
    diff
        The lines that differ.
    """

    module: str
    number: int
    source: str
    diff: str


def tests_of(module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the test files that name a module, those of its room first, and the rest of the room.

    If none does, it is those of the room.
    """
    room, _, name = module.removesuffix('.py').rpartition('/')
    parent = '.'.join(filter(None, ('bids_neurodecode', *room.split('/'))))
    pattern = re.compile(
        rf'{re.escape(parent)}\.{name}\b|from {re.escape(parent)} import [^\n]*\b{name}\b'
    )
    near = ROOT / 'tests' / room
    while not any(near.glob('test_*.py')):
        near = near.parent
    every = [
        test
        for test in sorted((ROOT / 'tests').rglob('test_*.py'))
        if test.relative_to(ROOT / 'tests').parts[0] not in THROUGH_WORKERS
    ]
    named = [test for test in every if pattern.search(test.read_text('utf-8'))]
    found = named or [test for test in every if test.parent == near]
    found.sort(key=lambda test: (test.parent != near, name not in test.name))
    whole = ROOT / 'tests' / room.split('/')[0]
    others = [test for test in every if test.is_relative_to(whole) and test not in found]
    first, rest = ([x.relative_to(ROOT).as_posix() for x in part] for part in (found, others))
    return tuple(first), tuple(rest)


def changes_of(module: str) -> tuple[libcst.Module, list[Mutation]]:
    """Return the tree of a module and the changes that are possible within its functions."""
    file = ROOT / 'bids_neurodecode' / module
    tree, changes, _, _ = create_mutations(str(file), file.read_text('utf-8'))
    return tree, [change for change in changes if change.contained_by_top_level_function]


def mutants_of(module: str, numbers: Iterable[int]) -> Iterator[Mutant]:
    """Write out some of the changes of a module."""
    tree, changes = changes_of(module)
    for number in numbers:
        change = changes[number]
        changed = tree.deep_replace(change.original_node, change.mutated_node)
        assert isinstance(changed, libcst.Module)
        lines = difflib.unified_diff(
            tree.code.splitlines(), changed.code.splitlines(), n=0, lineterm=''
        )
        diff = '\n'.join(line for line in lines if line[:3] not in {'---', '+++'})
        yield Mutant(module, number, changed.code, diff)


def prepare(folder: Path) -> None:
    """Lay a copy of the project for this process, and import what is large."""
    mine = folder / str(os.getpid())
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, mine / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            mine.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, mine / name)
    sys.path.insert(0, str(mine))
    os.environ['PYTHONPATH'] = str(mine)
    sys.dont_write_bytecode = True
    os.chdir(mine)
    for library in LARGE:
        importlib.import_module(library)


def run_tests(tests: Sequence[str], limit: int = resource.RLIM_INFINITY) -> int:
    """Run tests in a fork and return their exit code (negative: the signal that ended them)."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        out = os.open('tests.log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os._exit(int(pytest.main([*FAST, *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def attempt(mutant: Mutant) -> str:
    """Try one change and return what became of it."""
    file = Path('bids_neurodecode', mutant.module)
    original = file.read_text('utf-8')
    file.write_text(mutant.source, 'utf-8')
    try:
        first, rest = tests_of(mutant.module)
        code = run_tests(first, LIMIT)
        if code == 0 and rest:
            code = run_tests(rest, LIMIT)
    finally:
        file.write_text(original, 'utf-8')
    return STATES.get(code, 'killed')


def drawn(modules: Sequence[str], n: int | None, seed: int) -> Iterator[Mutant]:
    """Yield all changes of modules, or a seeded sample of ``n`` of them, in order."""
    places = [(module, k) for module in modules for k in range(len(changes_of(module)[1]))]
    print(len(places), 'changes are possible', flush=True)
    if n is not None:
        places = sorted(random.Random(seed).sample(places, min(n, len(places))))
    for module, some in groupby(places, itemgetter(0)):
        yield from mutants_of(module, [number for _, number in some])


def main() -> int:
    """Mutate, run, and list what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', choices=('whole', 'sampled'))
    parser.add_argument('--folder', type=Path, default=ROOT / 'build' / 'mutants')
    parser.add_argument('--only', nargs='*', help='modules, such as evaluation/paired.py')
    parser.add_argument('--sample', type=int, default=300)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    package = ROOT / 'bids_neurodecode'
    modules = [
        path.relative_to(package).as_posix()
        for pattern in (WHOLE if args.part == 'whole' else SAMPLED)
        for path in sorted(package.glob(pattern))
        if not NOT_MUTATED & {path.stem, *path.parts}
    ]
    mutants = drawn(modules, args.sample if args.part == 'sampled' else None, args.seed)
    tried = [m for m in mutants if args.only is None or m.module in args.only]
    shutil.rmtree(args.folder, ignore_errors=True)
    counts: dict[str, Counter[str]] = {m.module: Counter() for m in tried}
    with ProcessPoolExecutor(
        args.workers, get_context('spawn'), prepare, (args.folder.resolve(),)
    ) as pool:
        named = {test for mutant in tried for part in tests_of(mutant.module) for test in part}
        tests = sorted(named)
        # a failure says nothing where the tests fail without a change
        if pool.submit(run_tests, tests).result():
            sys.exit('The tests fail without a change: see tests.log below ' + str(args.folder))
        for mutant, state in zip(tried, pool.map(attempt, tried), strict=True):
            counts[mutant.module][state] += 1
            print(f'{state}: {mutant.module} {mutant.number}', flush=True)
            if state != 'killed':
                print(mutant.diff, flush=True)
    for module, found in counts.items():
        print(module, ', '.join(f'{n} {state}' for state, n in sorted(found.items())))
    total = sum(counts.values(), Counter[str]())
    print('all', ', '.join(f'{n} {state}' for state, n in sorted(total.items())))
    return 0


if __name__ == '__main__':
    sys.exit(main())
