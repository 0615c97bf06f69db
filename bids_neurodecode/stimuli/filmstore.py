"""Films as a memory map: one chunk of frames a volume, built once a film and then streamed.

A store is ``<key>.npy`` of shape (n_volumes, chunk, height, width, 3), uint8, beside
``<key>.json``, which says what it was made of. The key is a hash of the film's content and of all
that the frames depend on, so that a store is right whenever it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError, InputError, ResourceError, raised_as
from bids_neurodecode.mapped import BROKEN_ARRAY
from bids_neurodecode.stimuli.borders import Borders, Brightest, borders_of_keys, find_borders
from bids_neurodecode.stimuli.films import (
    NO_FRAMES,
    UNREADABLE,
    ConcealedError,
    FilmInfo,
    Frame,
    decode_frames,
    probe_film,
)
from bids_neurodecode.typing import Uint8Array

if TYPE_CHECKING:
    from torch import Tensor

BAD_RECIPE = (
    'A film is cut into at least one volume of a positive repetition time, with 16, 32 or 64 '
    'frames of at least 8 pixels each, from second 0 or later: {found}.'
)
TOO_SHORT = (
    'The film {file} lasts {have:.2f} s, but {n} volumes of {tr:g} s from second {start:g} need '
    '{need:.2f} s. Give the film that was shown, or use fewer volumes.'
)
TOO_LITTLE_DISK = (
    'The frames of {file} need {need:.1f} GB in {folder}, where {free:.1f} GB are free. Make '
    'room, or give another work folder.'
)
UNREADABLE_STORE = 'Cannot read the store of film frames {file}: {reason}. Delete it to rebuild.'
BAD_ROWS = 'Rows are pairs of a film (below {films}) and one of its volumes; row {row} is {found}.'
CROPPED = (
    'Black borders of the film {name} were cropped (top {top}, bottom {bottom}, left {left}, '
    'right {right} pixels of {height} x {width}).'
)
KEPT = (
    'The film {name} has black borders (top {top}, bottom {bottom}, left {left}, right {right} '
    'pixels of {height} x {width}); they were kept.'
)
VARIABLE = 'The film {name} has a variable frame rate; its frames were taken by their times.'

_VERSION = 2  # raise whenever the same recipe gives other frames
_CHUNKS = (16, 32, 64)


@dataclass(frozen=True)
class FilmRecipe:
    """How a film becomes chunks.

    Parameters
    ----------
    n_volumes
        Volumes that show the film.
    repetition_time
        Seconds a volume.
    chunk
        Frames a volume: 16, 32 or 64.
    size
        Height and width of a frame in pixels; the aspect ratio is not kept.
    start
        Second of the film that the first volume begins with, counted from the file's start.
    timing
        ``clock``: the frame on the screen at each moment, from the beginning of the volume in
        equal steps. ``paper``: frame numbers evenly spaced over the whole film, as published; the
        film is then stretched to the volumes by up to one repetition time.
    borders
        Whether black borders are cropped.
    """

    n_volumes: int
    repetition_time: float
    chunk: int = 32
    size: int = 112
    start: float = 0.0
    timing: Literal['clock', 'paper'] = 'clock'
    borders: Literal['keep', 'crop'] = 'keep'

    def __post_init__(self) -> None:
        fine = (
            self.n_volumes >= 1
            and self.repetition_time > 0
            and self.chunk in _CHUNKS
            and self.size >= 8
            and self.start >= 0
        )
        if not fine:
            raise ArgumentsError(BAD_RECIPE.format(found=asdict(self)))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the store."""
        return (self.n_volumes, self.chunk, self.size, self.size, 3)

    def positions(self, info: FilmInfo) -> npt.NDArray[np.float64]:
        """Return where each frame lies: seconds (``clock``) or frame numbers (``paper``)."""
        n = self.n_volumes * self.chunk
        if self.timing == 'paper':
            last = info.n_frames - 1
            return np.asarray(np.floor(np.linspace(0, last, n) + 1e-9), dtype=np.float64)
        steps = np.arange(n, dtype=np.float64)
        return np.asarray(self.start + steps * (self.repetition_time / self.chunk))


