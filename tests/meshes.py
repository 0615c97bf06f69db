"""Surfaces as tests write them."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.cifti2.cifti2_axes import BrainModelAxis

from bids_neurodecode.spaces import Space


def write_mesh(folder: Path, side: str, places: np.ndarray, faces: np.ndarray) -> Path:
    """A midthickness surface of the participant; return the folder of the series."""
    anatomy = folder / 'anat'
    anatomy.mkdir(exist_ok=True)
    data = [
        nib.gifti.GiftiDataArray(places.astype(np.float32), 'NIFTI_INTENT_POINTSET'),
        nib.gifti.GiftiDataArray(faces.astype(np.int32), 'NIFTI_INTENT_TRIANGLE'),
    ]
    file = anatomy / f'sub-01_hemi-{side}_midthickness.surf.gii'
    nib.gifti.GiftiImage(darrays=data).to_filename(file)
    return folder / 'func'


def surfaces(*n: int, label: str = 'fsnative') -> Space:
    axes = [
        BrainModelAxis.from_surface(np.arange(each), each, name)
        for each, name in zip(n, ('CortexLeft', 'CortexRight'), strict=False)
    ]
    return Space(axes[0] if len(n) == 1 else axes[0] + axes[1], 'gifti', label)
