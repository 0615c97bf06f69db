"""The Natural Scenes Dataset as it is published, read in place: betas, design, images.

What is used of the layout, below the folder that is given as BIDS_DIR::

    nsddata_betas/ppdata/subjXX/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_sessionNN.{hdf5,nii.gz}
    nsddata/ppdata/subjXX/func1pt8mm/roi/nsdgeneral.nii.gz       voxels above 0 are used
    nsddata/ppdata/subjXX/func1pt8mm/mean.nii.gz                 shown below maps, if it is there
    nsddata/experiments/nsd/nsd_expdesign.mat                    which image in which trial
    nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5                 images, one read at a time
    COCO_73k_annots_curated.npy or captions.tsv                  captions, if they are there
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.bids.entities import natural_key, same_index
from bids_neurodecode.bids.features import picture_features
from bids_neurodecode.bids.layouts import keep_table
from bids_neurodecode.bids.nsd_betas import check_session
from bids_neurodecode.bids.nsd_captions import find_captions, keep_captions, read_captions
from bids_neurodecode.bids.nsd_design import (
    TRIAL_SECONDS,
    Design,
    read_design,
    trials_of,
)
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.series import read_mask
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched

if TYPE_CHECKING:
    from bids_neurodecode.bids.request import Request

Captions = tuple[Path, dict[str, tuple[str, ...]]]
SPACE = 'func1pt8mm'
VERSION = 'betas_fithrf_GLMdenoise_RR'
TASK = 'nsdcore'
STIMULI = Path('nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5')
DESIGN = Path('nsddata/experiments/nsd/nsd_expdesign.mat')

NO_FILE = (
    'There is no {file}. {folder} looks like the Natural Scenes Dataset; download what is missing '
    'to the same place.'
)
UNKNOWN = 'There is no participant {label!r} with betas in {folder}. Found: {known}.'
NO_BETAS = (
    'There are no betas of subj{label} in {folder} (betas_sessionNN.hdf5 or .nii.gz). Found '
    'beside it: {known}. Name another version with betas.precomputed, another space with --space.'
)
MISSING_SESSION = (
    'Session {number} of subj{label} is missing in {folder}, which holds {found}. Download it, or '
    'choose others with --session-label.'
)
NO_TASK = "NSD's own layout has one task, {task!r}, and no task {asked!r}. Leave out --task-id."
TOO_FEW_PICTURES = (
    '{file} holds {n} images, and {design} names number {number}. They do not belong together.'
)
IN_PLACE = (
    'The folder is the Natural Scenes Dataset in its own layout: betas {version!r} ({space}) are '
    'read in place: a run is a session of them, a volume a trial (every 4 s), and voxels are '
    'those of nsdgeneral.'
)
FOUND = (
    'sub-{label}: {sessions} sessions, {trials} trials of {pictures} images: {train} for '
    'training ({train_trials} trials), {test} of the shared {shared} for the test '
    '({test_trials} trials).'
)
NO_CAPTIONS = 'No captions were found, so text cannot guide reconstructions.'


def find_nsd(request: Request) -> DatasetInput:
    """Find what one call reads of NSD's own layout, and check headers and tables.

    ``request.betas_from`` is another version of the betas, ``request.space`` another preparation.

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
    design = read_design(root / DESIGN)
    _check_pictures(root, design)
    file = find_captions(root)
    captions = None if file is None else (file, read_captions(file))
    read, failures = read_each(
        wanted, lambda label: _participant(request, label, design, captions)
    )
    people, notes = zip(*read, strict=True)
    where = IN_PLACE.format(version=request.betas_from or VERSION, space=_space(request))
    told = f'Captions: {file}.' if file else NO_CAPTIONS
    return DatasetInput(root, {}, people, failures, (where, *notes, told))


def _space(request: Request) -> str:
    return (request.space or SPACE).removeprefix('space-')


def _participants(root: Path, asked: Sequence[str]) -> tuple[str, ...]:
    from bids_neurodecode.bids.request import choose_participants

    folder = root / 'nsddata_betas' / 'ppdata'
    labels = (p.name.removeprefix('subj') for p in folder.glob('subj*') if p.is_dir())
    known = tuple(sorted(labels, key=natural_key))
    if not known:
        raise InputError(NO_FILE.format(file=folder / 'subj01', folder=root))
    wanted = [label.removeprefix('subj') for label in asked]
    return choose_participants(wanted, known, folder, UNKNOWN)


