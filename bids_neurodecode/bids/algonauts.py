"""The Algonauts Project 2023 Challenge as it is published, read in place: betas and images.

What is used of the layout, below the folder that is given as BIDS_DIR (or that of a participant)::

    subjXX/training_split/training_fmri/{lh,rh}_training_fmri.npy       images x vertices
    subjXX/training_split/training_images/train-NNNN_nsd-NNNNN.png      in the order of the rows
    subjXX/roi_masks/{lh,rh}.all-vertices_fsaverage_space.npy           vertices of fsaverage

Each row is the mean over the presentations of an image. The responses to the images of
``test_split`` were never published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.entities import natural_key
from bids_neurodecode.bids.features import picture_features
from bids_neurodecode.bids.layouts import NO_PLACE, keep_table
from bids_neurodecode.bids.names import clean_label
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.bids.stimuli import check_image
from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.mapped import BROKEN_ARRAY
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import Space

if TYPE_CHECKING:
    from bids_neurodecode.bids.request import Request

TASK, SESSION, SPACE = 'algonauts2023', 'training', 'fsaverage'
OWN_SPACE = 'challenge'
"""What the space is called where it is not known which vertices of fsaverage they are."""
TRIAL_SECONDS = 4.0
"""From image to image in the experiment (the Natural Scenes Dataset)."""
STIMULUS_SECONDS = 3.0
SIDES = ('lh', 'rh')
TRAINING = Path('training_split')

NO_FILE = (
    'There is no {file}. {folder} looks like the Algonauts 2023 Challenge; download what is '
    'missing to the same place.'
)
NO_TASK = "The challenge's own layout has one task, {task!r}, and no task {asked!r}."
BAD_ARRAY = 'Cannot read {file}: {reason}. Download the file again.'
DIFFERENT = (
    '{file} has the shape {shape}; a row for each of the {rows} images was expected. Give the '
    'files of one participant as they were published.'
)
NOT_NUMBERS = '{file} holds values that are NaN or infinite. Download the file again.'
NO_PLACES = (
    'sub-{label}: {folder} does not say which vertices of fsaverage these are; they are counted '
    'in the order of the challenge, and maps cannot be drawn on the cortex.'
)
IN_PLACE = (
    'The folder is the Algonauts 2023 Challenge in its own layout: the mean responses to the '
    'training images are read in place, on the vertices of fsaverage that it gives.'
)
FOUND = 'sub-{label}: {images} training images, {left} and {right} vertices (left, right).'


def find_algonauts(request: Request) -> DatasetInput:
    """Find what one call reads of the challenge's layout, and check arrays and images.

    Raises
    ------
    InputError
        If a file is missing or does not fit, or no participant can be processed.
    """
    from bids_neurodecode.bids.request import read_each

    root = request.bids_dir
    if request.tasks and request.tasks != (TASK,):
        raise InputError(NO_TASK.format(task=TASK, asked=request.tasks[0]))
    wanted = _participants(root, request.participants)
    read, failures = read_each(wanted, lambda label: _participant(request, label))
    people, notes = zip(*read, strict=True)
    return DatasetInput(root, {}, people, failures, (IN_PLACE, *notes))


def _participants(root: Path, asked: Sequence[str]) -> tuple[str, ...]:
    from bids_neurodecode.bids.request import choose_participants

    if (root / TRAINING).is_dir():
        labels = [clean_label(root.resolve().name.removeprefix('subj')) or '01']
    else:
        labels = [p.name.removeprefix('subj') for p in root.glob('subj*') if p.is_dir()]
    known = tuple(sorted(labels, key=natural_key))
    return choose_participants([label.removeprefix('subj') for label in asked], known, root)


def _participant(request: Request, label: str) -> tuple[ParticipantInput, str]:
    """Return one participant's record, and the line that says what it holds."""
    root = request.bids_dir
    folder = root if (root / TRAINING).is_dir() else root / f'subj{label}'
    images = folder / TRAINING / 'training_images'
    names = sorted(file.name for file in images.glob('train-*.png'))
    if not names:
        raise InputError(NO_FILE.format(file=images / 'train-0001_nsd-00013.png', folder=root))
    betas = folder / TRAINING / 'training_fmri' / 'lh_training_fmri.npy'
    for name in names:
        check_image(images / name, betas)
    sizes = check_arrays(betas, len(names), root)
    mask, note = _mask(folder, sizes, label)
    path = _keep_mask(request, label, mask)
    table = pd.DataFrame(
        {
            'onset': TRIAL_SECONDS * np.arange(len(names)),
            'duration': STIMULUS_SECONDS,
            'stim_file': names,
            'session': SESSION,
            'run': 1,
        }
    )
    name = f'sub-{label}_task-{TASK}_desc-singletrial_events.tsv'
    events = keep_table(request.made_dir, name, table, root)
    run = RunInput(
        entities={'sub': label, 'ses': SESSION, 'task': TASK},
        bold=betas,
        mask=path,
        events=events,
        confounds=None,
        repetition_time=TRIAL_SECONDS,
        n_volumes=len(names),
        space=OWN_SPACE if note else SPACE,
        notes=(note,) if note else (),
        sources=tuple(bids_uri('raw', file, root) for file in both_sides(betas)),
    )
    person = ParticipantInput(
        label=label,
        task=TASK,
        paradigm='images',
        runs=(run,),
        stimuli_dir=images,
        stimuli=tuple(names),
        features=picture_features(label, TASK, images, request.features),
        betas=betas.parent,
        betas_events=events,
        layout='algonauts',
    )
    found = FOUND.format(label=label, images=len(names), left=sizes[0], right=sizes[1])
    return person, ' '.join(filter(None, (found, note)))


