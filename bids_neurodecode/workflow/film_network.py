"""The movie network's part of the graph: film stores, banded ridge, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.workflow.files import (
    fold_voxels,
    read_json,
    read_split,
    read_table,
    save_json,
    save_map,
)
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.process import content_key, train_in_process
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

MODULE = 'bids_neurodecode.workflow.film_training'
WHAT = 'training of the movie network'
REMEDY = 'choose movie.design = "small" or fewer voxels (movie.max_voxels)'


class StoreFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of chunks and frames, as JSON')
    trials = File(exists=True, mandatory=True)
    folder = Directory(mandatory=True, desc='where the frames of films are kept')


class StoreFilmsOutput(TraitedSpec):
    stores = File(exists=True, desc='the store of each film, and notes')
    pairs = File(exists=True, desc='.npy, film and volume of each sample')


class StoreFilms(Stage):
    """Frames of each film as a memory map, made once and used by all participants."""

    input_spec = StoreFilmsInput
    output_spec = StoreFilmsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.stimuli.filmstore import FilmRecipe, build_store

        participant = ParticipantInput.from_json(self.inputs.participant)
        settings = json.loads(self.inputs.settings)
        table = read_table(Path(self.inputs.trials))
        period = participant.runs[0].repetition_time
        volumes = np.rint(table['onset'].to_numpy(dtype=float) / period).astype(np.intp)
        films = table['film'].astype(str).to_numpy()
        names = list(dict.fromkeys(films))
        stores = [
            build_store(
                participant.stimuli_dir / name,
                Path(self.inputs.folder),
                FilmRecipe(int(volumes[films == name].max()) + 1, period, **settings),
            )
            for name in names
        ]
        np.save(folder / 'pairs.npy', np.stack([[names.index(f) for f in films], volumes], axis=1))
        content = {
            'films': names,
            'stores': [str(store.path) for store in stores],
            'notes': [note for store in stores for note in store.notes],
        }
        return {
            'stores': save_json(folder / 'stores.json', content),
            'pairs': folder / 'pairs.npy',
        }


class EncodeBandedInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    responses = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)
    bands = InputMultiPath(File(exists=True), mandatory=True, desc='.npy a feature space')
    ridge = File(exists=True, mandatory=True, desc='.npy, what ridge predicts of held-out samples')
    rows = File(exists=True, mandatory=True, desc='.npy, which samples they are')
    within = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class EncodeBandedOutput(TraitedSpec):
    metrics = File(exists=True)
    by_fold = File(exists=True, desc='map of the correlation of each fold')
    info = File(exists=True)


class EncodeBanded(Stage):
    """Fit and judge banded ridge on the feature spaces of films."""

    input_spec = EncodeBandedInput
    output_spec = EncodeBandedOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.bids.sink import write_tsv
        from bids_neurodecode.evaluation.metrics import scores_table
        from bids_neurodecode.systems.movie_banded import encode_banded
        from bids_neurodecode.systems.movie_comparison import compare_models

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        table = read_table(Path(inputs.trials))
        values = np.load(inputs.responses, mmap_mode='r')
        measured = np.isfinite(values).any(axis=1)
        keep = np.asarray(np.isfinite(values[measured]).all(axis=0))
        split = read_split(Path(inputs.parts), Path(inputs.plan), table)
        chosen = None
        if isdefined(inputs.within):
            inside, chosen = fold_voxels(np.load(inputs.within), len(split))
            keep &= inside
            chosen = chosen[:, keep]
        samples = Samples(Responses(values, VoxelMask.load(Path(inputs.mask))), table).voxels(keep)
        participant = ParticipantInput.from_json(inputs.participant)
        judged, warnings = encode_banded(
            samples,
            split,
            {Path(file).stem: np.load(file) for file in inputs.bands},
            repetition_time=participant.runs[0].repetition_time,
            delays=config.delay.fir_seconds,
            n_components=config.features.n_components,
            ridge=config.ridge,
            evaluation=config.evaluation,
            rng=np.random.default_rng(config.seed),
            device=inputs.device,
            chosen=chosen,
            columns=config.features.extractor == TABLE,
        )
        # the null is that of the main model
        scores = [score for score in judged.scores if not score.model.startswith('baseline')]
        write_tsv(folder / 'metrics.tsv', scores_table(scores))
        compared = compare_models(
            samples,
            split,
            np.load(inputs.rows),
            judged.predictions,
            np.load(inputs.ridge, mmap_mode='r'),
            repetition_time=participant.runs[0].repetition_time,
            confidence=config.evaluation.confidence,
        )
        mask = samples.responses.mask
        info = {'warnings': list(warnings), 'difference': compared._asdict()}
        return {
            'metrics': folder / 'metrics.tsv',
            'by_fold': save_map(folder / 'by_fold.nii.gz', mask, judged.by_fold, fill=np.nan),
            'info': save_json(folder / 'info.json', info),
        }


class TrainNetworkInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    vgg16 = traits.Str('', usedefault=True, desc='file of its weights, where they are used')
    aligned = InputMultiPath(File(exists=True), mandatory=True)
    valid = File(exists=True, mandatory=True)
    responses = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)
    stores = File(exists=True, mandatory=True)
    pairs = File(exists=True, mandatory=True)
    ridge = File(exists=True, mandatory=True, desc='map of the correlation of ridge by fold')
    banded = File(exists=True, desc='the same of banded ridge')
    within = File(exists=True)
    labels = File(exists=True)
    regions = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class TrainNetworkOutput(TraitedSpec):
    result = File(exists=True, desc='what was made, beside which everything lies')


class TrainNetwork(Stage):
    """Train and judge the movie network in a process of its own.

    Checkpoints lie beside the node's folder under a key of all that the training depends on, so
    that a killed run goes on from them, whatever killed it.
    """

    input_spec = TrainNetworkInput
    output_spec = TrainNetworkOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        job = self._job()
        result = train_in_process(
            folder, job, job_key(job), module=MODULE, what=WHAT, remedy=REMEDY
        )
        return {'result': result}

    def _job(self) -> dict[str, Any]:
        inputs = self.inputs
        plain = ('participant', 'settings', 'vgg16', 'device')
        files = ('valid', 'responses', 'mask', 'trials', 'parts', 'plan', 'features', 'pairs')
        optional = ('within', 'labels', 'regions')
        rivals = {'ridge': inputs.ridge, 'banded-ridge': inputs.banded}
        return {
            **{name: getattr(inputs, name) for name in (*plain, *files)},
            **{name: _given(getattr(inputs, name)) for name in optional},
            'aligned': list(inputs.aligned),
            'stores': read_json(Path(inputs.stores))['stores'],
            'rivals': {name: file for name, file in rivals.items() if isdefined(file)},
        }


def job_key(job: dict[str, Any]) -> str:
    """Return a hash of what a training depends on: settings, and the content of its files."""
    config = Config.model_validate_json(job['settings'])
    used = ('movie', 'delay', 'split', 'features', 'ridge', 'seed')
    words = [str(getattr(config, name)) for name in used]
    words += [job['device'], job['vgg16'], *(Path(file).name for file in job['stores'])]
    names = ('valid', 'responses', 'trials', 'parts', 'features', 'pairs', 'within')
    return content_key(words, [*job['aligned'], *(job[name] for name in names if job[name])])


def connect_network(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    nodes: dict[str, Any],
) -> None:
    """Add banded ridge and the network, where the settings ask for them, and connect them.

    Parameters
    ----------
    nodes
        ``plan``, ``quality``, ``align``, ``features``, ``encode`` and ``outputs``; with
        ``compare``, that one says which voxels are used.
    """
    record, config = participant.to_json(), run.config
    common: dict[str, Any] = {
        'participant': record,
        'settings': config.model_dump_json(),
        'device': run.device,
        'use_gpu': run.device == 'cuda',
    }
    banded = network = None
    if config.movie.with_banded:
        linear = settings_of(config, 'delay', 'features', 'ridge', 'evaluation', 'seed')
        interface = EncodeBanded(**{**common, 'settings': linear})
        banded = node(interface, 'banded', run, size, threads=2)
        _feed(workflow, nodes, banded)
        workflow.connect(nodes['features'], 'bands', banded, 'bands')
        ridge = [('predictions', 'ridge'), ('rows', 'rows')]
        workflow.connect([(nodes['encode'], banded, ridge)])
        both = [('metrics', 'banded_metrics'), ('info', 'banded_info')]
        workflow.connect([(banded, nodes['outputs'], both)])
    if config.movie.model == 'network':
        network = _network_node(common, run, size)
        store = node(
            StoreFilms(
                participant=record,
                settings=json.dumps(store_settings(config)),
                folder=str(run.work_dir / 'films'),
            ),
            'filmstore',
            run,
            size,
        )
        _feed(workflow, nodes, network)
        workflow.connect(
            [
                (nodes['plan'], store, [('trials', 'trials')]),
                (store, network, [('stores', 'stores'), ('pairs', 'pairs')]),
                (nodes['align'], network, [('aligned', 'aligned'), ('valid', 'valid')]),
                (nodes['encode'], network, [('by_fold', 'ridge')]),
                (network, nodes['outputs'], [('result', 'network')]),
                (store, nodes['outputs'], [('stores', 'film_stores')]),
            ]
        )
        if banded is not None:
            workflow.connect(banded, 'by_fold', network, 'banded')
    atlas = workflow.get_node('atlas')
    chooser = nodes.get('compare', atlas)
    if chooser is not None:
        for user in (x for x in (banded, network) if x is not None):
            workflow.connect(chooser, 'within', user, 'within')
    if atlas is not None and network is not None:
        workflow.connect([(atlas, network, [('labels', 'labels'), ('table', 'regions')])])


def _network_node(common: dict[str, Any], run: RunSettings, size: DataSize) -> Any:
    from bids_neurodecode.models.weights import weights_path

    movie = run.config.movie
    vgg16 = ''
    if movie.perceptual == 'vgg16' and movie.mode != 'encoder':
        vgg16 = str(weights_path('vgg16', run.weights_dir))
    return node(TrainNetwork(**common, vgg16=vgg16), 'network', run, size, threads=4)


def store_settings(config: Config) -> dict[str, Any]:
    """Return what of the settings a film store depends on, by the names of its recipe."""
    movie = config.movie
    return {
        'chunk': movie.sizes['chunk'],
        'size': movie.sizes['frame_size'],
        'timing': movie.timing,
        'borders': movie.borders,
    }


def _feed(workflow: Any, nodes: dict[str, Any], user: Any) -> None:
    """Connect what every model of films needs."""
    planned = [(name, name) for name in ('trials', 'parts', 'plan')]
    workflow.connect(
        [
            (nodes['plan'], user, planned),
            (nodes['quality'], user, [('mask', 'mask')]),
            (nodes['align'], user, [('responses', 'responses')]),
            (nodes['features'], user, [('features', 'features')]),
        ]
    )


def _given(value: Any) -> str:
    return str(value) if isdefined(value) else ''


__all__ = ['EncodeBanded', 'StoreFilms', 'TrainNetwork', 'connect_network', 'job_key']
