"""What the last steps share: products under their BIDS names, and the record of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import nibabel as nib
import numpy as np
import pandas as pd

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.description import name_of
from bids_neurodecode.bids.names import PRODUCTS, clean_label, told_apart
from bids_neurodecode.bids.provenance import sidecar, software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_json, write_text
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.report.results import (
    ConfusionResults,
    NullResults,
    ParticipantResults,
    RunResults,
    SplitResults,
    VoxelResults,
)
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import UNITS
from bids_neurodecode.spaces import form_of, load_image
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.records import BetaFacts, ModelFacts, results_path
from bids_neurodecode.tables import column_texts
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import save_map
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import ALL, Inputs, Step, step

if TYPE_CHECKING:
    from bids_neurodecode.signals.selection import VoxelSelection
    from bids_neurodecode.workflow.resources import DataSize

P = ParamSpec('P')
COLUMNS_AT_ONCE = 4096
"""Columns of betas that are held while they are written."""
APPLIED = 'A trained model was applied: {name}.'
RULE = 'the voxels of the model'


def publishing(
    memory: Callable[[DataSize], float],
) -> Callable[[Callable[P, Mapping[str, Any]]], Step[P]]:
    """Make a function the last step of a system, which writes its derivatives in every call.

    Parameters
    ----------
    memory
        GB from the size of the data.
    """
    return step('outputs', seconds=2, makes=('results',), settings=ALL, always=True, memory=memory)


@dataclass(frozen=True)
class Publisher:
    """Where the products of a participant go, and the record for the report.

    Parameters
    ----------
    participant, call, config
        Whose products, of which call of the program, made with which settings.
    writer
        Writes products under their names.
    """

    participant: ParticipantInput
    call: Call
    config: Config
    writer: ProductWriter

    @classmethod
    def of(cls, participant: ParticipantInput, call: Call, config: Config) -> Publisher:
        """Return the publisher of products over all runs of a participant.

        Parameters
        ----------
        participant
            Whose data.
        call
            Folders, notes and id of the call.
        config
            The settings.
        """
        writer = ProductWriter.for_participant(participant, call.output_dir)
        return cls(participant, call, config, writer)

    @property
    def log(self) -> Path:
        """The folder of what is kept for the report."""
        return self.call.output_dir / f'sub-{self.participant.label}' / 'log'

    @property
    def settings_file(self) -> Path:
        """The settings of this call."""
        return self.log / self.call.run_id / 'config.toml'

    def keep(self, source: Path, name: str) -> Path:
        """Keep a file that the report shows beside the record of the results.

        Parameters
        ----------
        source
            The file.
        name
            Of the file.
        """
        stem = f'sub-{self.participant.label}_task-{self.participant.task}'
        target = self.log / f'{stem}_{name}{source.suffix}'
        copy_file(source, target)
        return target

    def chosen(self, selected: Path, name: str, voxels: VoxelResults) -> Path:
        """Write the voxels that the final model reads.

        Parameters
        ----------
        selected
            Their map.
        name
            Of the rule that chose them.
        voxels
            What is said of it.
        """
        about = f'Chosen on all trials: {voxels.rule}'
        return self.writer.image('reliable', selected, more={'desc': name}, Description=about)

    def null(self, source: Path, facts: ModelFacts) -> NullResults | None:
        """Keep what permutations scored; return what the report says of it.

        Parameters
        ----------
        source
            Scores of permutations.
        facts
            Which score of the labels as they are it stands beside; without one nothing is kept.
        """
        if facts.observed is None:
            return None
        return NullResults(self.keep(source, 'null'), facts.observed, facts.null_metric)

    def confusion(self, source: Path, labels: Sequence[str]) -> ConfusionResults | None:
        """Keep counts of true and identified stimuli; return what the report says of them.

        There are none of very many stimuli.

        Parameters
        ----------
        source
            Counts, (n_labels, n_labels).
        labels
            Of the stimuli.
        """
        return ConfusionResults(self.keep(source, 'confusion'), tuple(labels)) if labels else None

    def record(
        self, system: str, *, n_trials: Mapping[Any, int], plan: Plan | None = None, **more: Any
    ) -> ParticipantResults:
        """Return the record for the report; the settings of the call are written beside it.

        Parameters
        ----------
        system
            Which of the systems.
        n_trials
            How many trials (films) each run has, by its number.
        plan
            What is held out; None where a trained model is applied.
        **more
            Further fields; notes, warnings and leaks are added to those of the call and the plan.
        """
        from bids_neurodecode.report import results as r

        write_text(self.settings_file, self.config.to_toml(self.settings_file.parent))
        participant, call, space = self.participant, self.call, self.writer.space
        notes, leaks = list(call.notes), list[str]()
        if plan is not None:
            notes.append(sentence(plan.why))
            leaks += plan.leaks
            more['split'] = split_results(plan)
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=call.run_id,
            system=system,
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=name_of(call.bids_dir),
            runs=run_results(participant, n_trials),
            derivatives=call.derivatives,
            notes=tuple(call.relative(line) for line in (*notes, *more.pop('notes', ()))),
            warnings=tuple(call.relative(line) for line in (*leaks, *more.pop('warnings', ()))),
            leaks=(*leaks, *more.pop('leaks', ())),
            space=space,
            resolution=resolution_of(participant),
            in_mni=self.writer.in_mni,
            features=dict(participant.features),
            config=self.settings_file,
            versions=software_versions(),
            **more,
        )

    def finish(self, record: ParticipantResults) -> dict[str, Path]:
        """Write the record and remove what an earlier run left; return the product."""
        participant = self.participant
        target = results_path(self.call.output_dir, participant.label, participant.task)
        write_text(target, record.to_json(target.parent))
        self.writer.finish()
        return {'results': target}


@dataclass(frozen=True, kw_only=True)
class Outputs(Inputs):
    """What every step takes that writes the derivatives of a trained system.

    Parameters
    ----------
    participant, config, call
        Whose data; the settings; folders, notes and id of the call.
    plan
        Trials or samples, and what of them is held out.
    mask
        Voxels of the analysis.
    mean_bold, tsnr
        Maps of the mean series and of the temporal signal-to-noise ratio.
    folder
        Of the node, for what is written on the way.
    atlas_labels, atlas_table, parcels
        Labels and table of the parcellation; mean series, one file per run. None without an atlas.
    """

    participant: ParticipantInput
    config: Config
    call: Call
    plan: Plan
    mask: VoxelMask
    mean_bold: Path
    tsnr: Path
    folder: Path
    atlas_labels: Path | None = None
    atlas_table: Path | None = None
    parcels: list[Path] | None = None

    @cached_property
    def publisher(self) -> Publisher:
        """Where products go."""
        return Publisher.of(self.participant, self.call, self.config)

    def publish_atlas(self) -> dict[str, Path]:
        """Write the parcellation and what its parcels measured; return its map by name."""
        if self.atlas_labels is None or self.atlas_table is None:
            return {}
        writer, atlas = self.publisher.writer, (self.atlas_labels, self.atlas_table)
        labels = write_atlas(writer, self.config, *atlas)
        if self.parcels is not None:
            write_parcels(writer, self.participant, self.config, self.parcels)
        return {'dseg': labels}


@dataclass(frozen=True, kw_only=True)
class Measured(Outputs):
    """What they take in addition where the system starts from single-trial betas.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels), percent signal change.
    beta_maps, beta_info
        Maps that came of estimating them, and how they were estimated.
    reliability_maps
        Maps over repeats; none without.
    """

    betas: Float32Array
    beta_maps: list[Path]
    beta_info: BetaFacts
    reliability_maps: list[Path]

    def publish(self) -> dict[str, Path]:
        """Write betas, their maps and the parcellation; return the maps by name.

        In NSD's own layout betas were read in place, without series: they are not written.
        """
        writer = self.publisher.writer
        maps: dict[str, Path] = {}
        if self.participant.has_series:
            self._publish_betas(writer)
            maps |= publish_tsnr(writer, self.tsnr)
        for file in (*self.beta_maps, *self.reliability_maps):
            name = file.name.removesuffix('.nii.gz')
            maps[name] = writer.image(name, file)
        return maps | self.publish_atlas()

    def record(self, system: str, **more: Any) -> ParticipantResults:
        """Return the record for the report, with what is said of betas and trials.

        Parameters
        ----------
        system
            Which of the systems.
        **more
            Further fields.
        """
        more.setdefault('plan', self.plan)
        return self.publisher.record(
            system,
            n_trials=self.plan.table['run'].value_counts().to_dict(),
            betas=self.beta_info.results,
            mean_bold=self.publisher.writer.image('meanbold', self.mean_bold),
            **more,
        )

    def _publish_betas(self, writer: ProductWriter) -> None:
        results, more = self.beta_info.results, dict[str, Any]()
        scratch = self.folder / ('betas.nii.gz' if self.mask.space is None else 'betas.values')
        source = betas_image(self.mask, self.betas, scratch)
        if scores := results.model_scores:
            more = {
                'ModelOfFolds': results.fold_models,
                'ModelChoice': 'Share of pairs identified in runs held out within training '
                'trials, of all trials and then of those of each fold, by model',
                'ModelScores': {model: [each[model] for each in scores] for model in scores[0]},
            }
        writer.image('betas', source, Model=results.model, Units=self.beta_info.units, **more)
        scratch.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Applied(Inputs):
    """What every step takes that writes what a trained model says of new data.

    Parameters
    ----------
    participant, config, call
        Whose data; the settings; folders, notes and id of the call.
    model
        File of the trained model.
    mean_bold, tsnr
        Maps of the mean series and of the temporal signal-to-noise ratio; None without BOLD.
    """

    participant: ParticipantInput
    config: Config
    call: Call
    model: str
    mean_bold: Path | None = None
    tsnr: Path | None = None

    def publisher(self, writer: ProductWriter) -> Publisher:
        """Return where products go, whose names a writer knows."""
        return Publisher(self.participant, self.call, self.config, writer)

    def maps(self, writer: ProductWriter) -> dict[str, Path]:
        """Write the map of the signal-to-noise ratio; in NSD's own layout there are no series."""
        if self.tsnr is None or not self.participant.has_series:
            return {}
        return publish_tsnr(writer, self.tsnr)

    def finish(self, publisher: Publisher, system: str, **more: Any) -> dict[str, Path]:
        """Write the record for the report; return the product.

        Parameters
        ----------
        publisher
            Of the participant's products.
        system
            Which of the systems.
        **more
            Further fields of the record.
        """
        mean = self.mean_bold
        record = publisher.record(
            system,
            mean_bold=None if mean is None else publisher.writer.image('meanbold', mean),
            stimuli_dir=self.participant.stimuli_dir,
            **more,
        )
        return publisher.finish(record)


