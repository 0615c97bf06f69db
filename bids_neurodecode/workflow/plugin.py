"""MultiProc that survives the death of a worker.

Nipype waits for ever when the kernel kills a worker (too little memory, most often): the future's
exception is lost in its callback. Here such a death is a failed node with a line that says so, the
pool is regenerated, and workers die with their parent, so that a killed run leaves no process that
writes into the work folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin
from threadpoolctl import threadpool_limits

from bids_neurodecode.processes import die_with
from bids_neurodecode.workflow.resources import THREADS

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

KILLED = (
    'bids_neurodecode.errors.ResourceError: A worker was killed while it ran {node} '
    '(asked for {memory:.1f} GB), most often for want of memory. '
    'Give the run more memory, or lower --nprocs.'
)
VISIBLE_GPUS = 'CUDA_VISIBLE_DEVICES'
MOST_THREADS = 1024
"""Of any node."""
IDLE_SECONDS = 1.0
"""The longest wait between two looks at workers that are all busy."""


def _prepare_worker(cwd: str) -> None:
    """Run once in each worker: work in ``cwd``, and die when the parent dies."""
    os.chdir(cwd)
    os.environ['NIPYPE_NO_ET'] = '1'
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started_by = multiprocessing.parent_process()
    if started_by is not None and started_by.pid is not None:
        die_with(started_by.pid)


def _run_node(node: Node, updatehash: bool, taskid: int, gpu: str | None) -> dict[str, object]:
    """Run a node in a worker; what went wrong comes back as text, whenever it went wrong.

    Nipype's own function loses the error of a node that fails before it has a result file. The
    node uses the threads that it was counted with, and sees the one GPU that it was given.
    """
    answer: dict[str, object] = {'result': None, 'traceback': None, 'taskid': taskid}
    if gpu is not None:
        os.environ[VISIBLE_GPUS] = gpu
    # libraries loaded later read the environment, those that are loaded are told
    os.environ.update(dict.fromkeys(THREADS, str(node.n_procs)))
    try:
        with threadpool_limits(node.n_procs):
            answer['result'] = node.run(updatehash=updatehash)
    except BaseException as error:
        answer['traceback'] = format_exception(error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return answer


class ResilientMultiProc(MultiProcPlugin):
    """Nipype's MultiProc with fresh (spawned) workers whose death is noticed."""

    def __init__(self, plugin_args: dict[str, object] | None = None) -> None:
        super().__init__(plugin_args={**(plugin_args or {}), 'mp_context': 'spawn'})
        self.pool: ProcessPoolExecutor
        self.n_gpu_procs: int
        n_gpus = max(1, self.n_gpu_procs)
        self.n_gpu_procs = MOST_THREADS  # Nipype counts a node's threads against the GPUs
        given = os.environ.get(VISIBLE_GPUS, '').split(',')
        visible = [name for name in given if name] or [str(number) for number in range(n_gpus)]
        self._free_gpus = visible[:n_gpus]
        self._news = threading.Event()
        self._replace_pool()

    def _replace_pool(self) -> None:
        self.pool.shutdown(wait=False)
        # a GPU's memory is given back only when the process that used it ends
        once = 1 if self.plugin_args.get('fresh_workers') else None
        self.pool = ProcessPoolExecutor(
            max_tasks_per_child=once,
            max_workers=self.processors,
            initializer=_prepare_worker,
            initargs=(self._cwd,),
            mp_context=multiprocessing.get_context('spawn'),
        )

    def _prerun_check(self, graph: Any) -> None:
        super()._prerun_check(graph)
        self.n_gpu_procs = 1

    def _check_resources(self, running_tasks: Any) -> tuple[float, int, int]:
        """Return free memory, processors, and whether a GPU is: a node has one for itself."""
        memory, processors, _ = super()._check_resources(running_tasks)
        return memory, processors, min(1, len(self._free_gpus))

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        gpu = self._free_gpus.pop(0) if node.is_gpu_node() else None
        self._taskid += 1
        taskid: int = self._taskid
        try:
            future = self.pool.submit(_run_node, node, updatehash, taskid, gpu)
        except BrokenProcessPool:
            self._replace_pool()
            future = self.pool.submit(_run_node, node, updatehash, taskid, gpu)
        future.add_done_callback(partial(self._collect, taskid, node.fullname, node.mem_gb, gpu))
        self._task_obj[taskid] = future
        return taskid

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        """Submit what can be run, then wait for a worker to end.

        Each of Nipype's looks collects garbage, which at 20 a second takes a fifth of a core.
        """
        self._news.clear()
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        running = {task for task, _ in self.pending_tasks}
        if running and not running & set(self._taskresult):
            self._news.wait(IDLE_SECONDS)

    def _collect(
        self, taskid: int, name: str, memory: float, gpu: str | None, future: Future[Any]
    ) -> None:
        if gpu is not None:
            self._free_gpus.append(gpu)
        error = future.exception()
        if error is None:
            self._taskresult[taskid] = future.result()
            self._news.set()
            return
        line = (
            KILLED.format(node=name, memory=memory)
            if isinstance(error, BrokenProcessPool)
            else f'{type(error).__name__}: {error}'
        )
        self._taskresult[taskid] = {'result': None, 'traceback': [line], 'taskid': taskid}
        self._news.set()

    def terminate(self) -> None:
        """Stop all workers at once (an interrupted run)."""
        for process in list((self.pool._processes or {}).values()):
            process.terminate()
        self.pool.shutdown(wait=False, cancel_futures=True)
