"""The command line: options to arguments, and arguments to settings.

Importing this and asking for help loads nothing heavy.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

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


@dataclass(frozen=True)
class Arguments:
    """One call, as it was given: paths absolute, labels without prefixes."""

    bids_dir: Path
    output_dir: Path
    analysis_level: Literal['participant', 'group']
    participant_label: tuple[str, ...]
    session_label: tuple[str, ...]
    task_id: tuple[str, ...]
    run_label: tuple[str, ...]
    space: str | None
    bids_filter_file: Path | None
    derivatives: Mapping[str, Path]
    mask: Path | None
    bids_database_dir: Path | None
    skip_bids_validation: bool
    system: str | None
    preset: str
    study: str | None
    config_file: Path | None
    recipe: str
    atlas: str | None
    level: Literal['full', 'betas', 'responses']
    mode: Literal['train', 'predict']
    models_from: Path | None
    stimuli_dir: Path | None
    weights_dir: Path | None
    device: Literal['auto', 'cpu', 'cuda']
    n_gpus: int | None
    nprocs: int | None
    omp_nthreads: int | None
    blocks: int
    mem_gb: float | None
    low_mem: bool
    use_plugin: Path | None
    work_dir: Path
    clean_workdir: bool
    stop_on_first_crash: bool
    resource_monitor: bool
    write_graph: bool
    dry_run: bool
    reports_only: bool
    boilerplate_only: bool
    random_seed: int | None
    verbose: int

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
    parser.add_argument(
        'bids_dir', metavar='BIDS_DIR', type=path_value, help='the raw BIDS dataset'
    )
    parser.add_argument(
        'output_dir',
        metavar='OUTPUT_DIR',
        type=path_value,
        help='where the derivatives are written',
    )
    parser.add_argument(
        'analysis_level',
        choices=('participant', 'group'),
        help='each participant alone, or what they have in common (after the participants)',
    )
    parser.order = ORDER
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    _add_selection(parser)
    _add_analysis(parser)
    _add_resources(parser)
    _add_running(parser)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('which data')
    for names, key, what in (
        (('--participant-label',), 'sub', 'participants'),
        (('--session-label', '--session-id'), 'ses', 'sessions'),
        (('--run-label',), 'run', 'runs'),
    ):
        group.add_argument(
            *names,
            nargs='+',
            action='extend',
            default=[],
            type=label_value(key),
            metavar='LABEL',
            help=f'only these {what} (with or without {key}-)',
        )
    group.add_argument(
        '-t',
        '--task-id',
        '--task-label',
        nargs='+',
        action='extend',
        default=[],
        type=label_value('task'),
        metavar='LABEL',
        help='the task, or several that go into one model (found where one task shows stimuli, or '
        'all show films)',
    )
    group.add_argument(
        '--space',
        metavar='LABEL[:res-X]',
        help='the space of the preprocessed series; "func" for series without one in their name',
    )
    group.add_argument(
        '--bids-filter-file', type=path_value, metavar='FILE', help='JSON of pybids queries'
    )
    group.add_argument(
        '-d',
        '--derivatives',
        nargs='+',
        action='extend',
        default=[],
        type=pair_value,
        metavar='NAME=PATH',
        help='derivatives to read (default: those below BIDS_DIR/derivatives)',
    )
    group.add_argument(
        '--mask',
        type=path_value,
        metavar='FILE',
        help='one brain mask for all runs (default: the masks of the derivatives)',
    )
    group.add_argument(
        '--bids-database-dir', type=path_value, metavar='DIR', help='keep and reuse the index here'
    )
    group.add_argument(
        '--skip-bids-validation', action='store_true', help='do not run the schema validator'
    )


def _add_analysis(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what is done')
    group.add_argument(
        '--system',
        type=system_value,
        metavar='{' + ','.join(OWN) + ',...}',
        help='which of the systems, those of other installed packages among them (default: found '
        'from the data; list: bids_neurodecode-tools systems)',
    )
    group.add_argument(
        '--preset',
        default='default',
        metavar='NAME_OR_FILE',
        help='named settings, or a TOML file (list: bids_neurodecode-tools presets list)',
    )
    group.add_argument(
        '--study',
        metavar='NAME_OR_FILE',
        help='run all variants of a study, or of a TOML file (list: bids_neurodecode-tools '
        'studies list)',
    )
    group.add_argument(
        '--config-file',
        type=path_value,
        metavar='FILE',
        help='TOML whose settings override the preset',
    )
    group.add_argument(
        '--recipe',
        default='auto',
        metavar='NAME_OR_FILE',
        help='what the dataset is, or "none" (default: recognised; list: bids_neurodecode-tools '
        'datasets list)',
    )
    group.add_argument(
        '--atlas', metavar='NAME_OR_FILE', help='a TemplateFlow atlas, or a dseg NIfTI file'
    )
    group.add_argument(
        '--level',
        choices=('full', 'betas', 'responses'),
        default='full',
        help='all that the system does (default), or single-trial betas, their reliability and '
        'report alone; "responses" the same, and of films cleaned and aligned series (no film has '
        'to be there)',
    )
    group.add_argument(
        '--mode',
        choices=('train', 'predict'),
        default='train',
        help='train models (default), or apply trained ones to new data',
    )
    _add_files(group)
    group.add_argument(
        '--random-seed', type=count_value(0), metavar='N', help='the one seed of all randomness'
    )


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Add where models, stimuli and weights lie."""
    group.add_argument(
        '--models-from', type=path_value, metavar='DIR', help='derivatives with trained models'
    )
    group.add_argument(
        '--stimuli-dir',
        type=path_value,
        metavar='DIR',
        help='the folder of the images or films that the events name, where it is not the '
        "dataset's stimuli/ (--mode predict: a film, or a folder of films or, with --system "
        'encoding, of images, of which the events name none, to predict the responses to, '
        'without any BOLD; Emo-FilM in its published layout: the folder of its films, named as '
        'their tasks)',
    )
    group.add_argument(
        '--weights-dir',
        type=path_value,
        metavar='DIR',
        default=os.environ.get(WEIGHTS_VARIABLE),
        help=f'pretrained weights (default: ${WEIGHTS_VARIABLE}); never downloaded by a run',
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('resources')
    group.add_argument(
        '--device',
        choices=('auto', 'cpu', 'cuda'),
        default='auto',
        help='where models run and betas are estimated',
    )
    group.add_argument(
        '--n-gpus',
        type=count_value(0),
        metavar='N',
        help='GPUs used at a time (1); a step that needs one has it alone',
    )
    group.add_argument(
        '--nprocs',
        '--nthreads',
        '--n-cpus',
        type=count_value(1),
        metavar='N',
        help='CPUs used by all nodes together',
    )
    group.add_argument(
        '--omp-nthreads',
        type=count_value(1),
        metavar='N',
        help='threads of a single node (all CPUs but one, at most 8)',
    )
    group.add_argument(
        '--blocks',
        type=count_value(1),
        default=1,
        metavar='N',
        help='nodes into which each pass of the estimation of betas is cut, for jobs of a cluster',
    )
    for name, kind, metavar, text in (
        ('--mem', memory_value, 'SIZE', 'memory of all nodes together, with a unit: 16G, 16000M'),
        ('--mem-gb', amount_value('G'), 'N', 'the same in GB'),
        ('--mem-mb', amount_value('M'), 'N', 'the same in MB'),
    ):
        group.add_argument(name, dest='mem_gb', type=kind, metavar=metavar, help=text)
    group.add_argument(
        '--low-mem',
        action='store_true',
        help='run one step at a time: no more memory than the largest step needs, but slower',
    )
    group.add_argument(
        '--use-plugin',
        type=path_value,
        metavar='FILE',
        help='Nipype plugin YAML (SLURM, PBS, SGE, ...); wins over --nprocs and --mem',
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('how it runs')
    group.add_argument(
        '-w',
        '--work-dir',
        type=path_value,
        default='work',
        metavar='DIR',
        help='intermediate files (default: ./work); can be deleted at any time',
    )
    group.add_argument('--clean-workdir', action='store_true', help='empty the work folder first')
    group.add_argument(
        '--stop-on-first-crash', action='store_true', help='stop when the first node fails'
    )
    group.add_argument('--resource-monitor', action='store_true', help='log memory and CPU')
    group.add_argument('--write-graph', action='store_true', help='draw the workflow')
    only = group.add_mutually_exclusive_group()
    only.add_argument(
        '--dry-run',
        action='store_true',
        help='print what would be read, run and written; run none',
    )
    only.add_argument('--reports-only', action='store_true', help='regenerate the reports')
    only.add_argument(
        '--boilerplate-only', action='store_true', help='write the methods text only'
    )
    group.add_argument('-v', '--verbose', action='count', default=0, help='say more (repeatable)')
    group.add_argument('--notrack', action='store_true', help='accepted; there is no telemetry')


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
    fields = vars(parser.parse_args(argv))
    del fields['notrack']
    fields['derivatives'] = _named(fields['derivatives'])
    for key in ('participant_label', 'session_label', 'run_label', 'task_id'):
        fields[key] = tuple(dict.fromkeys(fields[key]))
    arguments = Arguments(**fields)
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
