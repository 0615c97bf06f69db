"""Captions of maps say shares as the colour bar beside them does."""

import nibabel as nib
import numpy as np

from bids_neurodecode.report.brain import MAPS
from bids_neurodecode.report.section_signal import _map_block


def test_medians_of_shares_are_percent() -> None:
    mask = nib.Nifti1Image(np.ones((6, 6, 6), dtype=np.uint8), np.eye(4))
    ceiling = nib.Nifti1Image(np.full((6, 6, 6), 0.25, dtype=np.float32), np.eye(4))
    found = {}
    for key in ('noiseceiling', 'tsnr'):
        block = _map_block(key, ceiling, MAPS[key], mask, None, mask, lambda a, b: f'{a}_{b}.svg')
        found[key] = block.caption
    assert 'median 25 % over 216 voxels, 25 % over the 216 used' in found['noiseceiling']
    assert 'median 0.25 over 216 voxels, 0.25 over the 216 used' in found['tsnr']
