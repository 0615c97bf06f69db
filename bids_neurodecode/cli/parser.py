"""The command line: options to arguments, and arguments to settings.

Importing this and asking for help loads nothing heavy.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from bids_neurodecode._version import __version__
from bids_neurodecode.cli.values import (
    amount_value,
    count_value,
    dashed,
    label_value,
    memory_value,
    pair_value,
    path_value,
    system_value,
)
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import OWN
from bids_neurodecode.text import did_you_mean

if TYPE_CHECKING:
    from bids_neurodecode.config import Config

PROG = 'bids_neurodecode'
WEIGHTS_VARIABLE = 'BIDS_NEURODECODE_WEIGHTS'

USAGE_ERROR = '{message}. See {prog} --help.'
BAD_CHOICE = 'There is no {what} {value!r}.{near} There are: {known}. See {prog} --help.'
UNKNOWN_OPTION = 'Unknown option {option}.{near} See {prog} --help.'
EXTRA_ARGUMENT = 'Unexpected argument {argument!r}.{order} See {prog} --help.'
ORDER = ' Give BIDS_DIR OUTPUT_DIR and participant or group first, then the options.'
DUPLICATE_NAME = 'The derivatives name {name!r} is given twice. Give each dataset its own name.'
PREDICT_NEEDS_MODELS = '--mode predict needs --models-from: the derivatives that hold the models.'
MODELS_NEED_PREDICT = '--models-from is for --mode predict. Leave it out, or add --mode predict.'
STUDY_TRAINS = '--study trains its variants: leave out --mode predict.'
BETAS_TRAIN = (
    '--level {level} estimates responses and stops: leave out {option}, or leave out '
    '--level {level}.'
)
GPUS_ON_CPU = '--n-gpus {n} contradicts --device cpu. Leave one of them out.'


def _option(text: str, metavar: str = '', *names: str, **more: Any) -> Any:
    """Declare an option by its help, how its value is shown, its names, and what else it takes.

    ``group`` begins a group of the help, and in ``alone`` are options of which one is given; all
    else is for ``add_argument``, which gets what follows from the type of the field.
    """
    return field(metadata={'help': text, 'metavar': metavar or None, 'names': names, **more})


@dataclass(frozen=True)
class Arguments:
    """One call, as it was given: paths absolute, labels without prefixes.

    A field is an option of the command line, of its name unless it names others.
    """

    bids_dir: Path = _option('the raw BIDS dataset', 'BIDS_DIR', 'bids_dir')
    output_dir: Path = _option('where the derivatives are written', 'OUTPUT_DIR', 'output_dir')
    analysis_level: Literal['participant', 'group'] = _option(
        'each participant alone, or what they have in common (after the participants)',
        '',
        'analysis_level',
    )
    participant_label: tuple[str, ...] = _option(
        'only these participants (with or without sub-)',
        'LABEL',
        type=label_value('sub'),
        group='which data',
    )
    session_label: tuple[str, ...] = _option(
        'only these sessions (with or without ses-)',
        'LABEL',
        *('--session-label', '--session-id'),
        type=label_value('ses'),
    )
    run_label: tuple[str, ...] = _option(
        'only these runs (with or without run-)', 'LABEL', type=label_value('run')
    )
    task_id: tuple[str, ...] = _option(
        'the task, or several that go into one model (found where one task shows stimuli, or all '
        'show films)',
        'LABEL',
        *('-t', '--task-id', '--task-label'),
        type=label_value('task'),
    )
    space: str | None = _option(
        'the space of the preprocessed series; "func" for series without one in their name',
        'LABEL[:res-X]',
    )
    bids_filter_file: Path | None = _option('JSON of pybids queries', 'FILE')
    derivatives: Mapping[str, Path] = _option(
        'derivatives to read (default: those below BIDS_DIR/derivatives)',
        'NAME=PATH',
        *('-d', '--derivatives'),
        type=pair_value,
    )
    mask: Path | None = _option(
        'one brain mask for all runs (default: the masks of the derivatives)', 'FILE'
    )
    bids_database_dir: Path | None = _option('keep and reuse the index here', 'DIR')
    skip_bids_validation: bool = _option('do not run the schema validator')
    system: str | None = _option(
        'which of the systems, those of other installed packages among them (default: found from '
        'the data; list: bids_neurodecode-tools systems)',
        '{' + ','.join(OWN) + ',...}',
        type=system_value,
        group='what is done',
    )
    preset: str = _option(
        'named settings, or a TOML file (list: bids_neurodecode-tools presets list)',
        'NAME_OR_FILE',
        default='default',
    )
    study: str | None = _option(
        'run all variants of a study, or of a TOML file (list: bids_neurodecode-tools studies '
        'list)',
        'NAME_OR_FILE',
    )
    config_file: Path | None = _option('TOML whose settings override the preset', 'FILE')
    recipe: str = _option(
        'what the dataset is, or "none" (default: recognised; list: bids_neurodecode-tools '
        'datasets list)',
        'NAME_OR_FILE',
        default='auto',
    )
    atlas: str | None = _option('a TemplateFlow atlas, or a dseg NIfTI file', 'NAME_OR_FILE')
    level: Literal['full', 'betas', 'responses'] = _option(
        'all that the system does (default), or single-trial betas, their reliability and report '
        'alone; "responses" the same, and of films cleaned and aligned series (no film has to be '
        'there)'
    )
    mode: Literal['train', 'predict'] = _option(
        'train models (default), or apply trained ones to new data'
    )
    models_from: Path | None = _option('derivatives with trained models', 'DIR')
    stimuli_dir: Path | None = _option(
        'the folder of the images or films that the events name, where it is not the '
        "dataset's stimuli/ (--mode predict: a film, or a folder of films or, with --system "
        'encoding, of images, of which the events name none, to predict the responses to, '
        'without any BOLD; Emo-FilM in its published layout: the folder of its films, named as '
        'their tasks)',
        'DIR',
    )
    weights_dir: Path | None = _option(
        f'pretrained weights (default: ${WEIGHTS_VARIABLE}); never downloaded by a run',
        'DIR',
        default=lambda: os.environ.get(WEIGHTS_VARIABLE),
    )
    random_seed: int | None = _option('the one seed of all randomness', 'N', type=count_value(0))
    device: Literal['auto', 'cpu', 'cuda'] = _option(
        'where models run and betas are estimated', group='resources'
    )
    n_gpus: int | None = _option(
        'GPUs used at a time (1); a step that needs one has it alone', 'N', type=count_value(0)
    )
    nprocs: int | None = _option(
        'CPUs used by all nodes together',
        'N',
        *('--nprocs', '--nthreads', '--n-cpus'),
        type=count_value(1),
    )
    omp_nthreads: int | None = _option(
        'threads of a single node (all CPUs but one, at most 8)', 'N', type=count_value(1)
    )
    blocks: int = _option(
        'nodes into which each pass of the estimation of betas is cut, for jobs of a cluster',
        'N',
        type=count_value(1),
        default=1,
    )
    mem_gb: float | None = _option(
        'memory of all nodes together, with a unit: 16G, 16000M',
        *('SIZE', '--mem'),
        type=memory_value,
    )
    low_mem: bool = _option(
        'run one step at a time: no more memory than the largest step needs, but slower'
    )
    use_plugin: Path | None = _option(
        'Nipype plugin YAML (SLURM, PBS, SGE, ...); wins over --nprocs and --mem', 'FILE'
    )
    work_dir: Path = _option(
        'intermediate files (default: ./work); can be deleted at any time',
        'DIR',
        *('-w', '--work-dir'),
        default='work',
        group='how it runs',
    )
    clean_workdir: bool = _option('empty the work folder first')
    stop_on_first_crash: bool = _option('stop when the first node fails')
    resource_monitor: bool = _option('log memory and CPU')
    write_graph: bool = _option('draw the workflow')
    dry_run: bool = _option('print what would be read, run and written; run none', alone=True)
    reports_only: bool = _option('regenerate the reports', alone=True)
    boilerplate_only: bool = _option('write the methods text only', alone=True)
    verbose: int = _option(
        'say more (repeatable)', '', '-v', '--verbose', action='count', default=0
    )

    @property
    def writes_texts_only(self) -> bool:
        """Whether pages or methods texts are written, and nothing is computed."""
        return self.reports_only or self.boilerplate_only


class Parser(argparse.ArgumentParser):
    """A parser whose errors are the program's own, one line each, with the nearest name."""

    order = ''
    """What is said of the order of arguments where there is one too many."""
    _words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting; an unknown option is named before what it leaves missing."""
        known = _options(self)
        for word in self._words:
            name = word.split('=')[0]
            if name.startswith('--') and len(name) > 2 and name not in known:
                raise ArgumentsError(_unknown(self, [word]))
        text = message[0].upper() + message[1:].rstrip('.')
        raise ArgumentsError(USAGE_ERROR.format(message=text, prog=self.prog))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what is unknown is an error here, so that a command names its own options.

        Parameters
        ----------
        args
            The words; those of the process if None.
        namespace
            That values are set on; None: a new one.
        """
        self._words = sys.argv[1:] if args is None else args
        values, unknown = super().parse_known_args(self._words, namespace)
        if unknown:
            raise ArgumentsError(_unknown(self, unknown))
        return values, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        what = '/'.join(action.option_strings) or action.dest.replace('_', ' ')
        told = {'near': did_you_mean(value, known), 'known': ', '.join(known), 'prog': self.prog}
        raise ArgumentsError(BAD_CHOICE.format(what=what, value=value, **told))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all options, in groups."""
    parser = Parser(
        prog=PROG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Relates what people see to their fMRI, both ways, as a BIDS-App.\n'
        'Derivatives, task, paradigm (films, images, conditions) and system are found from the '
        'data;\nwhere the data leave a choice open, the error lists the choices. Options may be '
        'written\nwith dashes or underscores.',
        epilog='Exit codes: 0 all well; 1 some participant or node failed; 2 bad arguments or '
        'input;\n3 finished without a report; 130 interrupted (the same command resumes).',
    )
    parser.order = ORDER
    group: argparse._ActionsContainer = parser
    only: argparse._ActionsContainer = parser
    hints = get_type_hints(Arguments)
    for each in fields(Arguments):
        more = dict(each.metadata)
        if 'group' in more:
            group = parser.add_argument_group(more.pop('group'))
        names = more.pop('names') or (f'--{each.name.replace("_", "-")}',)
        more = _of_type(hints[each.name], required=names[0] == each.name) | more
        place = group
        if more.pop('alone', False):
            place = only = group.add_mutually_exclusive_group() if only is parser else only
        if callable(more.get('default')):
            more['default'] = more['default']()
        if names[0].startswith('-'):
            more['dest'] = each.name
        if 'action' in more and more['action'] != 'extend':
            del more['metavar']
        place.add_argument(*names, **more)
        if each.name == 'analysis_level':
            parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
        if each.name == 'mem_gb':
            for unit in 'GM':
                told = f'the same in {unit}B'
                kind = amount_value(unit)
                name = f'--mem-{unit.lower()}b'
                group.add_argument(name, dest='mem_gb', type=kind, metavar='N', help=told)
    group.add_argument('--notrack', action='store_true', help='accepted; there is no telemetry')
    return parser


def _of_type(hint: Any, *, required: bool) -> dict[str, Any]:
    """Return what the type of a field says of its option."""
    if hint is bool:
        return {'action': 'store_true'}
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return {'choices': choices} | ({} if required else {'default': choices[0]})
    if get_origin(hint) in {tuple, Mapping}:
        return {'nargs': '+', 'action': 'extend', 'default': []}
    return {'type': path_value} if hint in {Path, Path | None} else {}


def parse_arguments(argv: Sequence[str] | None = None) -> Arguments:
    """Parse a command line.

    Parameters
    ----------
    argv
        Without the program's name; that of the process if None.

    Raises
    ------
    ArgumentsError
        One line: what cannot be used, and what could.
    SystemExit
        For ``--help`` and ``--version``.
    """
    parser = build_parser()
    # fMRIPrep and XCP-D write some options with underscores: both ways are understood everywhere
    argv = [dashed(word) for word in (sys.argv[1:] if argv is None else argv)]
    values = vars(parser.parse_args(argv))
    del values['notrack']
    values['derivatives'] = _named(values['derivatives'])
    for key in ('participant_label', 'session_label', 'run_label', 'task_id'):
        values[key] = tuple(dict.fromkeys(values[key]))
    arguments = Arguments(**values)
    _check_together(arguments)
    return arguments


def settings_from(arguments: Arguments) -> Config:
    """Build the settings: preset, recipe of the dataset, configuration file, command line.

    Raises
    ------
    ArgumentsError
        For a file that cannot be read, of another version or with an unknown key, naming it.
    """
    from bids_neurodecode.config import build_config, read_settings

    preset = read_settings(arguments.preset)
    build_config(preset, source=f'the preset {arguments.preset}')
    file = {} if arguments.config_file is None else read_settings(arguments.config_file)
    line = from_command_line(arguments)
    recipe = from_recipe(arguments, file, line)
    build_config(preset, recipe, file, source=str(arguments.config_file))
    return build_config(preset, recipe, file, line, source='the command line')


def from_recipe(arguments: Arguments, *stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that follow from what the dataset is, as far as they can stand.

    Parameters
    ----------
    arguments
        The call.
    *stronger
        The user's settings, which win.
    """
    from bids_neurodecode.bids.recipes import layer_of, recognise

    recipe = recognise(arguments.bids_dir, arguments.recipe)
    return layer_of(recipe, arguments.task_id, *stronger)


