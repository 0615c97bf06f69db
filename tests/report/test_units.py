"""Captions of maps: shares as the colour bar has them, and what sidecars say."""

import json

import nibabel as nib
import numpy as np

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.report.mapblocks import MapBlocks
from bids_neurodecode.report.section_signal import maps_of_extension


def test_medians_of_shares_are_percent() -> None:
    mask = nib.Nifti1Image(np.ones((6, 6, 6), dtype=np.uint8), np.eye(4))
    ceiling = nib.Nifti1Image(np.full((6, 6, 6), 0.25, dtype=np.float32), np.eye(4))
    draw = MapBlocks(mask, None, None, lambda a, b: f'{a}_{b}.svg')
    found = {}
    for key in ('noiseceiling', 'tsnr'):
        block = draw.on_slices(key, ceiling, MAPS[key], mask)
        found[key] = block.caption
    assert 'median 25 % over 216 voxels, 25 % over the 216 selected' in found['noiseceiling']
    assert 'median 0.25 over 216 voxels, 0.25 over the 216 selected' in found['tsnr']


def test_a_map_of_another_package_is_told_by_its_sidecar_or_its_key(tmp_path) -> None:
    maps = {name: tmp_path / f'sub-01_stat-{name}_statmap.nii.gz' for name in ('gain', 'loss')}
    sidecar = {'Description': 'Gain of a voxel.', 'Units': 'percent'}
    (tmp_path / 'sub-01_stat-gain_statmap.json').write_text(json.dumps(sidecar))
    found = maps_of_extension('another', maps)
    assert (found['gain'].label, found['gain'].how_to_read) == ('percent', 'Gain of a voxel.')
    assert (found['loss'].label, found['loss'].how_to_read) == ('loss', 'loss.')
    assert maps_of_extension('reconstruction', maps) == {}
