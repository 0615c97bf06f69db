"""Sets of images that are to be compared: folders, arrays of other programs, our own outputs.

Every image has a name, by which truth and reconstruction are matched; a row of an array is named
by its number. Nothing is matched by its place in a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import load_config
from bids_neurodecode.errors import ArgumentsError, InputError, raised_as
from bids_neurodecode.extensions import OWN_GENERATORS
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.models.generators import guides_of
from bids_neurodecode.stimuli.features import judges_of
from bids_neurodecode.stimuli.images import DAMAGE, SUFFIXES, UNREADABLE, load_image, open_picture
from bids_neurodecode.tables import read_table
from bids_neurodecode.typing import IndexArray, Uint8Array

NOTHING = (
    'There are no images in {source}: give a folder with images, or a .pt, .npy or .npz file.'
)
NOT_THERE = '{source} is not there. Give a folder with images, or a .pt, .npy or .npz file.'
SEVERAL = (
    '{source} holds reconstructions of several participants or tasks. Give one of: {folders}.'
)
BAD_ARRAY = (
    'Cannot use the array in {file}: {reason}. It must hold n images as (n, height, width, 3) or '
    '(n, 3, height, width), of 8 bits or floating point from 0 to 1.'
)
NO_MATCH = (
    'No name in {made} is one in {truth} ({made_names}; {truth_names}). Name each reconstruction '
    'like its image; rows of an array are called 0, 1, 2, ...'
)
UNMATCHED = (
    'Not compared: {n_truth} of {total_truth} true images without a reconstruction{truth}, '
    '{n_made} of {total_made} reconstructions without a true image{made}.'
)
BY_NUMBER = (
    'Images were matched by the numbers in their names, which are 0 to {last} on both sides.'
)
BY_STEM = 'Images were matched by the names of their files, without the folders that they lie in.'
PADDED = (
    'Images that are not square, or not of one size, were padded with mid-grey to squares of '
    '{size} pixels, as the program shows them to its models.'
)

ARRAYS = frozenset({'.pt', '.pth', '.npy', '.npz'})
Stage = Literal['final', 'initial']

_OURS = re.compile(r'(?P<picture>.+)_desc-(?P<stage>initial|final)_image$')
_NUMBER = re.compile(r'(?P<before>.*?)(?P<number>\d+)$')
_SHOWN = 3  # names in a message


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with names.

    Parameters
    ----------
    source
        Where they come from, for messages.
    names
        One an image; several reconstructions of one image have the same.
    files
        Where each lies; empty for an array.
    array
        Shape (n, h, w, 3), uint8; None for files.
    guided_by
        Networks that had a part in the images; None: it is not known.
    """

    source: str
    names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    array: Uint8Array | None = None
    guided_by: tuple[str, ...] | None = None

    def load(self, rows: Sequence[int] | IndexArray, size: int) -> tuple[Uint8Array, bool]:
        """Return images (n, h, w, 3), and whether they were padded to squares of ``size``.

        Parameters
        ----------
        rows
            Which images.
        size
            Pixels a side that images of different sizes are padded to.
        """
        if self.array is not None:
            return self.array[np.asarray(rows, dtype=np.intp)], False
        files = [self.files[row] for row in rows]
        sizes = {_size_of(file) for file in files}
        width, height = next(iter(sizes))
        padded = len(sizes) > 1 or width != height
        images = {file: load_image(file, size=size if padded else None) for file in set(files)}
        return np.stack([images[file] for file in files]), padded


@dataclass(frozen=True, eq=False)
class Matched:
    """Truth and reconstructions, row by row.

    Parameters
    ----------
    truth, made
        Shape (n, h, w, 3), uint8; the two may differ in size.
    names
        Of the images; reconstructions of one image have the same.
    notes
        What was not matched, and what was done to match; one line each.
    guided_by
        Networks that had a part in the reconstructions; None: it is not known.
    """

    truth: Uint8Array
    made: Uint8Array
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    guided_by: tuple[str, ...] | None = None


