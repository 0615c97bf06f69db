"""The simulated dataset on disk: raw BIDS, and derivatives in the layout of fMRIPrep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from bids_neurodecode.bids.names import build_name
from bids_neurodecode.bids.provenance import BIDS_VERSION, generated_by
from bids_neurodecode.bids.sink import write_image, write_json, write_text, write_tsv
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.simulate.brain import Brain
from bids_neurodecode.simulate.confounds import confounds_table
from bids_neurodecode.simulate.design import RunDesign
from bids_neurodecode.simulate.participant import Participant
from bids_neurodecode.simulate.sampling import Place
from bids_neurodecode.simulate.spec import SimulationSpec, generator
from bids_neurodecode.tables import column_texts
from bids_neurodecode.typing import FloatArray

TOO_LARGE = (
    'The simulated series of {label} leaves the range of 16-bit integers ({low:g} to {high:g}). '
    'Ask for less noise (noise_sd, drift, motion) or less signal (snr).'
)

IMAGERY = 'imagery'
"""Task of the runs in which images are imagined."""
Stimuli = Sequence[tuple[str, str]]
"""Name (relative to the folder of stimuli) and category of each stimulus."""

README = """Simulated dataset
=================

Everything here was made by a program (bids_neurodecode-tools demo): nobody was scanned.

{n_subjects} participants saw {what}. Voxels of a coarse grid over the MNI152 template have
known tuning, haemodynamic responses and signal-to-noise ratios; noise, drift, physiology and head
motion are added. The raw series equal the preprocessed ones in derivatives/fmriprep: there is
nothing to realign, and volumes are whole at their start (no slice timing).

