"""What a run of the program wrote, for a notebook: scores, maps, tables, models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.errors import UsageError
from bids_neurodecode.text import did_you_mean
from bids_neurodecode.workflow.files import read_table

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

NONE_SUCH = 'There is no {kind} {name!r} of sub-{label}.{near} {kinds}: {known}.'
WHICH = 'The results are of {known}; say which: participant="01" (and task="...").'
NO_PARTICIPANT = 'There are no results of sub-{label}{task}. Results: {known}.'

ONLY_APPLIED = (
    'The model {name!r} is applied by the program, with its generator or its frames: '
    'bids_neurodecode ... --mode predict --models-from {folder}.'
)

TABLES = ('trials', 'predictions', 'parcels')
APPLIED = frozenset({'generated', 'network'})
"""Models that make images or frames."""


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """The results of all participants in an output folder.

    Parameters
    ----------
    folder
        Where they lie.
    records
        One a participant and task: settings, splits, warnings and files.
    """

    folder: Path
    records: tuple[ParticipantResults, ...]

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels, without ``sub-``."""
        return tuple(dict.fromkeys(record.participant for record in self.records))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """All scores as one tidy table: ``participant``, ``task``, and the columns of the files.

        A row is a score: ``model``, ``space`` and ``metric`` say of what, ``value`` stands beside
        ``chance``, ``ceiling``, ``ci_low``, ``ci_high`` and ``p``. Baselines are rows like any
        other.
        """
        from bids_neurodecode.evaluation.metrics import COLUMNS, with_types

        parts = []
        for record in self.records:
            if record.metrics is not None:
                own = read_table(record.metrics)
                own.insert(0, 'participant', record.participant)
                own.insert(1, 'task', record.task)
                parts.append(own)
        if not parts:
            return pd.DataFrame(columns=['participant', 'task', *COLUMNS])
        return with_types(pd.concat(parts, ignore_index=True))

    @cached_property
    def maps(self) -> pd.DataFrame:
        """What :meth:`map` knows: ``participant``, ``task``, ``name`` and ``file``."""
        return self._files(_maps)

    @cached_property
    def models(self) -> pd.DataFrame:
        """Trained models: ``participant``, ``task``, ``name`` and ``file`` (safetensors)."""
        return self._files(self._models)

    def _files(self, files_of: Callable[[ParticipantResults], Mapping[str, Path]]) -> pd.DataFrame:
        rows = [
            (record.participant, record.task, name, file)
            for record in self.records
            for name, file in files_of(record).items()
        ]
        return pd.DataFrame(rows, columns=['participant', 'task', 'name', 'file'])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reports warn of, once each; leaks come first."""
        lines = [line for record in self.records for line in record.leaks]
        lines += [line for record in self.records for line in record.warnings]
        return tuple(dict.fromkeys(lines))

    def map(self, name: str, participant: str | None = None, task: str | None = None) -> Any:
        """Return a map as an image that nilearn plots.

        Parameters
        ----------
        name
            Such as ``noiseceiling``, ``pearsonr``, ``reliable`` (the voxels that were used) or
            ``mean_bold``; see :attr:`maps`.
        participant, task
            Whose; may be left out where there is one.

        Returns
        -------
        nibabel.Nifti1Image
            Of surfaces, a GIFTI image by ``left`` and ``right``; of CIFTI, such an image.

        Raises
        ------
        UsageError
            If there is none of that name; it lists those that there are.
        """
        from bids_neurodecode.api.grids import as_shown
        from bids_neurodecode.bids.series import open_image

        record = self._record(participant, task)
        files = _maps(record)
        return as_shown(open_image(_file_of('map', name, record, files)))

    def table(
        self, name: str, participant: str | None = None, task: str | None = None
    ) -> pd.DataFrame:
        """Return a table: ``trials``, ``predictions`` (a row per held-out sample) or ``parcels``.

        Parameters
        ----------
        name
            Of the table.
        participant, task
            Whose; may be left out where there is one.

        Raises
        ------
        UsageError
            If there is none of that name; it lists those that there are.
        """
        record = self._record(participant, task)
        files = {key: getattr(record, key) for key in TABLES if getattr(record, key) is not None}
        return read_table(_file_of('table', name, record, files))

    def model(self, name: str, participant: str | None = None, task: str | None = None) -> Any:
        """Return a trained linear model, ready to predict.

        Parameters
        ----------
        name
            Such as ``linear`` or ``ridge``; see :attr:`models`.
        participant, task
            Whose; may be left out where there is one.

        Returns
        -------
        LinearDecoder, FilmEncoder or Encoder
            Its voxels are those of ``map('reliable')``; of encoders, those that they predict.

        Raises
        ------
        UsageError
            If there is none of that name, or it is one that only the program applies.
        """
        from bids_neurodecode.models.storage import load_arrays

        record = self._record(participant, task)
        files = self._models(record)
        file = _file_of('model', name, record, files)
        if name in APPLIED:
            raise UsageError(ONLY_APPLIED.format(name=name, folder=self.folder))
        return _model(*load_arrays(file))

    def _record(self, participant: str | None, task: str | None) -> ParticipantResults:
        label = None if participant is None else str(participant).removeprefix('sub-')
        found = [
            record
            for record in self.records
            if label in {None, record.participant} and task in {None, record.task}
        ]
        known = ', '.join(f'sub-{r.participant} (task {r.task})' for r in self.records)
        if not found:
            told = '' if task is None else f' in task {task}'
            raise UsageError(NO_PARTICIPANT.format(label=label, task=told, known=known))
        if len(found) > 1:
            raise UsageError(WHICH.format(known=known))
        return found[0]

    def _models(self, record: ParticipantResults) -> dict[str, Path]:
        folder = self.folder / f'sub-{record.participant}' / 'models'
        files = sorted(folder.glob(f'*_task-{record.task}_*_model.safetensors'))
        return {parse_entities(file).get('desc', file.stem): file for file in files}

    def __repr__(self) -> str:
        lines = [f'Results in {self.folder}: {len(self.participants)} participants']
        for record in self.records:
            head = f'  sub-{record.participant}: {record.system}, task {record.task}'
            split = '' if record.split is None else f', {record.split.protocol}'
            lines.append(head + split)
        shown = ['participant', 'model', 'space', 'metric', 'value', 'chance', 'p']
        if len(self.metrics):
            lines.append(self.metrics[shown].head(5).to_string(index=False))
        return '\n'.join(lines)


def load_results(out: str | Path) -> Results:
    """Open what the participant level of the program wrote.

    Parameters
    ----------
    out
        Its output folder.

    Returns
    -------
    Results
        ``metrics`` is one tidy table, ``map('noiseceiling')`` an image, ``model('linear')`` a
        trained model.

    Raises
    ------
    InputError
        If there are no results.
    ReportError
        If a record is damaged.

    Examples
    --------
    >>> import bids_neurodecode as nd
    >>> results = nd.load_results('out')  # doctest: +SKIP
    >>> table = results.metrics  # doctest: +SKIP
    >>> nd.load_results('no-such-folder')
    Traceback (most recent call last):
    ...
    bids_neurodecode.errors.InputError: No results of participant level in no-such-folder. Run ...
    """
    from bids_neurodecode.systems.steps.records import find_results, read_results

    folder = Path(out)
    return Results(folder, tuple(read_results(file) for file in find_results(folder)))


def _file_of(kind: str, name: str, record: ParticipantResults, files: Mapping[str, Path]) -> Path:
    """Return a file of a participant, or name those that there are."""
    if name not in files:
        told = {'near': did_you_mean(name, files), 'known': ', '.join(files)}
        told |= {'kind': kind, 'kinds': f'{kind.capitalize()}s', 'label': record.participant}
        raise UsageError(NONE_SUCH.format(name=name, **told))
    return files[name]


def _maps(record: ParticipantResults) -> dict[str, Path]:
    """Return the maps of a participant that are there, by name."""
    found = dict(record.maps)
    if record.encoding is not None:
        found |= {k: file for k, file in record.encoding.maps.items() if k not in found}
    if record.mean_bold is not None:
        found['mean_bold'] = record.mean_bold
    return {name: file for name, file in found.items() if file.exists()}


def _model(arrays: dict[str, Any], told: dict[str, Any]) -> Any:
    """Rebuild a linear model from what the program saved."""
    if told.get('kind') == 'picture-encoder':
        from bids_neurodecode.systems.encoding.encoders import load_encoder

        prefix = 'encoder.'
        state = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        return load_encoder(state, told['encoder'])
    if 'library' in told:
        from bids_neurodecode.systems.linear import LinearDecoder

        state = {
            k: v for k, v in arrays.items() if k.split('.')[0] in {'voxels', 'space', 'ridge'}
        }
        return LinearDecoder.from_state(state, told['library'], told['measure'])
    from bids_neurodecode.systems.movie.applying import encoder_from

    return encoder_from(arrays, told)
