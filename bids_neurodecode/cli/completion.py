"""``bids_neurodecode-tools completion``: scripts by which a shell completes both programs."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

SHELLS = ('bash', 'zsh', 'tcsh')
HOW = (
    'Print a script by which the shell completes options, choices and files. For bash: '
    'bids_neurodecode-tools completion bash > ~/.local/share/bash-completion/completions/'
    'bids_neurodecode; the same for bids_neurodecode-tools with --of tools. For zsh: into a file '
    '_bids_neurodecode in a folder of $fpath.'
)


def add_completion_parser(commands: Any, tools: argparse.ArgumentParser) -> None:
    """Add ``completion`` to the sub-commands of a parser, ``tools``.

    Parameters
    ----------
    commands
        Sub-commands that it is added to.
    tools
        The parser whose sub-commands are completed.
    """
    completion = commands.add_parser(
        'completion', help='print the completion script of a shell', description=HOW
    )
    completion.add_argument('shell', choices=SHELLS)
    completion.add_argument(
        '--of', choices=('run', 'tools'), default='run', help='of which program'
    )
    completion.set_defaults(run=partial(_print_completion, tools))


def completion_script(program: argparse.ArgumentParser, shell: str) -> str:
    """Return the script of a shell (shtab's).

    Parameters
    ----------
    program
        The parser of the program that is completed.
    shell
        One of :data:`SHELLS`.
    """
    import shtab

    _complete_files(program)
    return str(shtab.complete(program, shell=shell))


def _complete_files(program: argparse.ArgumentParser) -> None:
    """Let arguments that take a path be completed by files and folders."""
    import shtab

    for action in program._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete_files(child)
        elif str(action.metavar).endswith(('FILE', 'DIR', 'PATH', 'OUT')):
            folder = str(action.metavar).endswith('DIR')
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]


def _print_completion(tools: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from bids_neurodecode.cli import parser

    program = parser.build_parser() if options.of == 'run' else tools
    print(completion_script(program, options.shell))
