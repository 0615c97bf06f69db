"""``bids_neurodecode-tools datasets``: what is known of published datasets, and what one lacks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import ArgumentsError, NeurodecodeError

if TYPE_CHECKING:
    from bids_neurodecode.bids.recipes import Recipe
    from bids_neurodecode.cli.parser import Arguments

ELSEWHERE = 'derivatives/*/'
"""What patterns of derivatives start with; they are looked for in those named on the way, too."""

NOT_KNOWN = (
    'No recipe knows {folder}: it is read as any BIDS dataset. Known: {known}. To write one, '
    'start from bids_neurodecode-tools datasets show NAME.'
)
THERE = 'there     {what}'
MISSING = 'missing   {what}: {get}.'
READY = 'A run would read this (nothing was run, and no series was read):'
NOT_READY = 'A run would say: {reason}'


def list_datasets(options: Any) -> int:
    """Print the recipes, a line each; one that cannot be read is a line among the errors.

    Returns
    -------
    int
        0, or 1 if one of the user's own cannot be read.
    """
    from bids_neurodecode.bids.recipes import read_usable, recipe_files

    del options
    code = 0
    for name, file in recipe_files().items():
        try:
            recipe = read_usable(name, file)
        except ArgumentsError as error:
            print(f'datasets: {error}', file=sys.stderr)
            code = 1
            continue
        if recipe is not None:
            print(f'{name}: {recipe.content.title}, {recipe.content.source}')
    return code


def show_dataset(options: Any) -> None:
    """Print a recipe as its file says it."""
    from bids_neurodecode.bids.recipes import read_recipe

    print(read_recipe(options.name).file.read_text('utf-8'), end='')


def check_dataset(options: Any) -> int:
    """Print what a dataset is, what it lacks, how to get that, and what a run would read.

    Returns
    -------
    int
        0 if a run can begin, else 1.
    """
    from bids_neurodecode.bids.recipes import note_of, recipe_files, recognise
    from bids_neurodecode.cli.parser import parse_arguments, settings_from

    with TemporaryDirectory() as empty:
        words = [options.data, f'{empty}/out', 'participant', '-w', f'{empty}/work']
        arguments = parse_arguments([*words, *options.options])
        recipe = recognise(arguments.bids_dir, arguments.recipe)
        config = settings_from(arguments)
        if recipe is None:
            known = ', '.join(recipe_files())
            print(NOT_KNOWN.format(folder=arguments.bids_dir, known=known))
        else:
            print(note_of(recipe, arguments.task_id, config))
            for line in _needs(recipe, arguments):
                print(line)
        return _try(arguments, config)


def _try(arguments: Arguments, config: Any) -> int:
    """Find what a run would read."""
    from bids_neurodecode.bids.query import find_inputs
    from bids_neurodecode.cli.checks import request_of

    try:
        inputs = find_inputs(request_of(arguments, config))
    except NeurodecodeError as error:
        print(NOT_READY.format(reason=error))
        return 1
    lines = [*inputs.notes, *(f'sub-{who}: {why}' for who, why in inputs.failures.items())]
    print('\n  '.join([READY, *lines]))
    return 0


def _needs(recipe: Recipe, arguments: Arguments) -> Iterator[str]:
    """Say of each thing that is needed whether it is there."""
    stimuli = arguments.stimuli_dir or arguments.bids_dir / 'stimuli'
    for need in recipe.content.needs:
        places = [(arguments.bids_dir, pattern) for pattern in need.files]
        places += [(stimuli, pattern) for pattern in need.stimuli]
        places += [
            (folder, pattern.removeprefix(ELSEWHERE))
            for pattern in need.files
            for folder in arguments.derivatives.values()
            if pattern.startswith(ELSEWHERE)
        ]
        there = any(_holds(folder, pattern) for folder, pattern in places)
        yield (THERE if there else MISSING).format(what=need.what, get=need.get)


def _holds(folder: Path, pattern: str) -> bool:
    return folder.is_dir() and next(folder.glob(pattern), None) is not None


def add_datasets_parser(subparsers: Any) -> None:
    """Add ``datasets`` to the sub-commands of a parser."""
    parser = subparsers.add_parser(
        'datasets', help='list the published datasets that are recognised, or check one'
    )
    actions = parser.add_subparsers(dest='action', required=True, metavar='{list,show,check}')
    listing = actions.add_parser('list', help='names of all recipes, and where the data are')
    listing.set_defaults(run=list_datasets)
    show = actions.add_parser('show', help='a recipe as TOML: a start for one of your own')
    show.add_argument('name', metavar='NAME_OR_FILE')
    show.set_defaults(run=show_dataset)
    check = actions.add_parser(
        'check', help='what a dataset was recognised as, what is missing, and how to get it'
    )
    check.add_argument('data', metavar='DATA', help='the folder of the dataset')
    check.add_argument(
        'options',
        nargs=argparse.REMAINDER,
        metavar='...',
        help='options of bids_neurodecode, such as --derivatives NAME=PATH and --stimuli-dir DIR',
    )
    check.set_defaults(run=check_dataset)
