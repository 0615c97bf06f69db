"""Memory of each step with more and more trials: does a study of 91,282 columns fit into 16 GiB?

``python benchmarks/bench_memory.py [--columns 91282] [--trials 500 1000 2000] [--steps ...]``
simulates betas in a file (float32, deleted at the end), runs each step in a process of its own,
and prints the most memory that could not be given back (``RssAnon``; pages of mapped files can),
the seconds of processor time, a line through the counts, and what it says of 30,000 trials.

``python benchmarks/bench_memory.py --program BIDS_DIR [options of the program]`` runs the program
on a dataset, node by node in one process, and prints the same of each of its steps beside what
they ask for: lines of ``memory.tsv``, which the tests compare requests with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GIB = 1024.0**3
ASKED = 30_000
N_FEATURES, N_RUN = 60, 50


def simulate(folder: Path, n_trials: int, n_columns: int) -> None:
    """Write betas (n_trials, n_columns), half of them signal of features, and their table."""
    rng = np.random.default_rng(0)
    n_stimuli = n_trials // 2
    shown = np.concatenate([rng.permutation(n_stimuli), rng.permutation(n_stimuli)])
    features = rng.normal(size=(n_stimuli, N_FEATURES)).astype(np.float32)
    weights = rng.normal(size=(N_FEATURES, n_columns)).astype(np.float32) / N_FEATURES**0.5
    weights[:, n_columns // 2 :] = 0
    betas = np.lib.format.open_memmap(
        folder / 'betas.npy', 'w+', np.float32, (2 * n_stimuli, n_columns)
    )
    for start in range(0, len(shown), 200):
        rows = shown[start : start + 200]
        noise = rng.standard_normal((len(rows), n_columns), dtype=np.float32)
        betas[start : start + 200] = features[rows] @ weights + 2 * noise
    betas.flush()
    np.save(folder / 'features.npy', features)
    runs = np.arange(len(shown)) // N_RUN
    table = pd.DataFrame({'stimulus': [f'{x:05d}.png' for x in shown], 'run': runs})
    table['onset'] = 4.0 * (np.arange(len(shown)) % N_RUN)
    table['session'] = '1'
    table['repeat'] = np.repeat([0, 1], n_stimuli)
    table.to_csv(folder / 'trials.tsv', sep='\t', index=False)


class Peak(threading.Thread):
    """Watches the memory of this process that is no mapped file."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.done = 0.0, threading.Event()

    def run(self) -> None:
        """Look fifty times a second."""
        while not self.done.wait(0.02):
            self.most = max(self.most, anonymous())


def anonymous() -> float:
    """Return GiB of memory that is no mapped file."""
    status = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    line = next(line for line in status if line.startswith('RssAnon'))
    return int(line.split()[1]) * 1024 / GIB


