"""The Boutiques descriptor, from the parser of the command line, so that the two cannot differ.

Source: Glatard et al. 2018, Boutiques: a flexible framework to integrate command-line applications
in computing platforms; descriptor schema 0.5.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bids_neurodecode._version import __version__
from bids_neurodecode.cli import exits
from bids_neurodecode.cli.parser import PROG, build_parser

SCHEMA = '0.5'
COUNTED = 'counted options are written as many times as they should count, such as -vv'
ERRORS = {
    exits.FAILED: "Some participant or node failed; the others' outputs are complete",
    exits.USAGE: 'Bad arguments or bad input, found before work started',
    exits.NO_REPORT: 'Finished, but a report could not be made',
    exits.INTERRUPTED: 'Interrupted; the same command resumes',
}
OUTPUTS = (
    ('dataset', 'Derivatives dataset', '[OUTPUT_DIR]', False),
    ('reports', 'Reports', '[OUTPUT_DIR]/*.html', True),
    ('metrics', 'Tables of scores', '[OUTPUT_DIR]/sub-*/func/*_metrics.tsv', True),
)
"""Identifier, name, path and whether it is a list."""


def descriptor() -> dict[str, Any]:
    """Return the descriptor: one input for each option, in the order of ``--help``."""
    parser = build_parser()
    # of options that set the same (--mem, --mem-gb, --mem-mb) the first stands for all
    first = {a.dest: a for a in reversed(parser._actions) if _is_input(a)}
    actions = [action for action in parser._actions if first.get(action.dest) is action]
    keys = ' '.join(f'[{action.dest.upper()}]' for action in actions)
    return {
        'name': PROG,
        'description': ' '.join((parser.description or '').split()),
        'tool-version': __version__,
        'schema-version': SCHEMA,
        'author': 'The bids_neurodecode developers',
        'command-line': f'{PROG} {keys}',
        'container-image': {'type': 'docker', 'image': f'{PROG}:{__version__}'},
        'inputs': [_input(action) for action in actions],
        'groups': _groups(parser),
        'output-files': [
            {
                'id': name,
                'name': title,
                'path-template': path,
                'optional': is_list,
                'list': is_list,
            }
            for name, title, path, is_list in OUTPUTS
        ],
        'error-codes': [{'code': code, 'description': text} for code, text in ERRORS.items()],
        'suggested-resources': {'cpu-cores': 2, 'ram': 8},
        'tags': {'domain': ['neuroinformatics', 'fmri', 'bids-app']},
    }


def descriptor_json() -> str:
    """Return the descriptor as the text of ``boutiques.json``."""
    return json.dumps(descriptor(), indent=2, ensure_ascii=False) + '\n'


def _is_input(action: argparse.Action) -> bool:
    """Tell options of a run from those that only print something, or do nothing."""
    return action.dest not in {'help', 'version', 'notrack'}


def _input(action: argparse.Action) -> dict[str, Any]:
    """Describe one argument or option."""
    flag = max(action.option_strings, key=len, default='')
    entry: dict[str, Any] = {
        'id': action.dest,
        'name': flag.lstrip('-') or str(action.metavar or action.dest),
        'description': action.help or '',
        'value-key': f'[{action.dest.upper()}]',
        'optional': not action.required,
    }
    if isinstance(action, argparse._CountAction):
        # a flag cannot be given twice in Boutiques
        letter = min(action.option_strings, key=len)
        choices = ['-' + letter.lstrip('-') * n for n in (1, 2, 3)]
        return entry | {
            'type': 'String',
            'value-choices': choices,
            'description': f'{entry["description"]}; {COUNTED}',
        }
    if flag:
        entry['command-line-flag'] = flag
    if action.nargs == 0:
        return entry | {'type': 'Flag'}
    if action.choices is not None:
        return entry | {'type': 'String', 'value-choices': list(action.choices)}
    if action.nargs == '+':
        entry['list'] = True
    return entry | _value_type(action)


def _value_type(action: argparse.Action) -> dict[str, Any]:
    """Find the type of a value by what the parser makes of it."""
    if not callable(action.type):
        return {'type': 'String'}
    if isinstance(_parsed(action, '1'), Path):
        return {'type': 'File'}
    if isinstance(_parsed(action, '1'), int):
        low = 0 if _parsed(action, '0') == 0 else 1
        return {'type': 'Number', 'integer': True, 'minimum': low}
    return {'type': 'String'}


def _parsed(action: argparse.Action, text: str) -> Any:
    """Return what the parser makes of a value, or None if it refuses it."""
    convert: Any = action.type
    try:
        return convert(text)
    except argparse.ArgumentTypeError:
        return None


def _groups(parser: argparse.ArgumentParser) -> list[dict[str, Any]]:
    """Describe the options of which only one may be given."""
    return [
        {
            'id': f'exclusive_{number}',
            'name': ' or '.join(f'--{a.dest.replace("_", "-")}' for a in group._group_actions),
            'members': [action.dest for action in group._group_actions],
            'mutually-exclusive': True,
        }
        for number, group in enumerate(parser._mutually_exclusive_groups, start=1)
    ]
