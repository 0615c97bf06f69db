"""Images made of new responses, held against what was shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import Uint8Array


def pair_scores(
    truth: Uint8Array, initial: Uint8Array, final: Uint8Array, protocol: str = 'bd-982'
) -> dict[str, npt.NDArray[np.float64]]:
    """Compare both stages with the truth, image by image.

    Parameters
    ----------
    truth, initial, final
        Shape (n, h, w, 3), uint8, n at least 2; sizes may differ.
    protocol
        Whose sizes and interpolation are used.

    Returns
    -------
    dict
        ``pixcorr_initial``, ``ssim_initial`` (2-D), ``pixcorr_final`` and ``ssim_final``, (n,).
    """
    from bids_neurodecode.evaluation.networks import pixel_scores
    from bids_neurodecode.evaluation.protocols import get_protocol

    how = get_protocol(protocol)
    columns: dict[str, Any] = {}
    for stage, pictures in (('initial', initial), ('final', final)):
        values = {s.metric: s.values for s in pixel_scores(truth, pictures, how)}
        columns[f'pixcorr_{stage}'] = values['pixcorr']
        columns[f'ssim_{stage}'] = values['ssim_2d']
    return columns
