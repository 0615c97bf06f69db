"""Run a workflow: which plugin, what was reused, what failed and why."""

from __future__ import annotations

import gc
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, raised_as

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow

LOGGER = logging.getLogger('bids_neurodecode')
POLL_SECONDS = 0.05
"""Nipype's own default of 2 s would cost more than most nodes."""

LOCAL = ('Linear', 'LegacyMultiProc', 'Debug')
"""Nipype's plugins that run nodes on this machine, besides MultiProc."""

BAD_PLUGIN = (
    'Cannot use the plugin file {file}: {reason}. Correct it: a key "plugin", and '
    'names and values below "plugin_args".'
)
NUMBER, TEXT = (int, float), (str,)
ARGUMENTS: Mapping[str, tuple[tuple[type, ...], str]] = {
    'n_procs': ((int,), 'a whole number above 0'),
    'n_gpu_procs': ((int,), 'a whole number above 0'),
    'max_jobs': ((int,), 'a whole number above 0'),
    'max_tries': ((int,), 'a whole number above 0'),
    'memory_gb': (NUMBER, 'a number above 0'),
    'retry_timeout': (NUMBER, 'a number of seconds above 0'),
    'template': (TEXT, 'text'),
    'sbatch_args': (TEXT, 'text'),
    'qsub_args': (TEXT, 'text'),
    'bsub_args': (TEXT, 'text'),
}
"""Arguments of plugins that Nipype does not check: their types, and what they are called."""
COMMANDS = {
    'SLURM': 'sbatch',
    'SLURMGraph': 'sbatch',
    'SGE': 'qsub',
    'SGEGraph': 'qsub',
    'PBS': 'qsub',
    'PBSGraph': 'qsub',
    'LSF': 'bsub',
    'OAR': 'oarsub',
    'Condor': 'condor_qsub',
    'CondorDAGMan': 'condor_submit_dag',
}
"""The command that each batch system is asked by."""
NO_ROOM = (
    'the node failed and left an empty file {file}, most often for want of disk space: free some'
)
NO_REASON = 'the node failed without saying why; see {file}'

State = Literal['reused', 'started', 'finished', 'failed', 'skipped']
Listener = Callable[[str, State], None]


@dataclass(frozen=True)
class Failure:
    """A node that failed, the one line that says why, and the file with the traceback."""

    node: str
    reason: str
    crash_file: Path

    @property
    def participant(self) -> str | None:
        """Label of the participant whose node it was."""
        found = re.search(r'sub_(\w+)_wf', self.node)
        return found.group(1).replace('_p_', '+') if found else None


@dataclass(frozen=True)
class PluginSettings:
    """Which Nipype plugin runs the nodes, and its arguments."""

    name: str
    arguments: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> PluginSettings:
        """Read a plugin YAML file as fMRIPrep takes it.

        Raises
        ------
        ArgumentsError
            If it cannot be read or names no plugin.
        """
        import yaml
        from nipype.pipeline import plugins

        with raised_as(ArgumentsError, BAD_PLUGIN, *BROKEN_TEXT, yaml.YAMLError, file=file):
            content = yaml.safe_load(file.read_text('utf-8'))
        if not isinstance(content, dict) or not isinstance(content.get('plugin'), str):
            raise ArgumentsError(BAD_PLUGIN.format(file=file, reason='no plugin is named'))
        if not hasattr(plugins, f'{content["plugin"]}Plugin'):
            known = ', '.join(
                name.removesuffix('Plugin') for name in dir(plugins) if name.endswith('Plugin')
            )
            reason = f'Nipype has no plugin {content["plugin"]!r} (it has {known})'
            raise ArgumentsError(BAD_PLUGIN.format(file=file, reason=reason))
        arguments = content.get('plugin_args') or {}
        reason = _bad_arguments(arguments)
        if reason:
            raise ArgumentsError(BAD_PLUGIN.format(file=file, reason=reason))
        return cls(content['plugin'], arguments)


def _bad_arguments(arguments: object) -> str:
    """Return what is wrong with the arguments of a plugin; nothing if all is well."""
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        return 'plugin_args is no table of names and values'
    for name, (of, what) in ARGUMENTS.items():
        value = arguments.get(name)
        typed = isinstance(value, of) and not isinstance(value, bool)
        small = isinstance(value, int | float) and not 0 < value < math.inf
        if value is not None and (not typed or small):
            return f'plugin_args.{name} is {value!r}, and {what} is needed'
    return ''


