"""Folders and the machine: checked before anything is indexed."""

from __future__ import annotations

import grp
import importlib.util
import math
import multiprocessing
import os
import pwd
import shutil
import stat
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bids_neurodecode.bids.description import NO_FOLDER, check_derivative
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.timing import count_stimuli, read_table
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.errors import FULL, ArgumentsError, InputError, ResourceError, raised_as
from bids_neurodecode.extras import has_networks

if TYPE_CHECKING:
    from bids_neurodecode.workflow.step import Step

OUTPUT_IN_INPUT = (
    'The output folder {folder} equals or lies inside the input {input}. '
    'Choose a folder outside of it.'
)
WORK_IN_INPUT = (
    'The work folder {folder} equals or lies inside the input {input}. '
    'Choose another with --work-dir.'
)
INDEX_IN_INPUT = (
    'The index folder {folder} equals or lies inside the input {input}. '
    'Choose another with --bids-database-dir.'
)
NOT_A_PLACE = (
    'The {what} {folder} is {whose}, and files would be mixed with what is there. '
    'Choose a folder for them alone, such as {example}.'
)
STIMULI_OF_SYSTEM = (
    'The folder of stimuli {folder} is a folder of the system, and all that lies below would be '
    'searched. Give the folder of the stimuli alone with --stimuli-dir.'
)
SYSTEM = (
    *('/', '/bin', '/boot', '/dev', '/etc', '/lib', '/lib64', '/proc', '/run', '/sbin', '/sys'),
    *('/usr', '/var'),
)
"""Folders of the machine. What lies below may be the user's (``/dev/shm/out``)."""
NOT_A_FOLDER = '{path} is a file, and a folder is needed there. Choose another {what}.'
LINK_TO_NOTHING = (
    'The {what} {folder} is a link to {target}, which is not there. Make that folder, or choose '
    'another.'
)
NOT_A_FILE = (
    '{path} is a folder, and a file is needed there. Remove it, or choose another output folder.'
)
NOT_READABLE = 'The folder {folder} cannot be read. Change its permissions, or give another.'
NOT_WRITABLE = 'The {what} {folder} cannot be written. Choose another, or change its permissions.'
OTHERS_WORK = (
    'The work folder {folder} belongs to another user, and what a run goes on from can run code. '
    'Give a --work-dir of your own.'
)
OPEN_WORK = (
    'Others may write in the work folder {folder}, and what a run goes on from can run code. Give '
    'another --work-dir, or, if you trust what is in it, chmod -R go-w {folder}.'
)
NO_CUDA = (
    'There is no CUDA device, and --device cuda or --n-gpus asks for one. Use --device cpu or '
    'auto, without --n-gpus.'
)
FEW_GPUS = '--n-gpus asks for {asked} GPUs, and {found} are there. Ask for {found} or fewer.'
NO_WEIGHTS = (
    'There is no folder of weights {folder}. Fetch them with "bids_neurodecode-tools weights '
    'fetch", or correct --weights-dir.'
)
NO_COMMAND = (
    'The plugin {name} needs the command {command}, which is not on this machine. Run this where '
    'jobs are submitted, or correct --use-plugin.'
)
NO_WORKERS = (
    'Worker processes cannot be started here ({reason}), most often because /dev/shm is missing '
    'or read-only. Give the container a writable one, or pass --use-plugin with the plugin Linear.'
)
NO_PLUGIN_FILE = 'There is no plugin file {file}. Check --use-plugin.'
MUCH_MEMORY = (
    '--mem asks for {asked:.1f} GB, and this machine has {found:.1f} GB. Ask for less, '
    'or run on a cluster with --use-plugin.'
)
LITTLE_MEMORY = (
    'The data of sub-{label} ({file}) need about {needed:.1f} GB of memory, and {found:.1f} GB '
    'may be used. Give more with --mem, use a larger machine, or choose fewer runs.'
)
LITTLE_DISK = (
    'About {needed:.2f} GB of disk are needed in {folder}, and {free:.2f} GB are free. '
    'Free some, or choose other folders.'
)
NO_RESULTS = (
    'There are no results of participants in {folder} (sub-*/func/*_metrics.tsv). '
    'Run the participant level into it first.'
)
NO_MODELS = (
    'There are no trained models in {folder} (sub-*/models/*_model.safetensors). '
    'Give the output folder of a training run with --models-from.'
)
GB = 1024.0**3
LEAST_GB = 0.02
"""The page, figures, tables and models of a participant, however small the data."""
FOLDERS = (
    *('logs', 'group', 'stimuli', 'studies', 'sub-*', 'stimuli/sub-*'),
    *(f'sub-*/{name}' for name in ('anat', 'figures', 'func', 'log', 'models', 'ses-*')),
    'sub-*/ses-*/func',
)
"""Folders of the output, as far as they are there."""
FILES = (
    *('*.html', '*.json', '*.tsv', '.bidsignore', '.bids_neurodecode.lock', 'logs/CITATION.*'),
    *('sub-*/log/sub-*.json', 'sub-*/log/sub-*.toml'),
)
"""Files of the output that every run writes anew."""


