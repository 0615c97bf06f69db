"""What is held out, decided before any response is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.bids.splitfile import add_parts
from bids_neurodecode.bids.trials import (
    film_table,
    median_duration,
    precomputed_trials,
    stimulus_duration,
    trials_table,
    unequal_durations,
)
from bids_neurodecode.config import Config, FeatureSettings
from bids_neurodecode.samples import By, Split
from bids_neurodecode.stimuli.duplicates import (
    film_frames,
    hash_images,
    image_groups,
    repeated_parts,
    repeated_rows,
)
from bids_neurodecode.systems import protocol
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import read_record, read_table, save_json
from bids_neurodecode.workflow.step import step

TRIALS, PARTS = 'trials.tsv', 'parts.tsv'
"""Beside the description of a plan: its samples, and the part of each in each fold."""
NOT_HELD_OUT = 'nothing is held out: nothing is trained'


@dataclass(frozen=True)
class PlanFacts:
    """What a plan says beside its tables."""

    by: By
    name: str
    why: str
    leaks: tuple[str, ...]
    stimulus_duration: float | None


@dataclass(frozen=True)
class Plan:
    """The samples of a participant, and what of them is held out.

    Parameters
    ----------
    split
        The folds and the table of samples that they cut.
    why
        Why it was split so.
    leaks
        What of the held-out part was seen in training all the same.
    stimulus_duration
        Seconds that a stimulus was shown; None where it is not known or has no meaning.
    """

    split: Split
    why: str
    leaks: tuple[str, ...] = ()
    stimulus_duration: float | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The samples."""
        return self.split.table

    def save(self, folder: Path) -> dict[str, Path]:
        """Write ``plan.json``, ``trials.tsv`` and ``parts.tsv``; return them by their stems."""
        split = self.split
        write_tsv(folder / TRIALS, split.table)
        write_tsv(folder / PARTS, split.to_table())
        facts = PlanFacts(split.by, split.name, self.why, self.leaks, self.stimulus_duration)
        plan = save_json(folder / 'plan.json', facts)
        return {'plan': plan, 'trials': folder / TRIALS, 'parts': folder / PARTS}

    @staticmethod
    def files(file: Path) -> tuple[Path, ...]:
        """Return the files that :meth:`load` reads: what is held out lies in the tables."""
        return file, file.with_name(TRIALS), file.with_name(PARTS)

    @classmethod
    def load(cls, file: Path) -> Plan:
        """Read ``plan.json`` and the tables beside it."""
        facts = read_record(PlanFacts, file)
        _, trials, parts = cls.files(file)
        own = pd.read_csv(parts, sep='\t')
        split = Split.from_table(facts.by, own, read_table(trials), facts.name)
        return cls(split, facts.why, facts.leaks, facts.stimulus_duration)


@step(
    'plan',
    seconds=2,
    makes=('trials', 'parts'),
    records={'plan': PlanFacts},
    settings=('split', 'betas', 'seed'),
)
def plan_trials(
    participant: ParticipantInput,
    config: Config,
    hold_out: bool,
    folder: Path,
    features: list[Float32Array] | None = None,
) -> Mapping[str, object]:
    """Events to trials, and which of them are held out.

    Parameters
    ----------
    participant, config
        Whose events; how they are split, and how precomputed betas are repeated.
    hold_out
        False where a trained model is applied.
    folder
        Where the plan is written.
    features
        Feature spaces, (n_stimuli, n_features) each, where clusters of stimuli are held out.
    """
    settings = config.split
    conditions = participant.of_conditions
    duration = None
    if participant.betas_events is not None:
        repeats = config.betas.repeats
        table = precomputed_trials(
            participant.betas_events, repeats, settings, conditions=conditions
        )
    else:
        table = trials_table(participant.runs)
        duration = (
            median_duration(table)
            if conditions
            else stimulus_duration(table, participant.runs[0].events)
        )
    if not hold_out:
        if not conditions:
            table = protocol.with_content(table, content_of(participant))
        return Plan(Split('stimulus', (), table), NOT_HELD_OUT, (), duration).save(folder)
    table = add_parts(table, settings.file, settings.name)
    if conditions:
        split, why = protocol.choose_condition_split(table, settings)
        return Plan(split, why + unequal_durations(table), (), duration).save(folder)
    table = protocol.with_content(table, content_of(participant))
    if settings.by == 'cluster':
        clusters = (settings.n_clusters, config.seed)
        table = protocol.cluster_stimuli(table, participant.stimuli, features or [], *clusters)
    split, why = protocol.choose_split(table, settings, config.seed)
    return Plan(split, why, tuple(protocol.copies_note(split)), duration).save(folder)


@step(
    'plan',
    seconds=2,
    makes=('trials', 'parts'),
    records={'plan': PlanFacts},
    settings=('split', 'features'),
)
def plan_films(
    participant: ParticipantInput, config: Config, hold_out: bool, folder: Path
) -> Mapping[str, object]:
    """Put films on the clock of their runs, and hold out blocks of them.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    hold_out
        False where no model is fitted.
    folder
        That is written into.
    """
    table = film_table(participant.runs)
    if not hold_out:
        return Plan(Split('time', (), table), NOT_HELD_OUT).save(folder)
    return plan_of_films(table, participant, config).save(folder)


def plan_of_films(table: pd.DataFrame, participant: ParticipantInput, config: Config) -> Plan:
    """Hold out parts of films, apart from scenes that are shown twice.

    Parameters
    ----------
    table
        One row per volume of a film.
    participant
        Who saw the films.
    config
        How they are split, and which features scenes are known by where there are no frames.
    """
    settings = config.split
    split, why = protocol.choose_film_split(
        add_parts(table, settings.file, settings.name), settings
    )
    split, left_out, leaks = apart_from_repeats(split, participant, config.features)
    return Plan(split, f'{why}. {left_out}' if left_out else why, tuple(leaks))


def content_of(participant: ParticipantInput) -> dict[str, str]:
    """Return of each image the first one, by name, that shows the same."""
    names = participant.stimuli
    groups = image_groups(hash_images([participant.stimuli_dir / name for name in names]))
    first: dict[int, str] = {}
    return {
        name: first.setdefault(int(group), name) for name, group in zip(names, groups, strict=True)
    }


def apart_from_repeats(
    split: Split, participant: ParticipantInput, settings: FeatureSettings
) -> tuple[Split, str, tuple[str, ...]]:
    """Look at the films for scenes that are shown twice; see the function of that name.

    Parameters
    ----------
    split
        Of the samples.
    participant
        Whose data.
    settings
        Of ``features``.

    Returns
    -------
    Split, str, tuple of str
        As :func:`bids_neurodecode.systems.protocol.apart_from_repeats`.
    """
    from bids_neurodecode.systems.steps.own_features import film_bands, has_frames

    films = list(dict.fromkeys(split.table['film'].astype(str)))
    period = participant.runs[0].repetition_time
    if all(has_frames(participant, film) for film in films):
        repeats = repeated_parts([film_frames(participant.stimuli_dir / film) for film in films])
    else:
        volumes = split.table.groupby('film')['onset'].max() / period
        clock = {film: np.arange(round(volumes[film]) + 1) * period for film in films}
        found = film_bands(participant, settings, clock, period)
        rows = [np.concatenate([*found[film].values()], axis=1) for film in films]
        repeats = repeated_rows(rows, period)
    return protocol.apart_from_repeats(split, films, repeats, period)