def execution_config(*, stop_on_first_crash: bool) -> dict[str, dict[str, str]]:
    """Return the settings that every workflow of ours runs with."""
    return {
        'execution': {
            'crashfile_format': 'txt',
            'stop_on_first_crash': str(stop_on_first_crash).lower(),
            'poll_sleep_duration': str(POLL_SECONDS),
            'hash_method': 'timestamp',
            'remove_unnecessary_outputs': 'false',
            'parameterize_dirs': 'false',
            # a page of the whole work folder, into which several processes would write at once
            'create_report': 'false',
            'check_version': 'false',
        },
        'logging': {'log_to_file': 'false'},
    }


def run_workflow(workflow: Workflow, plugin: PluginSettings, listen: Listener) -> list[Failure]:
    """Run all nodes; return what failed instead of raising.

    Parameters
    ----------
    workflow
        A Nipype workflow whose nodes have their crash folders set.
    plugin
        ``MultiProc`` is run by :class:`~bids_neurodecode.workflow.plugin.ResilientMultiProc`,
        batch systems by the classes of :mod:`bids_neurodecode.workflow.cluster`.
    listen
        Called with a node's full name when it is reused, started, finished or failed.
    """
    seen: set[str] = set()
    folders = {
        Path(node.config['execution']['crashdump_dir']) for node in nodes_of(workflow).values()
    }
    known = {file for folder in folders for file in folder.glob('crash-*.txt')}

    def on_status(node: Node, status: str) -> None:
        name = node.fullname
        if status == 'start':
            seen.add(name)
            listen(name, 'started')
        elif status == 'exception':
            listen(name, 'failed')
        elif status == 'cached':
            listen(name, 'reused')
        elif name in seen:
            listen(name, 'finished')
        else:
            # after a failure, what depends on it is ended too without ever having run
            kept = any(Path(node.output_dir()).glob('result_*.pklz'))
            listen(name, 'reused' if kept else 'skipped')

    arguments = {**plugin.arguments, 'status_callback': on_status}
    runner = _runner(plugin.name, arguments, workflow)
    # Nipype collects garbage again and again: what was imported is none
    gc.freeze()
    try:
        workflow.run(plugin=runner, plugin_args=arguments)
    except KeyboardInterrupt:
        if hasattr(runner, 'terminate'):
            runner.terminate()
        raise
    except Exception as error:
        # a node's error reaches us as any type; the crash files say which nodes failed
        failures = _failures(folders, known)
        if not failures:
            raise
        LOGGER.debug('Nipype raised %s', error)
        return failures
    finally:
        gc.unfreeze()
    return _failures(folders, known)


def _runner(name: str, arguments: dict[str, Any], workflow: Workflow) -> Any:
    """Return our own plugin where there is one, else the name of Nipype's."""
    if name == 'MultiProc':
        from bids_neurodecode.workflow.plugin import ResilientMultiProc

        return ResilientMultiProc(arguments)
    if name in LOCAL:
        return name
    from bids_neurodecode.workflow.cluster import EXECUTION, RUNNERS, ask_for_resources

    workflow.config['execution'].update(EXECUTION)
    if name in {'SLURM', 'SLURMGraph'}:
        ask_for_resources([*nodes_of(workflow).values()], arguments)
    return RUNNERS[name](arguments) if name in RUNNERS else name


def nodes_of(workflow: Workflow) -> dict[str, Node]:
    """Return all nodes of a workflow by their names in it.

    Nipype looks through all parts of a workflow for each of the names.
    """
    parts: dict[str, Any] = {}
    found = {}
    for name in workflow.list_node_names():
        part, _, rest = name.partition('.')
        if part not in parts:
            parts[part] = workflow.get_node(part)
        found[name] = parts[part].get_node(rest) if rest else parts[part]
    return found


def _failures(folders: set[Path], known: set[Path]) -> list[Failure]:
    files = sorted(file for folder in folders for file in folder.glob('crash-*.txt'))
    return [read_crash(file) for file in files if file not in known]


def read_crash(file: Path) -> Failure:
    """Take the node and the last line of the traceback from a crash file."""
    lines = file.read_text('utf-8', errors='replace').splitlines()
    node = next((x.removeprefix('Node: ') for x in lines if x.startswith('Node: ')), file.stem)
    raised = [x for x in lines if re.match(r'^\s*[\w.]+(Error|Exception|Interrupt)\b.*', x)]
    reason = raised[-1].strip() if raised else (NO_REASON if lines else NO_ROOM).format(file=file)
    return Failure(node, re.sub(r'^bids_neurodecode\.errors\.\w+: ', '', reason), file)