def read_image_set(source: Path, stage: Stage = 'final') -> ImageSet:
    """Read what can be compared.

    Parameters
    ----------
    source
        A folder with images (those in folders below it are named with them); an output folder of
        this program, or one of its folders ``stimuli/sub-*/task-*``; or an array, as MindEye2
        (``.pt``), Brain-Diffuser and Brain-IT (``.npy``) save them.
    stage
        Which reconstructions of an output of this program.

    Raises
    ------
    InputError
        If there is nothing that can be read. ``.pt`` files are read as weights only: they cannot
        run code.
    """
    if source.suffix.lower() in ARRAYS and not source.is_dir():
        array = as_images(read_array(source), str(source))
        return ImageSet(str(source), tuple(str(k) for k in range(len(array))), array=array)
    if not source.is_dir():
        check_fetched(source)
        raise InputError(NOT_THERE.format(source=source))
    ours = _ours(source, stage)
    if ours is not None:
        return ours
    files = sorted(file for file in source.rglob('*') if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(NOTHING.format(source=source))
    names = tuple(file.relative_to(source).with_suffix('').as_posix() for file in files)
    return ImageSet(str(source), names, tuple(files))


def read_array(file: Path) -> npt.NDArray[Any]:
    """Read the one array of a ``.pt`` (weights only), ``.npy`` or ``.npz`` file.

    Raises
    ------
    InputError
        If it cannot be read so, or holds something else.
    """
    check_fetched(file)
    # torch raises what it likes for files that are none of its own
    with raised_as(InputError, BAD_ARRAY, Exception, file=file):
        if file.suffix.lower() in {'.npy', '.npz'}:
            found: Any = np.load(file, allow_pickle=False, mmap_mode='r')
        else:
            import torch

            found = torch.load(file, map_location='cpu', weights_only=True)
        if hasattr(found, 'files'):
            names = found.files
            found = found[names[0]] if len(names) == 1 else dict.fromkeys(names)
        if hasattr(found, 'numpy'):
            found = found.detach().float().numpy() if found.is_floating_point() else found.numpy()
    if not isinstance(found, np.ndarray):
        named = f' ({", ".join(map(str, found))})' if isinstance(found, dict) else ''
        reason = f'it holds {type(found).__name__}{named}, not one array'
        raise InputError(BAD_ARRAY.format(file=file, reason=reason))
    return found


def as_images(array: npt.NDArray[Any], source: str) -> Uint8Array:
    """Return an array of images as uint8, (n, h, w, 3); floating point is rounded to 8 bits.

    Parameters
    ----------
    array
        Shape (n, h, w, 3) or (n, 3, h, w); uint8, or floating point from 0 to 1.
    source
        For messages.

    Raises
    ------
    InputError
        For another shape, type or range.
    """
    if array.ndim != 4 or 3 not in (array.shape[-1], array.shape[1]) or not array.size:
        reason = f'its shape is {array.shape}'
        raise InputError(BAD_ARRAY.format(file=source, reason=reason))
    if array.shape[-1] != 3:
        array = array.transpose(0, 2, 3, 1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        reason = f'it holds {array.dtype}'
        raise InputError(BAD_ARRAY.format(file=source, reason=reason))
    out = np.empty(array.shape, dtype=np.uint8)
    for row, image in enumerate(array):
        low, high = float(image.min()), float(image.max())
        # half floats of decoders lie beyond 1 by their rounding
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            reason = f'image {row} holds values from {low:g} to {high:g}'
            raise InputError(BAD_ARRAY.format(file=source, reason=reason))
        out[row] = np.rint(np.clip(image, 0, 1).astype(np.float64) * 255)
    return out


def match_images(truth: ImageSet, made: ImageSet, size: int) -> Matched:
    """Match reconstructions with true images by name.

    Parameters
    ----------
    truth, made
        What was seen, and what was made of the responses.
    size
        Pixels a side to which images are padded that are not square, or not of one size.

    Raises
    ------
    InputError
        If no name is on both sides.
    """
    truth_keys, made_keys, how = _keys(truth.names, made.names)
    place = {key: row for row, key in enumerate(truth_keys)}
    rows = [row for row, key in enumerate(made_keys) if key in place]
    if not rows:
        raise InputError(
            NO_MATCH.format(
                made=made.source,
                truth=truth.source,
                made_names=_some(made.names),
                truth_names=_some(truth.names),
            )
        )
    true_rows = [place[made_keys[row]] for row in rows]
    notes = [] if how is None else [how]
    used = set(true_rows)
    without = [name for row, name in enumerate(truth.names) if row not in used]
    alone = [name for row, name in enumerate(made.names) if row not in set(rows)]
    if without or alone:
        notes.append(
            UNMATCHED.format(
                n_truth=len(without),
                total_truth=len(truth.names),
                truth=f' ({_some(without)})' if without else '',
                n_made=len(alone),
                total_made=len(made.names),
                made=f' ({_some(alone)})' if alone else '',
            )
        )
    seen, padded_truth = truth.load(true_rows, size)
    images, padded_made = made.load(rows, size)
    if padded_truth or padded_made:
        notes.append(PADDED.format(size=size))
    names = tuple(truth.names[row] for row in true_rows)
    return Matched(seen, images, names, tuple(notes), made.guided_by)


def _keys(
    truth: Sequence[str], made: Sequence[str]
) -> tuple[Sequence[Any], Sequence[Any], str | None]:
    """Return what both sides are matched by, and how that was found if not by the names."""
    if set(truth) & set(made):
        return truth, made, None
    stems = [[PurePosixPath(name).name for name in names] for names in (truth, made)]
    if set(stems[0]) & set(stems[1]) and len(set(stems[0])) == len(stems[0]):
        return stems[0], stems[1], BY_STEM
    numbers = [_numbers(names) for names in (truth, made)]
    if None not in numbers and set(numbers[0] or ()) == set(numbers[1] or ()):
        return numbers[0] or (), numbers[1] or (), BY_NUMBER.format(last=len(truth) - 1)
    return truth, made, None


def _numbers(names: Sequence[str]) -> list[int] | None:
    """Return the numbers of names that differ by it alone and count from 0; else None."""
    found = [_NUMBER.match(name) for name in names]
    before = {match['before'] for match in found if match}
    numbers = [int(match['number']) for match in found if match]
    complete = len(before) == 1 and sorted(numbers) == list(range(len(names)))
    return numbers if complete else None


def _ours(source: Path, stage: Stage) -> ImageSet | None:
    """Read the reconstructions of an output of this program; None: it is none."""
    folder = source
    if (source / 'dataset_description.json').is_file() and (source / 'stimuli').is_dir():
        found = [
            x for x in sorted((source / 'stimuli').glob('sub-*/task-*')) if _pictures(x, stage)
        ]
        if len(found) > 1:
            raise InputError(SEVERAL.format(source=source, folders=', '.join(map(str, found))))
        folder = found[0] if found else source / 'stimuli'
    pictures = _pictures(folder, stage)
    if not pictures:
        return None if folder == source else read_image_set(folder, stage)
    names = list(pictures)
    shown = _shown(folder)
    return ImageSet(
        str(folder),
        tuple(shown.get(name, name) for name in names),
        tuple(pictures[name] for name in names),
        guided_by=_guides(folder),
    )


def _pictures(folder: Path, stage: Stage) -> dict[str, Path]:
    """Return the reconstructions in a folder by the names that the program gave them."""
    found = {}
    for file in sorted(folder.glob('*_image.png')):
        match = _OURS.match(file.stem)
        if match and match['stage'] == stage:
            found[match['picture']] = file
    return found


def _shown(folder: Path) -> dict[str, str]:
    """Return what each reconstruction is of, by the table that lies beside."""
    who, task = folder.parent.name, folder.name
    if len(folder.parents) < 3:
        return {}
    files = folder.parents[2].glob(f'{who}/**/{who}*_{task}_*desc-generated_predictions.tsv')
    shown: dict[str, str] = {}
    for file in sorted(files):
        table = read_table(file)
        if {'picture', 'stimulus'} <= set(table):
            for picture, stimulus in zip(table['picture'], table['stimulus'], strict=True):
                shown[str(picture)] = PurePosixPath(str(stimulus)).with_suffix('').as_posix()
    return shown


def _guides(folder: Path) -> tuple[str, ...] | None:
    """Return the networks that had a part in images, as their record says; None: not known."""
    who, task = folder.parent.name, folder.name
    if len(folder.parents) < 3:
        return None
    place = folder.parents[2] / who
    made = _made(place / 'log' / f'{who}_{task}_results.json')
    if made.get('guided_by') is not None:
        return tuple(made['guided_by'])
    models = sorted((place / 'models').glob(f'{who}*_{task}_*desc-generated_model.toml'))
    return _guides_of(models[0], made.get('generator')) if models else None


def _made(record: Path) -> dict[str, Any]:
    """Return what the record of a participant says of images that were made."""
    try:
        return dict(json.loads(record.read_text('utf-8')).get('generation') or {})
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return {}


def _guides_of(settings: Path, generator: str | None) -> tuple[str, ...] | None:
    """Return the networks by the settings of a model, of before records told them."""
    try:
        config = load_config(settings)
    except (ArgumentsError, InputError):  # of a package that is not installed here, say
        return None
    name = generator or config.reconstruction.generator
    guides = guides_of(name) if name in OWN_GENERATORS else ()
    if name == 'small':
        network = config.reconstruction.match_network
        guides = () if network == 'none' else (network,)
    elif name not in OWN_GENERATORS or name == 'auto':
        return None  # only that generator knows
    return (*judges_of(config.features.extractor), *guides)


def _size_of(file: Path) -> tuple[int, int]:
    with raised_as(InputError, UNREADABLE, *DAMAGE, file=file), open_picture(file) as opened:
        # cameras note the turn of an image beside its pixels
        turned = opened.getexif().get(0x0112, 1) in {5, 6, 7, 8}
        return (opened.height, opened.width) if turned else (opened.width, opened.height)


def _some(names: Sequence[str]) -> str:
    more = ', ...' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
