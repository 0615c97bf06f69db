"""Thin interfaces of the film paradigm: load, call one function, save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.trials import film_table
from bids_neurodecode.config import Config, FeatureSettings, SplitSettings
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.workflow.files import (
    apart_from_repeats,
    read_split,
    read_table,
    save_json,
    save_plan,
)
from bids_neurodecode.workflow.seen import runs_of
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd


class PlanFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    split = traits.Str(mandatory=True, desc='settings of the split, as JSON')
    features = traits.Str(mandatory=True, desc='settings of the features, as JSON')
    seed = traits.Int(mandatory=True)


class PlanFilmsOutput(TraitedSpec):
    trials = File(exists=True, desc='one row a volume of a film')
    parts = File(exists=True, desc='the part of each sample in each fold')
    plan = File(exists=True, desc='the split in words')


class PlanFilms(Stage):
    """The clock of each film over its run, and which blocks of it are held out."""

    input_spec = PlanFilmsInput
    output_spec = PlanFilmsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        participant = ParticipantInput.from_json(self.inputs.participant)
        settings = SplitSettings.model_validate_json(self.inputs.split)
        features = FeatureSettings.model_validate_json(self.inputs.features)
        return plan_films(film_table(participant.runs), participant, settings, features, folder)


def plan_films(
    table: pd.DataFrame,
    participant: ParticipantInput,
    settings: SplitSettings,
    features: FeatureSettings,
    folder: Path,
) -> dict[str, Path]:
    """Hold out parts of films, apart from scenes that are shown twice; save the plan."""
    from bids_neurodecode.bids.splitfile import add_parts
    from bids_neurodecode.systems.protocol import choose_film_split

    split, why = choose_film_split(add_parts(table, settings.file, settings.name), settings)
    split, left_out, leaks = apart_from_repeats(split, participant, features)
    why = f'{why}. {left_out}' if left_out else why
    return save_plan(folder, split, why, leaks)


class AlignFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of cleaning and delay, as JSON')
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)


class AlignFilmsOutput(TraitedSpec):
    responses = File(exists=True, desc='.npy, samples x voxels on the clock of the films')
    aligned = OutputMultiPath(File(exists=True), desc='.npy a showing, the delay taken out')
    showings = File(exists=True, desc='run, film and length of each of them')
    valid = File(exists=True, desc='.npy, which samples aligned holds')


class AlignFilms(Stage):
    """Clean each run, and put it on the clock of its films with and without the delay."""

    input_spec = AlignFilmsInput
    output_spec = AlignFilmsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.signals.delay import align_to_clock
        from bids_neurodecode.workflow.parcels import clean_run

        config = Config.model_validate_json(self.inputs.settings)
        mask = VoxelMask.load(Path(self.inputs.mask))
        table = read_table(Path(self.inputs.trials))
        responses = np.lib.format.open_memmap(
            folder / 'responses.npy', 'w+', np.float32, (len(table), mask.n_voxels)
        )
        aligned: list[Path] = []
        showings: list[dict[str, Any]] = []
        valid = np.zeros(len(table), dtype=bool)
        for number, run in enumerate(ParticipantInput.from_json(self.inputs.participant).runs):
            series = clean_run(run, mask, config.clean)
            for _, rows in table[table['run'] == number].groupby('showing', sort=False):
                onset, film = float(rows['run_onset'].iloc[0]), str(rows['film'].iloc[0])
                clock = (series, run.repetition_time, onset, len(rows), run.repetition_time)
                responses[rows.index] = align_to_clock(
                    *clock, 0.0, start_time=run.start_time
                ).values
                delayed = align_to_clock(*clock, config.delay.seconds, start_time=run.start_time)
                file = folder / f'aligned-{len(aligned):03d}.npy'
                # only the end has no data; volumes that were censored stay, as NaN
                length = int(np.flatnonzero(delayed.valid).max(initial=-1)) + 1
                np.save(file, delayed.values[:length])
                valid[rows.index[:length]] = True
                aligned.append(file)
                into = float(rows['onset'].iloc[0])
                showings.append(
                    {'run': number, 'film': film, 'n_samples': length, 'film_onset': into}
                )
        responses.flush()
        np.save(folder / 'valid.npy', valid)
        return {
            'valid': folder / 'valid.npy',
            'responses': folder / 'responses.npy',
            'aligned': aligned,
            'showings': save_json(folder / 'showings.json', {'showings': showings}),
        }


class FilmFeaturesInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of the features, as JSON')
    motion = traits.Enum('changes', 'energy', usedefault=True, desc='what motion is')
    trials = File(exists=True, mandatory=True)
    cache = Directory(mandatory=True, desc='where features are kept by content')


class FilmFeaturesOutput(TraitedSpec):
    features = File(exists=True, desc='.npy, samples x features')
    bands = OutputMultiPath(File(exists=True), desc='.npy of each feature space, by its name')


class FilmFeatures(Stage):
    """Frames of each film to features, averaged over each volume, and motion in it.

    Where the user brings a table of features for each film, these are taken instead.
    """

    input_spec = FilmFeaturesInput
    output_spec = FilmFeaturesOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        participant = ParticipantInput.from_json(self.inputs.participant)
        settings = FeatureSettings.model_validate_json(self.inputs.settings)
        table = read_table(Path(self.inputs.trials))
        bands = self._own(participant, settings, table)
        if not bands:
            frames, changes = self._of_frames(participant, settings, table)
            np.save(folder / 'features.npy', frames)
            bands = {'frames': frames, 'changes': changes}
        else:
            np.save(folder / 'features.npy', np.concatenate([*bands.values()], axis=1))
        (folder / 'bands').mkdir(exist_ok=True)
        for name, values in bands.items():
            np.save(folder / 'bands' / f'{name}.npy', values)
        return {
            'features': folder / 'features.npy',
            'bands': [folder / 'bands' / f'{name}.npy' for name in bands],
        }

    def _own(
        self, participant: ParticipantInput, settings: FeatureSettings, table: pd.DataFrame
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return the user's features of each sample by band; none where there are none."""
        from bids_neurodecode.workflow.own_features import film_bands

        if not participant.features:
            return {}
        films, onsets = table['film'].astype(str), table['onset'].to_numpy(dtype=float)
        clock = {film: np.unique(onsets[films == film]) for film in dict.fromkeys(films)}
        period = participant.runs[0].repetition_time
        found = film_bands(participant, settings, clock, period)
        rows = [
            (film, int(np.searchsorted(clock[film], onset)))
            for film, onset in zip(films, onsets, strict=True)
        ]
        names = next(iter(found.values()))
        return {band: np.stack([found[film][band][row] for film, row in rows]) for band in names}

    def _of_frames(
        self, participant: ParticipantInput, settings: FeatureSettings, table: pd.DataFrame
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return features of the frames of each sample, and motion in them."""
        from bids_neurodecode.stimuli.features import get_extractor
        from bids_neurodecode.stimuli.volumes import volume_features

        extractor = get_extractor(settings.extractor)
        cache = Path(self.inputs.cache)
        rows: dict[tuple[str, float], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        period = participant.runs[0].repetition_time
        for film, samples in table.groupby('film', sort=False):
            onsets = np.unique(samples['onset'].to_numpy(dtype=float))
            file, size = participant.stimuli_dir / str(film), settings.image_size
            by_volume = volume_features(file, onsets, period, extractor, size, cache)
            motion = self._motion(file, by_volume, onsets, period)
            described = zip(by_volume.mean(axis=1), motion, strict=True)
            rows |= {
                (str(film), float(onset)): both
                for onset, both in zip(onsets, described, strict=True)
            }
        keys = list(zip(table['film'].astype(str), table['onset'].astype(float), strict=True))
        frames, changes = (np.stack([rows[key][part] for key in keys]) for part in (0, 1))
        return frames, changes

    def _motion(
        self,
        film: Path,
        by_volume: np.ndarray[Any, Any],
        onsets: np.ndarray[Any, Any],
        period: float,
    ) -> np.ndarray[Any, Any]:
        """Return motion energy of each volume, or how much its features change."""
        from bids_neurodecode.stimuli.changes import frame_changes
        from bids_neurodecode.stimuli.motion import film_motion

        if self.inputs.motion != 'energy':
            return frame_changes(by_volume)
        volumes = np.rint(onsets / period).astype(np.intp)
        cache = Path(self.inputs.cache)
        return film_motion(film, int(volumes.max()) + 1, period, cache_dir=cache)[volumes]


class EncodeFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    responses = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)
    within = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class EncodeFilmsOutput(TraitedSpec):
    metrics = File(exists=True)
    pearsonr = File(exists=True, desc='map of the correlation')
    significant = File(exists=True, desc='mask of the voxels with FDR-adjusted p below .05')
    predictions = File(exists=True, desc='.npy, held-out samples x voxels')
    rows = File(exists=True, desc='.npy, which samples they are')
    p_values = File(exists=True, desc='map of the FDR-adjusted p values')
    by_fold = File(exists=True, desc='map of the correlation of each fold')
    null = File(exists=True)
    model = File(exists=True)
    info = File(exists=True)


class EncodeFilms(Stage):
    """Fit and judge the linear encoding model."""

    input_spec = EncodeFilmsInput
    output_spec = EncodeFilmsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.workflow.encoding import encode

        inputs = self.inputs
        mask = VoxelMask.load(Path(inputs.mask))
        table = read_table(Path(inputs.trials))
        responses = np.load(inputs.responses, mmap_mode='r')
        within = np.load(inputs.within) if isdefined(inputs.within) else None
        participant = ParticipantInput.from_json(inputs.participant)
        return encode(
            participant,
            Config.model_validate_json(inputs.settings),
            Samples(Responses(responses, mask), table),
            read_split(Path(inputs.parts), Path(inputs.plan), table),
            features=np.load(inputs.features),
            within=within,
            runs=runs_of(inputs.mask, participant),
            device=inputs.device,
            folder=folder,
        )


class ParcelSeriesInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of the cleaning, as JSON')
    mask = File(exists=True, mandatory=True)
    labels = File(exists=True, mandatory=True)
    table = File(exists=True, mandatory=True)


class ParcelSeriesOutput(TraitedSpec):
    series = OutputMultiPath(File(exists=True), desc='one TSV a run, a column a parcel')


class ParcelSeries(Stage):
    """Clean each run and average it over the parcels of the atlas."""

    input_spec = ParcelSeriesInput
    output_spec = ParcelSeriesOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.workflow.parcels import parcel_series

        return {
            'series': parcel_series(
                ParticipantInput.from_json(self.inputs.participant),
                Config.model_validate_json(self.inputs.settings),
                VoxelMask.load(Path(self.inputs.mask)),
                Path(self.inputs.labels),
                Path(self.inputs.table),
                folder,
            )
        }


__all__ = ['AlignFilms', 'EncodeFilms', 'FilmFeatures', 'ParcelSeries', 'PlanFilms']