@dataclass(frozen=True, eq=False)
class FilmStore:
    """The frames of one film on disk.

    Parameters
    ----------
    frames
        Memory map (n_volumes, chunk, height, width, 3), uint8, read only.
    path
        Its file.
    notes
        What the report should say: borders, variable rate, how the film was read.
    """

    frames: Uint8Array
    path: Path
    notes: tuple[str, ...] = ()

    @property
    def n_volumes(self) -> int:
        """Number of chunks."""
        return len(self.frames)

    def chunk(self, volume: int) -> Uint8Array:
        """Read one chunk from the file, (chunk, height, width, 3).

        Pages of a map that were touched count as memory of this process, up to the whole store.
        """
        if not isinstance(self.frames, np.memmap):
            return np.array(self.frames[volume])
        shape = self.frames.shape[1:]
        size = int(np.prod(shape))
        start = self.frames.offset + volume * size
        return np.fromfile(self.path, np.uint8, size, offset=start).reshape(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        # worker processes map the file again rather than being sent its content
        return (open_store, (self.path,))


def build_store(film: Path, folder: Path, recipe: FilmRecipe, threads: int = 1) -> FilmStore:
    """Return the store of a film, making it if it is not there yet.

    Any number of processes may ask for the same store: one makes it, the others wait. It appears
    under its final name at once and whole; what a killed process left is overwritten.

    Parameters
    ----------
    film
        The film, in any container and codec that FFmpeg reads.
    folder
        Where stores are kept; can be deleted at any time.
    recipe
        How the film becomes chunks.
    threads
        That decode frames side by side.

    Raises
    ------
    InputError
        If the film cannot be read or is shorter than the volumes.
    ResourceError
        If the disk is too small.
    """
    from filelock import FileLock

    path = folder / f'{_key(film, recipe)}.npy'
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix('.lock')):
        if not path.exists():
            info = probe_film(film)
            _check(film, info, recipe, folder)
            try:
                _build(film, path, info, recipe, threads)
            except ConcealedError:  # the same bytes whatever the threads, as of intact films
                _build(film, path, info, recipe, 1)
    return open_store(path)


def open_store(path: Path) -> FilmStore:
    """Map a store into memory.

    Raises
    ------
    DataError
        If it is damaged.
    """
    with raised_as(
        DataError, UNREADABLE_STORE, *BROKEN_ARRAY, RecursionError, KeyError, file=path
    ):
        frames = np.load(path, mmap_mode='r', allow_pickle=False)
        notes = json.loads(path.with_suffix('.json').read_text('utf-8'))['notes']
    return FilmStore(frames, path, tuple(notes))


class FilmChunks:
    """Chunks of one or several films, streamed from their stores (a torch map-style dataset).

    Parameters
    ----------
    stores
        The films.
    rows
        Pairs (film, volume), shape (n, 2); None: all volumes of all films in order.
    """

    def __init__(self, stores: Sequence[FilmStore], rows: npt.ArrayLike | None = None) -> None:
        self.stores = tuple(stores)
        if rows is None:
            rows = [(k, row) for k, store in enumerate(stores) for row in range(store.n_volumes)]
        self.rows = np.asarray(rows, dtype=np.intp).reshape(-1, 2)
        sizes = np.array([store.n_volumes for store in self.stores], dtype=np.intp)
        film, volume = self.rows.T
        bad = (film < 0) | (film >= len(sizes)) | (volume < 0)
        bad[~bad] = volume[~bad] >= sizes[film[~bad]]
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = tuple(int(v) for v in self.rows[row])
            raise DataError(BAD_ROWS.format(films=len(sizes), row=row, found=found))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        """Return the stored bytes (chunk, height, width, 3).

        :func:`as_chunks` turns them on the device: a quarter of the traffic.
        """
        import torch

        film, volume = self.rows[index]
        return torch.from_numpy(self.stores[film].chunk(int(volume)))


def as_chunks(frames: Tensor, *, min_max: bool = False) -> Tensor:
    """Turn stored frames into a network's input, on the device where they are.

    Parameters
    ----------
    frames
        Shape (..., chunk, height, width, 3), uint8.
    min_max
        Stretch each frame to [0, 1]; uniform frames become 0.

    Returns
    -------
    torch.Tensor
        Shape (..., 3, height, width, chunk), float32 in [0, 1].
    """
    import torch

    values = frames.to(torch.float32) / 255
    if min_max:
        low = values.amin((-3, -2, -1), keepdim=True)
        span = values.amax((-3, -2, -1), keepdim=True) - low
        values = (values - low) / span.clamp_min(1 / 255)
    return values.movedim((-1, -4), (-4, -1)).contiguous()