def check_places(arguments: Arguments) -> None:
    """Check where is read and written; nothing is made.

    Raises
    ------
    InputError, ArgumentsError
        For folders that are not there, inside one another, or cannot be written.
    """
    if not arguments.bids_dir.is_dir():
        raise InputError(NO_FOLDER.format(folder=arguments.bids_dir))
    inputs = [arguments.bids_dir, *arguments.derivatives.values()]
    for folder in inputs:
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise InputError(NOT_READABLE.format(folder=folder))
    stimuli = arguments.stimuli_dir
    if stimuli is not None and str(stimuli.resolve()) in SYSTEM:
        raise ArgumentsError(STIMULI_OF_SYSTEM.format(folder=stimuli))
    places = [
        (arguments.output_dir, OUTPUT_IN_INPUT, 'output folder'),
        (arguments.work_dir, WORK_IN_INPUT, 'work folder'),
    ]
    if arguments.bids_database_dir is not None:
        places.append((arguments.bids_database_dir, INDEX_IN_INPUT, 'index folder'))
    for folder, message, what in places:
        _check_not_shared(folder, what)
        for source in inputs:
            if folder.resolve().is_relative_to(source.resolve()):
                raise ArgumentsError(message.format(folder=folder, input=source))
        _check_writable(folder, what)
    _check_inside(arguments.output_dir)


def _check_not_shared(folder: Path, what: str) -> None:
    """Refuse folders of the machine, and results in a home that holds other things."""
    place = folder.resolve()
    whose = 'a folder of the system' if str(place) in SYSTEM else ''
    home = Path(os.path.expanduser('~')).resolve()  # noqa: PTH111  as it is where HOME is unset
    if what == 'output folder' and place == home and place.is_dir():
        results = (place / 'dataset_description.json').is_file()
        whose = whose or ('' if results or not any(place.iterdir()) else 'the home of the user')
    if whose:
        example = place / 'bids_neurodecode'
        raise ArgumentsError(
            NOT_A_PLACE.format(what=what, folder=folder, whose=whose, example=example)
        )


def _check_inside(output_dir: Path) -> None:
    """Check that what earlier runs left are folders and files where these are needed."""
    for pattern in FOLDERS:
        for path in sorted(output_dir.glob(pattern)):
            if '.' not in path.name:  # not a page, such as sub-01.html
                _check_writable(path, 'output folder')
    for pattern in FILES:
        for path in sorted(output_dir.glob(pattern)):
            if path.is_dir():
                raise ArgumentsError(NOT_A_FILE.format(path=path))


def check_own(folder: Path) -> None:
    """Refuse a work folder that others can write to.

    What a run goes on from lies there as Nipype keeps it, in pickles, which can run any code.
    Where the file system keeps neither owners nor permissions, nothing can be told of them.

    Raises
    ------
    ArgumentsError
        If it belongs to another user, or others may write in it.
    """
    if not folder.is_dir():
        return
    state = folder.stat()
    others = stat.S_IWOTH | (0 if _is_private(state.st_gid) else stat.S_IWGRP)
    if state.st_uid == os.geteuid() and not state.st_mode & others:
        return
    try:
        with TemporaryDirectory(dir=folder) as made:
            mine = Path(made).stat()
    except PermissionError as error:
        raise ArgumentsError(OTHERS_WORK.format(folder=folder)) from error
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ArgumentsError(NOT_WRITABLE.format(what='work folder', folder=folder)) from error
    if state.st_uid != mine.st_uid:
        raise ArgumentsError(OTHERS_WORK.format(folder=folder))
    if state.st_mode & others and not mine.st_mode & others:
        raise ArgumentsError(OPEN_WORK.format(folder=folder))


def _is_private(group: int) -> bool:
    """Whether a group is that of this user alone, as Debian and Red Hat make one for each user.

    With these, a umask of 002 (their default) lets nobody else write.
    """
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    alone = group == user.pw_gid and set(found.gr_mem) <= {user.pw_name}
    return alone and found.gr_name == user.pw_name


