"""What was planted, on disk: ``derivatives/simulated-truth``.

One folder per participant with maps, and at the top the atlas, the features of the stimuli and the
settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.names import build_name
from bids_neurodecode.bids.sink import atomic, write_image, write_json, write_text, write_tsv
from bids_neurodecode.simulate.brain import ATLAS, atlas_table
from bids_neurodecode.simulate.features import FeatureTable
from bids_neurodecode.simulate.participant import Participant
from bids_neurodecode.simulate.response import times_to_peak
from bids_neurodecode.simulate.sampling import Place
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.simulate.truth import leave_one_out_isc, noise_ceiling
from bids_neurodecode.simulate.write import Stimuli
from bids_neurodecode.spaces import EXTENSIONS, Content
from bids_neurodecode.typing import FloatArray

FOLDER = 'simulated-truth'
BIDSIGNORE = '*_statmap.*\n*_tuning.*\n*_stimuli.*\nfeatures.*\nspec.json\ntpl-*\n'

MAPS = {
    'hrfindex': 'Index (from 0) of the response planted, of the library of 20',
    'timetopeak': 'Time from the onset of a stimulus to the peak of the response planted, s',
    'ncsnr': 'True signal-to-noise ratio of a single trial (images) or volume (movie)',
    'noiseceiling': 'True share of variance that is signal, of the mean over the repeats',
    'signalsd': 'True deviation of the signal over images (images) or time (movie), percent',
    'noisesd': 'True deviation of the noise of a single-trial beta, or over time, percent',
    'isc': "Expected correlation with the mean of the others' series, polynomials taken out",
    'effect': 'True amplitudes, one volume an image in the order of the stimuli table, percent',
}

README = """What was planted in the simulated data.

spec.json                settings and seed
atlas-Sim                (tpl-* folder) regions, with a table of names
features.npy, .tsv       features of the stimuli (rows: stimuli, or 0.1 s of each film in turn), their names
sub-*/func/*_statmap     maps; the JSON beside each says what it holds
sub-*/func/*_mask        voxels that carry signal
sub-*/func/*_tuning.npy  weights of the standardised features, features x voxels of that mask
"""  # noqa: E501


def write_truth(
    folder: Path,
    spec: SimulationSpec,
    place: Place,
    labels: Sequence[str],
    people: Sequence[Participant],
    stimuli: Stimuli,
    features: FeatureTable,
) -> None:
    """Write everything but the description; ``features`` are those of all stimuli.

    Parameters
    ----------
    folder
        That is written into.
    spec
        Of the dataset.
    place
        The space of the derivatives.
    labels
        Of participants.
    people
        What was drawn of each.
    stimuli
        Their files.
    features
        Of all stimuli.
    """
    write_text(folder / '.bidsignore', BIDSIGNORE + place.ignored)
    write_text(folder / 'README.md', README)
    write_text(folder / 'spec.json', spec.to_json())
    _write_atlas(folder, place)
    _write_array(folder / 'features.npy', features.values)
    write_tsv(folder / 'features.tsv', features.columns)
    isc: Sequence[FloatArray | None] = [None] * len(people)
    if spec.paradigm == 'movie' and len(people) > 1:
        isc = list(
            leave_one_out_isc(
                np.stack([p.signal_sd for p in people]), np.stack([p.noise_sd for p in people])
            )
        )
    for label, person, own_isc in zip(labels, people, isc, strict=True):
        _write_person(folder, spec, place, label, person, stimuli, own_isc)


def _write_person(
    folder: Path,
    spec: SimulationSpec,
    place: Place,
    label: str,
    person: Participant,
    stimuli: Stimuli,
    isc: FloatArray | None,
) -> None:
    entities = {'sub': label, 'task': spec.task}
    target = folder / f'sub-{label}' / 'func'
    duration = spec.stimulus_duration if spec.paradigm == 'images' else 0.1
    repeats = spec.n_repeats if spec.paradigm == 'images' else 1
    noisy = person.noise_sd > 0
    ncsnr = np.where(
        noisy,
        person.signal_sd / np.where(noisy, person.noise_sd, 1),
        np.where(person.voxels.responsive, np.inf, 0),
    )
    peak = times_to_peak(duration)[person.voxels.hrf_index]
    if spec.paradigm == 'movie' and spec.response_delay is not None:
        peak = np.full(place.brain.n_voxels, spec.response_delay)
    maps: dict[str, FloatArray | None] = {
        'hrfindex': person.voxels.hrf_index.astype(float),
        'timetopeak': peak,
        'ncsnr': ncsnr,
        'noiseceiling': noise_ceiling(ncsnr, repeats),
        'signalsd': person.signal_sd,
        'noisesd': person.noise_sd,
        'isc': isc,
        'effect': person.betas,
    }
    for stat, values in maps.items():
        if values is not None:
            named = {**entities, 'stat': stat}
            content: Content = 'series' if values.ndim > 1 else 'map'
            sidecar = place.write(target, named, 'statmap', values, np.float32, content=content)
            write_json(sidecar, {'Description': MAPS[stat]})
    mask = {**entities, 'label': 'responsive'}
    responsive = person.voxels.responsive.astype(float)
    write_json(
        place.write(target, mask, 'mask', responsive, np.uint8, content='labels'),
        {
            'Type': 'ROI',
            'Description': 'Voxels that carry signal',
            'SpatialReference': place.reference,
            'Sources': ['bids::spec.json'],
        },
    )
    plain = {'sub': label, 'task': spec.task}
    weights = person.voxels.weights[:, person.voxels.responsive]
    _write_array(target / build_name(plain, 'tuning', '.npy'), weights)
    write_tsv(
        target / build_name(plain, 'stimuli', '.tsv'),
        pd.DataFrame(stimuli, columns=['stim_file', 'trial_type']),
    )


def _write_atlas(folder: Path, place: Place) -> None:
    space = place.entities['space']
    target = folder / f'tpl-{space}'
    stem = f'tpl-{space}_atlas-{ATLAS}_dseg'
    name, extension = stem, '.nii.gz'
    if place.columns is not None:
        extension = EXTENSIONS[place.columns.form]['labels']
        if place.columns.form == 'gifti':
            name = stem.replace('_atlas', '_hemi-L_atlas')
    if extension != '.tsv':  # the table of names is one
        labels = place.brain.labels.astype(float)
        write_image(target / f'{name}{extension}', place.image(labels, np.int16))
    write_json(
        target / f'{stem}.json',
        {'Description': 'Regions of the simulated voxels: ellipsoids in MNI space'},
    )
    write_tsv(target / f'{stem}.tsv', atlas_table())


def _write_array(path: Path, values: FloatArray) -> None:
    with atomic(path) as temporary, temporary.open('wb') as stream:
        np.save(stream, values.astype(np.float32), allow_pickle=False)
