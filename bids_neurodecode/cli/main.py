"""The program: check everything, run the workflow, say what came of it in one exit code."""

from __future__ import annotations

import gc
import logging
import shlex
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.layouts import MADE
from bids_neurodecode.cli.environment import configure_nipype, set_environment, threads_of
from bids_neurodecode.cli.exits import FAILED, INTERRUPTED, OK, USAGE, exit_code, reader_is_gone
from bids_neurodecode.cli.parser import Arguments, parse_arguments, settings_from
from bids_neurodecode.errors import FULL, InputError, NeurodecodeError
from bids_neurodecode.text import COMMAND, shown_command

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.study import StudyPlan

NO_PERMISSION = (
    '{file} cannot be read or written: permission denied. Change its permissions, or give another.'
)
NO_NAME = 'A file or folder that this run needs'
NO_MEMORY = 'There is not enough memory. Give more, or ask for fewer participants at once.'
NO_SPACE = (
    'There is no space left on the disk (or quota){where}. Free some; the same command resumes, '
    'and keeps what is done.'
)
LOGGER = logging.getLogger('bids_neurodecode')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process if None.

    Returns
    -------
    int
        See :mod:`bids_neurodecode.cli.exits`.
    """
    try:
        with _ended_as_interrupted():
            arguments = parse_arguments(argv)
            from bids_neurodecode.cli.studies import plan_of

            plan = None if arguments.study is None else plan_of(arguments)
            config = settings_from(arguments) if plan is None else plan.variants[0].config
            with own_folders(arguments) as folders, _few_collections():
                words = sys.argv[1:] if argv is None else argv
                return _run(arguments, config, plan, folders, words)
    except NeurodecodeError as error:
        print(f'error: {error}', file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:
        return reader_is_gone()
    except (MemoryError, OSError) as error:
        return _lacking(error)
    except KeyboardInterrupt:
        print('interrupted: what is done is kept, the same command resumes', file=sys.stderr)
        return INTERRUPTED


def _lacking(error: MemoryError | OSError) -> int:
    """Say in one line what the machine lacks or forbids, and return the exit code."""
    code = FAILED
    if isinstance(error, MemoryError):
        line = NO_MEMORY
    elif isinstance(error, PermissionError):
        file = NO_NAME if error.filename is None else error.filename
        line, code = NO_PERMISSION.format(file=file), USAGE
    elif error.errno in FULL:
        where = '' if error.filename is None else f' in {Path(str(error.filename)).parent}'
        line = NO_SPACE.format(where=where)
    else:
        raise error
    print(f'error: {line}', file=sys.stderr)
    return code


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Take SIGTERM for an interruption; the handler that was there comes back.

    A thread that is not the main one gets no signals, and may set no handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        # None: a handler that was not set from Python, which cannot be set again from here
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage less often: each time, all that is known of participants is walked."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def own_folders(arguments: Arguments) -> Iterator[tuple[Path, Path]]:
    """Yield the folders of caches, and of tables and masks that the dataset lacks.

    Those of a dry run, which writes nothing, go with it.
    """
    if not arguments.dry_run:
        yield arguments.work_dir / 'cache', arguments.work_dir / MADE
        return
    with tempfile.TemporaryDirectory(prefix='bids_neurodecode-') as folder:
        made = Path(folder) / MADE
        try:
            yield Path(folder) / 'cache', made
        except InputError as error:
            said = str(error).replace(str(made), str(arguments.work_dir / MADE))
            raise InputError(said) from error


def _run(
    arguments: Arguments,
    config: Config,
    plan: StudyPlan | None,
    folders: tuple[Path, Path],
    words: Sequence[str],
) -> int:
    from bids_neurodecode.cli.checks import check_all
    from bids_neurodecode.cli.checks_places import check_own
    from bids_neurodecode.cli.installed import with_installed
    from bids_neurodecode.cli.levels import work_folder
    from bids_neurodecode.cli.studies import check_variants, describe_study
    from bids_neurodecode.cli.systems import check_before

    caches, made = folders
    _log_to_terminal(arguments.verbose)
    LOGGER.info('bids_neurodecode %s, %s level', __version__, arguments.analysis_level)
    threads = threads_of(arguments.omp_nthreads, arguments.nprocs)
    kept = arguments.work_dir / 'cache'
    set_environment(caches, threads=threads, shared=kept if kept.is_dir() else None)
    check_own(kept)
    inputs = check_all(arguments, config, made)
    config, notes = with_installed(config, arguments, inputs)
    if plan is not None:
        plan = plan.with_configs(lambda each: with_installed(each, arguments, inputs)[0])
    check_before(arguments, config, inputs)
    left_out = {} if plan is None else check_variants(arguments, plan, inputs)
    check_own(work_folder(arguments, inputs))
    if caches.is_dir():
        with suppress(OSError):  # what made it there knew nothing of other users
            caches.chmod(0o700)
    if arguments.dry_run:
        from bids_neurodecode.cli.describe import describe

        said = describe(arguments, config, inputs)
        if plan is not None:
            said += describe_study(arguments, plan, inputs, left_out)
        print(said.replace(str(made), str(arguments.work_dir / MADE)), end='')
        sys.stdout.flush()
        return OK
    for note in (*inputs.notes, *notes):
        LOGGER.info('%s', note)
    run_id = f'{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}'
    caches.mkdir(mode=0o700, parents=True, exist_ok=True)
    configure_nipype(caches / 'nipype', level='INFO' if arguments.verbose > 1 else 'CRITICAL')
    _log_to_file(arguments.output_dir / 'logs' / f'{run_id}.log')
    LOGGER.debug('Command: %s', shlex.join(['bids_neurodecode', *words]))
    places = {'BIDS_DIR': arguments.bids_dir, 'OUTPUT_DIR': arguments.output_dir}
    places['WORK_DIR'] = arguments.work_dir
    LOGGER.debug('%s%s', COMMAND, shown_command(words, places))
    if plan is not None:
        from bids_neurodecode.cli.studies import study_level

        return study_level(arguments, plan, inputs, run_id, left_out)
    from bids_neurodecode.cli.levels import group_level, participant_level

    level = participant_level if arguments.analysis_level == 'participant' else group_level
    return level(arguments, config, inputs, run_id)


def _log_to_terminal(verbose: int) -> None:
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    handler = logging.StreamHandler()
    handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    LOGGER.addHandler(handler)


def _log_to_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding='utf-8')
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    LOGGER.addHandler(handler)
