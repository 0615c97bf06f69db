"""The group brain: models of films on the mean over participants, at group level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError
from bids_neurodecode.systems.movie.steps.earlier import (
    FromAligned,
    aligned_files,
    fingerprint_of,
)
from bids_neurodecode.systems.movie.steps.gather import compare_group, files_of, gather_group
from bids_neurodecode.systems.movie.steps.training import add_models, with_motion
from bids_neurodecode.systems.steps.own_features import check_frames, with_own_features
from bids_neurodecode.systems.steps.responses import add_atlas
from bids_neurodecode.workflow.nodes import Ladder, RunSettings
from bids_neurodecode.workflow.resources import data_size

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

LABEL = 'group'
"""Of the mean over participants, in names below the folder ``group``."""

NOT_FILMS = (
    'movie.target = "group" needs participants who saw films; the results of task {task} in '
    '{folder} are of images. Choose another --task-id, or movie.target = "participant".'
)
TOO_FEW = (
    'movie.target = "group" needs the aligned series (desc-aligned_bold) of two participants or '
    'more in {folder}; there is {n}. Run the participant level for more of them.'
)
DIFFERENT = (
    'The aligned series of sub-{a} and sub-{b} differ in {what}: no mean can be taken of them. '
    'Run the participant level with one space and the same settings, or choose participants with '
    '--participant-label.'
)

NO_MEASURE = (
    'Voxels of the group brain are not selected by {measure!r}. Set selection.measure to "isc", '
    '"none" or "auto".'
)
SNR = (
    'selection.measure = "snr" looks at held-out volumes too: it goes with split.by = "paper" and '
    'series in their own units (clean.scaling = "none"; these have "{scaling}"), as in the preset '
    'emofilm-paper at both levels. Set selection.measure to "isc".'
)
OTHER_FEATURES = (
    'The features of the film {film} are not the same for sub-{a} and sub-{b} (features.table): '
    'the mean over participants needs one table per film. Choose movie.target = "participant".'
)
OTHER_DELAY = (
    'The aligned series have a delay of {found:g} s, and the settings ask for {asked:g} s '
    '(delay.seconds). Run the participant level again with that, or set it to {found:g}.'
)


def add_group_brain(
    workflow: Any, records: Sequence[ParticipantResults], run: RunSettings
) -> Ladder:
    """Add the models of the mean over participants to the workflow of the group level.

    Parameters
    ----------
    workflow
        Of the group level.
    records
        Of the participants.
    run
        Settings of the run.

    Returns
    -------
    Ladder
        What the page of the mean is added to.

    Raises
    ------
    InputError
        If the participants did not see films, or their series cannot be averaged.
    """
    people = find_people(records, run.output_dir)
    check_measure(run.config, people)
    participant = as_participant(records, people)
    check_frames(participant, run.config)
    run = replace(
        run,
        config=with_motion(with_own_features(run.config, participant)),
        output_dir=run.output_dir / LABEL,
        everyone=None,
        notes=(),
    )
    ladder = Ladder(workflow, run, participant, data_size(participant))
    shared: dict[str, Any] = {
        'people': files_of(people),
        'sums': str(run.work_dir / 'sums'),
    }
    files = [str(_results_file(record, run.output_dir.parent)) for record in records]
    ladder.add(gather_group, records=files, **shared)
    add_atlas(ladder, series=False)
    ladder.add(compare_group, **shared)
    add_models(ladder, network=True)
    return ladder


def find_people(records: Sequence[ParticipantResults], output_dir: Path) -> list[FromAligned]:
    """Return the participants whose aligned series are averaged, checked against each other.

    Parameters
    ----------
    records
        Of the participants.
    output_dir
        Of the run.

    Raises
    ------
    InputError
        In one line: not films, too few, or what differs.
    """
    first = records[0]
    if any(record.paradigm != 'movie' for record in records):
        raise InputError(NOT_FILMS.format(task=first.task, folder=output_dir))
    files = aligned_files(output_dir, first.task, first.space)
    wanted = [record.participant for record in records]
    people = [FromAligned(label, files[label]) for label in wanted if label in files]
    if len(people) < 2:
        raise InputError(TOO_FEW.format(folder=output_dir, n=len(people)))
    known = people[0].signature()
    for person in people[1:]:
        for what, value in person.signature().items():
            if value != known[what]:
                raise InputError(DIFFERENT.format(a=people[0].label, b=person.label, what=what))
    return people


def check_measure(config: Config, people: Sequence[FromAligned]) -> None:
    """Refuse measures that the group brain does not have.

    Parameters
    ----------
    config
        The settings.
    people
        Participants with aligned series.

    Raises
    ------
    InputError
        Also for the published one outside of the published split and scaling.
    """
    measure = config.selection.measure
    if measure not in {'auto', 'none', 'isc', 'snr'}:
        raise InputError(NO_MEASURE.format(measure=measure))
    facts = people[0].facts[0]
    if measure == 'snr' and (config.split.by != 'paper' or facts.scaling != 'none'):
        raise InputError(SNR.format(scaling=facts.scaling))
    if abs(facts.delay - config.delay.seconds) > 1e-6:
        raise InputError(OTHER_DELAY.format(found=facts.delay, asked=config.delay.seconds))


def as_participant(
    records: Sequence[ParticipantResults], people: Sequence[FromAligned]
) -> ParticipantInput:
    """Return the record of the group brain: one run a film, below each other in their order.

    Parameters
    ----------
    records
        Of the participants.
    people
        Participants with aligned series.
    """
    first, one = records[0], people[0]
    lengths = film_lengths(people)
    tables = shared_tables(records)
    resolution = re.search(r'_res-([0-9a-zA-Z+]+)_', one.files[0].name)
    runs = tuple(
        RunInput(
            entities={'sub': LABEL, 'task': first.task, 'run': f'{number:02d}'},
            bold=one.files[0],
            mask=first.runs[0].mask,
            events=first.runs[0].events,
            confounds=None,
            repetition_time=first.runs[0].repetition_time,
            n_volumes=lengths[film],
            space=first.space,
            resolution=resolution.group(1) if resolution else None,
            sources=tuple(_uri(file) for person in people for file in person.files),
        )
        for number, film in enumerate(lengths, start=1)
    )
    return ParticipantInput(
        label=LABEL,
        task=first.task,
        paradigm='movie',
        runs=runs,
        stimuli_dir=first.stimuli_dir or Path(),
        stimuli=tuple(lengths),
        features={film: file for film, file in tables.items() if film in lengths},
        fingerprint=fingerprint_of({person.label: person.files for person in people}),
    )


def shared_tables(records: Sequence[ParticipantResults]) -> dict[str, Path]:
    """Return the table of features of each film, the same for all participants.

    Raises
    ------
    InputError
        If two participants have other features of one film.
    """
    found: dict[str, tuple[str, Path]] = {}
    for record in records:
        for film, file in record.features.items():
            label, first = found.setdefault(film, (record.participant, file))
            if first != file and not cmp(first, file, shallow=False):
                raise InputError(OTHER_FEATURES.format(film=film, a=label, b=record.participant))
    return {film: file for film, (_, file) in found.items()}


def film_lengths(people: Sequence[FromAligned]) -> dict[str, int]:
    """Return the volumes of each film that anybody has, in order of their names."""
    lengths: dict[str, int] = {}
    for person in people:
        for facts in person.facts:
            for shown in facts.films:
                stop = shown.first_sample(facts.repetition_time) + shown.n_volumes
                lengths[shown.film] = max(lengths.get(shown.film, 0), stop)
    return dict(sorted(lengths.items()))


def _results_file(record: ParticipantResults, output_dir: Path) -> Path:
    from bids_neurodecode.systems.steps.records import results_path

    return results_path(output_dir, record.participant, record.task)


def _uri(file: Path) -> str:
    """Return the BIDS URI of a file of the output folder.

    Examples
    --------
    >>> _uri(Path('/out/sub-01/ses-a/func/sub-01_bold.nii.gz'))
    'bids::sub-01/ses-a/func/sub-01_bold.nii.gz'
    """
    parts = file.parts
    start = next(i for i, part in enumerate(parts) if part.startswith('sub-'))
    return 'bids::' + '/'.join(parts[start:])
