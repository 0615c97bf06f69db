"""One participant's products under their names, each with its sidecar."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter

from bids_neurodecode.bids.description import read_json
from bids_neurodecode.bids.names import product_of, product_path
from bids_neurodecode.bids.nouns import in_nouns, told_in_nouns
from bids_neurodecode.bids.provenance import sidecar
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.sink import copy_file, write_image, write_json, write_text, write_tsv
from bids_neurodecode.bids.trials import with_raw_keys
from bids_neurodecode.evaluation.metrics import describe_columns, with_types
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import Form, Space, files_of, form_of, sidecar_of
from bids_neurodecode.tables import column_texts

if TYPE_CHECKING:
    from bids_neurodecode.config import Config

ENTITIES = frozenset({'run', 'session'})
"""Columns that are named as pybids names entities."""


NO_LIST = (
    'The list {file} of what an earlier run wrote is damaged, and was regenerated: files of that '
    'run that this one does not write stay beside its own.'
)
LOGGER = logging.getLogger('bids_neurodecode')
_NAMES = TypeAdapter(list[str])

OWN_REFERENCES: Mapping[str | None, str] = {
    None: 'The reference image of the preprocessed series',
    'T1w': 'The anatomical image of the participant, as preprocessed',
    'fsnative': 'The surfaces of the participant',
}
"""Of spaces that are no template's."""


