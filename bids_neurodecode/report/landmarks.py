"""Names of places in MNI space where no atlas was given: the nearest functional landmarks.

nilearn's package holds the coordinates of Dosenbach et al. (2010), which need no network. They are
a rough guide for a reader, and nothing is computed from them.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

REACH = 15.0
"""Millimetres from a landmark within which a voxel is called after it."""
MIDLINE = 4.0
"""Millimetres to either side within which a landmark has no side."""
SOURCE = 'Dosenbach et al., 2010, doi:10.1126/science.1194144'
_WORDS = {
    'ant': 'anterior', 'inf': 'inferior', 'lat': 'lateral', 'med': 'medial', 'mid': 'middle',
    'post': 'posterior', 'sup': 'superior', 'vent': 'ventral',
}  # fmt: skip


def landmarks() -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the coordinates of the landmarks in mm, (160, 3), and what each is called.

    Examples
    --------
    >>> places, names = landmarks()
    >>> len(places), names[int((places[:, 1]).argmin())]
    (160, 'midline posterior occipital')
    """
    from nilearn.datasets import fetch_coords_dosenbach_2010

    found = fetch_coords_dosenbach_2010()
    places = pd.DataFrame(found.rois)[['x', 'y', 'z']].to_numpy(dtype=np.float64)
    names = []
    for label, x in zip(found.labels, places[:, 0], strict=True):
        # numbers tell landmarks of one name apart
        words = [_WORDS.get(word, word) for word in str(label).split()[:-1]]
        side = 'midline' if abs(x) <= MIDLINE else 'left' if x < 0 else 'right'
        names.append(' '.join((side, *words)))
    return places, names


def label_voxels(mask: nib.Nifti1Image) -> tuple[npt.NDArray[np.int32], dict[int, str]]:
    """Call each voxel of a mask in MNI space after the nearest landmark; 0 where none is near.

    Parameters
    ----------
    mask
        Of a volume.

    Returns
    -------
    numpy.ndarray
        Labels on the grid of the mask.
    dict
        Names by label; landmarks of one name and side share a label.
    """
    from scipy.spatial import KDTree

    places, names = landmarks()
    known = list(dict.fromkeys(names))
    inside = np.asarray(mask.dataobj) > 0
    voxels = np.argwhere(inside)
    distance, nearest = KDTree(places).query(voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3])
    numbers = np.array([known.index(name) + 1 for name in names])
    labels = np.zeros(inside.shape, dtype=np.int32)
    labels[inside] = np.where(distance <= REACH, numbers[nearest], 0)
    return labels, dict(enumerate(known, start=1))
