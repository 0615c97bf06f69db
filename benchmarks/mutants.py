"""Change the code a little, many times, and see whether a test notices: ``make mutants``.

All of ``samples`` and ``evaluation`` is mutated, and a seeded sample of the other rooms that
compute. Tests that reach a function through worker processes of the workflow are not seen by the
tool, so rooms that only run there (``workflow``, ``cli``) are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import tomli_w

ROOT = Path(__file__).parents[1]
WHOLE = (
    'bids_neurodecode/samples.py',
    'bids_neurodecode/standardizer.py',
    'bids_neurodecode/evaluation/*',
)
SAMPLED = tuple(
    f'bids_neurodecode/{room}/*' for room in ('signals', 'explain', 'systems', 'stimuli', 'models')
)
TESTS = {
    'whole': ('tests/evaluation', 'tests/test_samples.py', 'tests/systems/test_reconstruction.py'),
    'sampled': tuple(
        f'tests/{room}' for room in ('signals', 'explain', 'systems', 'stimuli', 'models')
    ),
}
COPIED = ('bids_neurodecode', 'tests', 'benchmarks', 'docs', 'README.md', 'LICENSE', 'setup.py')

STATES = {1: 'killed', 3: 'killed', 0: 'survived', 5: 'no test', 33: 'no test', None: 'not run'}
"""Of the exit code of the tests; anything else is a crash or ran out of time."""


def prepare(folder: Path, part: str) -> None:
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
        'only_mutate': list(WHOLE if part == 'whole' else SAMPLED),
        'pytest_add_cli_args': ['-m', 'not slow and not real', '-p', 'no:randomly'],
        'pytest_add_cli_args_test_selection': list(TESTS[part]),
        'also_copy': [name for name in COPIED if name != 'bids_neurodecode'],
        # a test that reaches a function over many floors does not say what the function does
        'max_stack_depth': -1 if part == 'whole' else 8,
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


def main() -> int:
    """Mutate, run, and list what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', choices=('whole', 'sampled'))
    parser.add_argument('--folder', type=Path, default=ROOT / 'build' / 'mutants')
    parser.add_argument('--sample', type=int, default=300)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    folder = args.folder / args.part
    prepare(folder, args.part)
    wanted: list[str] = []
    if args.part == 'sampled':
        mutmut(folder, 'run', '--max-children', '1', 'none')
        wanted = sorted(random.Random(args.seed).sample(sorted(outcomes(folder)), args.sample))
    log = mutmut(folder, 'run', '--max-children', str(args.workers), *wanted)
    (folder / 'log.txt').write_text(log)
    found = outcomes(folder)
    states = {name: STATES.get(found[name], 'killed (ended)') for name in wanted or found}
    for state, count in Counter(states.values()).items():
        print(f'{count:5d} {state}')
    for name, state in states.items():
        if not state.startswith('killed'):
            print(f'{state}\t{name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
