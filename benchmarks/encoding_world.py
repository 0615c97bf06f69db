"""Simulated responses to photographs with planted tuning; see :func:`make_world`.

Voxels follow the energy of oriented filters, the layout of luminance and colour, both, or nothing
(a third). What generates responses (:mod:`bids_neurodecode.simulate.features`) is another filter
bank than what models are fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.simulate import features as generators
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.systems.base import PerStimulus

GRID = (10, 10, 6)
GROUPS = ('energy', 'layout', 'both', 'untuned')
RATIOS = 0.5, 1.2
"""Least and largest ratio of signal and noise of one trial, of tuned voxels."""
FEW: dict[str, Any] = {'grid': (5, 4, 3), 'ratios': (0.2, 2.0)}
"""So few voxels, and so unlike, that not every image is identified."""
NOISY: dict[str, Any] = {'grid': (10, 6, 4), 'ratios': (0.2, 0.6)}
"""Voxels of which a decoder can learn more from more samples."""

FloatArray = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class World:
    """Simulated responses, and what is true of them.

    Parameters
    ----------
    samples
        Single trials of the images that were shown.
    group
        Index into GROUPS of each voxel, (n_voxels,).
    ratio
        Planted ratio of signal and noise of one trial, (n_voxels,).
    signal
        Responses without noise to all images, deviation 1 or (untuned) 0,
        (n_pictures, n_voxels).
    bands
        What models are fitted on: ``energy`` and ``layout``, of all images.
    """

    samples: Samples
    group: npt.NDArray[np.intp]
    ratio: FloatArray
    signal: FloatArray
    bands: dict[str, PerStimulus]

    @property
    def regions(self) -> dict[str, npt.NDArray[np.bool_]]:
        return {name: self.group == k for k, name in enumerate(GROUPS)}

    @property
    def features(self) -> PerStimulus:
        parts = list(self.bands.values())
        return PerStimulus(parts[0].stimuli, np.concatenate([p.values for p in parts], axis=1))

    @property
    def shown(self) -> npt.NDArray[np.str_]:
        return np.unique(self.samples.table['stimulus'].to_numpy(dtype=str))


@dataclass(frozen=True, eq=False)
class Photographs:
    """Features of photographs: what generates responses, and what models are fitted on."""

    names: tuple[str, ...]
    energy: generators.FeatureTable
    layout: generators.FeatureTable
    bands: dict[str, PerStimulus]

    @classmethod
    def load(cls, folder: Path, n: int | None = None) -> Photographs:
        files = sorted(folder.iterdir())[:n]
        small = load_images(files, size=generators.SIZE, fit='crop')
        large = load_images(files, size=64, fit='crop')
        names = tuple(file.name for file in files)
        banks = {
            'energy': get_extractor('gabor', luminance_grid=0, colour_grid=0),
            'layout': get_extractor('gabor', frequencies=(1.0,), n_orientations=1),
        }
        made = {name: extract_features(large, bank) for name, bank in banks.items()}
        made['layout'] = made['layout'][:, 1:]  # without the one energy
        return cls(
            names,
            generators.gabor_energy(small).standardised(),
            generators.colours(small).standardised(),
            {name: PerStimulus(names, values) for name, values in made.items()},
        )


def make_world(
    pictures: Photographs,
    n_shown: int,
    *,
    seed: int,
    n_repeats: int = 3,
    grid: tuple[int, int, int] = GRID,
    ratios: tuple[float, float] = RATIOS,
) -> World:
    """Draw voxels with receptive fields, and single trials with noise of deviation 1.

    A quarter each of the grid follows energies (of a place, orientation and frequency), the
    layout (of a place and colour), and a sixth the sum of one of either; a third nothing.
    """
    rng = np.random.default_rng(seed)
    n_voxels = int(np.prod(grid))
    group = np.repeat(np.arange(4), np.diff(np.round(np.array([0, 3, 6, 8, 12]) / 12 * n_voxels)
                                            .astype(int)))  # fmt: skip
    energy = _unit(
        pictures.energy.values @ _energy_weights(pictures.energy.columns, n_voxels, rng)
    )
    layout = _unit(
        pictures.layout.values @ _layout_weights(pictures.layout.columns, n_voxels, rng)
    )
    signal = _unit(
        np.select([group == 0, group == 1, group == 2], [energy, layout, energy + layout])
    )
    ratio = np.where(group < 3, rng.uniform(*ratios, n_voxels), 0.0)
    shown = rng.permutation(len(pictures.names))[:n_shown]
    order = np.concatenate([rng.permutation(shown) for _ in range(n_repeats)])
    noise = rng.standard_normal((len(order), n_voxels))
    values = (100 + signal[order] * ratio + noise).astype(np.float32)
    table = pd.DataFrame(
        {
            'stimulus': np.array(pictures.names)[order],
            'run': np.repeat(np.arange(4 * n_repeats), -(-n_shown // 4))[: len(order)],
        }
    )
    mask = VoxelMask(np.ones(grid, dtype=bool), np.eye(4))
    return World(Samples(Responses(values, mask), table), group, ratio, signal, pictures.bands)


def _energy_weights(columns: pd.DataFrame, n: int, rng: np.random.Generator) -> FloatArray:
    turned = np.cos(
        2 * (np.deg2rad(columns['orientation'].to_numpy())[:, None] - rng.uniform(0, np.pi, n))
    )
    octave = np.log2(columns['frequency'].to_numpy())[:, None] - rng.uniform(1, 3, n)
    return np.asarray(np.exp(_place(columns, n, rng) - octave**2 + 1.5 * turned))


def _layout_weights(columns: pd.DataFrame, n: int, rng: np.random.Generator) -> FloatArray:
    channel = columns['name'].str.extract(r'^([a-z]+)x', expand=False).factorize()[0]
    colour = rng.standard_normal((channel.max() + 1, n))
    return np.asarray(np.exp(_place(columns, n, rng)) * colour[channel])


def _place(columns: pd.DataFrame, n: int, rng: np.random.Generator) -> FloatArray:
    x, y = rng.uniform(-0.8, 0.8, (2, n))
    dx, dy = (columns[name].to_numpy()[:, None] - at for name, at in (('x', x), ('y', y)))
    return np.asarray(-(dx**2 + dy**2) / 0.2)


def _unit(values: FloatArray) -> FloatArray:
    scale = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(scale > 1e-9, scale, np.inf))


def averaged(rows: Rows, key: str) -> Rows:
    """Average rows with the same key."""
    table = pd.DataFrame(rows).groupby(key, sort=False).mean(numeric_only=True)
    return [
        {key: name, **row} for name, row in zip(table.index, table.to_dict('records'), strict=True)
    ]


def markdown(rows: Rows) -> str:
    """Write rows as a table."""
    names = list(rows[0])
    lines = ['| ' + ' | '.join(names) + ' |', '|' + ' --- |' * len(names)]
    for row in rows:
        cells = [f'{v:.3f}' if isinstance(v, float) else str(v) for v in row.values()]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
