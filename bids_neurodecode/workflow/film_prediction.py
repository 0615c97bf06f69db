"""Predict mode of films: BOLD of new films, films of new BOLD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
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
from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.config import Config, FeatureSettings
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings_encoding import TABLE
from bids_neurodecode.workflow.files import read_table, save_json, save_map
from bids_neurodecode.workflow.film_interfaces import AlignFilms
from bids_neurodecode.workflow.film_model import FilmModels, facts_of, load_models
from bids_neurodecode.workflow.film_network import store_settings
from bids_neurodecode.workflow.film_prediction_outputs import WriteFilmPredictions
from bids_neurodecode.workflow.interfaces import Quality
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.own_features import film_bands, seconds_of
from bids_neurodecode.workflow.prediction import model_columns
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.seen import Seen, compare_runs, in_sample, runs_of
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.evaluation.metrics import Score


class ListShowingsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    features = traits.Str(mandatory=True, desc='settings of the features, as JSON')
    model = File(exists=True, mandatory=True)


class ListShowingsOutput(TraitedSpec):
    trials = File(exists=True, desc='one row a volume of a film')


class ListShowings(Stage):
    """The volumes of each film: of the runs, or of films alone at the model's repetition time."""

    input_spec = ListShowingsInput
    output_spec = ListShowingsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.bids.trials import film_table
        from bids_neurodecode.stimuli.films import probe_film
        from bids_neurodecode.systems.movie_clock import clock_of_films

        participant = ParticipantInput.from_json(self.inputs.participant)
        if participant.runs:
            table = film_table(participant.runs)
        else:
            period = facts_of(Path(self.inputs.model)).repetition_time
            features = FeatureSettings.model_validate_json(self.inputs.features)
            durations = {
                name: seconds_of(participant, name, features, period)
                if name in participant.features
                else probe_film(participant.stimuli_dir / name).duration
                for name in participant.stimuli
            }
            table = clock_of_films(durations, period)
        write_tsv(folder / 'trials.tsv', table)
        return {'trials': folder / 'trials.tsv'}


class ApplyFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    model = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    cache = Directory(mandatory=True, desc='where features are kept by content')
    films = Directory(mandatory=True, desc='where the frames of films are kept')
    mask = File(exists=True)
    responses = File(exists=True)
    aligned = InputMultiPath(File(exists=True))
    valid = File(exists=True)


class ApplyFilmsOutput(TraitedSpec):
    info = File(exists=True, desc='what was made, beside which everything lies')


class ApplyFilms(Stage):
    """Predict responses to films, reconstruct films from responses, judge both, save."""

    input_spec = ApplyFilmsInput
    output_spec = ApplyFilmsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        models = load_models(Path(inputs.model))
        table = read_table(Path(inputs.trials))
        participant = ParticipantInput.from_json(inputs.participant)
        found = Applied(folder, config, models, table, self._measured(table))
        if isdefined(inputs.mask):
            runs = runs_of(inputs.mask, participant)
            found.note(compare_runs(runs, models.facts.description, inputs.model))
        found.linear(participant, Path(inputs.cache))
        found.network(participant.stimuli_dir, Path(inputs.films))
        return {'info': found.save()}

    def _measured(self, table: pd.DataFrame) -> Measured | None:
        """Return the measured responses, where there are any."""
        inputs = self.inputs
        if not isdefined(inputs.responses):
            return None
        mask = VoxelMask.load(Path(inputs.mask))
        valid = np.load(inputs.valid)
        aligned = np.full((len(table), mask.n_voxels), np.nan, dtype=np.float32)
        aligned[valid] = np.concatenate([np.load(file) for file in inputs.aligned])
        both = (np.load(inputs.responses, mmap_mode='r'), aligned)
        samples = tuple(Samples(Responses(values, mask), table) for values in both)
        return Measured(mask, *samples, model=inputs.model)


class Measured:
    """Responses as they are, and with the delay taken out."""

    def __init__(
        self, mask: VoxelMask, responses: Samples, aligned: Samples, *, model: str
    ) -> None:
        self.mask, self.responses, self.aligned, self.model = mask, responses, aligned, model

    def of(self, samples: Samples, voxels: VoxelMask) -> Samples:
        """Return samples of the voxels of a model."""
        columns = model_columns(voxels, self.mask, self.model)
        return samples.voxels(columns)


