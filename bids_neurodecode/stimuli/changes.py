"""How much features change from frame to frame: a plain stand-in for motion energy.

No spatio-temporal filters: the direction of motion is not known, and anything that changes a
feature counts (motion, cuts, fades). It is never called motion energy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError

TOO_FEW_FRAMES = 'Changes need at least two frames a volume; features of shape {found} have fewer.'


def frame_changes(features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Average the absolute change of each feature between successive frames of a volume.

    Parameters
    ----------
    features
        Shape (n_volumes, n_frames, n_features), frames in order of time.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_features), not negative.

    Raises
    ------
    DataError
        For fewer than two frames.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise DataError(TOO_FEW_FRAMES.format(found=features.shape))
    return np.asarray(np.abs(np.diff(features, axis=1)).mean(axis=1), dtype=np.float32)
