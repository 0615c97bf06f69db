"""Thin interfaces of the picture paradigm: load, call one function, save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.trials import (
    median_duration,
    precomputed_trials,
    stimulus_duration,
    trials_table,
    unequal_durations,
)
from bids_neurodecode.config import (
    AtlasSettings,
    Config,
    FeatureSettings,
    SplitSettings,
)
from bids_neurodecode.samples import Responses, Samples, Split, VoxelMask
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.workflow.files import (
    common_mask,
    content_of,
    load_volumes,
    read_json,
    read_split,
    read_table,
    save_json,
    save_labels,
    save_map,
    save_plan,
)
from bids_neurodecode.workflow.seen import RUNS, runs_of
from bids_neurodecode.workflow.stage import Stage


class PlanTrialsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    split = traits.Str(mandatory=True, desc='settings of the split, as JSON')
    seed = traits.Int(mandatory=True)
    hold_out = traits.Bool(True, usedefault=True, desc='false where a trained model is applied')
    repeats = traits.Enum('single', 'mean', usedefault=True, desc='of precomputed betas')
    features = InputMultiPath(File(exists=True), desc='feature spaces, where clusters are split')


class PlanTrialsOutput(TraitedSpec):
    trials = File(exists=True, desc='one row a trial')
    parts = File(exists=True, desc='the part of each trial in each fold')
    plan = File(exists=True, desc='the split in words')


class PlanTrials(Stage):
    """Events to trials, and what is held out: decided before any response is looked at."""

    input_spec = PlanTrialsInput
    output_spec = PlanTrialsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.bids.splitfile import add_parts
        from bids_neurodecode.systems.protocol import (
            choose_condition_split,
            choose_split,
            cluster_stimuli,
            copies_note,
            with_content,
        )

        participant = ParticipantInput.from_json(self.inputs.participant)
        settings = SplitSettings.model_validate_json(self.inputs.split)
        duration = None
        if participant.betas_events is not None:
            table = precomputed_trials(
                participant.betas_events,
                self.inputs.repeats,
                settings,
                conditions=participant.paradigm == 'conditions',
            )
        else:
            table = trials_table(participant.runs)
            if participant.paradigm == 'conditions':
                duration = median_duration(table)
            else:
                duration = stimulus_duration(table, participant.runs[0].events)
        if not self.inputs.hold_out:
            table = with_content(table, content_of(participant))
            split, why = Split('stimulus', (), table), 'nothing is held out: nothing is trained'
            return save_plan(folder, split, why, stimulus_duration=duration)
        table = add_parts(table, settings.file, settings.name)
        if participant.paradigm == 'conditions':
            split, why = choose_condition_split(table, settings)
            why += unequal_durations(table)
            return save_plan(folder, split, why, stimulus_duration=duration)
        table = with_content(table, content_of(participant))
        if settings.by == 'cluster':
            features = [np.load(file) for file in self.inputs.features]
            clusters = (settings.n_clusters, self.inputs.seed)
            table = cluster_stimuli(table, participant.stimuli, features, *clusters)
        split, why = choose_split(table, settings, self.inputs.seed)
        return save_plan(folder, split, why, copies_note(split), stimulus_duration=duration)


class QualityInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')


class QualityOutput(TraitedSpec):
    mask = File(exists=True, desc='voxels that all runs share; beside it, what runs are known by')
    mean_bold = File(exists=True)
    tsnr = File(exists=True, desc='mean over runs')
    tsnr_runs = File(exists=True, desc='.npy, runs x voxels')


class Quality(Stage):
    """The common mask, the mean volume, and the temporal signal-to-noise ratio of each run."""

    input_spec = QualityInput
    output_spec = QualityOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.signals.fingerprints import fingerprint
        from bids_neurodecode.signals.reliability import tsnr

        participant = ParticipantInput.from_json(self.inputs.participant)
        runs = participant.runs
        mask = common_mask(runs)
        if not participant.has_series:
            from bids_neurodecode.workflow.precomputed import quality_without_series

            return quality_without_series(participant, mask, folder)
        ratios = np.empty((len(runs), mask.n_voxels), dtype=np.float32)
        total = np.zeros(mask.n_voxels)
        marks: dict[str, str] = {}
        for number, run in enumerate(runs):
            volumes = load_volumes(run)
            marks[run.label] = fingerprint(volumes.reshape(-1, volumes.shape[-1]))
            series = np.ascontiguousarray(mask.extract(volumes))
            ratios[number] = tsnr(series)
            total += series.sum(axis=0, dtype=np.float64)
        mask.save(folder / 'mask.nii.gz')
        save_json(folder / RUNS, {label: mark for label, mark in marks.items() if mark})
        np.save(folder / 'tsnr_runs.npy', ratios)
        mean = total / sum(run.n_volumes for run in runs)
        return {
            'mask': folder / 'mask.nii.gz',
            'mean_bold': save_map(folder / 'mean_bold.nii.gz', mask, mean),
            'tsnr': save_map(folder / 'tsnr.nii.gz', mask, ratios.mean(axis=0)),
            'tsnr_runs': folder / 'tsnr_runs.npy',
        }


class EstimateBetasInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of the betas and the cleaning, as JSON')
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)


class EstimateBetasOutput(TraitedSpec):
    betas = File(exists=True, desc='.npy, trials x voxels, percent signal change')
    tuned = OutputMultiPath(File(exists=True), desc='the same for each fold')
    maps = OutputMultiPath(File(exists=True), desc='NIfTI maps of the model')
    info = File(exists=True, desc='what was chosen')


class EstimateBetas(Stage):
    """Single-trial betas, tuned for each fold on its training trials."""

    input_spec = EstimateBetasInput
    output_spec = EstimateBetasOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.workflow.betas import estimate

        mask = VoxelMask.load(Path(self.inputs.mask))
        table = read_table(Path(self.inputs.trials))
        split = read_split(Path(self.inputs.parts), Path(self.inputs.plan), table)
        return estimate(
            ParticipantInput.from_json(self.inputs.participant),
            Config.model_validate_json(self.inputs.settings),
            mask,
            table,
            split,
            duration=read_json(Path(self.inputs.plan))['stimulus_duration'],
            folder=folder,
        )


class ReliabilityInput(BaseInterfaceInputSpec):
    betas = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)


class ReliabilityOutput(TraitedSpec):
    maps = OutputMultiPath(File(exists=True), desc='ncsnr and noise ceiling; none without repeats')


class Reliability(Stage):
    """Maps of reliability over all trials: to look at, never to select voxels by."""

    input_spec = ReliabilityInput
    output_spec = ReliabilityOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.signals.reliability import ncsnr, noise_ceiling

        table = read_table(Path(self.inputs.trials))
        counts = table['stimulus'].value_counts().to_numpy()
        if counts.max() < 2:
            return {'maps': []}
        mask = VoxelMask.load(Path(self.inputs.mask))
        betas = np.load(self.inputs.betas, mmap_mode='r')
        ratio = ncsnr(betas, table['stimulus'].to_numpy())
        ceiling = noise_ceiling(ratio, counts)
        return {
            'maps': [
                save_map(folder / 'ncsnr.nii.gz', mask, ratio),
                save_map(folder / 'noiseceiling.nii.gz', mask, ceiling),
            ]
        }


class PlaceAtlasInput(BaseInterfaceInputSpec):
    settings = traits.Str(mandatory=True, desc='settings of the atlas, as JSON')
    mask = File(exists=True, mandatory=True)
    space = traits.Str('', usedefault=True)


class PlaceAtlasOutput(TraitedSpec):
    labels = File(exists=True, desc='the parcellation on the grid of the data')
    table = File(exists=True, desc='index and name of each parcel')
    within = File(exists=True, desc='.npy, which voxels lie in the chosen regions')


class PlaceAtlas(Stage):
    """A parcellation on the grid of the data, and the voxels of the chosen regions."""

    input_spec = PlaceAtlasInput
    output_spec = PlaceAtlasOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.bids.sink import write_tsv
        from bids_neurodecode.signals.atlas import region_mask
        from bids_neurodecode.signals.atlasfiles import load_atlas

        settings = AtlasSettings.model_validate_json(self.inputs.settings)
        mask = VoxelMask.load(Path(self.inputs.mask))
        atlas = load_atlas(
            name=settings.name,
            file=settings.file,
            table=settings.table,
            space=self.inputs.space or None,
            columns=mask.space,
        )
        labels = atlas.placed(mask.mask.shape, mask.affine, mask.space)
        within = np.ones(mask.n_voxels, dtype=bool)
        if settings.regions:
            within = mask.extract(region_mask(labels, atlas.table, settings.regions))
        np.save(folder / 'within.npy', within)
        write_tsv(folder / 'atlas.tsv', atlas.table)
        return {
            'labels': save_labels(folder / 'atlas.nii.gz', labels, mask),
            'table': folder / 'atlas.tsv',
            'within': folder / 'within.npy',
        }


class ExtractFeaturesInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of the features, as JSON')
    cache = Directory(mandatory=True, desc='where features are kept by content')


class ExtractFeaturesOutput(TraitedSpec):
    features = File(exists=True, desc='.npy, stimuli x features, stimuli in order of their names')


class ExtractFeatures(Stage):
    """Pictures to features, each picture once however many participants saw it."""

    input_spec = ExtractFeaturesInput
    output_spec = ExtractFeaturesOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.stimuli.features import extract_features, get_extractor
        from bids_neurodecode.stimuli.images import load_images
        from bids_neurodecode.workflow.own_features import picture_table

        participant = ParticipantInput.from_json(self.inputs.participant)
        settings = FeatureSettings.model_validate_json(self.inputs.settings)
        if settings.extractor == TABLE:
            own = picture_table(participant, settings).of_stimuli(
                participant.stimuli, settings.bands
            )
            np.save(folder / 'features.npy', np.concatenate([*own.values()], axis=1))
            return {'features': folder / 'features.npy'}
        files = [participant.stimuli_dir / name for name in participant.stimuli]
        features = extract_features(
            load_images(files, size=settings.image_size),
            get_extractor(settings.extractor),
            cache_dir=Path(self.inputs.cache),
        )
        np.save(folder / 'features.npy', features)
        return {'features': folder / 'features.npy'}


class DecodeInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    betas = File(exists=True, mandatory=True)
    tuned = InputMultiPath(File(exists=True), mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)
    tsnr_runs = File(exists=True, mandatory=True)
    within = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class DecodeOutput(TraitedSpec):
    metrics = File(exists=True)
    predictions = File(exists=True)
    null = File(exists=True)
    confusion = File(exists=True)
    selected = File(exists=True, desc='mask of the voxels that the final model uses')
    model = File(exists=True)
    info = File(exists=True)


class Decode(Stage):
    """Fit and judge the decoder fold by fold, then fit it once on everything."""

    input_spec = DecodeInput
    output_spec = DecodeOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.workflow.decoding import decode

        inputs = self.inputs
        mask = VoxelMask.load(Path(inputs.mask))
        table = read_table(Path(inputs.trials))
        samples = [
            Samples(Responses(np.load(file, mmap_mode='r'), mask), table)
            for file in [inputs.betas, *inputs.tuned]
        ]
        participant = ParticipantInput.from_json(inputs.participant)
        return decode(
            participant,
            Config.model_validate_json(inputs.settings),
            samples[0],
            samples[1:],
            read_split(Path(inputs.parts), Path(inputs.plan), table),
            features=np.load(inputs.features),
            tsnr_runs=np.load(inputs.tsnr_runs),
            within=np.load(inputs.within) if isdefined(inputs.within) else None,
            runs=runs_of(inputs.mask, participant, inputs.betas, table),
            device=inputs.device,
            folder=folder,
        )


__all__ = [
    'Decode',
    'EstimateBetas',
    'ExtractFeatures',
    'PlaceAtlas',
    'PlanTrials',
    'Quality',
    'Reliability',
]