def load(folder: Path, n_folds: int) -> dict[str, Any]:
    """Return what the steps take, betas mapped as between nodes."""

    from bids_neurodecode.config import build_config
    from bids_neurodecode.samples import Responses, Samples, VoxelMask
    from bids_neurodecode.systems.base import PerStimulus
    from bids_neurodecode.systems.protocol import choose_split
    from bids_neurodecode.systems.voxels import Estimates

    betas = np.load(folder / 'betas.npy', mmap_mode='c')
    table = pd.read_csv(folder / 'trials.tsv', sep='\t', dtype={'session': str})
    config = build_config(
        {
            'split': {'by': 'stimulus', 'n_folds': n_folds, 'test_fraction': 0.1},
            'selection': {'rule': 'top', 'fraction': 0.2},
            'evaluation': {'n_permutations': 200, 'n_bootstrap': 200},
            'reconstruction': {'generator': 'none'},
        }
    )
    names = tuple(f'{x:05d}.png' for x in range(len(table) // 2))
    images = np.random.default_rng(1).integers(0, 255, (len(names), 16, 16, 3), np.uint8)
    mask = VoxelMask(np.ones((betas.shape[1], 1, 1), dtype=bool), np.eye(4))
    n_runs = int(table['run'].max()) + 1
    return {
        'estimates': Estimates(
            Samples(Responses(betas, mask), table),
            choose_split(table, config.split, 0)[0],
            tsnr_runs=np.ones((n_runs, betas.shape[1]), np.float32),
        ),
        'features': PerStimulus(names, np.load(folder / 'features.npy')),
        'pictures': PerStimulus(names, images),
        'config': config,
    }


def reliability(given: dict[str, Any], _: Path) -> None:
    """Noise ceilings of all columns."""
    from bids_neurodecode.systems.voxels import ncsnr_of

    ncsnr_of(given['estimates'].samples)


def selection(given: dict[str, Any], _: Path) -> None:
    """The columns whose repeats agree."""
    from bids_neurodecode.config import build_config

    given['estimates'].choose(given['estimates'].samples, None, build_config({}))


def linear(given: dict[str, Any], _: Path) -> None:
    """The linear decoder on a fifth of the columns."""
    from bids_neurodecode.systems.reconstruction.recipe import decode_pictures

    decode_pictures(
        given['estimates'],
        given['features'],
        given['config'],
        pictures=given['pictures'],
    )


def ridge(given: dict[str, Any], _: Path) -> None:
    """The encoding model of all columns."""
    from bids_neurodecode.systems.encoding.recipe import encode_pictures

    encode_pictures(given['estimates'], given['features'], given['config'])


def generation(given: dict[str, Any], folder: Path) -> None:
    """Images of a generator without networks, from all columns: what grows with the data."""
    _generate(given, folder, _Coarse())


def small(given: dict[str, Any], folder: Path) -> None:
    """The small generator, its networks trained for a few steps: what they hold."""
    from bids_neurodecode.systems.reconstruction.generation.small import SmallGenerator

    _generate(given, folder, SmallGenerator(size=32, prior_steps=4, refiner_steps=4))


def published(given: dict[str, Any], folder: Path) -> None:
    """The same with as many latents and conditions as VDVAE and Versatile Diffusion have.

    Images have 512 pixels a side and lie in a file, as in the program. What weights of networks
    take is not in it.
    """
    sizes = {'text': (77, 768), 'vision': (257, 768)}
    _generate(given, folder, _Coarse(picture_size=512, length=91_168, sizes=sizes))


def _generate(given: dict[str, Any], folder: Path, generator: Any) -> None:
    from bids_neurodecode.config import build_config
    from bids_neurodecode.stimuli.features import get_extractor
    from bids_neurodecode.systems.base import PerStimulus
    from bids_neurodecode.systems.reconstruction.generation.data import Inputs
    from bids_neurodecode.systems.reconstruction.generation.run import generate_pictures

    own = {
        'selection': {'measure': 'none'},
        'features': {'image_size': 16},
        'evaluation': {'n_permutations': 20, 'n_bootstrap': 20},
    }
    given['config'] = build_config(given['config'].model_dump() | own)
    gabor, pictures = get_extractor('gabor'), given['pictures']
    features = PerStimulus(pictures.stimuli, gabor.transform(pictures.values))
    size = generator.picture_size
    shape = (len(pictures.stimuli), size, size, 3)
    images = np.lib.format.open_memmap(folder / 'images.npy', 'w+', np.uint8, shape)
    for row, image in enumerate(pictures.values):
        images[row] = image.repeat(size // 16, axis=0).repeat(size // 16, axis=1)
    images.flush()
    images = np.load(folder / 'images.npy', mmap_mode='r')
    inputs = Inputs(
        features,
        PerStimulus(pictures.stimuli, images),
        gabor,
        viewers={'viewer': {'pixels': _Pixels()}},
    )
    found = generate_pictures(
        given['estimates'],
        inputs,
        generator,
        given['config'],
        checkpoint_dir=folder / 'kept',
    )
    from bids_neurodecode.models.storage import save_arrays

    save_arrays(folder / 'model.safetensors', found.model.state(), {})


class _Pixels:
    """Coarse pixels, from which responses to what was made are predicted."""

    def transform(self, images: Any) -> Any:
        step = images.shape[1] // 4
        return images[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)


@dataclass(frozen=True)
class _Coarse:
    """A generator whose latents are coarse pixels, and whose second stage changes nothing.

    Parameters
    ----------
    picture_size
        Pixels a side, a multiple of 4.
    length
        Of the latents; coarse pixels are repeated to fill it.
    sizes
        Of conditions, made of the images' components; None: the components.
    """

    picture_size: int = 16
    length: int = 48
    sizes: Mapping[str, tuple[int, int]] | None = None
    name: str = 'coarse'
    n_latents: int = 1
    used: frozenset[str] = frozenset()

    @property
    def sampling(self) -> Any:
        from bids_neurodecode.models.sampling import SamplingSettings

        return SamplingSettings()

    def fit(self, *_: Any, **__: Any) -> _Coarse:
        return self

    def encode(self, pictures: Any) -> Any:
        step = pictures.shape[1] // 4
        small = pictures[:, ::step, ::step].reshape(len(pictures), -1).astype(np.float32)
        return np.tile(small, (1, self.length // 48 + 1))[:, : self.length]

    def decode(self, latents: Any, _: Any) -> Any:
        small = np.clip(latents[:, :48], 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)
        step = self.picture_size // 4
        return small.repeat(step, axis=1).repeat(step, axis=2)

    def conditions(self, of: Any, folder: Any = None) -> dict[str, Any]:
        if self.sizes is None:
            return {'features': of.components}
        found, n = {}, len(of.components)
        for name, shape in self.sizes.items():
            from bids_neurodecode.systems.reconstruction.generation.published import _room

            values = _room(folder, name, (n, *shape))
            values = np.empty((n, *shape), np.float32) if values is None else values
            for row, component in enumerate(of.components):
                values[row] = np.resize(component, shape)
            found[name] = values
        return found

    def refine(self, start: Any, *_: Any, **__: Any) -> Any:
        return start

    def state(self) -> dict[str, Any]:
        return {}

    def describe(self) -> dict[str, Any]:
        return {'generator': self.name, 'n_latents': self.n_latents}

    def curves(self) -> list[dict[str, Any]]:
        return []


def _film(given: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return what models of films take: each stimulus is a volume, of films of 200 volumes."""
    from bids_neurodecode.samples import Samples
    from bids_neurodecode.systems.movie.recipe import FilmRidge
    from bids_neurodecode.systems.protocol import choose_film_split

    whole = given['estimates'].samples
    n = len(whole.table)
    run = np.arange(n) // 200
    table = pd.DataFrame({'film': [f'{k}.mp4' for k in run], 'run': run, 'session': '1'})
    table['onset'] = 2.0 * (np.arange(n) % 200)
    shown = whole.table['stimulus']
    table['stimulus'] = [f'{k}.mp4#{t:g}' for k, t in zip(run, table['onset'], strict=True)]
    config = given['config']
    common = {
        'how': FilmRidge.of(config, 2.0),
        'evaluation': config.evaluation,
        'rng': np.random.default_rng(0),
    }
    samples = Samples(whole.responses, table)
    split = choose_film_split(table, config.split.model_copy(update={'by': 'auto'}))[0]
    return {'samples': samples, 'split': split, **common}, given['features'].of(shown)


def films(given: dict[str, Any], _: Path) -> None:
    """The linear encoding model of films, of all columns."""
    from bids_neurodecode.systems.movie.recipe import encode_films

    common, features = _film(given)
    encode_films(features=features, **common)


def banded(given: dict[str, Any], _: Path) -> None:
    """Banded ridge on two feature spaces of films."""
    from bids_neurodecode.systems.movie.banded import encode_banded

    common, features = _film(given)
    parts = {'frames': features[:, :40], 'changes': features[:, 40:]}
    encode_banded(features=parts, **common)


@dataclass(frozen=True)
class _Chunks:
    """Noise in the place of frames: of each row one of a few chunks."""

    rows: Any
    frames: Any

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.frames[int(self.rows[index]) % len(self.frames)]


def network(given: dict[str, Any], _: Path) -> None:
    """The network of films (design "small", joint), two epochs on all columns."""
    import torch

    from bids_neurodecode.config import build_config
    from bids_neurodecode.systems.movie.setup import FilmData
    from bids_neurodecode.systems.movie.study import study_network

    common, features = _film(given)
    movie = {'model': 'network', 'design': 'small', 'n_epochs': 2, 'patience': None}
    own = {'movie': movie, 'selection': {'measure': 'none'}}
    config = build_config(given['config'].model_dump() | own)
    frames = torch.randint(0, 256, (9, 16, 48, 48, 3), dtype=torch.uint8)
    samples = common['samples']
    data = FilmData(samples, samples, features, lambda rows: _Chunks(rows, frames), 2.0)
    study_network(data, common['split'], config, rng=common['rng'])


def cifti(given: dict[str, Any], folder: Path) -> None:
    """Betas written as CIFTI, as the last step does, and read again."""
    _written(given, folder, '.dtseries.nii')


def gifti(given: dict[str, Any], folder: Path) -> None:
    """The same as a pair of surfaces."""
    _written(given, folder, '.func.gii')


def volume(given: dict[str, Any], folder: Path) -> None:
    """The same betas as a compressed volume of as many voxels."""
    _written(given, folder, '.nii.gz')


def _written(given: dict[str, Any], folder: Path, extension: str) -> None:
    from nibabel.cifti2.cifti2_axes import BrainModelAxis

    from bids_neurodecode.bids.sink import write_image
    from bids_neurodecode.samples import VoxelMask
    from bids_neurodecode.spaces import Space, files_of, load_image
    from bids_neurodecode.systems.steps.publish import betas_image

    samples = given['estimates'].samples
    n = samples.values.shape[1]
    space, shape = None, (n, 1, 1)
    if extension == '.nii.gz':
        shape = (int(np.ceil(n ** (1 / 3))),) * 3
    else:
        half = n // 2
        axis = BrainModelAxis.from_surface(np.arange(half), half, 'CortexLeft')
        axis += BrainModelAxis.from_surface(np.arange(n - half), n - half, 'CortexRight')
        form, label = ('gifti', 'own') if extension == '.func.gii' else ('cifti', 'own')
        space = Space(axis, form, label)
    inside = np.zeros(shape, dtype=bool)
    inside.ravel()[:n] = True
    mask = VoxelMask(inside, np.eye(4), space=space)
    side = '_hemi-L' if extension == '.func.gii' else ''
    file = folder / f'sub-01{side}_space-own_x{extension}'
    if space is None:
        betas_image(mask, samples.values, file)
    else:
        write_image(file, betas_image(mask, samples.values, folder / 'betas.values'))
    mask.extract(np.asanyarray(load_image(file).dataobj[..., :N_RUN], np.float32))
    for each in files_of(file):
        each.unlink()


STEPS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    'reliability': reliability,
    'selection': selection,
    'linear': linear,
    'ridge': ridge,
    'generation': generation,
    'small': small,
    'published': published,
    'films': films,
    'banded': banded,
    'network': network,
    'cifti': cifti,
    'gifti': gifti,
    'volume': volume,
}


def measure(step: str, folder: Path, n_folds: int) -> dict[str, float]:
    """Run one step in this process; return its peak (GiB) and processor time (s)."""
    given = load(folder, n_folds)
    with watched() as found:
        STEPS[step](given, folder)
    return found


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Give a mapping that holds peak (GiB) and processor time (s) of the block at its end."""
    found: dict[str, float] = {}
    peak = Peak()
    peak.start()
    start = time.process_time()
    yield found
    found |= {'gib': round(peak.most, 3), 'seconds': round(time.process_time() - start, 2)}
    peak.done.set()
    peak.join()


def program(argv: list[str]) -> int:
    """Run the program in this process; print what each step held, and what it asks for."""
    from bids_neurodecode.cli.checks import check_all
    from bids_neurodecode.cli.levels import run_settings
    from bids_neurodecode.cli.main import main as run_program
    from bids_neurodecode.cli.parser import parse_arguments, settings_from
    from bids_neurodecode.levels.participant import init_run_wf
    from bids_neurodecode.workflow import stage
    from bids_neurodecode.workflow.resources import data_size

    rows: list[dict[str, Any]] = []

    @contextmanager
    def measured(file: Path) -> Iterator[None]:
        with watched() as found:
            yield
        file.write_text(json.dumps({'seconds': found['seconds'], 'memory_gb': found['gib']}))
        rows.append({'step': file.parent.name, **found})

    stage.measured = measured  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as place:
        plugin = Path(place) / 'plugin.yml'
        plugin.write_text('plugin: Linear\n', encoding='utf-8')
        call = [argv[0], f'{place}/out', 'participant', '-w', f'{place}/work', *argv[1:]]
        call += ['--use-plugin', str(plugin)]
        arguments = parse_arguments(call)
        config = settings_from(arguments)
        inputs = check_all(arguments, config)
        workflow = init_run_wf(inputs.participants, run_settings(arguments, config, inputs, 'b'))
        nodes = [workflow.get_node(name) for name in workflow.list_node_names()]
        asked = {node.name: node.mem_gb for node in nodes}
        code = run_program(call)
    size = data_size(inputs.participants[0])
    about = {
        'n_voxels': size.n_voxels,
        'filled': round(size.filled, 4),
        'n_volumes': max(size.n_volumes),
        'n_runs': len(size.n_volumes),
        'n_stimuli': size.n_stimuli,
        'n_trials': size.n_trials,
    }
    table = pd.DataFrame([{**row, **about, 'asked': asked.get(row['step'])} for row in rows])
    table.insert(0, 'system', config.system)
    print(table.to_csv(sep='\t', index=False))
    return code


def main(argv: list[str]) -> int:
    """Measure all steps at all counts, and print the table; return 1 if a step failed."""
    if argv[:1] == ['--program']:
        return program(argv[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--columns', type=int, default=91_282)
    parser.add_argument('--trials', type=int, nargs='+', default=[500, 1000, 2000])
    parser.add_argument('--steps', nargs='+', default=list(STEPS), choices=list(STEPS))
    parser.add_argument('--folds', type=int, default=1, help='1: a tenth is held out')
    parser.add_argument('--one', nargs=2, metavar=('STEP', 'FOLDER'), help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.one:
        print(json.dumps(measure(asked.one[0], Path(asked.one[1]), asked.folds)))
        return 0
    rows, failed = [], list[str]()
    for n_trials in asked.trials:
        with tempfile.TemporaryDirectory() as place:
            simulate(Path(place), n_trials, asked.columns)
            for step in asked.steps:
                call = [
                    sys.executable,
                    __file__,
                    '--one',
                    step,
                    place,
                    '--folds',
                    str(asked.folds),
                ]
                done = subprocess.run(call, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    failed.append(f'{step} with {n_trials} trials')
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                rows.append({'step': step, 'trials': n_trials, **found})
                print(rows[-1], flush=True)
    if failed:
        print(f'failed: {", ".join(failed)}', file=sys.stderr)
    if not rows:
        return 1
    table = pd.DataFrame(rows)
    betas = 4 * asked.columns / GIB
    for step, own in table.groupby('step', sort=False):
        if len(own) > 1:
            slope, level = np.polyfit(own['trials'], own['gib'], 1)
            slow, _ = np.polyfit(own['trials'], own['seconds'], 1)
            print(
                f'{step}: {level:.2f} GiB + {slope / betas:.2f} times the betas; at {ASKED:,} '
                f'trials {level + slope * ASKED:.1f} GiB, {slow * ASKED / 60:.0f} min'
            )
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
