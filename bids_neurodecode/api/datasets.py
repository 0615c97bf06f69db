"""A BIDS dataset to samples: responses, and what each of them is to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.records import NOUNS, DatasetInput, ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.trials import (
    film_table,
    median_duration,
    precomputed_trials,
    stimulus_duration,
    trials_table,
)
from bids_neurodecode.config import Config, build_config
from bids_neurodecode.errors import ArgumentsError, UsageError, retold
from bids_neurodecode.samples import Responses, Samples, Split, VoxelMask
from bids_neurodecode.stimuli.features import FeatureExtractor, get_extractor

if TYPE_CHECKING:
    import numpy.typing as npt


NO_PARTICIPANT = 'There is no participant {label!r} in this dataset. Participants: {known}.'
NO_FILES = (
    'sub-{label} was in conditions without stimulus files: there is nothing to describe. Bring '
    'features of your own.'
)
NO_BETAS = 'sub-{label} saw films: their samples are volumes, and no model of betas is fitted.'

Model = Literal['auto', 'B', 'C', 'D']


@dataclass(frozen=True, eq=False, repr=False)
class ParticipantData:
    """What one participant saw, and the responses to it.

    Parameters
    ----------
    record
        Files and facts of all runs, as the program reads them.
    config
        Settings, those that follow from a published dataset among them.
    """

    record: ParticipantInput
    config: Config = field(repr=False)
    _made: Any = field(default=None, repr=False)
    """Keeps the folder of tables that were made while this is in use."""

    @property
    def label(self) -> str:
        """Without ``sub-``."""
        return self.record.label

    @property
    def paradigm(self) -> str:
        """``images``, ``movie`` or ``conditions``."""
        return self.record.paradigm

    @property
    def stimuli(self) -> tuple[str, ...]:
        """Names of the distinct images or films (else conditions), sorted."""
        return self.record.stimuli or self.record.conditions

    @property
    def stimulus_files(self) -> tuple[Path, ...]:
        """Files of the distinct images or films, in the order of :attr:`stimuli`."""
        return tuple(self.record.stimuli_dir / name for name in self.record.stimuli)

    @property
    def bold(self) -> tuple[Path, ...]:
        """The preprocessed series of each run."""
        return tuple(run.bold for run in self.record.runs)

    @property
    def events(self) -> tuple[Path, ...]:
        """The events of each run, as the program reads them."""
        return tuple(run.events for run in self.record.runs)

    @cached_property
    def mask(self) -> VoxelMask:
        """The voxels that the brain masks of all runs share."""
        from bids_neurodecode.workflow.files import common_mask

        return common_mask(self.record.runs)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial (of films, a volume): onset, stimulus, run, session and others."""
        if self.record.of_films:
            return film_table(self.record.runs)
        if self.record.betas_events is not None:
            return precomputed_trials(
                self.record.betas_events,
                self.config.betas.repeats,
                self.config.split,
                conditions=self.record.of_conditions,
            )
        return trials_table(self.record.runs)

    def samples(self, model: Model = 'B') -> Samples:
        """Return the responses to what was shown.

        Parameters
        ----------
        model
            Of the single-trial betas of images and conditions, as in
            :func:`~bids_neurodecode.fit_betas`. B does not look at which stimulus was shown. C
            and D are tuned on all trials: models that are judged on held-out trials need betas
            that are not, see ``training_sets`` there. Betas that the dataset holds (NSD,
            ``betas.precomputed``) are taken as they are.

        Returns
        -------
        Samples
            Of images and conditions, betas, one row per trial. Of films, cleaned series on the
            clock of the film without any delay taken out, one row per volume.

        Raises
        ------
        UsageError
            If another model of betas is asked for of films, or it needs repeats that there are
            not.
        """
        if self.record.of_films:
            if model != 'B':
                raise UsageError(NO_BETAS.format(label=self.label))
            return self._of_films()
        with speaking_of_arguments():
            return self._of_trials(model)

    def features(
        self,
        extractor: Any = 'gabor',
        *,
        size: int = 64,
        cache_dir: str | Path | None = None,
        **parameters: Any,
    ) -> npt.NDArray[np.float32]:
        """Return features of what each row of :attr:`trials` shows.

        Parameters
        ----------
        extractor, size, cache_dir, **parameters
            As in :func:`~bids_neurodecode.extract_features`.

        Returns
        -------
        numpy.ndarray
            Of images, (n_trials, n_features). Of films, (n_volumes, n_features): the mean over
            four frames that the volume shows, without any delay.

        Raises
        ------
        UsageError
            If conditions without files were shown.
        """
        from bids_neurodecode.api.features import extract_features

        cache = None if cache_dir is None else Path(cache_dir)
        with speaking_of_arguments():
            described = extractor
            if isinstance(extractor, str):
                described = get_extractor(extractor, **parameters)
            if self.record.of_films:
                return self._of_frames(described, size, cache)
        if self.paradigm != 'images':
            raise UsageError(NO_FILES.format(label=self.label))
        found = extract_features(self.stimulus_files, described, size=size, cache_dir=cache)
        place = {name: row for row, name in enumerate(self.stimuli)}
        return found[[place[name] for name in self.trials['stimulus']]]

    def _of_frames(
        self, extractor: FeatureExtractor, size: int, cache: Path | None
    ) -> npt.NDArray[np.float32]:
        from bids_neurodecode.stimuli.volumes import volume_features

        period = self.record.runs[0].repetition_time
        rows: list[npt.NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(self.trials)
        for film, samples in self.trials.groupby('film', sort=False):
            onsets, place = np.unique(samples['onset'].to_numpy(float), return_inverse=True)
            file = self.record.stimuli_dir / str(film)
            by_volume = volume_features(file, onsets, period, extractor, size, cache).mean(axis=1)
            for row, number in zip(samples.index, place, strict=True):
                rows[int(row)] = by_volume[number]
        return np.stack(rows)

    def _of_trials(self, model: Model) -> Samples:
        from bids_neurodecode.systems.steps import betas as step
        from bids_neurodecode.systems.steps.plan import Plan

        betas = self.config.betas.model_copy(update={'model': model})
        config = self.config.model_copy(update={'betas': betas})
        duration = np.nan
        if self.record.betas is None:
            duration = median_duration(self.trials)
            if self.paradigm == 'images':
                duration = stimulus_duration(self.trials, self.record.runs[0].events)
        with TemporaryDirectory() as folder:
            inputs = step.Estimated(
                participant=self.record,
                config=config,
                mask=self.mask,
                plan=Plan(Split('stimulus', (), self.trials), '', stimulus_duration=duration),
                device='cpu',
                folder=Path(folder),
                checkpoints=Path(folder) / 'checkpoints',
            )
            values = np.load(str(step.betas(inputs)['betas']))
        return Samples(Responses(values, self.mask), self.trials)

    def _of_films(self) -> Samples:
        from bids_neurodecode.signals.delay import align_to_clock
        from bids_neurodecode.systems.steps.parcels import clean_run

        table = self.trials
        values = np.full((len(table), self.mask.n_voxels), np.nan, dtype=np.float32)
        for number, run in enumerate(self.record.runs):
            series = clean_run(run, self.mask, self.config.clean)
            for _, rows in table[table['run'] == number].groupby('showing', sort=False):
                onset = float(rows['run_onset'].iloc[0])
                clock = (series, run.repetition_time, onset, len(rows), run.repetition_time)
                aligned = align_to_clock(*clock, 0.0, start_time=run.start_time)
                values[rows.index] = aligned.values
        return Samples(Responses(values, self.mask), table)

    def __repr__(self) -> str:
        n, what = len(self.stimuli), NOUNS[self.record.paradigm]
        runs = len(self.record.runs)
        return f'sub-{self.label}: task {self.record.task}, {runs} runs, {n} {what}'


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Mapping[str, ParticipantData]):
    """Participants by label.

    Parameters
    ----------
    inputs
        What was found, as the program reads it.
    config
        Settings that all share.
    """

    inputs: DatasetInput
    config: Config
    _made: Any = field(default=None, repr=False)

    @cached_property
    def _people(self) -> dict[str, ParticipantData]:
        found = self.inputs.participants
        return {person.label: ParticipantData(person, self.config, self._made) for person in found}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found and why it was chosen."""
        return self.inputs.notes

    @property
    def failures(self) -> Mapping[str, str]:
        """Participants that cannot be read, and why."""
        return self.inputs.failures

    def __getitem__(self, label: str) -> ParticipantData:
        label = str(label).removeprefix('sub-')
        if label not in self._people:
            raise KeyError(NO_PARTICIPANT.format(label=label, known=', '.join(self._people)))
        return self._people[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._people)

    def __len__(self) -> int:
        return len(self._people)

    def __repr__(self) -> str:
        lines = [f'Dataset {self.inputs.bids_dir}: {len(self)} participants']
        return '\n'.join([*lines, *(f'  {person!r}' for person in self.values())])


def load_dataset(
    bids_dir: str | Path,
    *,
    derivatives: str | Path | Mapping[str, str | Path] | None = None,
    participants: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    sessions: str | Sequence[str] = (),
    space: str | None = None,
    stimuli_dir: str | Path | None = None,
    work_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Dataset:
    """Find participants, runs, events and stimuli of a BIDS dataset, as the program does.

    Parameters
    ----------
    bids_dir
        The raw dataset. Published datasets are recognised and read as they are.
    derivatives
        Folders of preprocessed series, one or by name; those below ``derivatives/`` if left out.
    participants, tasks, sessions
        Labels, with or without their prefixes; all (or the task that shows stimuli) if left out.
    space
        Of the preprocessed series, where there are several.
    stimuli_dir
        Where stimuli lie, if not below ``stimuli/``.
    work_dir
        Where events tables and masks are made that the dataset lacks; a folder that goes with
        the result if left out.
    settings
        Settings of the program that differ from the defaults, such as
        ``{'clean': {'strategy': ['motion']}}``.

    Returns
    -------
    Dataset
        ``dataset['01'].samples()`` are responses and what each is to.

    Raises
    ------
    InputError
        If the data are not there, a choice is open (the error lists it), or a file is damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import bids_neurodecode as nd
    >>> from bids_neurodecode.simulate.dataset import simulate_dataset
    >>> from bids_neurodecode.simulate.spec import build_spec
    >>> spec = build_spec(n_subjects=1, n_runs=2, n_images=6, n_repeats=2, voxel_size=18.0)
    >>> dataset = nd.load_dataset(simulate_dataset(Path(mkdtemp()) / 'data', spec))
    >>> dataset['01']
    sub-01: task images, 2 runs, 6 images
    >>> dataset['01'].samples(model='B').n_samples
    12
    """
    from bids_neurodecode.bids.recipes import AUTO, layer_of, recognise

    folder = Path(bids_dir).resolve()
    own: Mapping[str, Any] = settings or {}
    labels = _labels(tasks, 'task-')
    with retold(UsageError, ArgumentsError):
        recipe = layer_of(recognise(folder, AUTO), labels, own)
        config = build_config(recipe, own, source='the argument settings')
    if isinstance(derivatives, str | Path):
        derivatives = {Path(derivatives).name: derivatives}
    made = None
    if work_dir is None:
        made = TemporaryDirectory(prefix='bids_neurodecode-')
        work_dir = made.name
    request = Request(
        bids_dir=folder,
        derivatives={k: Path(v).resolve() for k, v in (derivatives or {}).items()},
        participants=_labels(participants, 'sub-'),
        sessions=_labels(sessions, 'ses-'),
        tasks=labels,
        space=space,
        betas_from=config.betas.precomputed,
        features=config.features.table,
        table_rate=config.features.table_rate,
        stimuli_dir=None if stimuli_dir is None else Path(stimuli_dir).resolve(),
        made_dir=Path(work_dir).resolve(),
        events=config.events,
        split=config.split,
        conditions=config.conditions,
        system=config.system,
    )
    return Dataset(find_inputs(request), config, made)


def _labels(given: str | Sequence[str], prefix: str) -> tuple[str, ...]:
    several = (given,) if isinstance(given, str) else given
    return tuple(str(label).removeprefix(prefix) for label in several)