def publish_tsnr(writer: ProductWriter, tsnr: Path) -> dict[str, Path]:
    """Write the map of the signal-to-noise ratio, if series have a mean; return it by name.

    Where most voxels vary more than their mean, series were centred (z-scored, for example), and
    the ratio says nothing.

    Parameters
    ----------
    writer
        Of the participant's products.
    tsnr
        The map.
    """
    values = np.abs(np.asarray(load_image(tsnr).dataobj))
    values = values[np.isfinite(values) & (values > 0)]
    if values.size and np.median(values) < 1:
        return {}
    return {'tsnr': writer.image('tsnr', tsnr)}


def betas_image(mask: VoxelMask, betas: np.ndarray[Any, Any], file: Path) -> Any:
    """Return what betas, (n_trials, n_voxels), are written from, held some at a time.

    Parameters
    ----------
    mask, betas
        The columns, and their values.
    file
        Of volumes it is the image itself, which is returned. Of a space an image is mapped to
        it: the values of a column lie side by side there, as in CIFTI.
    """
    if mask.space is None:
        return save_map(file, mask, betas)
    shape = (mask.space.n_columns, 1, 1, len(betas))
    values = np.memmap(file, np.float32, 'w+', shape=shape)
    inside = np.flatnonzero(mask.mask)
    for start in range(0, len(inside), COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        values[inside[part], 0, 0] = betas[:, part].T
    return mask.space.image(values)


def trial_columns(trials: Any) -> dict[str, Any]:
    """Return the descriptions of the columns that a table of trials has."""
    named = {*trials.columns, 'stim_file'}
    return {name: text for name, text in column_texts('trials').items() if name in named}


def publish_trials(writer: ProductWriter, trials: pd.DataFrame, paradigm: str = 'images') -> Path:
    """Write the table of the trials of the betas; conditions are no stimulus files.

    Parameters
    ----------
    writer
        Of the participant's products.
    trials
        One row per trial.
    paradigm
        ``images`` or ``conditions``.
    """
    if paradigm == 'conditions':
        shown = trials.assign(trial_type=trials['stimulus']).drop(columns='stimulus')
    else:
        shown = trials.assign(stim_file=trials['stimulus'])
    return writer.table('betas_events', shown, columns=trial_columns(shown))


def publish_samples(
    writer: ProductWriter, predictions: pd.DataFrame, trials: pd.DataFrame, desc: str
) -> Path:
    """Write the table of held-out samples, each with its trial.

    Parameters
    ----------
    writer
        Of the participant's products.
    predictions
        One row per held-out sample.
    trials
        One row per trial.
    desc
        Label of the model in file names.
    """
    table = with_trials(predictions, trials)
    return writer.table('predictions', table, columns='predictions', more={'desc': desc})


def with_model(config: Config, model: str) -> Config:
    """Return the settings with the model of the betas that ``auto`` came to.

    Parameters
    ----------
    config
        The settings.
    model
        B, C or D; another: not known.
    """
    if model not in {'B', 'C', 'D'}:
        return config
    return config.model_copy(update={'betas': config.betas.model_copy(update={'model': model})})


def sentence(text: str) -> str:
    """Start with a capital, end with a stop."""
    return f'{text[:1].upper()}{text[1:].rstrip(".")}.'


def run_results(participant: ParticipantInput, n_trials: Mapping[Any, int]) -> tuple[Any, ...]:
    """Return the runs as the report lists them.

    Parameters
    ----------
    participant
        Whose data.
    n_trials
        Trials of each run, by its label or number.
    """
    return tuple(
        RunResults(
            label=run.label,
            n_volumes=run.n_volumes,
            repetition_time=run.repetition_time,
            bold=run.bold,
            mask=run.mask,
            events=run.events,
            confounds=run.confounds,
            n_trials=n_trials.get(number, 0),
            n_confounds=n_columns(run.confounds),
        )
        for number, run in enumerate(participant.runs)
    )


def n_columns(file: Path | None) -> int:
    """Return how many columns a table has; none without a table."""
    if file is None:
        return 0
    with file.open(encoding='utf-8-sig') as lines:
        return len(lines.readline().rstrip('\r\n').split('\t'))


def resolution_of(participant: ParticipantInput) -> str:
    """Return the size of the voxels, or the label of the density of a surface.

    Parameters
    ----------
    participant
        Whose data; without series nothing is known.
    """
    run = next(iter(participant.runs), None)
    if run is None or not participant.has_series or run.parcellation:
        return ''
    if form_of(run.bold) is not None:
        return f'density {run.density}' if run.density else ''
    image: Any = nib.load(run.bold)
    sizes = image.header.get_zooms()[:3]
    return f'{" x ".join(f"{size:.3g}" for size in sizes)} mm'


def split_results(plan: Plan) -> Any:
    """Return what the report says of what is held out."""
    split, table = plan.split, plan.split.table
    units = table[split.by].to_numpy() if split.by in table else np.empty(0)
    return SplitResults(
        split.by,
        split.protocol,
        len(split),
        split.repeats_cross,
        plan.why,
        len(table),
        tuple(len(fold.test) for fold in split),
        len(set(units)),
        tuple(len(set(units[fold.test])) for fold in split) if units.size else (),
        None
        if 'run' not in table
        else any(
            not set(table['run'].iloc[fold.train]).isdisjoint(table['run'].iloc[fold.test])
            for fold in split
        ),
    )


def voxel_results(
    mask: VoxelMask, final: VoxelSelection, of_folds: Sequence[VoxelSelection]
) -> VoxelResults:
    """Return what the report says of the voxels: of the final model, and of the scores.

    Parameters
    ----------
    mask
        Voxels of the analysis.
    final, of_folds
        Those of the final model, and of each fold.
    """
    from bids_neurodecode.systems.voxels import rules_of

    scored = tuple(selection.n_kept for selection in of_folds)
    return VoxelResults(mask.n_voxels, final.n_kept, rules_of([final, *of_folds]), scored)


def atlas_entities(config: Config) -> dict[str, str]:
    """Return the entities that name an atlas, from its TemplateFlow name or its file.

    Examples
    --------
    >>> from bids_neurodecode.config import build_config
    >>> name = 'Schaefer2018_desc-100Parcels7Networks'
    >>> atlas_entities(build_config({'atlas': {'name': name}}))
    {'atlas': 'Schaefer2018', 'seg': '100Parcels7Networks'}
    """
    if config.atlas.rois:
        return {'atlas': 'rois'}
    name = config.atlas.name or str(config.atlas.file and config.atlas.file.name)
    parts = dict(p.split('-', 1) for p in name.split('.')[0].split('_') if '-' in p)
    label = parts.get('atlas', name.split('_')[0].split('.')[0])
    # a name of other letters leaves nothing, and gets a label all the same
    entities = {'atlas': told_apart({name: clean_label(label)})[name]}
    segmentation = clean_label(parts.get('seg', parts.get('desc', '')))
    if segmentation:
        entities['seg'] = segmentation
    if clean_label(parts.get('scale', '')):
        entities['scale'] = clean_label(parts['scale'])
    return entities


def write_atlas(writer: ProductWriter, config: Config, labels: Path, table: Path) -> Path:
    """Write the parcellation on the grid of the data, and its table.

    Parameters
    ----------
    writer
        Of the participant's products.
    config
        The settings.
    labels
        Parcellation on the grid of the data.
    table
        Of the atlas: ``index`` and ``name``.
    """
    entities = atlas_entities(config)
    writer.copy('dseg_table', table, **entities)
    if writer.form == 'gifti':  # the labels' own sidecars are of one hemisphere each
        fields = sidecar(sources=writer.sources, **writer.place)
        write_json(writer.path('dseg_table', extension='.json', **entities), fields)
    if writer.form == 'parcels':  # whose labels would else have the name of the table
        entities['desc'] = 'labels'
    return writer.image('dseg', labels, more=entities)


def write_parcels(
    writer: ProductWriter, participant: ParticipantInput, config: Config, files: Sequence[Path]
) -> None:
    """Write the parcel means of each run as TSV with their sampling in a sidecar.

    Parameters
    ----------
    writer
        Of the participant's products.
    participant
        Whose data.
    config
        The settings.
    files
        Tables of parcel means, one per run.
    """
    entities = atlas_entities(config)
    if not participant.has_series:
        return
    for run, file in zip(participant.runs, files, strict=True):
        of_run = writer.for_run(run.entities, run.sources)
        of_run.copy('timeseries', file, **entities)
        fields = sidecar(
            sources=run.sources,
            fixed=PRODUCTS['timeseries'].sidecar,
            **writer.place,
            RepetitionTime=run.repetition_time,
            SamplingFrequency=1 / run.repetition_time,
            Scaling=config.clean.scaling,
            Units=UNITS[config.clean.scaling],
        )
        write_json(of_run.path('timeseries', extension='.json', **entities), fields)