def from_command_line(arguments: Arguments) -> dict[str, Any]:
    """Return the settings that options of the command line set."""
    values: dict[str, Any] = {}
    if arguments.system is not None:
        values['system'] = arguments.system
    if arguments.random_seed is not None:
        values['seed'] = arguments.random_seed
    if arguments.atlas is not None:
        is_file = (
            arguments.atlas.endswith(('.nii', '.nii.gz', '.gii')) or os.sep in arguments.atlas
        )
        values['atlas'] = {
            'name': None if is_file else arguments.atlas,
            'file': path_value(arguments.atlas) if is_file else None,
            'table': None,
        }
    return values


def _check_together(arguments: Arguments) -> None:
    if arguments.mode == 'predict' and arguments.models_from is None:
        raise ArgumentsError(PREDICT_NEEDS_MODELS)
    if arguments.mode == 'train' and arguments.models_from is not None:
        raise ArgumentsError(MODELS_NEED_PREDICT)
    if arguments.mode == 'predict' and arguments.study is not None:
        raise ArgumentsError(STUDY_TRAINS)
    if arguments.level != 'full':
        _check_responses_alone(arguments)
    if arguments.device == 'cpu' and arguments.n_gpus:
        raise ArgumentsError(GPUS_ON_CPU.format(n=arguments.n_gpus))