class Applied:
    """What applying the models gives, saved into a folder as it comes."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        models: FilmModels,
        table: pd.DataFrame,
        measured: Measured | None,
    ) -> None:
        self.folder, self.config, self.models = folder, config, models
        self.table, self.measured = table, measured
        self.period = models.facts.repetition_time
        self.rng = np.random.default_rng(config.seed)
        self.scores: list[Score] = []
        self.info: dict[str, Any] = {
            'warnings': [], 'leaks': [], 'network': False, 'decoder': False, 'judged': [],
            'n_mask': (models.facts if measured is None else measured).mask.n_voxels,
            'n_selected': models.facts.mask.n_voxels, 'period': self.period,
        }  # fmt: skip

    def note(self, seen: Seen) -> None:
        """Keep what of the runs trained the models."""
        self.info['warnings'] += seen.warnings
        self.info['leaks'] += seen.leaks

    def linear(self, participant: ParticipantInput, cache: Path) -> None:
        """Predict with the linear model."""
        from bids_neurodecode.systems.movie_parts import showings_of

        encoder = self.models.encoder
        features: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]] = []
        for film, rows in self.table.groupby('film', sort=False):
            onsets, place = np.unique(rows['onset'].to_numpy(dtype=float), return_inverse=True)
            described = self._describe(participant, str(film), onsets, cache)
            features.append((rows.index.to_numpy(), described[place]))
        order = np.argsort(np.concatenate([rows for rows, _ in features]), kind='stable')
        values = np.concatenate([x for _, x in features])[order]
        predicted = encoder.predict(values, showings_of(self.table))
        self._keep('linear', 'ridge', predicted, self.models.facts.mask, delayed=False)

    def _describe(
        self,
        participant: ParticipantInput,
        film: str,
        onsets: npt.NDArray[np.float64],
        cache: Path,
    ) -> npt.NDArray[np.float32]:
        """Return the features that the model takes of each volume, (n_volumes, n_features)."""
        from bids_neurodecode.stimuli.features import get_extractor
        from bids_neurodecode.stimuli.volumes import volume_features

        says = self.models.facts.description
        if says['extractor'] == TABLE:
            bands = film_bands(participant, self.config.features, {film: onsets}, self.period)
            return np.concatenate([*bands[film].values()], axis=1)
        described = volume_features(
            participant.stimuli_dir / film,
            onsets,
            self.period,
            get_extractor(says['extractor']),
            says['image_size'],
            cache,
        )
        return np.asarray(described.mean(axis=1), dtype=np.float32)

    def network(self, stimuli_dir: Path, films: Path) -> None:
        """Predict with the network, and reconstruct."""
        from bids_neurodecode.systems.movie_applying import NO_DECODER, NO_NETWORK

        network, mask = self.models.network, self.models.network_mask
        if network is None or mask is None:
            if self.measured is not None:
                self.info['warnings'].append(NO_NETWORK)
            return
        mask.save(self.folder / 'network-voxels.nii.gz')
        chunks = self._chunks(stimuli_dir, films)
        self.info['network'] = network.encoder is not None
        if network.encoder is not None:
            self._keep('network', 'network', network.predict(chunks), mask, delayed=True)
        if self.measured is None:
            return
        if network.decoder is None:
            self.info['warnings'].append(NO_DECODER)
            return
        self._reconstruct(chunks, mask)

    def _chunks(self, stimuli_dir: Path, films: Path) -> Any:
        from bids_neurodecode.stimuli.filmstore import FilmChunks, FilmRecipe, build_store

        volumes = np.rint(self.table['onset'].to_numpy(dtype=float) / self.period).astype(np.intp)
        shown = self.table['film'].astype(str).to_numpy()
        names = list(dict.fromkeys(shown))
        settings = store_settings(self.config)
        stores = []
        for name in names:
            recipe = FilmRecipe(int(volumes[shown == name].max()) + 1, self.period, **settings)
            stores.append(build_store(stimuli_dir / name, films, recipe))
        pairs = np.stack([[names.index(name) for name in shown], volumes], axis=1)
        return FilmChunks(stores, pairs, raw=True)

    def _keep(
        self,
        name: str,
        model: str,
        predicted: npt.NDArray[np.float32],
        mask: VoxelMask,
        *,
        delayed: bool,
    ) -> None:
        """Save predictions and, where responses were measured, judge them."""
        from bids_neurodecode.systems.movie_applying import judge_applied
        from bids_neurodecode.systems.movie_setup import SELECTED

        np.save(self.folder / f'{name}.npy', predicted)
        mask.save(self.folder / f'{name}-mask.nii.gz')
        if self.measured is None:
            return
        measured = self.measured.aligned if delayed else self.measured.responses
        fewer = mask.n_voxels < self.models.facts.mask.n_voxels
        judged, notes = judge_applied(
            self.measured.of(measured, mask), predicted, model, self.config, self.period, self.rng,
            space=SELECTED if fewer else 'voxels',
        )  # fmt: skip
        self.info['warnings'] += [x for x in notes if x not in self.info['warnings']]
        if judged is None:
            return
        # the null is that of the last model, which comes first
        others = [score for score in self.scores if not score.model.startswith('baseline')]
        self.scores = [*judged.scores, *others]
        self.info['judged'].append(name)
        self.info |= {'observed': judged.scores[0].value, 'metric': judged.scores[0].metric}
        if judged.null.size:
            np.save(self.folder / 'null.npy', judged.null)
        save_map(self.folder / f'{name}-r.nii.gz', mask, np.nan_to_num(judged.r))

    def _reconstruct(self, chunks: Any, mask: VoxelMask) -> None:
        from bids_neurodecode.systems.movie_applying import reconstruct_applied

        network, mean_frame = self.models.network, self.models.mean_frame
        if network is None or mean_frame is None or self.measured is None:
            return
        aligned = self.measured.of(self.measured.aligned, mask)
        found = reconstruct_applied(
            network, aligned, chunks, mean_frame, self.config, self.period, self.rng
        )
        self.scores += found.scores
        self.info['warnings'] += found.notes
        self.info['decoder'] = True
        np.save(self.folder / 'frames-rows.npy', found.rows)
        np.save(self.folder / 'frames-similarity.npy', found.similarity)
        for name, frames in (('truth', found.truth), ('decoded', found.decoded)):
            pixels = (np.clip(frames, 0, 1) * 255).round().astype(np.uint8)
            np.save(self.folder / f'frames-{name}.npy', pixels)

    def save(self) -> Path:
        """Save scores and facts."""
        from bids_neurodecode.evaluation.metrics import describe, scores_table

        network = self.models.network
        if network is not None:
            from bids_neurodecode.models.movie import n_parameters

            parts = [part for part in (network.encoder, network.decoder) if part is not None]
            self.info |= {
                'parameters': sum(n_parameters(part) for part in parts),
                'mode': network.settings.mode,
                'perceptual': network.settings.perceptual,
                'n_network': network.settings.design.n_voxels,
            }
        self.info['scored'] = bool(self.scores)
        if self.scores:
            scores = in_sample(self.scores) if self.info['leaks'] else self.scores
            write_tsv(self.folder / 'metrics.tsv', scores_table(scores))
            write_json(self.folder / 'metrics.json', describe(scores))
        return save_json(self.folder / 'info.json', self.info)


def connect_film_prediction(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize, model: Path
) -> Any:
    """Add the nodes that apply models of films and connect them; return that of the outputs."""
    config = run.config
    record, everything = participant.to_json(), config.model_dump_json()
    trials = node(
        ListShowings(
            participant=record, features=config.features.model_dump_json(), model=str(model)
        ),
        'plan',
        run,
        size,
    )
    apply = node(
        ApplyFilms(
            participant=record,
            settings=everything,
            model=str(model),
            cache=str(run.work_dir / 'features'),
            films=str(run.work_dir / 'films'),
        ),
        'apply',
        run,
        size,
    )
    outputs = node(
        WriteFilmPredictions(
            participant=record, settings=everything, run=run.record(), model=str(model)
        ),
        'outputs',
        run,
        size,
    )
    workflow.connect(
        [
            (trials, apply, [('trials', 'trials')]),
            (trials, outputs, [('trials', 'trials')]),
            (apply, outputs, [('info', 'info')]),
        ]
    )
    if not participant.runs:
        return outputs
    quality = node(Quality(participant=record), 'quality', run, size)
    align = node(
        AlignFilms(participant=record, settings=settings_of(config, 'clean', 'delay')),
        'align',
        run,
        size,
    )
    workflow.connect(
        [
            (quality, align, [('mask', 'mask')]),
            (trials, align, [('trials', 'trials')]),
            (quality, apply, [('mask', 'mask')]),
            (align, apply, [(name, name) for name in ('responses', 'aligned', 'valid')]),
            (quality, outputs, [('mean_bold', 'mean_bold'), ('tsnr', 'tsnr')]),
        ]
    )
    return outputs


__all__ = ['ApplyFilms', 'ListShowings', 'connect_film_prediction']
