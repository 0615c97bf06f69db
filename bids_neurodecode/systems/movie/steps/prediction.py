"""Predict mode of films: BOLD of new films, films of new BOLD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.trials import film_table
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.report.results import VoxelResults
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.systems.movie.applying import (
    NO_DECODER,
    NO_NETWORK,
    PROTOCOL,
    judge_applied,
    reconstruct_applied,
)
from bids_neurodecode.systems.movie.judging import FilmScorer
from bids_neurodecode.systems.movie.steps.model import FilmModels, facts_of, load_models
from bids_neurodecode.systems.movie.steps.network import stores_of
from bids_neurodecode.systems.movie.steps.network_outputs import NetworkAbout
from bids_neurodecode.systems.movie.steps.prediction_outputs import (
    AppliedFacts,
    publish_film_predictions,
)
from bids_neurodecode.systems.movie.steps.totals import volumes_of
from bids_neurodecode.systems.movie.steps.training import align_films
from bids_neurodecode.systems.steps.own_features import film_bands, seconds_of
from bids_neurodecode.systems.steps.publish import RULE
from bids_neurodecode.systems.steps.responses import quality
from bids_neurodecode.systems.steps.scores import write_scores
from bids_neurodecode.systems.steps.seen import (
    Seen,
    compare_runs,
    in_sample,
    known_runs,
    model_columns,
)
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, RealArray
from bids_neurodecode.workflow.files import save_map
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.resources import threads_here
from bids_neurodecode.workflow.step import ALL, step

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.metrics import Score

TOO_SHORT = 'The film {name} lasts {duration:g} s, less than one volume of {tr:g} s. Leave it out.'


def add_film_prediction(ladder: Ladder, model: Path) -> None:
    """Add the steps that apply models of films; responses are measured where there is BOLD.

    Parameters
    ----------
    ladder
        That steps are added to.
    model
        File of the trained model.
    """
    run = ladder.run
    ladder.add(list_showings, model=str(model))
    if ladder.participant.runs:
        ladder.add(quality)
        ladder.add(align_films)
    ladder.add(
        apply_films,
        model=str(model),
        cache=str(run.work_dir / 'features'),
        films=str(run.work_dir / 'films'),
    )
    ladder.add(publish_film_predictions, model=str(model))


@step('plan', seconds=2, makes=('trials',), settings=('features',))
def list_showings(
    participant: ParticipantInput, config: Config, model: str
) -> Mapping[str, object]:
    """List the volumes of each film: of the runs, or of films alone at the model's clock.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    model
        File of the trained model.
    """
    from bids_neurodecode.stimuli.films import probe_film

    if participant.runs:
        return {'trials': film_table(participant.runs)}
    period = facts_of(Path(model)).repetition_time
    durations = {
        name: seconds_of(participant, name, config.features, period)
        if name in participant.features
        else probe_film(participant.stimuli_dir / name).duration
        for name in participant.stimuli
    }
    return {'trials': clock_of_films(durations, period)}


@step('apply', records={'applied': AppliedFacts}, settings=ALL)
def apply_films(
    participant: ParticipantInput,
    config: Config,
    model: str,
    trials: pd.DataFrame,
    cache: str,
    films: str,
    folder: Path,
    mask: VoxelMask | None = None,
    responses: Float32Array | None = None,
    aligned: list[Float32Array] | None = None,
    valid: BoolArray | None = None,
    run_marks: Mapping[str, Any] | None = None,
) -> Mapping[str, object]:
    """Predict responses to films, reconstruct films from responses, judge both.

    Parameters
    ----------
    participant, config, trials
        Whose films, with which settings, one row per volume of a film.
    model
        File of the linear model, beside which the network lies.
    cache, films
        Folders of features by content, and of the frames of films.
    folder
        Where everything is written.
    mask, responses, aligned, valid, run_marks
        Voxels; measured responses, (n_samples, n_voxels); the same with the delay taken out, an
        array a presentation; which samples these hold; what the runs are known by. None without
        BOLD.
    """
    models = load_models(Path(model))
    measured = None
    if mask is not None and responses is not None and aligned is not None and valid is not None:
        delayed = np.full((len(trials), mask.n_voxels), np.nan, dtype=np.float32)
        delayed[valid] = np.concatenate(aligned)
        both = (Samples(Responses(x, mask), trials) for x in (responses, delayed))
        measured = Measured(mask, *both, model=model)
    found = Applied(folder, config, models, trials, measured)
    if mask is not None:
        runs = known_runs(run_marks or {}, participant)
        found.note(compare_runs(runs, models.facts.description, model))
    found.linear(participant, Path(cache))
    found.network(participant.stimuli_dir, Path(films))
    return {'applied': found.save()}


class Measured:
    """Responses as they are, and with the delay taken out."""

    def __init__(
        self, mask: VoxelMask, responses: Samples, aligned: Samples, *, model: str
    ) -> None:
        self.mask, self.responses, self.aligned, self.model = mask, responses, aligned, model

    def of(self, samples: Samples, voxels: VoxelMask) -> Samples:
        """Return samples of the voxels of a model.

        Parameters
        ----------
        samples
            Of the analysis mask.
        voxels
            Those of the model.
        """
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
        rng = np.random.default_rng(config.seed)
        self.scorer = FilmScorer(PROTOCOL, self.period, config.evaluation, rng)
        self.scores: list[Score] = []
        self.warnings: list[str] = []
        self.leaks: tuple[str, ...] = ()
        self.judged: dict[str, Score] = {}
        self.decoder = False

    def note(self, seen: Seen) -> None:
        """Keep what of the runs trained the models."""
        self.warnings += seen.warnings
        self.leaks = seen.leaks

    def linear(self, participant: ParticipantInput, cache: Path) -> None:
        """Predict with the linear model.

        Parameters
        ----------
        participant
            Whose data.
        cache
            Where features are kept by content.
        """
        from bids_neurodecode.systems.movie.parts import of_moments, showings_of

        def describe(film: str, onsets: FloatArray) -> dict[str, RealArray]:
            return {'features': self._describe(participant, film, onsets, cache)}

        features = of_moments(self.table, describe)['features'].astype(np.float32, copy=False)
        predicted = self.models.encoder.predict(features, showings_of(self.table))
        self._keep('linear', 'ridge', predicted, self.models.facts.mask, delayed=False)

    def _describe(
        self,
        participant: ParticipantInput,
        film: str,
        onsets: FloatArray,
        cache: Path,
    ) -> Float32Array:
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
        """Predict with the network, and reconstruct.

        Parameters
        ----------
        stimuli_dir
            Folder of the films.
        films
            Folder of stored frames.
        """
        network, mask = self.models.network, self.models.network_mask
        if network is None or mask is None:
            if self.measured is not None:
                self.warnings.append(NO_NETWORK)
            return
        mask.save(self.folder / 'network-voxels.nii.gz')
        chunks = self._chunks(stimuli_dir, films)
        if network.encoder is not None:
            self._keep('network', 'network', network.predict(chunks), mask, delayed=True)
        if self.measured is None:
            return
        if network.decoder is None:
            self.warnings.append(NO_DECODER)
            return
        self._reconstruct(chunks, mask)

    def _chunks(self, stimuli_dir: Path, films: Path) -> Any:
        from bids_neurodecode.stimuli.filmstore import FilmChunks

        stores, pairs = stores_of(
            self.table, stimuli_dir, films, self.period, self.config, threads_here()
        )
        return FilmChunks([*stores.values()], pairs)

    def _keep(
        self,
        name: str,
        model: str,
        predicted: Float32Array,
        mask: VoxelMask,
        *,
        delayed: bool,
    ) -> None:
        """Save predictions and, where responses were measured, judge them."""
        from bids_neurodecode.systems.movie.setup import SELECTED

        np.save(self.folder / f'{name}.npy', predicted)
        mask.save(self.folder / f'{name}-mask.nii.gz')
        if self.measured is None:
            return
        measured = self.measured.aligned if delayed else self.measured.responses
        fewer = mask.n_voxels < self.models.facts.mask.n_voxels
        judged, notes = judge_applied(
            self.measured.of(measured, mask),
            predicted,
            self.scorer,
            model=model,
            space=SELECTED if fewer else 'voxels',
        )
        self.warnings += [x for x in notes if x not in self.warnings]
        if judged is None:
            return
        # the null is that of the last model, which comes first
        others = [score for score in self.scores if not score.model.startswith('baseline')]
        self.scores = [*judged.scores, *others]
        self.judged[name] = judged.scores[0]
        if judged.null.size:
            np.save(self.folder / 'null.npy', judged.null)
        save_map(self.folder / f'{name}-r.nii.gz', mask, np.nan_to_num(judged.r))

    def _reconstruct(self, chunks: Any, mask: VoxelMask) -> None:
        network, mean_frame = self.models.network, self.models.mean_frame
        if network is None or mean_frame is None or self.measured is None:
            return
        aligned = self.measured.of(self.measured.aligned, mask)
        found, scores, notes = reconstruct_applied(
            network, aligned, chunks, mean_frame, self.scorer
        )
        self.scores += scores
        self.warnings += notes
        self.decoder = True
        found.save(self.folder)

    def save(self) -> AppliedFacts:
        """Save scores; return the facts."""
        network, facts = self.models.network, self.models.facts
        if self.scores:
            write_scores(self.folder, in_sample(self.scores) if self.leaks else self.scores)
        about = None
        if network is not None:
            about = NetworkAbout(
                network.settings.mode,
                network.settings.perceptual,
                network.settings.design.n_voxels,
                network.n_parameters,
            )
        mask = (facts if self.measured is None else self.measured).mask
        found = AppliedFacts(
            voxels=VoxelResults(mask.n_voxels, facts.mask.n_voxels, RULE),
            period=self.period,
            judged=tuple(self.judged),
            scored=bool(self.scores),
            decoder=self.decoder,
            network=about,
            leaks=self.leaks,
            warnings=tuple(self.warnings),
        )
        if self.judged:
            # the null is that of the last model
            last = [*self.judged.values()][-1]
            found = replace(found, observed=last.value, null_metric=last.metric)
        return found


def clock_of_films(durations: Mapping[str, float], repetition_time: float) -> pd.DataFrame:
    """Lay volumes over films: one row per volume that a film fills.

    Parameters
    ----------
    durations
        Seconds, by name of the film.
    repetition_time
        Seconds a volume.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`~bids_neurodecode.bids.trials.film_table`; each film is a run of its
        own that begins with it.

    Raises
    ------
    DataError
        If a film is shorter than a volume.
    """
    parts = []
    for number, (name, duration) in enumerate(durations.items()):
        n_volumes = int(np.floor(duration / repetition_time + 1e-6))
        if n_volumes < 1:
            raise DataError(TOO_SHORT.format(name=name, duration=duration, tr=repetition_time))
        parts.append(volumes_of(name, number, n_volumes, repetition_time, name))
    return pd.concat(parts, ignore_index=True)
