"""Agreement between participants compares the same moments of the same films."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.levels.group import aligned_series
from bids_neurodecode.signals.reliability import leave_one_out_isc

FILMS = {
    'a.mp4': np.random.default_rng(0).normal(size=(30, 4)),
    'b.mp4': np.random.default_rng(1).normal(size=(25, 4)),
}


def person(folder, label, order, *, censored=(), affine=None):
    """Write a participant who saw the films in this order, with the same responses as anyone."""
    func = folder / f'sub-{label}' / 'func'
    func.mkdir(parents=True)
    affine = np.eye(4) if affine is None else affine
    mask = func / 'mask.nii.gz'
    nib.Nifti1Image(np.ones((2, 2, 1), np.uint8), affine).to_filename(mask)
    for number, film in enumerate(order):
        values = np.array(FILMS[film], dtype=np.float32)
        values[list(censored)] = np.nan
        stem = func / f'sub-{label}_task-m_run-{number}_space-T_desc-aligned_bold'
        volumes = values.T.reshape(2, 2, 1, -1)
        nib.Nifti1Image(volumes, affine).to_filename(f'{stem}.nii.gz')
        films = [{'StimFile': film, 'Volumes': len(values)}]
        stem.with_suffix('.json').write_text(
            json.dumps({'RepetitionTime': 1.0, 'Delay': 0.0, 'Films': films})
        )
    runs = [SimpleNamespace(mask=mask)]
    return SimpleNamespace(participant=label, task='m', space='T', runs=runs)


def test_films_are_matched_whatever_their_order(tmp_path):
    people = [person(tmp_path, '1', ['a.mp4', 'b.mp4']), person(tmp_path, '2', ['b.mp4', 'a.mp4'])]
    series, mask = aligned_series(people, tmp_path)
    assert series.shape == (2, 55, 4)
    assert mask.n_voxels == 4
    np.testing.assert_allclose(leave_one_out_isc(series), 1.0, atol=1e-6)


def test_censored_volumes_are_left_out_of_all(tmp_path):
    people = [
        person(tmp_path, '1', ['a.mp4'], censored=[3, 4]),
        person(tmp_path, '2', ['a.mp4'], censored=[10]),
    ]
    series, _ = aligned_series(people, tmp_path)
    assert series.shape == (2, 27, 4)
    np.testing.assert_allclose(leave_one_out_isc(series), 1.0, atol=1e-6)


def test_nothing_in_common_is_said(tmp_path):
    people = [person(tmp_path, '1', ['a.mp4']), person(tmp_path, '2', ['b.mp4'])]
    with pytest.raises(DataError, match='No film was seen by all participants'):
        aligned_series(people, tmp_path)
    moved = np.diag([1.0, 1, 1, 1])
    moved[0, 3] = 5
    people = [person(tmp_path, '3', ['a.mp4']), person(tmp_path, '4', ['a.mp4'], affine=moved)]
    with pytest.raises(DataError, match='2 different grids'):
        aligned_series(people, tmp_path)
