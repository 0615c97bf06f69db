"""``bids_neurodecode-tools``: what helps before and around a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bids_neurodecode._version import __version__
from bids_neurodecode.cli.datasets import add_datasets_parser
from bids_neurodecode.cli.exits import reader_is_gone
from bids_neurodecode.cli.parser import Parser
from bids_neurodecode.cli.score import add_score_parser
from bids_neurodecode.cli.settings_files import add_settings_parsers, add_studies_parser
from bids_neurodecode.cli.slurm import add_slurm_parser
from bids_neurodecode.cli.values import dashed
from bids_neurodecode.cli.weights import add_weights_parser
from bids_neurodecode.errors import ArgumentsError, NeurodecodeError

EXIT_OK = 0
EXIT_ARGUMENTS = 2
EXIT_INTERRUPTED = 130
INTERRUPTED = 'Interrupted: what had been written was removed.'

DEMO_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    'n-subjects': (int, 'participants', '2; films: 4'),
    'n-sessions': (int, 'sessions of each participant', '1'),
    'n-runs': (int, 'runs a session', '6; films: 2'),
    'n-images': (int, 'how many different images there are (images)', '100'),
    'n-repeats': (
        int,
        'how often each image or film is shown, in different runs',
        '3; films: 1',
    ),
    'film-duration': (float, 'length of each film in seconds (movie)', '240'),
    'repetition-time': (float, 'seconds from volume to volume', '2'),
    'stimulus-duration': (float, 'seconds that an image is shown (images)', '2'),
    'voxel-size': (float, 'voxel size in mm, at least 4', '9'),
    'space': (
        str,
        (
            'space of the series: MNI152NLin2009aSym, MNI152NLin6Asym, T1w, fsaverage5, '
            'fsLR:den-91k or parcels'
        ),
        'MNI152NLin2009aSym',
    ),
    'snr': (float, "factor on every voxel's signal-to-noise ratio; 0 plants no signal", '1'),
    'noise-sd': (float, 'deviation of the noise in percent signal', '1'),
    'imagery-runs': (
        int,
        'further runs (task-imagery) in which each image is imagined once',
        '0',
    ),
    'imagery-gain': (
        float,
        'responses to imagined images, as a share of those to seen ones',
        '0.5',
    ),
    'seed': (int, 'the same seed gives the same bytes', '20260101'),
    'stimuli-dir': (Path, "a folder with one's own images or films, instead of made ones", 'none'),
    'noise-from': (
        Path,
        'a real run (4-D NIfTI) whose phase-randomised residuals are the noise',
        'none',
    ),
}
"""Options of ``demo`` that set the field of the same name of ``SimulationSpec``: what reads a
value, what it means, and its default (written out, as the help imports no settings)."""
SHELLS = ('bash', 'zsh', 'tcsh')
HOW = (
    'Print a script by which the shell completes options, choices and files. For bash: '
    'bids_neurodecode-tools completion bash > ~/.local/share/bash-completion/completions/'
    'bids_neurodecode; the same for bids_neurodecode-tools with --of tools. For zsh: into a file '
    '_bids_neurodecode in a folder of $fpath.'
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog='bids_neurodecode-tools',
        description='Simulated and published datasets, presets, files of settings, pretrained '
        'weights, scores of other programs, and scripts for clusters.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    _add_demo(commands)
    add_settings_parsers(commands)
    _add_systems(commands)
    add_studies_parser(commands)
    add_datasets_parser(commands)
    add_weights_parser(commands)
    add_score_parser(commands)
    add_slurm_parser(commands)
    _add_boutiques(commands)
    add_completion_parser(commands, parser)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        'demo',
        help='make a simulated BIDS dataset whose truth is known',
        description='Make a simulated BIDS dataset with derivatives, and the truth beside them '
        '(derivatives/simulated-truth).',
    )
    demo.add_argument('out', type=Path, metavar='OUT', help='folder to write: absent or empty')
    demo.add_argument(
        '--paradigm',
        choices=('images', 'movie'),
        default='images',
        help='what is shown: single images, or films (default: images)',
    )
    for name, (kind, text, default) in DEMO_OPTIONS.items():
        about = f'{text} (default: {default})'
        demo.add_argument(f'--{name}', type=kind, help=about, metavar=kind.__name__.upper())
    demo.add_argument(
        '--isi',
        type=float,
        nargs=2,
        metavar=('MIN', 'MAX'),
        help='shortest and longest pause in seconds (images; default: 2 4)',
    )
    demo.add_argument(
        '--off-grid',
        action='store_true',
        help='onsets between volumes (images; default: at volumes)',
    )
    demo.set_defaults(run=_demo)


def _add_systems(commands: Any) -> None:
    systems = commands.add_parser('systems', help='list the systems, and what other packages add')
    systems.set_defaults(run=_list_systems)


def _add_boutiques(commands: Any) -> None:
    boutiques = commands.add_parser(
        'boutiques', help='print the Boutiques descriptor (boutiques.json) of the program'
    )
    boutiques.set_defaults(run=_boutiques)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process if left out.

    Returns
    -------
    int
        0 all well, 1 a check failed, 2 bad arguments or input, 130 interrupted.
    """
    try:
        words = sys.argv[1:] if argv is None else argv
        options = build_parser().parse_args([dashed(word) for word in words])
    except SystemExit:  # argparse leaves by itself after --help and --version
        return EXIT_OK
    except ArgumentsError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_ARGUMENTS
    try:
        code: int = options.run(options) or EXIT_OK
        sys.stdout.flush()
    except BrokenPipeError:
        return reader_is_gone()
    except NeurodecodeError as error:
        print(f'{options.command}: {error}', file=sys.stderr)
        return EXIT_ARGUMENTS
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def _demo(options: argparse.Namespace) -> None:
    from bids_neurodecode.simulate.dataset import simulate_dataset
    from bids_neurodecode.simulate.spec import build_spec

    names = [name.replace('-', '_') for name in DEMO_OPTIONS]
    values = {name: getattr(options, name) for name in [*names, 'isi']}
    given = {name: value for name, value in values.items() if value is not None}
    if options.off_grid:
        given['on_grid'] = False
    spec = build_spec(paradigm=options.paradigm, **given)
    simulate_dataset(options.out, spec, report=print)
    print(f'dataset: {options.out}')


def _list_systems(options: argparse.Namespace) -> None:
    del options
    from bids_neurodecode.extensions import (
        EXTRACTORS,
        GENERATORS,
        OWN,
        RECIPES,
        find_system,
        installed,
        system_named,
    )

    for name in OWN:
        print(f'{name}: {system_named(name).summary}')
    print('settings: a group of the same name in a TOML file (bids_neurodecode-tools config init)')
    for name, point in installed().items():
        try:
            system = find_system(name)
        except ArgumentsError as error:
            print(error)
            continue
        if system is None:
            continue
        print(f'{name} ({point.value}): for {", ".join(system.paradigms)}')
        fields = {} if system.settings is None else system.settings.model_fields
        for key, field in fields.items():
            print(f'  extensions.{name}.{key} = {field.default!r}')
    for group in (EXTRACTORS, GENERATORS, RECIPES):
        kind = group.rpartition('.')[2].removesuffix('s')
        for name, point in installed(group).items():
            print(f'{kind} {name} ({point.value})')


def _boutiques(options: argparse.Namespace) -> None:
    del options
    from bids_neurodecode.cli.boutiques import descriptor_json

    print(descriptor_json(), end='')


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


if __name__ == '__main__':
    sys.exit(main())
