"""What the methods text says of data and analysis, from the records of one or more participants.

What differs between participants is given as a span, so that a text for all holds of each.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.bids.description import read_description
from bids_neurodecode.bids.stimuli import FILMS
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.extensions import OWN_GENERATORS
from bids_neurodecode.models.generators import guides_of
from bids_neurodecode.text import span_of

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.report.results import (
        GenerationResults,
        ParticipantResults,
        SplitResults,
    )

PLURALS = {'stimulus': 'stimuli', 'category': 'categories', 'content': 'stimuli'}
DRAWN = {
    'stimulus': 'They were drawn at random by the seed of the settings, before any response was '
    'looked at.',
    'cluster': 'Clusters were formed on features of the stimuli alone, and shared out by their '
    'sizes.',
    'category': 'Categories were shared out by their sizes.',
    **dict.fromkeys(('run', 'session'), 'Nothing was drawn: they were taken in their order.'),
    'given': 'Nothing was drawn: the dataset (or a file of the settings) says which.',
}
"""How what is held out was drawn, by the unit that is kept whole."""
SHARE_RUNS = (
    'Training and held-out {samples} come from the same runs, so that what {samples} of a run '
    'share (drift, arousal, noise of neighbouring {samples}) is on both sides.'
)
NO_SHARED_RUN = 'No run holds both training and held-out {samples}.'
_COUNTS = re.compile(r'^[\d,]+ (of [\d,]+ voxels|voxels in any of \d+ folds \(\d+ in all\)): ')


def without_counts(rule: str) -> str:
    """Return how voxels were chosen without how many these are.

    Examples
    --------
    >>> without_counts('30 of 90 voxels: isc of at least 0.1')
    'isc of at least 0.1'
    """
    return _COUNTS.sub('', rule)


@dataclass(frozen=True)
class Facts:
    """What was analysed, what was held out, and what judged; empty where a record does not say.

    Parameters
    ----------
    n_participants
        How many the text is of.
    runs, volumes, trials, repetition_time
        Of a participant.
    space, resolution
        Of the series.
    held_out
        What was held out, how often.
    by, n_folds
        As in ``split.by``, where that holds of all; the most folds of any (0: not known).
    protocol, why
        How it is called, and why it was split so, where that holds of all.
    rules
        How voxels were chosen, without numbers.
    voxels, final_voxels
        How many the scores are of, and the final models.
    models
        Of the betas that are written, and of how many participants.
    judges, guides, describers
        Networks that compared images with those shown; features that guided these; networks that
        described images for identification alone, and do not judge either.
    pipelines
        What made the series and its version, as their dataset says.
    simulated
        Whether the datasets say that the data are.
    clips
        Whether short films were analysed as images are.
    """

    n_participants: int
    runs: str
    volumes: str
    trials: str
    repetition_time: str
    space: str
    resolution: str
    held_out: str
    by: str
    n_folds: int
    protocol: str
    why: str
    rules: tuple[str, ...]
    voxels: str
    final_voxels: str
    models: tuple[str, ...]
    judges: tuple[str, ...]
    guides: tuple[str, ...]
    describers: tuple[str, ...]
    pipelines: str
    simulated: bool
    clips: bool

    @classmethod
    def of(cls, records: Sequence[ParticipantResults], config: Config | None = None) -> Facts:
        """Take what the records of participants say.

        Parameters
        ----------
        records
            At least one.
        config
            Their settings, which tell apart what guided images and what described them.
        """
        runs = [run for record in records for run in record.runs]
        voxels = [record.voxels for record in records if record.voxels is not None]
        made = [record.generation for record in records if record.generation is not None]
        splits = [record.split for record in records if record.split is not None]
        trials = [sum(run.n_trials for run in record.runs) for record in records]
        scored = [n for each in voxels for n in (each.n_scored or (each.n_selected,))]
        descriptions = _descriptions(run.bold for run in runs)
        makers = [entry for each in descriptions for entry in each.get('GeneratedBy', [])]
        parts = [parts_in_images(each, config) for each in made]
        models = Counter(record.betas.model for record in records if record.betas is not None)
        return cls(
            n_participants=len(records),
            runs=span_of([len(record.runs) for record in records]),
            volumes=span_of([run.n_volumes for run in runs]) if runs else '',
            trials=span_of(trials) if any(trials) else '',
            repetition_time=span_of([run.repetition_time for run in runs], ' s') if runs else '',
            space=' and '.join(_each(records, lambda record: record.space or 'native')),
            resolution=' or '.join(_each(records, lambda record: record.resolution)),
            held_out=held_out_of(splits),
            by=_one(split.by for split in splits),
            n_folds=max((split.n_folds for split in splits), default=0),
            protocol=_one(split.protocol for split in splits),
            why=_one(f'{split.why[:1].upper()}{split.why[1:]}'.rstrip('.') for split in splits),
            rules=tuple(dict.fromkeys(without_counts(each.rule) for each in voxels)),
            voxels=span_of(scored) if scored else '',
            final_voxels=span_of([each.n_selected for each in voxels])
            if any(each.n_scored for each in voxels)
            else '',
            models=tuple(
                model if len(models) == 1 else f'{model} in {n} participant{"s" * (n > 1)}'
                for model, n in sorted(models.items())
            ),
            judges=tuple(dict.fromkeys(name for each in made for name in each.judges)),
            guides=tuple(dict.fromkeys(name for guides, _ in parts for name in guides)),
            describers=tuple(dict.fromkeys(name for _, others in parts for name in others)),
            pipelines=' and '.join(dict.fromkeys(filter(None, map(_maker, makers)))),
            simulated=any('simulated' in json.dumps(each).lower() for each in descriptions)
            or any('simulated' in record.bids_name.lower() for record in records),
            clips=any(shows_clips(record) for record in records),
        )


def shows_clips(record: ParticipantResults) -> bool:
    """Tell whether the trials of a participant showed short films in the place of images."""
    if record.paradigm != 'images' or record.trials is None or not record.trials.is_file():
        return False
    shown = read_table(record.trials)
    first = next(iter(shown['stim_file']), '') if 'stim_file' in shown.columns else ''
    return Path(str(first)).suffix.lower() in FILMS


def parts_in_images(
    made: GenerationResults, config: Config | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell apart what guided images and what only described them for the linear decoder.

    Neither judges. Where it cannot be told (generators of other packages), all had a part.

    Parameters
    ----------
    made
        The images; says what may not judge them.
    config
        The settings.

    Returns
    -------
    tuple of tuple of str
        Features (of a network, or ``gabor``) that guided images, and those that did not.
    """
    known = made.guided_by or ()
    if config is None:
        return known, ()
    told = config.reconstruction
    if made.generator == 'small':
        guides = {'gabor', told.match_network} if told.conditions in {'both', 'vision'} else set()
    elif made.generator in OWN_GENERATORS:
        guides = {*guides_of(made.generator)}
    else:
        return known, ()
    return (
        tuple(name for name in known if name in guides),
        tuple(name for name in known if name not in guides),
    )