What was planted is in derivatives/simulated-truth. The seed is {seed}; the same settings
({settings}) give the same bytes.
"""


BOLD_SIDECAR: Mapping[str, Any] = {
    'Manufacturer': 'simulated',
    'ManufacturersModelName': 'simulated',
    'MagneticFieldStrength': 3,
    'PulseSequenceType': 'simulated',
    'EchoTime': 0.03,
    'FlipAngle': 90,
    'Instructions': 'Look at the screen.',
}


def write_dataset_files(out: Path, spec: SimulationSpec, labels: Sequence[str]) -> None:
    """Write participants, README and the sidecars that hold for all runs.

    Parameters
    ----------
    out
        Of the raw dataset.
    spec
        Of the dataset.
    labels
        Of participants.
    """
    rng = generator(spec.seed, 'participants')
    table = pd.DataFrame(
        {
            'participant_id': [f'sub-{label}' for label in labels],
            'age': rng.integers(20, 40, size=len(labels)),
            'sex': rng.choice(['F', 'M'], size=len(labels)),
        }
    )
    write_tsv(out / 'participants.tsv', table)
    write_json(
        out / 'participants.json',
        {
            'age': {'Description': 'Age (made up)', 'Units': 'year'},
            'sex': {'Description': 'Sex (made up)', 'Levels': {'F': 'female', 'M': 'male'}},
        },
    )
    shown = f'{spec.n_images} images' if spec.paradigm == 'images' else f'{spec.n_films} films'
    write_text(
        out / 'README',
        README.format(
            n_subjects=spec.n_subjects,
            what=shown,
            seed=spec.seed,
            settings='derivatives/simulated-truth/spec.json',
        ),
    )
    tasks = {spec.task: f'Passive viewing of {shown}'}
    if spec.imagery_runs:
        tasks[IMAGERY] = f'Imagining {shown}, none of which is shown'
    for task, what in tasks.items():
        sidecar = {
            'TaskName': task,
            'TaskDescription': what,
            'RepetitionTime': spec.repetition_time,
            **BOLD_SIDECAR,
        }
        write_json(out / f'task-{task}_bold.json', sidecar)
        write_json(out / f'task-{task}_events.json', column_texts('simulated_events'))


def write_description(
    folder: Path, name: str, links: Mapping[str, str] | None = None, maker: str | None = None
) -> None:
    """Write ``dataset_description.json``: last of a dataset's files, so that it marks its end.

    Parameters
    ----------
    folder
        Of the dataset.
    name
        Of the dataset.
    links
        Datasets that a derivative is made from, by name; None: it is raw.
    maker
        Name of the pipeline that it stands for; None: this program.
    """
    made = generated_by()[0]
    if maker is not None:
        made |= {'Name': maker, 'Description': 'Simulated; not made by fMRIPrep'}
    description: dict[str, Any] = {
        'Name': name,
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'derivative' if links else 'raw',
        'License': 'CC0',
        'Authors': ['bids_neurodecode'],
        'GeneratedBy': [made],
    }
    if links:
        description['DatasetLinks'] = dict(links)
        description['SourceDatasets'] = [{'URL': url} for url in links.values()]
    write_json(folder / 'dataset_description.json', description)


def write_participant(
    out: Path,
    spec: SimulationSpec,
    place: Place,
    label: str,
    person: Participant,
    stimuli: Stimuli,
) -> None:
    """Write all runs of a participant, raw and preprocessed, and the segmentation.

    Parameters
    ----------
    out
        Of the raw dataset.
    spec
        Of the dataset.
    place
        The space of the derivatives.
    label
        Of the participant.
    person
        Designs, series, confounds.
    stimuli
        Their files.
    """
    brain = place.brain
    if place.columns is None:
        _write_tissue(out / 'derivatives' / 'fmriprep' / f'sub-{label}' / 'anat', place, label)
    for run, (design, series) in enumerate(zip(person.designs, person.series, strict=True)):
        entities = run_entities(spec, label, run)
        image = _series_image(brain, series, f'sub-{label} run {run + 1}')
        folder = _folder(entities)
        raw = out / folder / build_name(entities, 'bold', '.nii.gz')
        write_image(raw, image, repetition_time=spec.repetition_time)
        write_tsv(out / folder / build_name(entities, 'events', '.tsv'), _events(design, stimuli))
        motion = person.motion[run]
        target = out / 'derivatives' / 'fmriprep' / folder
        _write_preprocessed(target, spec, place, entities, series, raw.relative_to(out))
        table, sidecar = confounds_table(series, motion, brain, spec.repetition_time)
        confounds = {**entities, 'desc': 'confounds'}
        write_tsv(target / build_name(confounds, 'timeseries', '.tsv'), table)
        write_json(target / build_name(confounds, 'timeseries', '.json'), sidecar)


def run_entities(spec: SimulationSpec, label: str, run: int) -> dict[str, str]:
    """Return the entities of a run, counted over all sessions from 0; imagery comes last.

    Parameters
    ----------
    spec
        Of the dataset.
    label
        Of the participant.
    run
        From 0, over all sessions.
    """
    task, (session, number) = spec.task, divmod(run, spec.n_runs)
    if run >= spec.total_runs:
        task, session, number = IMAGERY, spec.n_sessions - 1, run - spec.total_runs
    entities = {'sub': label, 'task': task, 'run': f'{number + 1:02d}'}
    return entities | ({'ses': f'{session + 1:02d}'} if spec.n_sessions > 1 else {})


def _folder(entities: Mapping[str, str]) -> Path:
    parts = [f'{key}-{entities[key]}' for key in ('sub', 'ses') if key in entities]
    return Path(*parts, 'func')


def _write_preprocessed(
    folder: Path,
    spec: SimulationSpec,
    place: Place,
    entities: Mapping[str, str],
    series: FloatArray,
    raw: Path,
) -> None:
    """Write a run in its space; as fMRIPrep does, surfaces and CIFTI without ``desc`` and mask."""
    form = None if place.columns is None else place.columns.form
    named, suffix = dict(entities), 'bold'
    if form is None:
        named['desc'] = 'preproc'
    if form == 'parcels':
        named['stat'], suffix = 'mean', 'timeseries'
    sources = [f'bids:raw:{raw.as_posix()}']
    sidecar = place.write(
        folder,
        named,
        suffix,
        series,
        np.int16,
        content='series',
        repetition_time=spec.repetition_time,
    )
    write_json(
        sidecar,
        {
            'TaskName': entities['task'],
            'RepetitionTime': spec.repetition_time,
            'SkullStripped': True,
            'SliceTimingCorrected': False,
            'StartTime': 0.0,
            'Description': 'The simulated series itself: there is nothing to correct',
            'SpatialReference': place.reference,
            'Sources': sources,
        },
    )
    if form is not None:
        return
    everywhere = np.ones(place.brain.n_voxels)
    masked = {**entities, 'desc': 'brain'}
    write_json(
        place.write(folder, masked, 'mask', everywhere, np.uint8, content='labels'),
        {
            'Type': 'Brain',
            'Description': 'All voxels of the simulated brain',
            'SpatialReference': place.reference,
            'Sources': sources,
        },
    )


def _write_tissue(folder: Path, place: Place, label: str) -> None:
    """Write the tissue segmentation, with the labels of BIDS derivatives."""
    brain = place.brain
    labels = np.where(brain.csf, 3, np.where(brain.white_matter, 2, 1)).astype(float)
    write_json(
        place.write(folder, {'sub': label}, 'dseg', labels, np.uint8, content='labels'),
        {
            'Manual': False,
            'Description': 'Tissue of the simulated brain: 1 grey matter, 2 white matter, 3 CSF',
            'SpatialReference': place.reference,
        },
    )


def _series_image(brain: Brain, series: FloatArray, label: str) -> Any:
    low, high = float(series.min()), float(series.max())
    if low < 0 or high > np.iinfo(np.int16).max:
        raise ArgumentsError(TOO_LARGE.format(label=label, low=low, high=high))
    image = nib.Nifti1Image(brain.mask.volume(series).astype(np.int16), brain.mask.affine)
    image.header.set_xyzt_units('mm', 'sec')
    image.header.set_sform(brain.mask.affine, code='scanner')
    return image


def _events(design: RunDesign, stimuli: Stimuli) -> Any:
    shown = [stimuli[index] for index in design.stimuli]
    return pd.DataFrame(
        {
            'onset': design.onsets,
            'duration': design.durations,
            'trial_type': [category for _, category in shown],
            'stim_file': [name for name, _ in shown],
        }
    )