@dataclass(frozen=True)
class ProductWriter:
    """Writes the products of one participant and task below an output folder.

    Parameters
    ----------
    output_dir
        The derivatives dataset.
    entities
        Those that all products carry (``sub``, ``task``).
    space, resolution, density
        Of the grid, or the surfaces.
    form
        In which files maps are kept that are no volumes.
    parcellation
        Entities that name the parcels of maps of parcels.
    reference
        ``SpatialReference``, which spaces that are no template's need.
    sources
        BIDS URIs of what everything was made from.
    """

    output_dir: Path
    entities: Mapping[str, str]
    space: str | None = None
    resolution: str | None = None
    density: str | None = None
    form: Form | None = None
    parcellation: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    sources: Sequence[str] = ()
    written: list[Path] = field(default_factory=list)
    """Every file that this writer, or one made from it, has written."""

    @classmethod
    def for_participant(cls, participant: ParticipantInput, output_dir: Path) -> ProductWriter:
        """Return the writer of a participant's products over all runs.

        Parameters
        ----------
        participant
            Its first run says the space and the resolution.
        output_dir
            Of the run.
        """
        first = participant.runs[0]
        writer = cls(
            output_dir,
            {'sub': participant.label, 'task': participant.task},
            first.space,
            first.resolution,
            first.density,
            form_of(first.bold),
            first.parcellation,
            reference_of(first),
            tuple(source for run in participant.runs for source in run.sources),
        )
        if participant.layout != 'bids':  # the files of series say no form there
            writer = writer.in_space(VoxelMask.load(first.mask).space)
        return writer

    @property
    def place(self) -> dict[str, Any]:
        """What sidecars say of where the columns lie."""
        return {
            'resolution': self.resolution,
            'density': self.density,
            'SpatialReference': self.reference,
        }

    @property
    def in_mni(self) -> bool:
        """Whether maps are volumes in MNI space."""
        return self.form is None and (self.space or '').startswith('MNI152')

    def in_space(self, space: Space | None) -> ProductWriter:
        """Return the writer of maps in the space of a model, where there are no runs."""
        if space is None:
            return self
        return replace(
            self, density=space.density, form=space.form, parcellation=space.parcellation
        )

    def for_run(self, entities: Mapping[str, str], sources: Sequence[str]) -> ProductWriter:
        """Return the writer of one run's products.

        Parameters
        ----------
        entities
            Of the run.
        sources
            BIDS URIs of what it is made from.
        """
        return replace(self, entities=entities, sources=sources)

    def path(self, key: str, *, extension: str | None = None, **more: str) -> Path:
        """Return where a product goes.

        Parameters
        ----------
        key
            Of the product.
        extension
            Other than the product's own.
        **more
            Entities of this file.
        """
        parcels = self.parcellation if product_of(key).spatial else {}
        path = self.output_dir / product_path(
            key,
            {**self.entities, **parcels},
            space=self.space,
            resolution=self.resolution,
            density=self.density,
            form=self.form,
            extension=extension,
            **more,
        )
        self.written.extend(files_of(path))
        return path

    def finish(self) -> None:
        """Remove what an earlier run of the same participant and task wrote and this one did not.

        Maps of other settings would else lie beside those of this run as if they were its own.
        """
        own = self.output_dir, self.entities['sub'], self.entities['task']
        now = {path.relative_to(self.output_dir).as_posix() for path in self.written}
        root = self.output_dir.resolve()
        folder = f'sub-{self.entities["sub"]}'
        places = (root / folder, root / 'stimuli' / folder)
        for name in products_of(*own) - now:
            earlier = root / name
            # the list is a file like others: it may name anything
            if any(earlier.parent.resolve().is_relative_to(place) for place in places):
                earlier.unlink(missing_ok=True)
        write_text(_products_file(*own), json.dumps(sorted(now), indent=1) + '\n')

    def image(
        self, key: str, source: Path | Any, *, more: Mapping[str, str] | None = None, **fields: Any
    ) -> Path:
        """Write an image in its form, with a sidecar; return where it went.

        Parameters
        ----------
        key
            Of the product.
        source
            A file of the work folder, or an image.
        more
            Further entities.
        **fields
            Of the sidecar.
        """
        entities = dict(more or {})
        target = self.path(key, **entities)
        if isinstance(source, Path) and self.form is None:
            copy_file(source, target)
        else:
            import nibabel as nib

            image = nib.load(source) if isinstance(source, Path) else source
            write_image(target, image, name=key)
        self.describe(key, entities, **fields)
        return target

    def describe(
        self,
        key: str,
        entities: Mapping[str, str],
        *,
        fixed: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Write the sidecar of an image.

        Parameters
        ----------
        key
            Of the product.
        entities
            Of this file.
        fixed
            What stands first, beside what every file of the product says.
        **fields
            What else this file says.
        """
        first = {**product_of(key).sidecar, 'SkullStripped': True, **(fixed or {})}
        content = sidecar(sources=self.sources, fixed=first, **self.place, **fields)
        self._tell(self.path(key, extension='.json', **entities), content)

    def series(
        self,
        key: str,
        image: Any,
        repetition_time: float,
        *,
        more: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Path:
        """Write a series, with a sidecar that names its task and repetition time.

        Parameters
        ----------
        key
            Of the product.
        image
            Of all volumes.
        repetition_time
            Seconds.
        more
            Further entities.
        **fields
            Of the sidecar, as :meth:`describe` takes them.
        """
        entities = dict(more or {})
        target = self.path(key, **entities)
        write_image(target, image, repetition_time=repetition_time)
        task = self.entities['task']
        self.describe(key, entities, TaskName=task, RepetitionTime=repetition_time, **fields)
        return target

    def metrics(self, source: Path, desc: str) -> Path:
        """Copy a table of scores and what its columns mean, which lies beside it.

        Parameters
        ----------
        source
            The table.
        desc
            Label of the model in file names.
        """
        about = read_json(source.with_suffix('.json'))
        self._tell(self.path('metrics', desc=desc, extension='.json'), about)
        return self.copy('metrics', source, desc=desc)

    def scores(self, table: pd.DataFrame, desc: str) -> Path:
        """Write a table of scores and what its columns mean.

        Parameters
        ----------
        table
            Of several models.
        desc
            Label of the model in file names.
        """
        columns = describe_columns(table['metric'])
        return self.table('metrics', with_types(table), columns=columns, more={'desc': desc})

    def model(self, source: Path, settings: Config, desc: str, card: Path | None = None) -> None:
        """Copy a trained model, and write its settings and its card beside it.

        Parameters
        ----------
        source
            File of the weights.
        settings
            That it was trained with; paths are written relative to their file.
        desc
            Label of the model in file names.
        card
            What the model is, in words; None: nothing is said of it.
        """
        self.copy('model', source, desc=desc)
        folder = self.path('model_config', desc=desc).parent
        self.text('model_config', settings.to_toml(folder), desc=desc)
        if card is not None:
            lines = card.read_text('utf-8').splitlines(keepends=True)
            # cells of tables are names
            told = (x if x.startswith('|') else in_nouns(x, self.form) for x in lines)
            self.text('model_card', ''.join(told), desc=desc)

    def table(
        self,
        key: str,
        table: pd.DataFrame,
        *,
        columns: Mapping[str, Any] | tuple[str, ...] | str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Path:
        """Write a TSV and, where columns are described, its JSON.

        Runs are named as in the raw data. ``session`` and ``run`` are not described: pybids
        takes these words in a sidecar for the entities of the file.

        Parameters
        ----------
        key
            Of the product.
        table
            Its columns are the header.
        columns
            Descriptions by column, or tables of ``data/columns.toml`` that have them (of the
            columns that there are); None writes no sidecar.
        more
            Entities of this file.
        """
        if 'run_label' in table.columns:
            table = with_raw_keys(table)
        entities = dict(more or {})
        target = self.path(key, **entities)
        write_tsv(target, table)
        if isinstance(columns, str | tuple):
            texts = column_texts(*((columns,) if isinstance(columns, str) else columns))
            columns = {name: text for name, text in texts.items() if name in table}
        if columns is not None:
            described = {name: text for name, text in columns.items() if name not in ENTITIES}
            self._tell(self.path(key, extension='.json', **entities), described)
        return target

    def _tell(self, file: Path, content: Mapping[str, Any]) -> None:
        """Write a sidecar that calls columns what they are."""
        write_json(file, told_in_nouns(content, self.form))

    def copy(self, key: str, source: Path, **more: str) -> Path:
        """Copy a file as it is.

        Parameters
        ----------
        key
            Of the product.
        source
            The file that is copied.
        **more
            Entities of this file.
        """
        target = self.path(key, **more)
        copy_file(source, target)
        return target

    def text(self, key: str, text: str, **more: str) -> Path:
        """Write a text file.

        Parameters
        ----------
        key
            Of the product.
        text
            Its content.
        **more
            Entities of this file.
        """
        target = self.path(key, **more)
        write_text(target, text)
        return target


def products_of(output_dir: Path, label: str, task: str) -> set[str]:
    """Return what the last run of a participant and task wrote, relative to the output folder.

    The list is that of :meth:`ProductWriter.finish`; it is empty where there was no run, or where
    the list is damaged, which is said.

    Parameters
    ----------
    output_dir
        Of the run.
    label, task
        Of the participant.
    """
    file = _products_file(output_dir, label, task)
    if not file.exists():
        return set()
    try:
        return set(_NAMES.validate_json(file.read_bytes()))
    except ValueError:
        LOGGER.warning(NO_LIST.format(file=file))
        return set()


def _products_file(output_dir: Path, label: str, task: str) -> Path:
    return output_dir / f'sub-{label}' / 'log' / f'sub-{label}_task-{task}_products.json'


def reference_of(run: RunInput) -> str | None:
    """Return the ``SpatialReference`` of the maps of a run.

    It is what the sidecar of the series says; else, where the space is no template's, what the
    space is in words.
    """
    file = sidecar_of(run.bold)
    said = read_json(file).get('SpatialReference') if file.is_file() else None
    if isinstance(said, str):
        return said
    if form_of(run.bold) == 'gifti':
        return OWN_REFERENCES.get(run.space, f'The surfaces called {run.space}')
    return OWN_REFERENCES.get(run.space)
