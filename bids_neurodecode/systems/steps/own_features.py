"""Features that the user brings, as the nodes and the checks take them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.features import PICTURES
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.bids.trials import film_table
from bids_neurodecode.config import Config, FeatureSettings
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.tablefiles import files_of_table, read_features
from bids_neurodecode.stimuli.tables import LONGER, FeatureTable
from bids_neurodecode.text import did_you_mean
from bids_neurodecode.typing import Float32Array

NO_FRAMES = (
    'The film {film} is known by its features alone ({table}), and movie.model = "network" needs '
    'frames. Add the film below stimuli/, or set movie.model = "linear".'
)
NOT_ALL = (
    'The films of sub-{label} have features of their own only in part (not: {film}). Give a table '
    'for each film, or for none.'
)
OTHER_BANDS = (
    'The feature tables {a} and {b} have other columns ({in_a}; {in_b}). Name bands that both '
    'have (features.bands), or make the tables alike.'
)
NO_TABLE = (
    'The features of images are to come from a table, and none is named. Set features.table '
    '(TSV, npy, h5 or safetensors, one row per image).'
)
NO_SUCH_BAND = (
    'encoding.bands asks for "{band}", and the bands of {file} are {known}.{near} Name one of '
    'these, or "table" for all.'
)
ALIKE = (
    'All rows of {file} for the stimuli of sub-{label} are alike, so there is nothing to tell '
    'apart. Give other features (features.table), or correct the table.'
)
ONE_BAND = (
    'A partition (encoding.partition) needs two or more feature spaces, and {file} has one '
    '({known}). Name its bands (features.bands), or add another to encoding.bands.'
)


def with_own_features(config: Config, participant: ParticipantInput) -> Config:
    """Return the settings with what the tables of a participant make of them.

    Films with tables are described by these; ``table`` among the feature spaces of encoding is
    each of its bands.

    Parameters
    ----------
    config
        The settings.
    participant
        Whose data.
    """
    if participant.of_films:
        if not participant.features or config.features.extractor == TABLE:
            return config
        features = config.features.model_copy(update={'extractor': TABLE})
        return config.model_copy(update={'features': features})
    if TABLE not in config.encoding.bands:
        return config
    table = picture_table(participant, config.features)
    own = [f'{TABLE}:{band}' for band in table.bands(config.features.bands)]
    bands = [x for band in config.encoding.bands for x in (own if band == TABLE else [band])]
    encoding = config.encoding.model_copy(update={'bands': tuple(dict.fromkeys(bands))})
    return config.model_copy(update={'encoding': encoding})


def picture_table(participant: ParticipantInput, settings: FeatureSettings) -> FeatureTable:
    """Read the table of a participant's images.

    Parameters
    ----------
    participant
        Whose data.
    settings
        Of ``features``.

    Raises
    ------
    ArgumentsError
        If none is named.
    InputError
        If it cannot be used.
    """
    if PICTURES not in participant.features:
        raise ArgumentsError(NO_TABLE)
    return read_features(participant.features[PICTURES], settings.table_key)


def film_bands(
    participant: ParticipantInput,
    settings: FeatureSettings,
    clock: Mapping[str, npt.NDArray[np.floating]],
    period: float,
    shown: Mapping[str, float] | None = None,
) -> dict[str, dict[str, Float32Array]]:
    """Return the features of each film by band, (n_volumes, n_columns) each.

    Parameters
    ----------
    participant
        With one table per film.
    clock
        Of each film, the seconds at which volumes begin.
    period
        Seconds a volume.
    shown
        Of each film, the second at which it was switched off, where tables without times are to
        be checked against it.

    Raises
    ------
    InputError
        If a table cannot be used, or two differ in their columns.
    """
    found: dict[str, dict[str, Float32Array]] = {}
    first: tuple[FeatureTable, dict[str, list[str]]] | None = None
    for film, onsets in clock.items():
        table = read_features(participant.features[film], settings.table_key)
        columns = {
            band: [table.columns[n] for n in numbers]
            for band, numbers in table.bands(settings.bands).items()
        }
        first = first or (table, columns)
        if columns != first[1]:
            names = [
                ', '.join(f'{band}: {len(x)}' for band, x in each.items())
                for each in (first[1], columns)
            ]
            raise InputError(
                OTHER_BANDS.format(a=first[0].file, b=table.file, in_a=names[0], in_b=names[1])
            )
        found[film] = table.of_volumes(
            onsets,
            period,
            shown=None if shown is None else shown[film],
            rate=settings.table_rate,
            wanted=settings.bands,
        )
    return found


def seconds_of(
    participant: ParticipantInput, film: str, settings: FeatureSettings, period: float
) -> float:
    """Return how long a film lasts by its table of features (s).

    Parameters
    ----------
    participant
        Whose data.
    film
        Its name.
    settings
        Of ``features``.
    period
        Seconds of a volume.
    """
    table = read_features(participant.features[film], settings.table_key)
    return table.seconds(period, settings.table_rate)


def check_own_features(participant: ParticipantInput, config: Config) -> tuple[str, ...]:
    """Read all that a run takes of a participant's tables, before work starts.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.

    Returns
    -------
    tuple of str
        Which bands there are, for the log and the report.

    Raises
    ------
    ArgumentsError, InputError
        One line: what is missing or does not fit, and the way out.
    """
    if participant.of_films:
        return _check_films(participant, config) if participant.features else ()
    encoding = config.system == 'encoding'
    asked = [band for band in config.encoding.bands if band.partition(':')[0] == TABLE]
    if not (asked if encoding else config.features.extractor == TABLE):
        return ()
    table = picture_table(participant, config.features)
    known = table.bands(config.features.bands)
    for band in asked if encoding else ():
        if band != TABLE and band.partition(':')[2] not in known:
            told = {'near': did_you_mean(band.partition(':')[2], known), 'known': ', '.join(known)}
            raise ArgumentsError(NO_SUCH_BAND.format(band=band, file=table.file, **told))
    spaces = with_own_features(config, participant).encoding.bands
    if encoding and config.encoding.partition and len(spaces) < 2:
        raise ArgumentsError(ONE_BAND.format(file=table.file, known=', '.join(known)))
    found = table.of_stimuli(participant.stimuli, config.features.bands)
    if not any(np.ptp(values, axis=0).any() for values in found.values()):
        raise InputError(ALIKE.format(file=table.file, label=participant.label))
    return table.notes(config.features.bands)


def _check_films(participant: ParticipantInput, config: Config) -> tuple[str, ...]:
    for film in participant.stimuli:
        if film not in participant.features:
            raise InputError(NOT_ALL.format(label=participant.label, film=film))
    check_frames(participant, config)
    own = config.features
    tables = {film: read_features(x, own.table_key) for film, x in participant.features.items()}
    longer = []
    if participant.runs:
        clock = film_table(participant.runs).groupby('film', sort=True)['onset']
        onsets = {str(film): each.unique() for film, each in clock}
        period = participant.runs[0].repetition_time
        ends = _switched_off(participant)
        film_bands(participant, own, onsets, period, ends)
        for film, end in ends.items():
            seconds = tables[film].seconds(period, own.table_rate)
            # a table may end with the volume, or some moments after the film
            if seconds > max(1.05 * end, end + 2 * period):
                longer.append(
                    LONGER.format(file=tables[film].file.name, seconds=seconds, shown=end)
                )
    notes = [note for table in tables.values() for note in table.notes(own.bands)]
    return tuple(dict.fromkeys([*notes, *longer]))


def _switched_off(participant: ParticipantInput) -> dict[str, float]:
    """Return the second of each film at which it was switched off, by the events."""
    ends: dict[str, float] = {}
    for run in participant.runs:
        table = read_table(run.events)
        rows = table[table['stim_file'].notna()]
        until = rows['duration'].astype(float)
        if 'film_onset' in rows:
            until += rows['film_onset'].fillna(0).astype(float)
        for film, end in zip(rows['stim_file'].astype(str), until, strict=True):
            ends[film] = max(float(end), ends.get(film, 0.0))
    return ends


def own_files(participant: ParticipantInput) -> list[Path]:
    """Return the files of a participant's tables, with what lies beside an array for its rows."""
    tables = dict.fromkeys(participant.features.values())
    return [file for table in tables for file in files_of_table(table)]


def check_frames(participant: ParticipantInput, config: Config) -> None:
    """Refuse a network on frames where there are features of a film alone.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.

    Raises
    ------
    ArgumentsError
        One line.
    """
    if config.movie.model != 'network':
        return
    for film, table in participant.features.items():
        if not has_frames(participant, film):
            raise ArgumentsError(NO_FRAMES.format(film=film, table=table.name))


def has_frames(participant: ParticipantInput, film: str) -> bool:
    """Tell whether a film is there, and not its features alone.

    Parameters
    ----------
    participant
        Whose data.
    film
        Its name.
    """
    file = participant.stimuli_dir / film
    return participant.features.get(film) != file and file.is_file()
