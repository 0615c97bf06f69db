"""Films: series on the clock of the films, features of frames, and the ladder of all models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config, FeatureSettings
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.parts import of_moments
from bids_neurodecode.systems.movie.steps.earlier import aligned_files, fingerprint_of
from bids_neurodecode.systems.movie.steps.encoding import encode
from bids_neurodecode.systems.movie.steps.group import compare_participants, read_everyone
from bids_neurodecode.systems.movie.steps.network import add_network
from bids_neurodecode.systems.movie.steps.outputs import publish_films
from bids_neurodecode.systems.steps.own_features import film_bands, with_own_features
from bids_neurodecode.systems.steps.parcels import clean_run
from bids_neurodecode.systems.steps.plan import plan_films
from bids_neurodecode.systems.steps.responses import add_atlas, quality
from bids_neurodecode.typing import FloatArray, RealArray
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import step


def add_films(ladder: Ladder) -> None:
    """Add the steps that fit and judge models of films."""
    config = with_motion(with_own_features(ladder.run.config, ladder.participant))
    ladder.run = replace(ladder.run, config=config)
    ladder.add(plan_films, hold_out=True)
    ladder.add(quality)
    ladder.add(align_films)
    add_atlas(ladder)
    if ladder.run.everyone is not None:
        add_comparison(ladder)
    add_models(ladder, network=config.movie.target == 'participant')


def add_models(ladder: Ladder, *, network: bool) -> None:
    """Add features, the linear model, the others where they are asked for, and what is written.

    Parameters
    ----------
    ladder
        That steps are added to.
    network
        Whether the network is asked for.
    """
    movie = ladder.run.config.movie
    ladder.add(
        film_features,
        energy=movie.motion == 'energy',
        cache=str(ladder.run.work_dir / 'features'),
    )
    ladder.add(encode)
    if network:
        add_network(ladder)
    ladder.add(publish_films)


def add_comparison(ladder: Ladder) -> None:
    """Add what compares a participant with the others of the call, or of earlier calls."""
    run, participant = ladder.run, ladder.participant
    config = run.config
    output_dir = earlier = ''
    if config.movie.target == 'group':
        # the group brain has its own voxels; here there is the ceiling alone
        ladder.run = replace(run, config=without_selection(config))
    elif config.selection.measure in {'isc', 'snr'}:
        files = aligned_files(run.output_dir, participant.task, participant.runs[0].space)
        # what the call itself writes is no series of an earlier one
        for person in read_everyone(run.everyone) if run.everyone else (participant,):
            files.pop(person.label, None)
        output_dir, earlier = str(run.output_dir), fingerprint_of(files)
    ladder.add(
        compare_participants,
        everyone=str(run.everyone),
        sums=str(run.work_dir / 'sums'),
        output_dir=output_dir,
        earlier=earlier,
    )
    ladder.run = run


def with_motion(config: Config) -> Config:
    """Return the settings with what ``auto`` motion is here, where banded ridge is fitted."""
    from bids_neurodecode.stimuli.motion import has_motion_energy

    motion = config.movie.motion
    if motion == 'auto':
        motion = 'energy' if has_motion_energy() else 'changes'
    if not config.movie.with_banded:
        motion = 'changes'
    return config.model_copy(update={'movie': config.movie.model_copy(update={'motion': motion})})


def without_selection(config: Config) -> Config:
    """Return the settings with all voxels of the mask, or of the regions."""
    selection = config.selection.model_copy(update={'measure': 'none'})
    return config.model_copy(update={'selection': selection})


@step(
    'align',
    makes=('responses', 'aligned', 'valid'),
    many=('aligned',),
    settings=('clean', 'delay'),
    memory=lambda size: 4 * size.run_gb + size.series_gb,
)
def align_films(
    participant: ParticipantInput,
    config: Config,
    mask: VoxelMask,
    trials: pd.DataFrame,
    folder: Path,
) -> Mapping[str, object]:
    """Clean each run, and put it on the clock of its films with and without the delay.

    Parameters
    ----------
    participant, config, mask
        Whose runs, how they are cleaned, in which voxels.
    trials
        One row per volume of a film.
    folder
        Where the arrays are written: ``responses``, (n_samples, n_voxels), no delay taken out; one
        ``aligned`` a presentation, the delay taken out, in the order of ``trials``; and which
        samples these hold (``valid``).
    """
    from bids_neurodecode.signals.delay import align_to_clock

    responses = np.lib.format.open_memmap(
        folder / 'responses.npy', 'w+', np.float32, (len(trials), mask.n_voxels)
    )
    aligned: list[Path] = []
    valid = np.zeros(len(trials), dtype=bool)
    for number, run in enumerate(participant.runs):
        series = clean_run(run, mask, config.clean)
        for _, rows in trials[trials['run'] == number].groupby('showing', sort=False):
            onset = float(rows['run_onset'].iloc[0])
            clock = (series, run.repetition_time, onset, len(rows), run.repetition_time)
            responses[rows.index] = align_to_clock(*clock, 0.0, start_time=run.start_time).values
            delayed = align_to_clock(*clock, config.delay.seconds, start_time=run.start_time)
            file = folder / f'aligned-{len(aligned):03d}.npy'
            # only the end has no data; volumes that were censored stay, as NaN
            length = int(np.flatnonzero(delayed.valid).max(initial=-1)) + 1
            np.save(file, delayed.values[:length])
            valid[rows.index[:length]] = True
            aligned.append(file)
    responses.flush()
    return {'valid': valid, 'responses': folder / 'responses.npy', 'aligned': aligned}


@step('features', seconds=4, makes=('features', 'bands'), many=('bands',), settings=('features',))
def film_features(
    participant: ParticipantInput,
    config: Config,
    trials: pd.DataFrame,
    energy: bool,
    cache: str,
    folder: Path,
) -> Mapping[str, object]:
    """Describe the frames of each volume, averaged, and motion in them.

    Where the user brings a table of features for each film, these are taken instead.

    Parameters
    ----------
    participant, config, trials
        Whose films, how frames are described, and one row per volume of a film.
    energy
        Whether motion is motion energy, or how much features change.
    cache
        Where features are kept by content.
    folder
        Where feature spaces are written, each under its name.
    """
    bands = own_features(participant, config.features, trials)
    features = np.concatenate([*bands.values()], axis=1) if bands else None
    if features is None:
        bands = features_of_frames(
            participant, config.features, trials, Path(cache), energy=energy
        )
        features = bands['frames']
    (folder / 'bands').mkdir(exist_ok=True)
    files = [folder / 'bands' / f'{name}.npy' for name in bands]
    for file, values in zip(files, bands.values(), strict=True):
        np.save(file, values)
    return {'features': features, 'bands': files}


def own_features(
    participant: ParticipantInput, settings: FeatureSettings, table: pd.DataFrame
) -> dict[str, RealArray]:
    """Return the user's features of each sample by band; none where there are none.

    Parameters
    ----------
    participant
        Whose data.
    settings
        Of ``features``.
    table
        One row per sample.
    """
    if not participant.features:
        return {}
    groups = table.groupby(table['film'].astype(str), sort=False)['onset']
    clock = {str(film): np.unique(onsets.to_numpy(dtype=float)) for film, onsets in groups}
    found = film_bands(participant, settings, clock, participant.runs[0].repetition_time)
    return of_moments(table, lambda film, _: found[film])


def features_of_frames(
    participant: ParticipantInput,
    settings: FeatureSettings,
    table: pd.DataFrame,
    cache: Path,
    *,
    energy: bool,
) -> dict[str, RealArray]:
    """Return features of the ``frames`` of each sample, and ``changes``: motion in them.

    Parameters
    ----------
    participant
        Whose data.
    settings
        Of ``features``.
    table
        One row per sample.
    cache
        Where features are kept by content.
    energy
        Whether motion energy was asked for.
    """
    from bids_neurodecode.stimuli.features import get_extractor, image_size_of
    from bids_neurodecode.stimuli.volumes import volume_features

    extractor, period = get_extractor(settings.extractor), participant.runs[0].repetition_time
    size = image_size_of(settings.extractor, settings.image_size)

    def describe(film: str, onsets: FloatArray) -> dict[str, RealArray]:
        file = participant.stimuli_dir / film
        by_volume = volume_features(file, onsets, period, extractor, size, cache)
        motion = motion_of(file, by_volume, onsets, period, cache, energy=energy)
        return {'frames': by_volume.mean(axis=1), 'changes': motion}

    return of_moments(table, describe)


def motion_of(
    film: Path,
    by_volume: RealArray,
    onsets: RealArray,
    period: float,
    cache: Path,
    *,
    energy: bool,
) -> RealArray:
    """Return motion energy of each volume, or how much its features change.

    Parameters
    ----------
    film
        The film.
    by_volume
        Features of each volume, (n_volumes, n_features).
    onsets
        Seconds of the film, (n_volumes,).
    period
        Seconds of a volume.
    cache
        Where features are kept by content.
    energy
        Whether motion energy was asked for.
    """
    from bids_neurodecode.stimuli.motion import film_motion, frame_changes

    if not energy:
        return frame_changes(by_volume)
    volumes = np.rint(onsets / period).astype(np.intp)
    motion = film_motion(film, int(volumes.max()) + 1, period, cache_dir=cache)
    return np.asarray(motion[volumes])
