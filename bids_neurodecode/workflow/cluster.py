"""Nipype's plugins for batch systems, made to notice what the batch system ends.

Nipype fails with a bug of its own when a job ends without a result (killed for its memory or its
time): here that is a failed node with a line that says so. An interrupted run takes its jobs out
of the queue, results of earlier inputs are never mistaken for new ones, and a node asks the batch
system for the memory, the threads and the GPU that it states.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nipype.pipeline.plugins.base import SGELikeBatchManagerBase
from nipype.pipeline.plugins.pbs import PBSPlugin
from nipype.pipeline.plugins.sge import SGEPlugin
from nipype.pipeline.plugins.slurm import SLURMPlugin

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

LOST = (
    'bids_neurodecode.errors.ResourceError: The batch system ended job {job} before its result '
    'was there ({reason}). Give the job more memory or time in the plugin file, then run '
    'the same command again: what is done is kept.'
)
UNKNOWN_REASON = 'most often for want of memory or time; see {folder}'
MEMORY_FACTOR = 1.5
"""What is asked of the batch system, which kills, by what a node states, which is a plan."""
POLL_SECONDS = 1.0
"""Each poll asks the batch system once for every job."""
RESULT_SECONDS = 15.0
"""How long a result may take to show through a network file system."""

EXECUTION = {
    'poll_sleep_duration': str(POLL_SECONDS),
    'job_finished_timeout': str(RESULT_SECONDS),
}
"""Nipype's settings of execution that differ from those of a single machine."""


class _Batch(SGELikeBatchManagerBase):
    """What all batch systems share; first among the bases, before Nipype's plugin."""

    cancel: ClassVar[str]
    _status_callback: Callable[[Node, str], None] | None

    def __init__(self, plugin_args: dict[str, object]) -> None:
        super().__init__(plugin_args=plugin_args)
        self._nodes: dict[int, Node] = {}

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        # a job that ends before it starts must not leave the result of earlier inputs as its own
        folder = Path(node.output_dir())
        for stale in (*folder.glob('result_*.pklz'), *folder.glob('_0x*.json')):
            stale.unlink()
        job: int = super()._submit_job(node, updatehash=updatehash)
        self._nodes[job] = node
        return job

    def _get_result(self, taskid: int) -> Any:
        result = super()._get_result(taskid)
        if result and isinstance(result['traceback'], str):  # Nipype's own words for a lost job
            node = self._nodes[taskid]
            folder = Path(node.base_dir) / node.fullname.split('.')[0] / 'batch'
            line = LOST.format(job=taskid, reason=end_of_job(folder, taskid))
            return {**result, 'traceback': [line]}
        return result

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        # Nipype says "start" before it looks whether the node is done already
        callback = self._status_callback
        if cached and callback:
            self._status_callback = lambda node, _: callback(node, 'cached')
        super()._task_finished_cb(jobid, cached=cached)
        self._status_callback = callback

    def _report_crash(self, node: Node, result: Any = None) -> Any:
        if result is not None and isinstance(result['traceback'], str):
            # Nipype adds lines to it, which a text does not take
            result = {**result, 'traceback': result['traceback'].splitlines(keepends=True)}
        return super()._report_crash(node, result)

    def terminate(self) -> None:
        """Take all jobs out of the queue (an interrupted run)."""
        if self._pending:
            subprocess.run([self.cancel, *map(str, self._pending)], check=False)


class ResilientSLURM(_Batch, SLURMPlugin):
    """Nipype's SLURM."""

    cancel = 'scancel'


class ResilientPBS(_Batch, PBSPlugin):
    """Nipype's PBS."""

    cancel = 'qdel'


class ResilientSGE(_Batch, SGEPlugin):
    """Nipype's SGE."""

    cancel = 'qdel'


RUNNERS = {'SLURM': ResilientSLURM, 'PBS': ResilientPBS, 'SGE': ResilientSGE}


def end_of_job(folder: Path, job: int) -> str:
    """Find in a job's log why Slurm ended it.

    Parameters
    ----------
    folder
        Folder of the jobs' scripts and logs.
    job
        Its number.
    """
    pattern = re.compile(r'error: .*(memory|oom|time limit|cancelled).*', flags=re.IGNORECASE)
    log = folder / f'slurm-{job}.out'
    text = log.read_text('utf-8', errors='replace') if log.is_file() else ''
    found = [match[0] for match in pattern.finditer(text)]
    if found:
        line = max(found, key=len).removeprefix('error: ').strip(' *')
        return re.sub(r'\s+', ' ', line)
    return UNKNOWN_REASON.format(folder=folder)


def ask_for_resources(nodes: Iterable[Node], plugin_args: dict[str, Any]) -> None:
    """Let each node ask Slurm for what it states; what the plugin file says comes last and wins.

    Parameters
    ----------
    nodes
        Nodes of the workflow.
    plugin_args
        Those of the plugin file.
    """
    given = plugin_args.get('sbatch_args', '')
    for node in nodes:
        memory = round(1024 * max(1.0, MEMORY_FACTOR * node.mem_gb))
        words = [f'--mem={memory}M', f'--cpus-per-task={node.n_procs or 1}']
        if getattr(node.inputs, 'device', None) == 'cuda':
            words.append('--gres=gpu:1')
        node.plugin_args = {'sbatch_args': ' '.join([*words, given]).strip(), 'overwrite': True}