def _check_responses_alone(arguments: Arguments) -> None:
    others = {
        'group': arguments.analysis_level == 'group',
        '--mode predict': arguments.mode == 'predict',
        '--study': arguments.study is not None,
        '--system': arguments.system not in {None, 'conditions'},
    }
    for option, given in others.items():
        if given:
            raise ArgumentsError(BETAS_TRAIN.format(option=option, level=arguments.level))


def _named(pairs: Sequence[tuple[str, Path]]) -> Mapping[str, Path]:
    named: dict[str, Path] = {}
    for name, path in pairs:
        if name in named:
            raise ArgumentsError(DUPLICATE_NAME.format(name=name))
        named[name] = path
    return MappingProxyType(named)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(set(re.findall(r'(?<![\w-])--?[a-z][\w-]*', parser.format_help())))


def _unknown(parser: Parser, words: Sequence[str]) -> str:
    """Write the one line for what was not understood, with the nearest option."""
    options = [word for word in words if word.startswith('-')]
    if not options:
        return EXTRA_ARGUMENT.format(argument=words[0], order=parser.order, prog=parser.prog)
    name = options[0].split('=')[0]
    known = _options(parser)
    longer = [option for option in known if option.startswith(name) and len(name) > 3]
    near = did_you_mean(name, longer[:1] or known, cutoff=0.5)
    return UNKNOWN_OPTION.format(option=name, near=near, prog=parser.prog)