def existing_parent(folder: Path) -> Path:
    """Return the folder itself or the nearest above it that is there."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return place


def _check_writable(folder: Path, what: str) -> None:
    if folder.is_symlink() and not folder.exists():
        target = folder.readlink()
        raise ArgumentsError(LINK_TO_NOTHING.format(what=what, folder=folder, target=target))
    place = existing_parent(folder)
    if not place.is_dir():
        raise ArgumentsError(NOT_A_FOLDER.format(path=place, what=what))
    if not os.access(place, os.W_OK | os.X_OK):
        raise ArgumentsError(NOT_WRITABLE.format(what=what, folder=folder))


def check_machine(arguments: Arguments) -> None:
    """Check the device, the weights, the plugin and the memory that are asked for.

    Raises
    ------
    ResourceError, ArgumentsError
        For what is not there.
    """
    if arguments.device == 'cuda' or arguments.n_gpus:
        if importlib.util.find_spec('torch') is None:
            raise ResourceError(NO_CUDA)
        import torch

        if not torch.cuda.is_available():
            raise ResourceError(NO_CUDA)
        found = torch.cuda.device_count()
        if (arguments.n_gpus or 0) > found:
            raise ResourceError(FEW_GPUS.format(asked=arguments.n_gpus, found=found))
    if arguments.weights_dir is not None and not arguments.weights_dir.is_dir():
        raise ResourceError(NO_WEIGHTS.format(folder=arguments.weights_dir))
    if arguments.use_plugin is not None:
        from bids_neurodecode.workflow.run import PluginSettings

        if not arguments.use_plugin.is_file():
            raise ArgumentsError(NO_PLUGIN_FILE.format(file=arguments.use_plugin))
        _check_plugin(PluginSettings.read(arguments.use_plugin).name)
    else:
        _check_plugin('MultiProc')
    if arguments.use_plugin is None and arguments.mem_gb is not None:
        _check_memory(arguments.mem_gb)


def _check_plugin(name: str) -> None:
    from bids_neurodecode.workflow.run import COMMANDS

    command = COMMANDS.get(name)
    if command is not None and shutil.which(command) is None:
        raise ResourceError(NO_COMMAND.format(name=name, command=command))
    if name == 'MultiProc':
        with raised_as(ResourceError, NO_WORKERS, OSError):
            # as those of the pool, and without the process that tidies up behind them
            multiprocessing.get_context('fork').Lock()


def _check_memory(asked: float) -> None:
    if asked > total_memory_gb():
        raise ResourceError(MUCH_MEMORY.format(asked=asked, found=total_memory_gb()))


def device_of(asked: str) -> str:
    """Return ``cpu`` or ``cuda``."""
    if asked != 'auto':
        return asked
    # to import it takes seconds, and a build without CUDA is known by its version
    if not has_networks() or version('torch').endswith('+cpu'):
        return 'cpu'
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def n_processors() -> int:
    """Return the processors that this process may use: a batch job has fewer than its node.

    A container may have the time of some processors only, whichever it runs on.
    """
    found = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):
        found = len(os.sched_getaffinity(0))
    return min([found, *(max(1, math.ceil(quota)) for quota in processor_quotas(Path('/')))])


def total_memory_gb() -> float:
    """Return the memory that may be used (GB): the machine's, or what a container or job is given.

    The limit of a control group is that of the nearest folder above this process that sets one.
    """
    import psutil

    return min([float(psutil.virtual_memory().total), *memory_limits(Path('/'))]) / GB


def memory_limits(root: Path) -> list[float]:
    """Return the limits (bytes) that the control groups of this process set, below ``root``."""
    found = []
    for folder, first in _groups(root, 'memory'):
        file = folder / ('memory.limit_in_bytes' if first else 'memory.max')
        text = file.read_text('utf-8').strip() if file.is_file() else ''
        found += [float(text)] if text.isdigit() else []
    return found


def processor_quotas(root: Path) -> list[float]:
    """Return the time of processors (in processors) that control groups allow, below ``root``."""
    found = []
    for folder, first in _groups(root, 'cpu'):
        names = ('cpu.cfs_quota_us', 'cpu.cfs_period_us') if first else ('cpu.max',)
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            quota, period = ' '.join(file.read_text('utf-8') for file in files).split()
            found += [int(quota) / int(period)] if quota.isdigit() and int(period) else []
    return found


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the control groups of this process, and whether of the first version.

    The folder of a group, then those above it: the tightest limit holds.
    """
    groups = root / 'proc' / 'self' / 'cgroup'
    for line in groups.read_text('utf-8').splitlines() if groups.is_file() else []:
        _, kinds, name = line.split(':', 2)
        if kinds and controller not in kinds.split(','):
            continue
        top = root / 'sys' / 'fs' / 'cgroup' / (controller if kinds else '')
        here = top / name.lstrip('/')
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                yield folder, bool(kinds)


