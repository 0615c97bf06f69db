"""What libraries read from the environment, set before they are imported and for the workers.

No cache goes to HOME, which may not be writable in a container, nor to a fixed place below
``/tmp``, which may be another user's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
CACHES = {
    'MPLCONFIGDIR': 'matplotlib',
    'NUMBA_CACHE_DIR': 'numba',
    'TORCHINDUCTOR_CACHE_DIR': 'torchinductor',
    'TRITON_CACHE_DIR': 'triton',
    'HF_HOME': 'huggingface',
    'TEMPLATEFLOW_HOME': 'templateflow',
    'XDG_CACHE_HOME': 'xdg',
}
"""Variables and the folders below the cache that they name, where the user set none."""
HOME_CACHES = ('TEMPLATEFLOW_HOME', 'HF_HOME')
"""Caches that people share between runs: they stay in HOME where that can be written."""
NIPYPE_CONFIG = """[logging]
workflow_level = {level}
utils_level = {level}
interface_level = {level}
log_to_file = false

[execution]
crashfile_format = txt
check_version = false
"""


def prepare_environment(caches: Path, *, threads: int = 1, nipype_level: str = 'CRITICAL') -> None:
    """Set what libraries read at import or in workers: threads, and folders they may write to.

    Parameters
    ----------
    caches
        Folder of the caches; it is made.
    threads
        Threads of one process.
    nipype_level
        Level of Nipype's own messages.
    """
    for name in THREADS:
        os.environ[name] = str(threads)
    at_home = os.access(Path.home(), os.W_OK)
    for name, folder in CACHES.items():
        if name in HOME_CACHES and at_home:
            continue
        os.environ.setdefault(name, str(caches / folder))
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    _configure_nipype(caches / 'nipype', nipype_level)
    # user names of containers are numbers, and getpass, on which torch and Nipype rely, wants names
    user = os.environ.get('LOGNAME') or os.environ.get('USER') or 'user'
    os.environ.setdefault('LOGNAME', user)
    os.environ.setdefault('USER', user)
    # a run never downloads weights
    os.environ.setdefault('HF_HUB_OFFLINE', '1')


def _configure_nipype(folder: Path, level: str) -> None:
    """Write the file that Nipype reads its levels of logging from, in workers too."""
    folder.mkdir(parents=True, exist_ok=True)
    # renamed into place: another process may be reading it
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, 'w', encoding='utf-8') as stream:
        stream.write(NIPYPE_CONFIG.format(level=level))
    Path(name).replace(folder / 'nipype.cfg')
    os.environ['NIPYPE_CONFIG_DIR'] = str(folder)
    os.environ.setdefault('NIPYPE_NO_ET', '1')