def _check_pictures(root: Path, design: Design) -> None:
    from bids_neurodecode.stimuli.images import count_pictures

    file = root / STIMULI
    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_FILE.format(file=file, folder=root))
    n, number = count_pictures(file), int(design.pictures.max())
    if number > n:
        raise InputError(
            TOO_FEW_PICTURES.format(file=file, n=n, design=design.file.name, number=number)
        )


def _participant(
    request: Request, label: str, design: Design, captions: Captions | None
) -> tuple[ParticipantInput, str]:
    """Return one participant's record, and the line that says what it holds."""
    root, space = request.bids_dir, _space(request)
    mask = root / 'nsddata/ppdata' / f'subj{label}' / space / 'roi' / 'nsdgeneral.nii.gz'
    check_fetched(mask)
    if not mask.is_file():
        raise InputError(NO_FILE.format(file=mask, folder=root))
    inside, _ = read_mask(mask)
    folder = root / 'nsddata_betas/ppdata' / f'subj{label}' / space
    folder /= request.betas_from or VERSION
    files = find_sessions(folder, label, request.sessions)
    trials = trials_of(design, int(label), list(files))
    counts = trials['session'].value_counts()
    for number, file in files.items():
        check_session(file, int(counts[f'nsd{number:02d}']), inside.shape)
    table = keep_table(
        request.made_dir, f'sub-{label}_task-{TASK}_desc-singletrial_events.tsv', trials, root
    )
    runs = tuple(
        RunInput(
            entities={'sub': label, 'ses': f'nsd{number:02d}', 'task': TASK},
            bold=file,
            mask=mask,
            events=table,
            confounds=None,
            repetition_time=TRIAL_SECONDS,
            n_volumes=int(counts[f'nsd{number:02d}']),
            sources=tuple(bids_uri('raw', path, root) for path in (file, mask, design.file)),
        )
        for number, file in files.items()
    )
    names = trials['stim_file']
    person = ParticipantInput(
        label=label,
        task=TASK,
        paradigm='images',
        runs=runs,
        stimuli_dir=root / STIMULI,
        stimuli=tuple(sorted(names.unique())),
        features=picture_features(label, TASK, root / STIMULI, request.features),
        betas=folder,
        betas_events=table,
        layout='nsd',
        captions=captions
        and keep_captions(request.made_dir, label, *captions, sorted(names.unique()), root),
    )
    parts = trials.groupby('part')['stim_file'].agg(['nunique', 'size'])
    parts = parts.reindex(['train', 'test'], fill_value=0)
    return person, FOUND.format(
        label=label,
        sessions=len(files),
        trials=len(trials),
        pictures=names.nunique(),
        train=parts.loc['train', 'nunique'],
        train_trials=parts.loc['train', 'size'],
        test=parts.loc['test', 'nunique'],
        test_trials=parts.loc['test', 'size'],
        shared=design.n_shared,
    )


def find_sessions(folder: Path, label: str, asked: Sequence[str] = ()) -> dict[int, Path]:
    """Return the betas of each session, by its number, in order.

    Parameters
    ----------
    folder
        One version of one participant's betas.
    label
        Of the participant, for errors.
    asked
        Sessions (``nsd03``, ``03`` or ``3``); empty for all, which must then have no gap.

    Raises
    ------
    InputError
        If there are none, or one is missing.
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.glob('betas_session*')):
        # HDF5 sorts before NIfTI, and is the one that can be read in part
        match = re.fullmatch(r'betas_session(\d+)\.(hdf5|nii\.gz|nii)', file.name)
        if match is not None:
            found.setdefault(int(match[1]), file)
    if not found:
        known = ', '.join(sorted(p.name for p in folder.parent.glob('*/') if p.is_dir()))
        raise InputError(NO_BETAS.format(label=label, folder=folder, known=known or 'nothing'))
    wanted: Sequence[str] = [name.removeprefix('nsd') for name in asked]
    wanted = wanted or [str(number) for number in range(1, max(found) + 1)]
    chosen: dict[int, Path] = {}
    for name in wanted:
        number = next((n for n in found if same_index(str(n), name)), None)
        if number is None:
            numbers = ', '.join(map(str, sorted(found)))
            raise InputError(
                MISSING_SESSION.format(number=name, label=label, folder=folder, found=numbers)
            )
        chosen[number] = found[number]
    return dict(sorted(chosen.items()))