def check_previous(arguments: Arguments) -> None:
    """Check that earlier results, on which this call builds, are there.

    Raises
    ------
    InputError
        If there are none.
    """
    if arguments.analysis_level == 'group' or arguments.reports_only:
        where = '' if arguments.study is None else 'studies/*/*/'
        patterns = [f'{where}sub-*/func/*_metrics.tsv', f'{where}sub-*/ses-*/func/*_metrics.tsv']
        # responses alone have a report and no scores
        patterns.append(f'{where}sub-*/log/*_results.json')
        if not any(any(arguments.output_dir.glob(pattern)) for pattern in patterns):
            raise InputError(NO_RESULTS.format(folder=arguments.output_dir))
    if arguments.models_from is not None:
        check_derivative(arguments.models_from)
        if not any(arguments.models_from.glob('sub-*/models/*_model.safetensors')):
            raise InputError(NO_MODELS.format(folder=arguments.models_from))


def check_room(
    arguments: Arguments,
    config: Config,
    participants: Sequence[ParticipantInput],
    n_variants: int = 1,
) -> None:
    """Check that memory and disk suffice, from the headers.

    Parameters
    ----------
    arguments
        Of the call: memory, processes and folders.
    config
        The settings: which system, and which columns it reads.
    participants
        Whose headers are read.
    n_variants
        Of a study: how many outputs there will be.

    Raises
    ------
    ResourceError
        With what is needed and what is there.
    """
    from bids_neurodecode.workflow.resources import data_size

    limit = arguments.mem_gb or total_memory_gb()
    for person in participants:
        size = data_size(person, config.selection)
        memory = max(step.asks_for(size) for step in _large_steps(arguments, config, person))
        if memory > limit and arguments.use_plugin is None:
            raise ResourceError(
                LITTLE_MEMORY.format(
                    label=person.label, file=person.runs[0].bold, needed=memory, found=limit
                )
            )
    outputs, work = disk_needed(participants, n_variants)
    _check_disk(((arguments.output_dir, outputs), (arguments.work_dir, work)))


def _large_steps(
    arguments: Arguments, config: Config, person: ParticipantInput
) -> tuple[Step[Any], ...]:
    """Return the steps of a run that hold most."""
    from bids_neurodecode.extensions import system_named
    from bids_neurodecode.levels.betas import publish_betas, publish_film_responses
    from bids_neurodecode.systems.movie.steps.shared import shared_responses
    from bids_neurodecode.systems.movie.steps.training import align_films
    from bids_neurodecode.systems.steps.betas import betas
    from bids_neurodecode.systems.steps.records import system_of
    from bids_neurodecode.systems.steps.responses import quality, reliable_voxels

    first = (quality, align_films if person.of_films else betas)
    if arguments.level != 'full' and person.of_films:
        return (*first, shared_responses, publish_film_responses)
    if arguments.level != 'full':
        return (*first, reliable_voxels, publish_betas)
    large = system_named(system_of(config, person.paradigm)).large
    return first if large is None or arguments.models_from else (*first, *large(config))


def disk_needed(
    participants: Sequence[ParticipantInput], n_variants: int = 1
) -> tuple[float, float]:
    """Return about how many GB the output folder and the work folder will hold, from headers.

    Parameters
    ----------
    participants
        Whose headers are read.
    n_variants
        Of a study: how many outputs there will be.
    """
    from bids_neurodecode.workflow.resources import data_size

    in_output = in_work = 0.0
    for person in participants:
        size = data_size(person)
        volume = 4 * size.n_voxels / GB
        # three kinds of betas and some twenty maps; the work folder holds cleaned series as well
        outputs = volume * (_n_trials(person) + 20) + LEAST_GB
        in_output += n_variants * outputs
        in_work += 3 * outputs + 2 * volume * sum(size.n_volumes)
    return in_output, in_work


def _n_trials(person: ParticipantInput) -> int:
    if person.of_films:
        return sum(run.n_volumes for run in person.runs)
    if not person.has_series:
        return 0  # its betas are read in place and not written again
    if person.of_conditions:
        return sum(len(read_table(run.events)) for run in person.runs)
    return sum(count_stimuli(run.events) for run in person.runs)


def _check_disk(needed: Sequence[tuple[Path, float]]) -> None:
    """Compare with what is free; folders on one disk share it."""
    disks: dict[int, tuple[float, Path]] = {}
    for folder, amount in needed:
        place = existing_parent(folder)
        before = disks.get(place.stat().st_dev, (0.0, folder))
        disks[place.stat().st_dev] = (before[0] + amount, before[1])
    for amount, folder in disks.values():
        free = shutil.disk_usage(existing_parent(folder)).free / GB
        if amount > free:
            raise ResourceError(LITTLE_DISK.format(needed=amount, folder=folder, free=free))