def _descriptions(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the descriptions of the datasets that files are in, where they can be read."""
    found: dict[Path, dict[str, Any]] = {}
    for file in files:
        for folder in file.parents:
            if folder in found:
                break
            if (folder / 'dataset_description.json').is_file():
                with contextlib.suppress(InputError):
                    found[folder] = read_description(folder)
                break
    return list(found.values())


def _maker(entry: object) -> str:
    """Name a pipeline with its version."""
    if not isinstance(entry, dict) or 'Name' not in entry:
        return ''
    return ' '.join(str(entry[key]) for key in ('Name', 'Version') if key in entry)


def _each(
    records: Iterable[ParticipantResults], what: Callable[[ParticipantResults], str]
) -> list[str]:
    return [found for found in dict.fromkeys(what(record) for record in records) if found]


def _one(values: Iterable[str]) -> str:
    """Return the value that all share; nothing where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else ''


def drawn_of(splits: Sequence[SplitResults]) -> str:
    """Say how what was held out was drawn, and whether training and test share runs.

    Parameters
    ----------
    splits
        Of one or more participants.
    """
    said = []
    by = {split.by for split in splits}
    if by and by <= DRAWN.keys():
        said.append(_one(DRAWN[split.by] for split in splits))
        if by == {'stimulus'} and {split.n_folds for split in splits} == {1}:
            said.append('Participants who saw the same stimuli have the same ones held out.')
    elif why := _one(split.why for split in splits):
        said.append(f'{why[:1].upper()}{why[1:].rstrip(".")}.')
    if (shared := {split.shares_runs for split in splits}) in ({True}, {False}):
        text = SHARE_RUNS if shared == {True} else NO_SHARED_RUN
        said.append(text.format(samples='volumes' if by <= {'film', 'time'} else 'trials'))
    return ' '.join(said)


def held_out_of(splits: Sequence[SplitResults]) -> str:
    """Say how much was held out, in how many folds; nothing where records do not say."""
    known = [split for split in splits if split.n_samples]
    if not known:
        return ''
    folds = span_of([split.n_folds for split in known])
    samples = span_of([n for split in known for n in split.n_held_out])
    total = span_of([split.n_samples for split in known])
    how = 'once' if folds == '1' else f'in each of {folds} folds'
    units = [n for split in known for n in split.n_units_held_out]
    by = dict.fromkeys(split.by for split in known)
    if not units or len(by) > 1:
        return f'{samples} of {total} samples were held out {how}'
    name = next(PLURALS.get(unit, f'{unit}s') for unit in by)
    of = span_of([split.n_units for split in known])
    return f'{span_of(units)} of {of} {name} ({samples} of {total} samples) were held out {how}'
