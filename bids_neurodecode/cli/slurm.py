"""``bids_neurodecode-tools slurm``: the script of a Slurm job array, one participant a task."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from bids_neurodecode.cli.values import count_value, label_value, memory_value, path_value
from bids_neurodecode.errors import ArgumentsError, InputError

BAD_TIME = '{text!r} is no time limit of Slurm; give minutes, H:M:S or D-H, such as 8:00:00'
NO_PARTICIPANTS = 'There are no participants (sub-*) in {folder}. Check BIDS_DIR.'
UNKNOWN = 'There is no participant {labels} in {folder}. There are {known}.'
NO_PROGRAM = (
    'There is no program {file}. Give the folder of a virtual environment with --environment, '
    'or an image with --image.'
)
NO_IMAGE = 'There is no image {file}. Build it first, or correct --image.'
MEMORY_SHARE = 0.9
"""What the program may plan with; the rest is for what it cannot foresee."""

TEMPLATE = """\
#!/bin/bash
# One participant a task. Submit it with sbatch, again to go on where a time limit stopped it.
# When all tasks have ended well, the group level:
#   {group}
#SBATCH --job-name=bids_neurodecode
#SBATCH --array=0-{last}{at_once}
#SBATCH --time={time}
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}M
{extra}#SBATCH --output=bids_neurodecode-%A_%a.log
set -euo pipefail

participants=({labels})
label=${{participants[$SLURM_ARRAY_TASK_ID]}}
{before}
# exec: the signal before the time limit reaches the program itself, which stops in good order
exec {command} \\
  --participant-label "$label"{options}
"""


def add_slurm_parser(subparsers: Any) -> None:
    """Add ``slurm`` to the sub-commands of a parser."""
    parser = subparsers.add_parser(
        'slurm',
        help='print the script of a Slurm job array, one participant a task',
        description='Print the script of a Slurm job array, one participant a task. '
        'Nothing is submitted.',
    )
    parser.add_argument('bids_dir', type=path_value, metavar='BIDS_DIR')
    parser.add_argument('output_dir', type=path_value, metavar='OUTPUT_DIR')
    parser.add_argument(
        '--options',
        type=shlex.split,
        default=[],
        metavar='TEXT',
        help='options of bids_neurodecode itself, as --options="--system encoding -v"',
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--image', type=path_value, metavar='SIF', help='run this image with Apptainer'
    )
    where.add_argument(
        '--environment',
        type=path_value,
        metavar='DIR',
        default=Path(sys.prefix),
        help='or the program of this virtual environment (default: the one this runs in)',
    )
    parser.add_argument(
        '--bind',
        action='append',
        default=[],
        metavar='PATH',
        help='further folders that the image should see, such as derivatives (repeatable)',
    )
    parser.add_argument(
        '--participant-label', nargs='+', default=[], type=label_value('sub'), metavar='LABEL'
    )
    parser.add_argument('-w', '--work-dir', type=path_value, default='work', metavar='DIR')
    parser.add_argument('--time', type=_time, default='8:00:00', help='time limit of a task')
    parser.add_argument('--cpus', type=count_value(1), default=4, metavar='N', help='of a task')
    parser.add_argument(
        '--mem', type=memory_value, default='16G', metavar='SIZE', help='of a task'
    )
    parser.add_argument('--gpus', type=count_value(0), default=0, metavar='N', help='of a task')
    parser.add_argument('--at-once', type=count_value(1), metavar='N', help='tasks at a time')
    parser.add_argument('--partition', metavar='NAME')
    parser.add_argument('--account', metavar='NAME')
    parser.set_defaults(run=_print_script)


def _time(text: str) -> str:
    if not re.fullmatch(r'(\d+-)?\d+(:\d+){0,2}', text):
        raise argparse.ArgumentTypeError(BAD_TIME.format(text=text))
    return text


def _print_script(options: argparse.Namespace) -> None:
    print(array_script(options), end='')


def array_script(options: argparse.Namespace) -> str:
    """Return the script.

    Parameters
    ----------
    options
        As :func:`add_slurm_parser` parses them.

    Raises
    ------
    ArgumentsError, InputError
        If there is no such image, program or participant.
    """
    labels = _participants(options.bids_dir, options.participant_label)
    memory = round(options.mem * 1024)
    program = _program(options)
    places = [str(options.bids_dir), str(options.output_dir)]
    rest = ['--work-dir', str(options.work_dir)]
    given = [
        ['--nprocs', str(options.cpus), '--mem', f'{round(memory * MEMORY_SHARE)}M'],
        ['--device', 'cuda', '--n-gpus', str(options.gpus)] if options.gpus else [],
        options.options,
    ]
    lines = [rest, *filter(None, given)]
    folders = [options.output_dir, options.work_dir]
    group = shlex.join([*program, *places, 'group', *_study(options.options), *rest])
    return TEMPLATE.format(
        group=group,
        last=len(labels) - 1,
        at_once=f'%{options.at_once}' if options.at_once else '',
        time=options.time,
        cpus=options.cpus,
        memory=memory,
        extra=''.join(f'#SBATCH --{line}\n' for line in _extra(options)),
        labels=' '.join(labels),
        before=f'mkdir -p {shlex.join(map(str, folders))}',
        command=shlex.join([*program, *places, 'participant']),
        options=''.join(f' \\\n  {shlex.join(line)}' for line in lines),
    )


def _study(words: list[str]) -> list[str]:
    """Return the words that name a study: the group level gathers it once more."""
    at = [n for n, word in enumerate(words) if word == '--study']
    return words[at[0] : at[0] + 2] if at else [w for w in words if w.startswith('--study=')]


def _participants(folder: Path, asked: list[str]) -> list[str]:
    from bids_neurodecode.bids.description import check_raw

    check_raw(folder)
    found = sorted(
        path.name.removeprefix('sub-') for path in folder.glob('sub-*') if path.is_dir()
    )
    if not found:
        raise InputError(NO_PARTICIPANTS.format(folder=folder))
    unknown = sorted(set(asked) - set(found))
    if unknown:
        raise InputError(
            UNKNOWN.format(labels=', '.join(unknown), folder=folder, known=', '.join(found))
        )
    return list(dict.fromkeys(asked)) or found


def _program(options: argparse.Namespace) -> list[str]:
    """Return how the program is called: that of an image, or that of an environment."""
    if options.image is None:
        file = options.environment / 'bin' / 'bids_neurodecode'
        if not file.is_file():
            raise ArgumentsError(NO_PROGRAM.format(file=file))
        return [str(file)]
    if not options.image.is_file():
        raise ArgumentsError(NO_IMAGE.format(file=options.image))
    # inside, every folder has the path that it has outside, so that links in the outputs hold
    binds = [f'{options.bids_dir}:{options.bids_dir}:ro', options.output_dir, options.work_dir]
    words = ['apptainer', 'run', '--cleanenv', '--no-home']
    if options.gpus:
        words.append('--nv')
    for bind in [*binds, *options.bind]:
        words += ['--bind', str(bind)]
    return [*words, str(options.image)]


def _extra(options: argparse.Namespace) -> list[str]:
    lines = [f'gres=gpu:{options.gpus}'] if options.gpus else []
    return lines + [
        f'{name}={value}'
        for name, value in (('partition', options.partition), ('account', options.account))
        if value
    ]
