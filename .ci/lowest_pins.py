"""Prints a requirement `==` the lower bound for each `>=` of pyproject.toml."""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ('networks', 'test', 'motion')
UNBOUNDED = '{requirement}: a requirement needs a lower bound (>=) to be tested at it.'


def pins(project: dict, extras: tuple[str, ...]) -> list[str]:
    """Return ``name==bound`` for the dependencies and the extras named."""
    given = project['dependencies'] + [
        line for name in extras for line in project['optional-dependencies'][name]
    ]
    lines = []
    for requirement in map(Requirement, given):
        if canonicalize_name(requirement.name) == project['name']:
            continue  # extras that are named here already
        bounds = [s.version for s in requirement.specifier if s.operator == '>=']
        if len(bounds) != 1:
            sys.exit(UNBOUNDED.format(requirement=requirement))
        lines.append(f'{requirement.name}=={bounds[0]}')
    return lines


if __name__ == '__main__':
    file = Path(__file__).parents[1] / 'pyproject.toml'
    sys.stdout.write(
        '\n'.join(pins(tomllib.loads(file.read_text('utf-8'))['project'], EXTRAS)) + '\n'
    )
