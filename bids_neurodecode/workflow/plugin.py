"""MultiProc that survives the death of a worker.

Nipype waits for ever when the kernel kills a worker (too little memory, most often): the future's
exception is lost in its callback. Here such a death is a failed node with a line that says so, the
pool is made anew, and workers die with their parent, so that a killed run leaves no process that
writes into the work folder.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin

KILLED = (
    'bids_neurodecode.errors.ResourceError: A worker was killed while it ran {node} '
    '(asked for {memory:.1f} GB), most often for want of memory. '
    'Give the run more memory, or lower --nprocs.'
)
PR_SET_PDEATHSIG = 1
IDLE_SECONDS = 1.0
"""The longest wait between two looks at workers that are all busy."""


def _prepare_worker(cwd: str) -> None:
    """Run once in each worker: work in ``cwd``, and die when the parent dies."""
    os.chdir(cwd)
    os.environ['NIPYPE_NO_ET'] = '1'
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_node(node: Any, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a node in a worker; what went wrong comes back as text, whenever it went wrong.

    Nipype's own function loses the error of a node that fails before it has a result file.
    """
    answer: dict[str, Any] = {'result': None, 'traceback': None, 'taskid': taskid}
    try:
        answer['result'] = node.run(updatehash=updatehash)
    except BaseException as error:
        answer['traceback'] = format_exception(error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return answer


class ResilientMultiProc(MultiProcPlugin):
    """Nipype's MultiProc with fresh (spawned) workers whose death is noticed."""

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args={**(plugin_args or {}), 'mp_context': 'spawn'})
        self.pool: ProcessPoolExecutor
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

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        taskid: int = self._taskid
        try:
            future = self.pool.submit(_run_node, node, updatehash, taskid)
        except BrokenProcessPool:
            self._replace_pool()
            future = self.pool.submit(_run_node, node, updatehash, taskid)
        future.add_done_callback(partial(self._collect, taskid, node.fullname, node.mem_gb))
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

    def _collect(self, taskid: int, name: str, memory: float, future: Future[Any]) -> None:
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