def _key(film: Path, recipe: FilmRecipe) -> str:
    text = json.dumps([_VERSION, asdict(recipe)], sort_keys=True)
    try:
        with film.open('rb') as stream:
            digest = hashlib.file_digest(stream, 'sha256')
    except OSError as error:
        raise InputError(UNREADABLE.format(file=film, reason=error.strerror)) from error
    digest.update(text.encode())
    return digest.hexdigest()


def _check(film: Path, info: FilmInfo, recipe: FilmRecipe, folder: Path) -> None:
    """Refuse films that are too short (by more than a frame) and disks that are too small."""
    need = recipe.start + recipe.n_volumes * recipe.repetition_time
    if info.duration + max(1 / info.frame_rate, 0.1) < need:
        raise InputError(
            TOO_SHORT.format(
                file=film, have=info.duration, n=recipe.n_volumes, tr=recipe.repetition_time,
                start=recipe.start, need=need,
            )
        )  # fmt: skip
    size, free = int(np.prod(recipe.shape)), shutil.disk_usage(folder).free
    if size > free:
        raise ResourceError(
            TOO_LITTLE_DISK.format(file=film, need=size / 1e9, folder=folder, free=free / 1e9)
        )


def _build(film: Path, path: Path, info: FilmInfo, recipe: FilmRecipe, threads: int) -> None:
    """Write a store under its final name; the caller holds its lock."""
    crops = recipe.borders == 'crop'
    borders = find_borders(film, threads) if crops else borders_of_keys(film)
    seen = Brightest()
    decoded = decode_frames(film, threads=threads)
    if borders is None:  # borders that are kept are looked for in the frames as they come
        decoded = _watched(decoded, seen)
    partial = path.with_suffix('.partial')
    store = np.lib.format.open_memmap(partial, mode='w+', dtype=np.uint8, shape=recipe.shape)
    frames = store.reshape(-1, *recipe.shape[2:])
    crop = borders if crops else None
    for number, frame in enumerate(_resampled(decoded, film, info, recipe, crop)):
        frames[number] = frame
    store.flush()
    if borders is None:
        for _ in decoded:
            pass
        borders = seen.borders()
    content = {
        'film': film.name, 'recipe': asdict(recipe), 'duration': info.duration,
        'frame_rate': info.frame_rate, 'notes': _notes(film.name, info, borders, recipe),
    }  # fmt: skip
    aside = path.with_suffix('.json.partial')
    aside.write_text(json.dumps(content, indent=2), encoding='utf-8')
    aside.replace(path.with_suffix('.json'))
    with partial.open('rb') as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def _watched(
    decoded: Iterator[tuple[float, Frame]], seen: Brightest
) -> Iterator[tuple[float, Frame]]:
    """Yield frames, each of which is also looked at for borders."""
    for start, frame in decoded:
        seen.add(frame)
        yield start, frame


def _resampled(
    decoded: Iterator[tuple[float, Frame]],
    film: Path,
    info: FilmInfo,
    recipe: FilmRecipe,
    crop: Borders | None,
) -> Iterator[Uint8Array]:
    """Yield the frame at each position; past the end, the last frame stays."""
    positions = recipe.positions(info)
    n_done = 0
    shown: Uint8Array | None = None
    last: Frame | None = None
    for number, (start, frame) in enumerate(decoded):
        here = number if recipe.timing == 'paper' else start
        while last is not None and n_done < len(positions) and positions[n_done] < here - 1e-6:
            shown = _resized(last, recipe.size, crop) if shown is None else shown
            yield shown
            n_done += 1
        if n_done == len(positions):
            return
        shown, last = None, frame  # resized only if some position shows it
    if last is None:
        raise InputError(NO_FRAMES.format(file=film))
    for _ in range(n_done, len(positions)):
        shown = _resized(last, recipe.size, crop) if shown is None else shown
        yield shown


def _resized(frame: Frame, size: int, crop: Borders | None) -> Uint8Array:
    import av

    if crop is None or not crop.any:
        return frame.rgb((size, size))
    pixels = np.ascontiguousarray(crop.cut(frame.rgb()))
    cut = Frame(av.VideoFrame.from_ndarray(pixels, 'rgb24'), scalers=frame.scalers)
    return cut.rgb((size, size))


def _notes(name: str, info: FilmInfo, borders: Borders, recipe: FilmRecipe) -> list[str]:
    notes = []
    if borders.any:
        message = CROPPED if recipe.borders == 'crop' else KEPT
        notes.append(message.format(name=name, **asdict(borders)))
    if info.variable and recipe.timing == 'clock':
        notes.append(VARIABLE.format(name=name))
    return notes + info.notes(name)
