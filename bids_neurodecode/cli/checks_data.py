"""One participant's data against the settings: values, folds, repeats, films, atlas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.bids.records import SHOWN, ParticipantInput, RunInput
from bids_neurodecode.bids.series import behind_mask, check_values, read_mask
from bids_neurodecode.bids.splitfile import add_parts
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.bids.trials import (
    film_table,
    precomputed_trials,
    stimulus_duration,
    trials_table,
)
from bids_neurodecode.config import AtlasSettings, Config
from bids_neurodecode.errors import ArgumentsError, DataError, InputError, retold
from bids_neurodecode.extensions import OWN, system_named
from bids_neurodecode.signals.meshes import SIDES, check_neighbours, find_mesh
from bids_neurodecode.spaces import needs_grid
from bids_neurodecode.stimuli.films import check_film_once
from bids_neurodecode.systems.protocol import (
    check_clusters,
    choose_condition_split,
    choose_film_split,
    choose_split,
)
from bids_neurodecode.systems.steps.own_features import check_own_features, has_frames
from bids_neurodecode.systems.steps.records import system_of
from bids_neurodecode.workflow.files import NO_COMMON_VOXEL

if TYPE_CHECKING:
    import pandas as pd

OTHER_PARADIGM = (
    'The system {system!r} needs {needed}, and task {task!r} shows {shown} (first: {file}). '
    'Choose another --system or --task-id.'
)
NO_REPEATS = (
    'No image of sub-{label} is shown twice ({file} and the other runs), and selection.measure = '
    '"{measure}" needs repeats. Use "prediction", "none" or "auto".'
)
ONE_PICTURE = (
    'All images that sub-{label} was shown are one and the same ({file}; first events: '
    '{events}), so there is nothing to tell apart. Correct the events, or the files.'
)
WHO = '{file}: {reason}'
FILM_SHORTER = (
    'The film {film} lasts {duration:g} s, and {events} shows it for {shown:g} s. '
    'Give the whole film, or correct the duration.'
)
VARIABLE_RATE = (
    'The film {film} has a variable frame rate. '
    'Write it again with a constant one (ffmpeg -i IN -fps_mode cfr OUT).'
)
ATLAS_OUTSIDE = (
    'The atlas {atlas} has no voxel in the mask {mask}. '
    'Give one in the space of the data, or leave the atlas out.'
)
REGIONS_OUTSIDE = (
    'The regions {regions} of the atlas {atlas} have no voxel in the mask {mask}. '
    'Choose other regions (atlas.regions).'
)
ESTIMATED_BETAS = (
    'betas.repeats = "mean" and betas.standardize = "session" are for precomputed betas, and '
    'these are estimated. Leave them at "single" and "none", or set betas.standardize to '
    '"training".'
)
ALL_CENSORED = (
    'Scrubbing censors all {n} volumes of the run of {confounds} (clean.strategy). '
    'Leave the run out with --run-label or --bids-filter-file, or do not scrub.'
)
MANY_CONFOUNDS = (
    'The run of {confounds} has {n} volumes, too few to regress out {n_confounds} confounds and '
    'the mean. Ask for fewer confounds (clean), or leave the run out with --run-label or '
    '--bids-filter-file.'
)
FEW_KEPT = (
    'Scrubbing leaves {kept} of the {n} volumes of the run of {confounds}, too few to regress out '
    '{n_confounds} confounds and the mean (clean). Leave the run out with --run-label or '
    '--bids-filter-file, or ask for fewer confounds.'
)
CENTRED = (
    '{file} was centred ({share:.0%} of its voxels vary more than their mean), and percent signal '
    'change needs a mean. Set clean.scaling to "zscore" or "none", or give series with their mean.'
)
FEW_TRIALS = (
    'Fold {fold} has {n} training trial(s), and images are generated from at least {least}. '
    'Choose reconstruction.generator = "none", or hold out less.'
)
LONGEST_STEM = 150
"""Letters of participant, session, task and run; of a name of a file, 255 may be."""
LONG_LABELS = (
    'The labels of {stem} ({file}) are {n} letters long, and names of outputs would be longer '
    'than a disk takes. Use labels of {most} letters together.'
)
BEHIND = (
    'sub-{label}: {file} holds {n} bytes behind the values of its header, which were not read. '
    'Padding of a last block is harmless; if the header was edited, regenerate the file.'
)
ONE_BETA = (
    'betas.repeats = "mean" leaves one response per condition of sub-{label}, and nothing to hold '
    'out. Leave it out for conditions: their trials are decoded one by one.'
)
NO_SERIES = (
    'There are betas and no series in {folder}, so there is no temporal signal-to-noise ratio to '
    'select voxels by. Use selection.measure = "auto", "ncsnr" or "none".'
)
MEASURES_OF_REPEATS = ('ncsnr', 'noise_ceiling', 'snr')


def check_design(
    person: ParticipantInput, config: Config, *, hold_out: bool = True
) -> tuple[str, ...]:
    """Check what tables and headers can tell: system, confounds, repeats, folds, films.

    Without ``hold_out`` there are no folds to check.

    Parameters
    ----------
    person
        The participant.
    config
        Settings of the run.
    hold_out
        Whether there are folds to check.

    Returns
    -------
    tuple of str
        What the user should know about the films.

    Raises
    ------
    InputError
        With the one line.
    """
    _check_system(person, config.system)
    check_space(person, config)
    with retold(InputError, DataError):
        _check_masks(person)
    for run in person.runs:
        if (n := len(run.stem)) > LONGEST_STEM:
            told = {'stem': run.stem, 'file': run.bold, 'most': LONGEST_STEM}
            raise InputError(LONG_LABELS.format(n=n, **told))
        _check_confounds(run, config)
    notes = check_own_features(person, config)
    if person.of_films:
        notes += check_films(person)
    elif person.betas is None and (
        config.betas.repeats == 'mean' or config.betas.standardize == 'session'
    ):
        raise ArgumentsError(ESTIMATED_BETAS)

    first = person.runs[0].events
    if hold_out and person.paradigm == 'images':
        _check_differ(person)
    try:
        if hold_out:
            _check_split(person, config)
        elif person.paradigm == 'images' and person.betas is None:
            stimulus_duration(trials_table(person.runs), first)
        elif person.of_films:
            film_table(person.runs)
    except DataError as error:
        raise InputError(WHO.format(file=first, reason=error)) from error
    return notes


def _check_masks(person: ParticipantInput) -> None:
    """Check that the masks of the runs have a voxel in common, as :func:`common_mask` asks."""
    masks = dict.fromkeys(run.mask for run in person.runs)
    if len(masks) > 1:
        shared = np.logical_and.reduce([read_mask(mask)[0] for mask in masks])
        if not shared.any():
            raise DataError(NO_COMMON_VOXEL.format(n=len(person.runs), file=person.runs[0].mask))


def _check_differ(person: ParticipantInput) -> None:
    """Refuse images that are all one and the same file: nothing tells their responses apart."""
    files = [person.stimuli_dir / name for name in person.stimuli]
    if not all(file.is_file() for file in files):
        return  # in one array, or known by their features alone
    size, content = files[0].stat().st_size, files[0].read_bytes()
    if all(file.stat().st_size == size and file.read_bytes() == content for file in files):
        raise InputError(
            ONE_PICTURE.format(label=person.label, file=files[0], events=person.runs[0].events)
        )


def _check_system(person: ParticipantInput, system: str) -> None:
    from bids_neurodecode.bids.trials import CLIP_SECONDS

    needed = OWN.get(system)
    if needed is not None and needed != person.paradigm:
        clips = {'images': f'images (or films of {CLIP_SECONDS:g} s at most)'}
        first = person.stimuli_dir / person.stimuli[0] if person.stimuli else person.runs[0].events
        raise InputError(
            OTHER_PARADIGM.format(
                system=system,
                needed=(SHOWN | clips)[needed],
                task=person.task,
                shown=SHOWN[person.paradigm],
                file=first,
            )
        )


def _check_confounds(run: RunInput, config: Config) -> None:
    from bids_neurodecode.signals.clean import cosine_drift
    from bids_neurodecode.signals.confounds import load_confounds

    with retold(InputError, DataError):
        cosine_drift(run.n_volumes, run.repetition_time, config.clean.high_pass or 0.0)
        found = load_confounds(
            run.confounds,
            run.n_volumes,
            config.clean.strategy,
            config.clean.columns,
            source=str(run.bold),
        )
    kept, fitted = int(found.kept.sum()), len(found.names) + 1
    if kept == 0:
        raise InputError(ALL_CENSORED.format(confounds=run.confounds, n=run.n_volumes))
    if kept <= fitted:
        message = FEW_KEPT if kept < run.n_volumes else MANY_CONFOUNDS
        raise InputError(
            message.format(
                confounds=run.confounds, kept=kept, n=run.n_volumes, n_confounds=fitted - 1
            )
        )


def _check_split(person: ParticipantInput, config: Config) -> None:
    if not person.has_series:
        check_nsd(person, config)
    if person.betas is not None:
        _check_beta_split(person, config)
        return
    if person.of_films:
        table = add_parts(film_table(person.runs), config.split.file, config.split.name)
        split, _ = choose_film_split(table, config.split)
        if config.movie.model == 'network':
            from bids_neurodecode.systems.movie.setup import network_samples

            for number, fold in enumerate(split):
                network_samples(table, fold, number, config)
        return
    table = trials_table(person.runs)
    if person.of_conditions:
        choose_condition_split(
            add_parts(table, config.split.file, config.split.name), config.split
        )
        return
    stimulus_duration(table, person.runs[0].events)
    measure = config.selection.measure
    if measure in MEASURES_OF_REPEATS and not (table['repeat'] > 0).any():
        raise InputError(
            NO_REPEATS.format(label=person.label, file=person.runs[0].events, measure=measure)
        )
    _check_repeats(table, config, person.runs[0].events)
    check_split(add_parts(table, config.split.file, config.split.name), config)


def _check_beta_split(person: ParticipantInput, config: Config) -> None:
    """Check that precomputed betas of conditions can be split as asked."""
    if not person.of_conditions or person.betas_events is None:
        return
    if config.betas.repeats == 'mean':
        raise ArgumentsError(ONE_BETA.format(label=person.label))
    table = precomputed_trials(person.betas_events, 'single', config.split, conditions=True)
    choose_condition_split(add_parts(table, config.split.file, config.split.name), config.split)


def _check_repeats(table: pd.DataFrame, config: Config, file: Path) -> None:
    """Refuse a test of repeats over runs where all of them lie within a run."""
    measure, rule = config.selection.measure, config.selection.rule
    over_runs = (table.groupby('stimulus')['run'].nunique() > 1).any()
    if measure in MEASURES_OF_REPEATS and rule == 'fdr' and not over_runs:
        from bids_neurodecode.signals.reliability import WITHIN_RUNS
        from bids_neurodecode.signals.selection import NO_TEST

        reason = NO_TEST.format(measure=measure, reason=WITHIN_RUNS)
        raise InputError(WHO.format(file=file, reason=reason))


def check_split(table: pd.DataFrame, config: Config) -> None:
    """Check that trials can be split as asked; clusters are made once there are features.

    Parameters
    ----------
    table
        One row per trial.
    config
        Settings of ``split`` and ``seed``.

    Raises
    ------
    DataError
        If they cannot, or a fold has nothing to tell its images from, or too few training trials.
    """
    from bids_neurodecode.models.dual import LEAST_ROWS
    from bids_neurodecode.systems.linear import candidates_of
    from bids_neurodecode.systems.pooling import ONE_CANDIDATE

    if config.split.by == 'cluster':
        check_clusters(table, config.split)
        return
    split, _ = choose_split(table, config.split, config.seed)
    stimuli = split.table['stimulus'].astype(str).to_numpy(dtype=object)
    for number, fold in enumerate(split):
        if len(candidates_of(stimuli[fold.train], stimuli[fold.test])[0]) < 2:
            raise DataError(ONE_CANDIDATE.format(fold=number))
    decodes = system_named(system_of(config, 'images')).scores == 'decoded'
    if not decodes or config.reconstruction.generator == 'none':
        return
    for number, fold in enumerate(split):  # behind what no generator would mend
        if (n := len(fold.train)) < LEAST_ROWS:
            raise DataError(FEW_TRIALS.format(n=n, fold=number, least=LEAST_ROWS))


def check_films(person: ParticipantInput) -> tuple[str, ...]:
    """Check each film, and that it lasts as long as it is shown.

    Returns
    -------
    tuple of str
        What the user should know of how the films are read.

    Raises
    ------
    InputError
        For a film that cannot be decoded or is damaged, without video, with a variable frame
        rate, or shorter than it is shown.
    """
    notes: list[str] = []
    for name, (shown, events) in _longest_showings(person.runs).items():
        film = person.stimuli_dir / name
        without = name in person.features and not has_frames(person, name)
        if without or not film.is_file():  # not needed, or it would have been refused before
            continue
        info = check_film_once(film)
        notes += info.notes(film.name)
        if info.variable:
            raise InputError(VARIABLE_RATE.format(film=film))
        if shown > info.duration + max(0.1, 1 / info.frame_rate):
            raise InputError(
                FILM_SHORTER.format(
                    film=film, duration=round(info.duration, 3), events=events, shown=shown
                )
            )
    return tuple(notes)


def _longest_showings(runs: tuple[RunInput, ...]) -> Mapping[str, tuple[float, Path]]:
    longest: dict[str, tuple[float, Path]] = {}
    for run in runs:
        table = read_table(run.events)
        shown = table[table['stim_file'].notna()]
        starts = shown['film_onset'] if 'film_onset' in shown else [0.0] * len(shown)
        for name, start, lasts in zip(shown['stim_file'], starts, shown['duration'], strict=True):
            end = float(start) + float(lasts)
            if end > longest.get(str(name), (0.0, run.events))[0]:
                longest[str(name)] = (end, run.events)
    return longest


def check_run_values(run: RunInput, *, percent: bool = False) -> tuple[str, ...]:
    """Read one series once and check it inside its mask.

    Parameters
    ----------
    run
        Of the series.
    percent
        Whether it will be scaled to percent signal change.

    Returns
    -------
    tuple of str
        What is passed over in its files.

    Raises
    ------
    InputError
        If it is cut short, corrupt, zero, or holds NaN, or has no mean that it could be a percent
        of.
    """
    inside, _ = read_mask(run.mask)
    if run.bold.suffix in {'.hdf5', '.npy'}:
        return ()  # checked before: an HDF5 file that is cut short cannot be opened
    values = check_values(run.bold, inside)
    if percent and values.centred > 0.5:
        raise InputError(CENTRED.format(file=run.bold, share=values.centred))
    behind = {run.bold: values.n_behind, run.mask: behind_mask(run.mask)}
    return tuple(
        BEHIND.format(label=run.entities['sub'], n=n, file=file) for file, n in behind.items() if n
    )


def check_space(person: ParticipantInput, config: Config) -> None:
    """Refuse what needs neighbours, or a grid, where the data have none.

    Parameters
    ----------
    person
        The participant.
    config
        Settings of the run.

    Raises
    ------
    InputError
        Naming what asks for it.
    """
    if not person.runs:
        return
    space = read_mask(person.runs[0].mask)[1].space
    folders = [run.bold.parent for run in person.runs]
    with retold(InputError, DataError):
        if space is not None and space.form in {'gifti', 'cifti'}:
            for side in SIDES:  # pages draw on them: damage is found now
                find_mesh(space, side, folders)
        needs = system_named(system_of(config, person.paradigm)).needs
        for what, of in needs(config).items() if needs else ():
            if of == 'neighbours':
                check_neighbours(what, space, folders)
            else:
                needs_grid(what, space)


def check_nsd(person: ParticipantInput, config: Config) -> None:
    """Check that settings go with betas in NSD's own layout.

    Parameters
    ----------
    person
        A participant of NSD.
    config
        Settings of the run.

    Raises
    ------
    InputError
        If they ask for series.
    DataError
        If the betas cannot be split as asked.
    """
    if config.selection.measure == 'tsnr':
        raise InputError(NO_SERIES.format(folder=person.betas))
    if person.betas_events is not None:
        table = precomputed_trials(person.betas_events, config.betas.repeats, config.split)
        check_split(add_parts(table, config.split.file, config.split.name), config)


def check_atlas(
    person: ParticipantInput, settings: AtlasSettings, *, fetch: bool = True
) -> tuple[str, ...]:
    """Put the atlas on the grid of the data and check that it and its regions meet the mask.

    Parameters
    ----------
    person
        The participant.
    settings
        Of the atlas.
    fetch
        Whether it is fetched where it is not here; else that is said, and nothing checked.

    Returns
    -------
    tuple of str
        What the user should know about the atlas.

    Raises
    ------
    InputError
        If the atlas cannot be had or read, or misses the mask.
    """
    if not settings.given:
        return ()
    from bids_neurodecode.signals.atlas import region_mask
    from bids_neurodecode.signals.regions import place_regions
    from bids_neurodecode.signals.templateflowfiles import WouldBeFetchedError

    run = person.runs[0]
    inside, grid = read_mask(run.mask)
    named = settings.said
    try:
        atlas = place_regions(
            settings,
            person.label,
            shape=grid.shape,
            affine=grid.affine,
            space=run.space or None,
            columns=grid.space,
            fetch=fetch,
        )
        labels = atlas.labels
        if not labels[inside].any():
            raise InputError(ATLAS_OUTSIDE.format(atlas=named, mask=run.mask))
        if settings.regions:
            chosen = region_mask(labels, atlas.table, settings.regions)
            if not np.any(chosen & inside):
                regions = ', '.join(settings.regions)
                raise InputError(
                    REGIONS_OUTSIDE.format(regions=regions, atlas=named, mask=run.mask)
                )
    except WouldBeFetchedError as error:
        return (str(error),)
    except DataError as error:
        raise InputError(WHO.format(file=named, reason=error)) from error
    return atlas.warnings
