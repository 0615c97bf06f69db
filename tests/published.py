"""Tiny datasets in the layouts in which NSD and Emo-FilM are published."""

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from scipy.io import savemat

from tests.datasets import write_film, write_json, write_series, write_table

NSD_GRID = (6, 7, 5)
NSD_AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
N_SHARED, N_OWN, N_PICTURES = 12, 36, 90
SESSIONS, RUNS, SLOTS, RUN_TRIALS = 3, 2, 25, 20
BETAS = 'nsddata_betas/ppdata/subj{:02d}/func1pt8mm/betas_fithrf_GLMdenoise_RR'
ROI = 'nsddata/ppdata/subj{:02d}/func1pt8mm/roi/nsdgeneral.nii.gz'
DESIGN = 'nsddata/experiments/nsd/nsd_expdesign.mat'
BRICK = 'nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5'


def nsd_mask() -> np.ndarray:
    """-1 outside of cortex, 0 in cortex, 1 in nsdgeneral, as NSD codes it."""
    mask = np.full(NSD_GRID, -1, dtype=np.int16)
    mask[1:5, 1:6, 1:4] = 0
    mask[1:5, 1:5, 1:4] = 1
    return mask


def made_design(seed=0) -> dict[str, np.ndarray]:
    """Two participants who share images; every image is shown two or three times."""
    rng = np.random.default_rng(seed)
    n, n_trials = N_SHARED + N_OWN, SESSIONS * RUNS * RUN_TRIALS
    ordering = np.concatenate([rng.permutation(n) for _ in range(3)])[:n_trials] + 1
    ids = rng.permutation(N_PICTURES) + 1
    shared = np.sort(ids[:N_SHARED])
    own = ids[N_SHARED : N_SHARED + 2 * N_OWN].reshape(2, N_OWN)
    slots = np.zeros((SESSIONS, RUNS, SLOTS), dtype=np.uint8)
    for run in slots.reshape(-1, SLOTS):
        run[np.sort(rng.choice(np.arange(1, SLOTS), RUN_TRIALS, replace=False))] = 1
    return {
        'masterordering': ordering[None].astype(float),
        'subjectim': np.stack([np.concatenate([shared, x]) for x in own]).astype(float),
        'sharedix': shared[None].astype(float),
        'stimpattern': slots,
    }


def nsd_pictures(seed=1) -> np.ndarray:
    """Gratings of other angles and contrasts, (n, 32, 32, 3) uint8."""
    y, x = np.mgrid[:32, :32]
    angle, contrast = grating(seed)
    along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    grey = 128 + 120 * contrast[:, None, None] * np.sin(along)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def grating(seed=1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, np.pi, N_PICTURES), rng.uniform(0.3, 1, N_PICTURES)


def make_nsd(root: Path, *, participants=(1, 2), captions=False, noise=0.3) -> Path:
    """Write the dataset; participant 1's betas as HDF5, the others' as NIfTI."""
    design, pictures = made_design(), nsd_pictures()
    (root / DESIGN).parent.mkdir(parents=True)
    savemat(root / DESIGN, design)
    (root / BRICK).parent.mkdir(parents=True)
    with h5py.File(root / BRICK, 'w') as file:
        file['imgBrick'] = pictures
    for participant in participants:
        _write_nsd_participant(root, participant, design, noise)
    if captions:
        texts = [[f'image {i}', 'it  has colours', ''] for i in range(1, N_PICTURES + 1)]
        np.save(root / 'COCO_73k_annots_curated.npy', np.array(texts))
    return root


