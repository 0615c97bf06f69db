"""The door out: files written atomically under their BIDS names, with sidecars.

A file appears under its final name only when it is whole. The same content gives the same bytes:
compressed NIfTI carry no time and no name.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import FULL
from bids_neurodecode.spaces import files_of, form_of, image_files

if TYPE_CHECKING:
    import nibabel as nib
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


BEGUN = '.tmp-'
"""How the names of files begin that are being written."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it when the block ends well.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=BEGUN, suffix=path.name)
    temporary = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield temporary
        # mkstemp makes files for their owner alone; outputs follow the umask
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        # what is said as a file is written does not name it
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def remove_begun(files: Iterable[Path]) -> None:
    """Remove files that a killed process had begun to write; those of a living one are locked."""
    for file in files:
        # without a lock nothing is known of who writes it, and it stays
        with suppress(OSError), file.open('rb+') as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Parameters
    ----------
    path
        That is written.
    text
        Its content, written as UTF-8.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with readable layout; a sidecar of surfaces beside each of the hemispheres.

    Parameters
    ----------
    path
        That is written.
    content
        What JSON can hold; anything else as text.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + '\n'
    for file in files_of(path):
        write_text(file, text)


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as BIDS wants it: tabs, ``n/a`` for what is missing.

    Parameters
    ----------
    path
        That is written.
    table
        Its columns are the header.
    """
    with atomic(path) as temporary:
        table.to_csv(
            temporary,
            sep='\t',
            index=False,
            na_rep='n/a',
            float_format='%.9g',
            lineterminator='\n',
        )


def write_image(
    path: Path, image: nib.Nifti1Image, *, repetition_time: float | None = None, name: str = ''
) -> None:
    """Write an image in the form that its name says.

    Parameters
    ----------
    path
        Compressed NIfTI; GIFTI (both hemispheres are written), CIFTI or TSV where the image has a
        :class:`bids_neurodecode.spaces.Space`.
    image
        What is written.
    repetition_time
        Seconds from volume to volume, written into the header.
    name
        What CIFTI calls its maps.
    """
    if form_of(path) is not None:
        for file, save in image_files(path, image, repetition_time=repetition_time, name=name):
            with atomic(file) as temporary:
                save(temporary)
        return
    if repetition_time is not None:
        zooms = (*image.header.get_zooms()[:3], repetition_time)
        image.header.set_zooms(zooms)
    with _compressed(path) as stream:
        stream.write(image.to_bytes())


@contextmanager
def _compressed(path: Path) -> Iterator[gzip.GzipFile]:
    """Compress into a file, whole or not at all; the same content makes the same bytes."""
    with (
        atomic(path) as temporary,
        temporary.open('wb') as raw,
        gzip.GzipFile(filename='', mode='wb', fileobj=raw, compresslevel=6, mtime=0) as stream,
    ):
        yield stream


def write_volumes(
    path: Path, first: nib.Nifti1Image, n_volumes: int, parts: Iterable[npt.NDArray[np.float32]]
) -> None:
    """Write volumes some at a time, the same bytes as of an image of all.

    Parameters
    ----------
    path
        Compressed NIfTI.
    first
        Image of the first volume, (x, y, z, 1), with its header.
    n_volumes
        Of all parts.
    parts
        Volumes, (x, y, z, n).
    """
    content = first.to_bytes()
    n = first.header.sizeof_hdr
    header = type(first.header)(content[:n])
    header.set_data_shape((*first.shape[:3], n_volumes))
    with _compressed(path) as stream:
        stream.write(header.binaryblock + content[n : int(header.get_data_offset())])
        for part in parts:
            stream.write(part.tobytes(order='F'))


def copy_file(source: Path, path: Path) -> None:
    """Copy a file, whole or not at all.

    Parameters
    ----------
    source
        That is copied.
    path
        That is written.
    """
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
