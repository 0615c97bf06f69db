"""Participants of earlier calls whose series can be compared with."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np

from bids_neurodecode.config import build_config
from bids_neurodecode.systems.movie.steps.earlier import earlier_sources

FACTS = {
    'RepetitionTime': 2.0,
    'Delay': 4.0,
    'Scaling': 'none',
    'Films': [{'StimFile': 'a.mp4', 'Volumes': 4}],
}


def write_aligned(folder, label, run, *, told=True):
    name = f'sub-{label}_task-movie_run-{run}_desc-aligned_bold'
    place = folder / f'sub-{label}' / 'func'
    place.mkdir(parents=True, exist_ok=True)
    file = place / f'{name}.nii.gz'
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 4), np.float32), np.eye(4)), file)
    if told:
        (place / f'{name}.json').write_text(json.dumps(FACTS))
    return file


def test_what_an_earlier_call_left_of_the_participant_is_not_looked_at(tmp_path):
    mine = write_aligned(tmp_path, '01', 1)
    write_aligned(tmp_path, '01', 2, told=False)
    write_aligned(tmp_path, '02', 1)
    run = SimpleNamespace(bold=mine, space=None, repetition_time=2.0)
    own = SimpleNamespace(label='01', task='movie', runs=[run], stimuli=('a.mp4',))
    config = build_config({'clean': {'scaling': 'none'}})
    assert [person.label for person in earlier_sources(own, tmp_path, config)] == ['02']
