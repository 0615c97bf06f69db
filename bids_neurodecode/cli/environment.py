"""What libraries read from the environment, set before they are imported, for the workers too.

No cache goes to HOME, which may not be writable in a container, nor to a fixed place below
``/tmp``, which may be another user's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

MOST_THREADS = 8
"""Of one node: more seldom make it faster."""
CACHES = {
    'MPLCONFIGDIR': 'matplotlib',
    'NUMBA_CACHE_DIR': 'numba',
    'TORCHINDUCTOR_CACHE_DIR': 'torchinductor',
    'TRITON_CACHE_DIR': 'triton',
    'DENO_DIR': 'deno',
}
"""Variables and the folders below the cache that they name, where the user set none."""
SHARED_CACHES = {'TEMPLATEFLOW_HOME': 'templateflow', 'HF_HOME': 'huggingface'}
"""The same for what people share between runs: kept in HOME where that can be written."""
PATIENCE = {'GOMP_SPINCOUNT': '1000', 'OPENBLAS_THREAD_TIMEOUT': '14'}
"""How long threads that have nothing to do keep a processor, where the user has not said: rounds
of PyTorch's, and the power of two of ticks of NumPy's. By default both wait so long that on cores
which others use as well two threads take ten times the time of one."""
NIPYPE_CONFIG = """[logging]
workflow_level = {level}
utils_level = {level}
interface_level = {level}
log_to_file = false

[execution]
crashfile_format = txt
check_version = false
"""


def threads_of(asked: int | None, nprocs: int | None) -> int:
    """Return the threads that one node may use: all processors but one, at most eight.

    Parameters
    ----------
    asked
        Threads of a node that the user wants.
    nprocs
        Processors that the user gives to all nodes; those that this process may use if None.
    """
    from bids_neurodecode.cli.checks_places import n_processors

    return asked or max(1, min((nprocs or n_processors()) - 1, MOST_THREADS))


def set_environment(caches: Path, *, threads: int = 1, shared: Path | None = None) -> None:
    """Set variables; no folder is made (the libraries make them when they need them).

    Parameters
    ----------
    caches
        Folder below which the caches are.
    threads
        Threads of one process.
    shared
        Folder of what people share between runs, where it cannot be kept in HOME; ``caches`` if
        None.
    """
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ[name] = str(threads)
    if 'OMP_WAIT_POLICY' not in os.environ:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
    home = _home()
    if home is None:
        # a number that no user has: what asks for a home must find one
        os.environ['HOME'] = str(caches)
    at_home = home is not None and os.access(home, os.W_OK)
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(caches / folder))
    for name, folder in ({} if at_home else SHARED_CACHES).items():
        os.environ.setdefault(name, str((shared or caches) / folder))
    # the users of containers may have a number and no name; torch and Nipype ask for one
    user = os.environ.get('LOGNAME') or os.environ.get('USER') or 'user'
    os.environ.setdefault('LOGNAME', user)
    os.environ.setdefault('USER', user)
    os.environ.setdefault('NIPYPE_NO_ET', '1')


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def configure_nipype(folder: Path, *, level: str) -> None:
    """Set Nipype's levels of logging, and write the file that workers read them from.

    Parameters
    ----------
    folder
        Folder of the file; it is made.
    level
        Level of Nipype's own messages (``INFO``, ``CRITICAL``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    # renamed into place: another process may be reading it
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, 'w', encoding='utf-8') as stream:
        stream.write(NIPYPE_CONFIG.format(level=level))
    Path(name).replace(folder / 'nipype.cfg')
    os.environ['NIPYPE_CONFIG_DIR'] = str(folder)
    if 'nipype' in sys.modules:  # it read its own file when it was imported
        from nipype import config, logging

        names = ('workflow_level', 'utils_level', 'interface_level')
        config.update_config({'logging': dict.fromkeys(names, level)})
        logging.update_logging(config)