def stored_betas(participant, design, noise=0.3) -> np.ndarray:
    """Stored values, (x, y, z, trials) int16: voxels of the ROI are tuned to the angle."""
    rng = np.random.default_rng(participant)
    shown = design['subjectim'][participant - 1, design['masterordering'].ravel().astype(int) - 1]
    angle, contrast = (x[shown.astype(int) - 1] for x in grating())
    tuning = contrast[:, None] * np.stack([np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    known = np.column_stack([tuning, contrast])
    weights = rng.standard_normal((known.shape[1], *NSD_GRID)) * (nsd_mask() > 0)
    signal = np.tensordot(known, weights, 1)
    betas = signal + noise * rng.standard_normal(signal.shape)
    return np.moveaxis(np.clip(np.rint(300 * betas), -32768, 32767).astype(np.int16), 0, -1)


def _write_nsd_participant(root, participant, design, noise) -> None:
    mask = nsd_mask()
    roi = root / ROI.format(participant)
    roi.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(mask, NSD_AFFINE), roi)
    mean = 500 + 100 * np.random.default_rng(9).standard_normal(NSD_GRID)
    nib.save(nib.Nifti1Image(mean.astype(np.float32), NSD_AFFINE), roi.parents[1] / 'mean.nii.gz')
    folder = root / BETAS.format(participant)
    folder.mkdir(parents=True)
    stored = stored_betas(participant, design, noise)
    for number, part in enumerate(np.split(stored, SESSIONS, axis=-1), 1):
        file = folder / f'betas_session{number:02d}'
        if participant == 1:
            with h5py.File(file.with_suffix('.hdf5'), 'w') as opened:
                opened['betas'] = part.T
        else:
            nib.save(nib.Nifti1Image(part, NSD_AFFINE), f'{file}.nii.gz')
    ratio = np.where(mask > 0, 1.0, 0.0).astype(np.float32)
    nib.save(nib.Nifti1Image(ratio, NSD_AFFINE), folder / 'ncsnr.nii.gz')


FILMS = {'BigBuckBunny': 104.0, 'Sintel': 91.0}
"""Seconds; not those of the real films."""
PERIOD = 1.3
WASHOUT = 6.0
FILM_GRID = (7, 8, 6)
FILM_AFFINE = np.array([[-26.0, 0, 0, 90], [0, 26, 0, -126], [0, 0, 26, -72], [0, 0, 0, 1]])


def series_path(participant: str, film: str) -> Path:
    session = 1 + list(FILMS).index(film)
    folder = f'sub-{participant}/ses-{session}/func'
    name = f'sub-{participant}_ses-{session}_task-{film}_space-MNI_desc-ppres_bold.nii.gz'
    return Path('derivatives/preprocessing') / folder / name


def events_path(participant: str, film: str) -> Path:
    session = 1 + list(FILMS).index(film)
    name = f'sub-{participant}_ses-{session}_task-scan_acq-{film}_events.tsv'
    return Path(f'sub-{participant}/ses-{session}/func') / name


def make_emofilm(root: Path, films: Path, *, participants=('S01', 'S02', 'S03')) -> Path:
    """Write the dataset in ``root`` and its films, which it does not hold, in ``films``."""
    description = {'Name': 'Emo-FilM', 'BIDSVersion': '1.7.0', 'DatasetType': 'raw'}
    write_json(root / 'dataset_description.json', description | {'License': 'CC0'})
    (root / 'README').write_text('A tiny dataset in the layout of Emo-FilM.\n')
    write_table(
        root / 'participants.tsv', [['participant_id'], *([f'sub-{p}'] for p in participants)]
    )
    for film, seconds in FILMS.items():
        write_film(films / f'{film}.mp4', seconds + 1)
    rng = np.random.default_rng(3)
    for number, participant in enumerate(participants):
        for film in FILMS:
            _write_emofilm_run(root, participant, film, 0.1 * number, rng)
    return root


def _write_emofilm_run(root, participant, film, late, rng) -> None:
    seconds = FILMS[film]
    n = int(np.ceil((2 * WASHOUT + seconds + 4) / PERIOD))
    onset = 3.8 + WASHOUT + late
    inside = np.zeros(FILM_GRID, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = True
    times = np.arange(n) * PERIOD
    drive = np.sin(times / 5) * ((times > onset) & (times < onset + seconds))
    data = 1000 + 20 * drive + 10 * rng.standard_normal((*FILM_GRID, n))
    path = root / series_path(participant, film)
    write_series(path, data * inside[..., None], PERIOD, FILM_AFFINE)
    write_json(path.with_name(path.name.replace('.nii.gz', '.json')), {'SkullStripped': 'true'})
    raw = root / events_path(participant, film)
    session = raw.parts[-3].removeprefix('ses-')
    bold = raw.with_name(f'sub-{participant}_ses-{session}_task-{film}_bold.nii.gz')
    write_series(bold, data, PERIOD, FILM_AFFINE)
    write_json(
        bold.with_name(bold.name.replace('.nii.gz', '.json')),
        {'RepetitionTime': PERIOD, 'TaskName': film},
    )
    write_table(
        raw,
        [
            ['onset', 'duration', 'trial_type'],
            [onset - WASHOUT, WASHOUT, 'rest'],
            [onset, seconds, 'film'],
            [onset + seconds, WASHOUT, 'rest'],
        ],
    )


def read_record(out: Path, label: str) -> dict:
    (file,) = (out / f'sub-{label}' / 'log').glob('*_results.json')
    return json.loads(file.read_text())