def both_sides(file: Path) -> tuple[Path, Path]:
    """Return the files of the left and the right hemisphere, from either."""
    left, right = (file.with_name(side + file.name[2:]) for side in SIDES)
    return left, right


def _mask(folder: Path, sizes: Sequence[int], label: str) -> tuple[VoxelMask, str]:
    """Return the vertices of the challenge among those of fsaverage, and a note.

    Where the file does not say which they are, they are counted in the order of the challenge.
    """
    from nibabel.cifti2.cifti2_axes import BrainModelAxis

    inside = []
    for side in SIDES:
        file = folder / 'roi_masks' / f'{side}.all-vertices_fsaverage_space.npy'
        if file.is_file():
            inside.append(np.asarray(_array(file, folder.parent), dtype=np.float64).ravel() > 0)
    space, note = SPACE, ''
    if [int(each.sum()) for each in inside] != list(sizes):
        space, note = OWN_SPACE, NO_PLACES.format(label=label, folder=folder / 'roi_masks')
        inside = [np.ones(n, dtype=bool) for n in sizes]
    axes = [
        BrainModelAxis.from_surface(np.arange(each.size), each.size, name)
        for each, name in zip(inside, ('CortexLeft', 'CortexRight'), strict=True)
    ]
    vertices = np.concatenate(inside).reshape(-1, 1, 1)
    mask = VoxelMask(vertices, np.eye(4), space=Space(axes[0] + axes[1], 'gifti', space))
    return mask, note


def _keep_mask(request: Request, label: str, mask: VoxelMask) -> Path:
    if request.made_dir is None:
        raise InputError(NO_PLACE.format(folder=request.bids_dir))
    key = hashlib.sha256(mask.mask.tobytes()).hexdigest()[:12]
    assert mask.space is not None
    path = request.made_dir / key / f'sub-{label}_space-{mask.space.label}_desc-brain_mask.nii.gz'
    if not path.exists():
        write_image(path, mask.space.image(mask.mask.astype(np.uint8)))
    return path


def _array(file: Path, root: Path) -> npt.NDArray[np.generic]:
    """Map an array into memory."""
    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_FILE.format(file=file, folder=root))
    with raised_as(InputError, BAD_ARRAY, *BROKEN_ARRAY, file=file):
        found: npt.NDArray[np.generic] = np.load(file, mmap_mode='r', allow_pickle=False)
    return found


def check_arrays(file: Path, n_images: int, root: Path) -> tuple[int, int]:
    """Check shapes and values of the betas; return the vertices of the left and right hemisphere.

    Parameters
    ----------
    file
        The betas of one hemisphere; the other lies beside it.
    n_images
        Rows that each must have.
    root
        Folder of the dataset, which links may not leave.

    Raises
    ------
    InputError
        If one is missing, has another shape, or holds NaN.
    """
    sizes = []
    for each in both_sides(file):
        values = np.asarray(_array(each, root))
        if values.ndim != 2 or len(values) != n_images or values.dtype.kind != 'f':
            shape = 'x'.join(map(str, values.shape))
            raise InputError(DIFFERENT.format(file=each, shape=shape, rows=n_images))
        if not np.isfinite(values).all():
            raise InputError(NOT_NUMBERS.format(file=each))
        sizes.append(int(values.shape[1]))
    return sizes[0], sizes[1]


def read_responses(file: Path) -> npt.NDArray[np.float32]:
    """Read the betas of both hemispheres, (n_images, n_vertices), float32."""
    return np.concatenate(
        [np.load(each, allow_pickle=False) for each in both_sides(file)], axis=1, dtype=np.float32
    )
