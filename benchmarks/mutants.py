"""Change the code a little, many times, and see whether a test notices: ``make mutants``.

``whole`` mutates all of ``samples`` and ``evaluation``, ``sampled`` a seeded sample of the other
rooms that compute. Each module is tried against the fast tests nearest to it: those of its room
that name it. Tests that reach a function through worker processes of the workflow are not seen by
the tool, so rooms that only run there (``workflow``, ``cli``) are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tomli_w

ROOT = Path(__file__).parents[1]
WHOLE = ('samples.py', 'standardizer.py', 'evaluation/*.py')
SAMPLED = ('signals/*.py', 'explain/*.py', 'systems/*.py', 'stimuli/*.py', 'models/*.py')
COPIED = ('bids_neurodecode', 'tests', 'benchmarks', 'docs', 'README.md', 'LICENSE', 'setup.py')
FAST = ('-m', 'not slow and not real', '-p', 'no:randomly')

STATES: dict[int | None, str] = {
    **dict.fromkeys((1, 3), 'killed'),
    0: 'survived',
    **dict.fromkeys((5, 33), 'no test'),
    **dict.fromkeys((-24, 24, 36, 152, 255), 'out of time'),
    None: 'not run',
}
"""Of the exit code of the tests; anything else is a crash."""


def tests_of_room(module: str) -> tuple[str, ...]:
    """Return all test files of the room of a module."""
    room = module.rpartition('/')[0]
    return tuple(
        test.relative_to(ROOT).as_posix()
        for test in sorted((ROOT / 'tests' / room).glob('test_*'))
    )


def nearest(module: str) -> tuple[str, ...]:
    """Return the test files of the room of a module that name it; all of them if none does."""
    room, _, name = module.removesuffix('.py').rpartition('/')
    tests = tests_of_room(module)
    parent = '.'.join(filter(None, ('bids_neurodecode', room)))
    pattern = re.compile(rf'{parent}\.{name}\b|from {parent} import [^\n]*\b{name}\b')
    return tuple(test for test in tests if pattern.search((ROOT / test).read_text())) or tests


def prepare(folder: Path, modules: Iterable[str], tests: Sequence[str]) -> None:
    """Lay a copy of the project whose configuration says what is mutated."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name)
    config = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    config['tool']['mutmut'] = {
        'source_paths': ['bids_neurodecode'],
        'only_mutate': [f'bids_neurodecode/{module}' for module in modules],
        'pytest_add_cli_args': list(FAST),
        'pytest_add_cli_args_test_selection': list(tests),
        'also_copy': [name for name in COPIED if name != 'bids_neurodecode'],
        # what an error says is tested by its constant, not word by word
        'do_not_mutate_patterns': [r'^\s*raise \w*Error\(', r'^\s*(logger|warnings)\.'],
    }
    (folder / 'pyproject.toml').write_text(tomli_w.dumps(config))


def mutmut(folder: Path, *words: str) -> str:
    """Run the tool in a prepared folder and return what it prints."""
    done = subprocess.run(
        [sys.executable, '-m', 'mutmut', *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def outcomes(folder: Path) -> dict[str, int | None]:
    """Return the exit code of the tests of each mutant (None: not run)."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / 'mutants' / 'bids_neurodecode').rglob('*.py.meta')):
        found |= json.loads(path.read_text())['exit_code_by_key']
    return found


def attempt(
    folder: Path, wanted: Mapping[str, Sequence[str]], tests: Sequence[str], workers: int
) -> dict[str, str]:
    """Try mutants (by module; none named: all of it) and return what became of each."""
    prepare(folder, wanted, tests)
    names = [name for some in wanted.values() for name in some]
    log = mutmut(folder, 'run', '--max-children', str(workers), *names)
    (folder / 'log.txt').write_text(log)
    found = outcomes(folder)
    states = {name: STATES.get(found[name], 'killed (ended)') for name in names or found}
    # the tool sets a mutant after the import: what runs while importing is tried in a new process
    functions = defaultdict(list)
    for name, state in states.items():
        functions[name.rsplit('__mutmut_', 1)[0]].append((name, state))
    for members in functions.values():
        if not any(state.startswith('killed') for _, state in members):
            states |= {name: alone(folder, name, tests) or state for name, state in members}
    return states


def alone(folder: Path, name: str, tests: Sequence[str]) -> str | None:
    """Run the tests of one mutant in a process of its own; None if they pass."""
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-x', '-q', *FAST, *tests],
        cwd=folder / 'mutants',
        env=os.environ | {'MUTANT_UNDER_TEST': name},
        capture_output=True,
        check=False,
        timeout=600,
    )
    return 'killed (import)' if done.returncode else None


def names_of(folder: Path, modules: Sequence[str]) -> list[str]:
    """Return the names of all mutants of modules; nothing is tried."""
    prepare(folder, modules, ['tests/test_tables.py'])
    mutmut(folder, 'run', '--max-children', '1', 'none')
    return sorted(outcomes(folder))


def module_of(name: str) -> str:
    """Return the file of a mutant, as in :data:`WHOLE`."""
    *module, _ = name.split('.')
    return '/'.join(module[1:]) + '.py'


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
    patterns = WHOLE if args.part == 'whole' else SAMPLED
    modules = [
        path.relative_to(package).as_posix()
        for pattern in patterns
        for path in sorted(package.glob(pattern))
        if path.name != '__init__.py'
    ]
    wanted: dict[str, list[str]] = {module: [] for module in modules}
    if args.part == 'sampled':
        names = names_of(args.folder / 'names', modules)
        drawn = sorted(random.Random(args.seed).sample(names, args.sample))
        wanted = {m: [n for n in drawn if module_of(n) == m] for m in modules}
        wanted = {module: names for module, names in wanted.items() if names}
    if args.only:
        wanted = {module: wanted[module] for module in args.only}
    groups: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(dict)
    for module, names in wanted.items():
        groups[nearest(module)][module] = names
    total: Counter[str] = Counter()
    for number, (tests, some) in enumerate(groups.items()):
        folder = args.folder / args.part / str(number)
        states = attempt(folder, some, tests, args.workers)
        for module in some:
            mine = {n: state for n, state in states.items() if module_of(n) == module}
            counts = Counter(mine.values())
            total += counts
            print(module, ', '.join(f'{n} {state}' for state, n in sorted(counts.items())))
            for name, state in mine.items():
                if not state.startswith('killed'):
                    print(f'  {state}\t{name}', flush=True)
    print('all', ', '.join(f'{n} {state}' for state, n in sorted(total.items())))
    return 0


if __name__ == '__main__':
    sys.exit(main())
