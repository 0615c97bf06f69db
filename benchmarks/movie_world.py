"""The world of ``study_movie.py``: real films as one reel, voxels that follow it, a group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.signals.delay import align_to_clock
from bids_neurodecode.stimuli.filmstore import FilmChunks, FilmRecipe, FilmStore, build_store
from bids_neurodecode.systems.movie.setup import FilmData

TR = 0.65
DELAY = 5.2
SHOT = 8
SIZE = 48
CHUNK = 16
HELD_OUT = 0.2
N_PARTICIPANTS = 6
REGIONS = {1: 'pictures', 2: 'motion', 3: 'silent1', 4: 'silent2', 5: 'silent3', 6: 'silent4'}
N_VOXELS = {1: 60, 2: 40, 3: 50, 4: 50, 5: 50, 6: 50}
SIGNAL_SHARE = 0.3
"""Of the variance of one participant's voxel that follows anything."""


@dataclass(frozen=True, eq=False)
class Reel:
    """The reel: stores of the films, and film and volume of each sample."""

    stores: tuple[FilmStore, ...]
    pairs: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)

    def chunks(self, rows: np.ndarray) -> Any:
        """Return the chunks of samples, as bytes."""
        return FilmChunks(self.stores, self.pairs[rows])

    def frames(self) -> np.ndarray:
        """Return all frames, (n_samples, n_frames, height, width, 3)."""
        return np.stack([self.stores[film].frames[volume] for film, volume in self.pairs])


def make_reel(films: Path, work: Path, rng: np.random.Generator) -> Reel:
    """Cut the films into shots; those of each film's last fifth go to the end of the reel."""
    from bids_neurodecode.stimuli.films import probe_film

    stores, early, late = [], [], []
    for number, film in enumerate(sorted(films.glob('*.mp4'))):
        n_volumes = int(probe_film(film).duration / TR)
        recipe = FilmRecipe(n_volumes, TR, chunk=CHUNK, size=SIZE)
        stores.append(build_store(film, work, recipe))
        border = round((1 - HELD_OUT) * n_volumes)
        for part, start, end in ((early, 0, border), (late, border, n_volumes)):
            part += [
                [(number, volume) for volume in range(k, min(k + SHOT, end))]
                for k in range(start, end, SHOT)
            ]
    order = [*rng.permutation(len(early)), *(len(early) + rng.permutation(len(late)))]
    shots = [*early, *late]
    return Reel(tuple(stores), np.array([pair for k in order for pair in shots[k]]))


def plant(reel: Reel, rng: np.random.Generator) -> np.ndarray:
    """Return what each voxel follows at the time of the film, sd 1: (n_samples, n_voxels)."""
    from bids_neurodecode.simulate.features import colours, gabor_energy, motion_energy

    frames = reel.frames()
    middle = frames[:, CHUNK // 2 - 1]
    pictures = np.concatenate(
        [t.standardised().values for t in (colours(middle), gabor_energy(middle))], axis=1
    )
    motion = np.stack([motion_energy(chunk).values[1:].mean(axis=0) for chunk in frames])
    motion = (motion - motion.mean(axis=0)) / motion.std(axis=0)
    signal = []
    for region, n_voxels in N_VOXELS.items():
        if region == 1:  # half of the voxels on the 48 colours, half on all 816 features
            weights = np.zeros((pictures.shape[1], n_voxels))
            for voxel in range(n_voxels):
                pool = 48 if voxel % 2 else pictures.shape[1]
                weights[rng.choice(pool, 3, replace=False), voxel] = rng.normal(size=3)
            signal.append(pictures @ weights)
        elif region == 2:  # all rise with motion, each more with that at some places
            signal.append(motion @ rng.gamma(1.0, size=(motion.shape[1], n_voxels)))
        else:
            signal.append(np.zeros((len(reel), n_voxels)))
    values = np.concatenate(signal, axis=1)
    sd = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(sd > 0, sd, 1.0)


def scan(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one participant's series, (n_samples + delay, n_voxels)."""
    from bids_neurodecode.simulate.noise import ar1

    late = round(DELAY / TR)
    noise_sd = np.sqrt((1 - SIGNAL_SHARE) / SIGNAL_SHARE)
    series = noise_sd * ar1(len(signal) + late, signal.shape[1], 0.3, rng)
    series[late:] += signal
    return series


def ceiling(signal: np.ndarray, n_participants: int) -> np.ndarray:
    """Return the best possible correlation of each voxel's mean series; NaN of silent ones."""
    noise = (1 - SIGNAL_SHARE) / SIGNAL_SHARE / n_participants
    return np.where(signal.std(axis=0) > 0, np.sqrt(1 / (1 + noise)), np.nan)


def labels_of_voxels() -> np.ndarray:
    """Return the region of each voxel."""
    return np.repeat(list(N_VOXELS), list(N_VOXELS.values()))


def table_of(n: int) -> pd.DataFrame:
    """Return the table of the samples of the reel."""
    onset = np.arange(n) * TR
    return pd.DataFrame(
        {
            'stimulus': [f'reel#{k}' for k in range(n)], 'film': 'reel', 'onset': onset.round(6),
            'run': 0, 'session': '1', 'showing': 0, 'run_onset': onset.round(6),
        }
    )  # fmt: skip


def film_data(reel: Reel, series: np.ndarray, features: np.ndarray, delay: float) -> FilmData:
    """Return what the network learns from, the responses read ``delay`` seconds late."""
    mask = VoxelMask(np.ones((series.shape[1], 1, 1), dtype=bool), np.eye(4))
    table = table_of(len(reel))

    def samples(seconds: float) -> Samples:
        values = align_to_clock(series, TR, 0.0, len(reel), TR, seconds).values
        return Samples(Responses(np.asarray(values), mask), table)

    return FilmData(samples(delay), samples(0.0), features, reel.chunks, TR)


def frame_features(reel: Reel) -> tuple[np.ndarray, np.ndarray]:
    """Return features of frames, averaged over each volume, and how they change in it."""
    from bids_neurodecode.stimuli.features import get_extractor
    from bids_neurodecode.stimuli.motion import frame_changes

    picked = reel.frames()[:, :: CHUNK // 4]
    flat = get_extractor('gabor').transform(picked.reshape(-1, *picked.shape[2:]))
    by_volume = flat.reshape(*picked.shape[:2], -1)
    return by_volume.mean(axis=1), frame_changes(by_volume)


@dataclass(frozen=True, eq=False)
class World:
    """All that the parts of the study share."""

    reel: Reel
    signal: np.ndarray
    participants: list[np.ndarray]
    features: np.ndarray
    changes: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean series of the group."""
        return np.asarray(np.mean(self.participants, axis=0))

    def data(self, series: np.ndarray, delay: float = DELAY) -> FilmData:
        """Return samples of a series."""
        return film_data(self.reel, series, self.features, delay)


def make_world(films: Path, work: Path) -> World:
    """Make the reel and scan the participants."""
    rng = np.random.default_rng(7)
    reel = make_reel(films, work, rng)
    signal = plant(reel, rng)
    participants = [scan(signal, rng) for _ in range(N_PARTICIPANTS)]
    return World(reel, signal, participants, *frame_features(reel))
