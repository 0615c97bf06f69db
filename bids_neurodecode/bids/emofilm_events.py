"""When each film of Emo-FilM was shown: its own events, and what stands in where they lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.errors import InputError

FILM_SECONDS = {
    'AfterTheRain': 496.0, 'BetweenViewings': 808.0, 'BigBuckBunny': 490.0, 'Chatter': 405.0,
    'FirstBite': 599.0, 'LessonLearned': 667.0, 'Payload': 1008.0, 'Sintel': 722.0,
    'Spaceman': 805.0, 'Superhero': 1028.0, 'TearsOfSteel': 588.0, 'TheSecretNumber': 784.0,
    'ToClaireFromSonny': 402.0, 'YouAgain': 798.0,
}  # fmt: skip
"""How long each film was shown (s, without credits), by the task's name."""
TOLERANCE = 1.0
"""Seconds by which a file, or an event, may differ from that."""
PATTERN = 'sub-*/ses-*/func/*_task-scan_acq-*_events.tsv'

BAD_EVENTS = (
    'Cannot use the events {file}: {reason}. They need one row with trial_type "film" and its '
    'onset and duration (s); download the file again, or take it away (the onset is then imputed).'
)
NO_ONSET = (
    'No run of {film} has events (*_task-scan_acq-{film}_events.tsv) in {folder}, so its onset is '
    'not known. Download them, or leave the film out with --task-id or --session-label.'
)
IMPUTED = (
    'sub-{label}: the onset of {film} (ses-{session}) is imputed: its events are missing, and '
    '{onset:.3f} s is the median onset of that film in {n} other run(s) (from {low:.3f} to '
    '{high:.3f} s).'
)


@dataclass(frozen=True)
class Showing:
    """One presentation of a film: seconds from the first volume, and who says so."""

    onset: float
    duration: float
    file: Path | None = None
    """The events; None where the onset is imputed."""
    note: str = ''


def read_showing(file: Path, film: str) -> Showing:
    """Read when a film was shown.

    Parameters
    ----------
    file
        Events with ``onset``, ``duration`` and ``trial_type`` (rest, film, rest).
    film
        Its name. The duration of a known film is that of the table of films: events differ from
        it, and from each other, by some hundredths of a second.

    Raises
    ------
    InputError
        If there is not one row of a film, its times are no numbers, or its duration is another.
    """
    table = read_table(file)
    missing = [c for c in ('onset', 'duration', 'trial_type') if c not in table.columns]
    if missing:
        raise InputError(BAD_EVENTS.format(file=file, reason=f'no column {missing[0]!r}'))
    rows = table[table['trial_type'] == 'film']
    if len(rows) != 1:
        raise InputError(BAD_EVENTS.format(file=file, reason=f'{len(rows)} rows are of a film'))
    try:
        onset, duration = (float(rows[c].iloc[0]) for c in ('onset', 'duration'))
    except (TypeError, ValueError) as error:
        raise InputError(BAD_EVENTS.format(file=file, reason='times are no numbers')) from error
    if not (np.isfinite([onset, duration]).all() and onset >= 0 and duration > 0):
        raise InputError(BAD_EVENTS.format(file=file, reason='times are no times'))
    known = FILM_SECONDS.get(film)
    if known is not None and abs(duration - known) > TOLERANCE:
        reason = f'{film} was shown for {duration:.3f} s, and lasts {known:g} s'
        raise InputError(BAD_EVENTS.format(file=file, reason=reason))
    return Showing(onset, duration if known is None else known, file)


def all_events(root: Path) -> dict[str, list[Path]]:
    """Return the events of each film in the whole dataset, by its name."""
    found: dict[str, list[Path]] = {}
    for file in sorted(root.glob(PATTERN)):
        found.setdefault(parse_entities(file)['acq'], []).append(file)
    return found


def showing_of(
    entities: Mapping[str, str], film: str, files: Sequence[Path], root: Path
) -> Showing:
    """Return when a run showed its film: by its own events, else by those of other runs.

    Parameters
    ----------
    entities
        Of the run: ``sub`` and ``ses``.
    film
        Its name.
    files
        Events of this film, of all participants.
    root
        The dataset, named in errors.

    Raises
    ------
    InputError
        If no run of the film has events that can be read.
    """
    name = f'sub-{entities["sub"]}_ses-{entities["ses"]}_task-scan_acq-{film}_events.tsv'
    own = next((file for file in files if file.name == name), None)
    if own is not None:
        return read_showing(own, film)
    others = []
    for file in files:
        try:
            others.append(read_showing(file, film))
        except InputError:
            continue  # broken events are their own participant's trouble
    if not others:
        raise InputError(NO_ONSET.format(film=film, folder=root))
    onsets = [showing.onset for showing in others]
    onset = float(np.median(onsets))
    note = IMPUTED.format(
        label=entities['sub'],
        film=film,
        session=entities['ses'],
        onset=onset,
        n=len(onsets),
        low=min(onsets),
        high=max(onsets),
    )
    duration = float(np.median([showing.duration for showing in others]))
    return Showing(onset, duration, None, note)
