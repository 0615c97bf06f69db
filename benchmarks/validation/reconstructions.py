"""Scores of reconstructions: images compared by networks and pixels, and brain correlation.

Reconstructions that have nothing to do with what was seen, looking like some true image or other
as generators make them; captions of the training images that such reconstructions look like; and
decoders of pure noise, whose images an encoding model of the same training trials is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from benchmarks.validation.harness import Check, once
from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.protocols import PROTOCOLS, get_protocol
from bids_neurodecode.samples import Fold, Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.comparison import compare_rows
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.outcomes import Outcome
from bids_neurodecode.systems.reconstruction.generation.brain_correlation import (
    METRIC,
    BrainScores,
)
from bids_neurodecode.systems.reconstruction.generation.caption_scores import (
    SIMILARITY,
    TWO_WAY,
    Captions,
)
from bids_neurodecode.systems.reconstruction.generation.scores import Judged, ReconstructionScorer
from bids_neurodecode.systems.reconstruction.steps.image_scores import MODEL, score_images

Rows = dict[str, tuple[float, float, float, float]]
"""Value, limits and p of each metric."""
SIDE, N_KINDS = 16, 6
SETTINGS = EvaluationSettings(n_permutations=199, n_bootstrap=300)
_CPU = get_protocol('cpu-1')
SMALL = replace(
    _CPU,
    pixel_size=SIDE,
    metrics=tuple(replace(m, size=SIDE) for m in _CPU.metrics if m.network == 'mobilenetv2'),
)
"""The program's protocol at a size that allows thousands of data sets."""


class Projected:
    """Stands in for a network: rectified random projections of pixels."""

    def __call__(
        self, pixels: npt.NDArray[np.float32], layers: object
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return (n, 50) of the one layer that is asked for."""
        weights = np.random.default_rng(0).standard_normal((pixels[0].size, 50))
        flat = pixels.reshape(len(pixels), -1)
        return {'avgpool': np.maximum(flat @ weights, 0).astype(np.float32)}


@dataclass(frozen=True)
class Pairs:
    """True images and reconstructions.

    Parameters
    ----------
    n_images, n_each
        Images, and reconstructions of each (single trials).
    signal
        Share of the true image in a reconstruction; the rest is another image, one a trial.
    """

    n_images: int = 20
    n_each: int = 1
    signal: float = 0.0

    def images(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw smooth images of different contrast, as photographs are."""
        coarse = rng.standard_normal((n, 4, 4, 3)) * rng.gamma(4, 0.25, (n, 1, 1, 1))
        fine = rng.standard_normal((n, SIDE, SIDE, 3))
        return coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2) + 0.3 * fine

    def scores(self, rng: np.random.Generator) -> Rows:
        """Score one data set by the program's own function."""
        truth = self.images(self.n_images, rng).repeat(self.n_each, 0)
        other = self.images(len(truth), rng)
        made = self.signal * truth + (1 - self.signal) * other
        names = [f'{k:03d}' for k in range(self.n_images) for _ in range(self.n_each)]
        sides = (np.clip(128 + 40 * x, 0, 255).astype(np.uint8) for x in (truth, made))
        with patch.dict(PROTOCOLS, {'cpu-1': SMALL}):
            found = score_images(
                *sides, names, 'cpu-1', {'mobilenetv2': Projected()}, baselines=False,
                n_permutations=SETTINGS.n_permutations, seed=int(rng.integers(2**31)),
                guided_by=(),
            )  # fmt: skip
        return {s.metric: _numbers(s) for s in found.scores if s.model == MODEL}


@dataclass(frozen=True)
class Captioned:
    """Reconstructions without any relation to what was seen, compared by captions.

    Images are of six kinds, of which both pixels and captions tell, so that training images of a
    kind are chosen together.

    Parameters
    ----------
    n_images, n_trials
        Every image is reconstructed from each of its trials.
    n_folds
        Of images; 1: a third is held out.
    """

    n_images: int = 60
    n_trials: int = 1
    n_folds: int = 1

    def scores(self, rng: np.random.Generator) -> Rows:
        """Score one data set by captions of the nearest training images."""
        kinds = rng.integers(N_KINDS, size=2 * self.n_images)
        look, meaning = (
            np.random.default_rng(k).standard_normal((N_KINDS, n))[kinds]
            for k, n in enumerate((48, 20))
        )
        coarse = (look + rng.standard_normal(look.shape)).reshape(-1, 4, 4, 3)
        pixels = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
        drawn = np.clip(128 + 40 * pixels, 0, 255).astype(np.uint8)
        said = meaning[: self.n_images, None] + rng.standard_normal((self.n_images, 2, 20))
        names = tuple(f'{k:03d}' for k in range(self.n_images))
        known = {f'{name} {k}': said[row, k] for row, name in enumerate(names) for k in range(2)}
        pictures = PerStimulus(names, drawn[: self.n_images])
        captions = Captions(
            lambda texts: np.stack([known[text] for text in texts]).astype(np.float32),
            {name: (f'{name} 0', f'{name} 1') for name in names},
            pictures,
        )
        table = pd.DataFrame({'stimulus': names * self.n_trials, 'run': 0})
        split = split_by_group(
            table, 'stimulus', n_folds=self.n_folds, test_fraction=1 / 3, rng=rng
        )
        parts, libraries = [], {}
        for number, fold in enumerate(split):
            shown = table.take(fold.test).assign(sample=fold.test, run='0')
            outcome = _outcome('ridge', 'final', number, shown)
            # those that were never shown, one a trial
            made = drawn[self.n_images :][rng.integers(self.n_images, size=len(shown))]
            parts.append(Judged(outcome, made, pictures.of(outcome.candidates)))
            libraries[number] = [*dict.fromkeys(table['stimulus'].take(fold.train))]
        networks = {'mobilenetv2': Projected()}
        board = ReconstructionScorer(split, SETTINGS, Pixels().transform, networks, rng, SMALL)
        rows, _ = captions.scores(board, parts, libraries)
        return {score.metric: _numbers(score) for score in rows}


@dataclass(frozen=True)
class Noise:
    """Decoders and encoding models of responses without any signal, autocorrelated within runs.

    Parameters
    ----------
    n_images, n_runs
        Every image is shown once in each run.
    n_folds
        Of images; 1: a third is held out.
    """

    n_images: int = 30
    n_runs: int = 3
    n_folds: int = 1

    def scores(self, rng: np.random.Generator) -> Rows:
        """Score one data set: reconstructions, and images retrieved by the same decoder."""
        names = tuple(f'{k:02d}' for k in range(self.n_images))
        shape = (self.n_images, 4, 4, 3)
        pictures = PerStimulus(names, rng.integers(0, 256, shape, dtype=np.uint8))
        order = np.concatenate([rng.permutation(self.n_images) for _ in range(self.n_runs)])
        values = np.concatenate(
            [_autocorrelated(self.n_images, 40, rng) for _ in range(self.n_runs)]
        )
        table = pd.DataFrame(
            {
                'stimulus': [names[k] for k in order],
                'run': np.repeat(np.arange(self.n_runs), self.n_images),
            }
        )
        mask = VoxelMask(np.ones((values.shape[1], 1, 1), dtype=bool), np.eye(4))
        samples = Samples(Responses(values.astype(np.float32), mask), table)
        split = split_by_group(
            table, 'stimulus', n_folds=self.n_folds, test_fraction=1 / 3, rng=rng
        )
        ridge = RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3)
        settings = EncoderSettings(n_components=20, ridge=ridge)
        brain = BrainScores.of({'pixels': {'all': Pixels()}}, (), settings)
        for number, fold in enumerate(split):
            _one_fold(brain, samples, number, fold, pictures)
        board = ReconstructionScorer(split, SETTINGS, Pixels().transform, {}, rng, SMALL)
        rows, _ = brain.scores(board)
        compared = compare_rows(rows, board.kept, 'ridge', SETTINGS, rng)
        nearest = next(s for s in compared if s.model == 'baseline-nearest')
        names_of = ('difference', 'difference_low', 'difference_high', 'difference_p')
        differs = _numbers(nearest, names_of)
        own = next(s for s in rows if s.model == 'ridge')
        return {METRIC: _numbers(own), 'difference': differs}


class Pixels:
    """Describes images by their pixels."""

    name, version = 'pixels', '1'
    params: dict[str, object] = {}  # noqa: RUF012 - as the protocol of extractors has it

    def transform(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (n, n_pixels)."""
        return images.reshape(len(images), -1).astype(np.float32)


def _autocorrelated(n: int, n_voxels: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    white = rng.standard_normal((n + 50, n_voxels))
    return np.asarray(lfilter([np.sqrt(0.75)], [1, -0.5], white, axis=0)[50:])


def _one_fold(
    brain: BrainScores, samples: Samples, number: int, fold: Fold, pictures: PerStimulus
) -> None:
    """Decode pixels of held-out trials by ridge regression, and note what came of them."""
    train, _, test = samples.fold(fold)
    pixels = Pixels().transform(pictures.of(train.table['stimulus'])).astype(np.float64)
    x, mean = train.values - train.values.mean(axis=0), pixels.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ (pixels - mean))
    decoded = (test.values - train.values.mean(axis=0)) @ weights
    # contrast as that of true images, whatever is shrunk away
    decoded *= pixels.std() / decoded.std()
    made = np.clip(mean + decoded, 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)
    known = [*dict.fromkeys(train.table['stimulus'])]
    library = Pixels().transform(pictures.of(known)) - mean
    nearest = np.argmax(decoded @ (library / np.linalg.norm(library, axis=1)[:, None]).T, axis=1)
    table = test.table.assign(sample=fold.test, run=test.table['run'].astype(str))
    outcome = _outcome('', 'final-single-trial', number, table)
    models = {
        'ridge': made,
        'baseline-nearest': pictures.of([known[k] for k in nearest]),
        'reference-true-image': pictures.of(table['stimulus']),
    }
    brain.note(outcome, train, test, pictures, models)


def _outcome(model: str, space: str, fold: int, table: pd.DataFrame) -> Outcome:
    """Say what was held out in a fold, without features."""
    candidates, nothing = tuple(dict.fromkeys(table['stimulus'])), ('',) * len(table)
    return Outcome(
        model, space, fold, table, candidates, np.empty((len(table), len(candidates))),
        nothing, nothing, (), np.empty((len(table), 0), np.float32),
    )  # fmt: skip


def _numbers(
    score: Score, names: tuple[str, ...] = ('value', 'ci_low', 'ci_high', 'p')
) -> tuple[float, float, float, float]:
    found = (getattr(score, name) for name in names)
    value, low, high, p = (np.nan if x is None else float(x) for x in found)
    return value, low, high, p


World = Pairs | Captioned | Noise


@once
def scored(rng: np.random.Generator, world: World) -> Rows:
    """Score a data set once for all its metrics."""
    return world.scores(rng)


def p_of(rng: np.random.Generator, *, world: World, metric: str) -> float:
    """P of one metric."""
    return scored(rng, world)[metric][3]


def covered(rng: np.random.Generator, *, world: World, metric: str, true: float) -> float:
    """Whether the interval of one metric holds the true value."""
    _, low, high, _ = scored(rng, world)[metric]
    return float(low <= true <= high) if np.isfinite(low) else float('nan')


FAMILY = 'reconstructions'
FOLDS = 'Folds share training images: nulls and intervals are widened by a bound.'
NETWORK_2WAY, DISTANCE = 'mobilenetv2_2way', 'mobilenetv2_distance'
_NULLS = (
    ('8 images, no relation', Pairs(8)),
    ('20 images, no relation', Pairs(20)),
    ('20 images, three reconstructions of each, no relation', Pairs(20, 3)),
)
_SIGNAL = ('20 images, a fifth of the true one', Pairs(20, signal=0.2))
_BRAINS = (
    ('noise, AR .5, 30 images in 3 runs, a third held out', Noise()),
    ('noise, AR .5, 30 images in 3 runs, five folds', Noise(n_folds=5)),
)
_CAPTIONED = (
    ('20 of 60 images held out, captions of six kinds, no relation', Captioned()),
    ('the same, three reconstructions of each image', Captioned(n_trials=3)),
    ('60 images in five folds, captions of six kinds, no relation', Captioned(n_folds=5)),
)
_TRUE_NULL = {NETWORK_2WAY: 0.5, DISTANCE: 0.849, 'pixcorr': 0.0, 'ssim_2d': 0.066}
_TRUE_CAPTIONS = {TWO_WAY: 0.5, SIMILARITY: 0.1}
_TRUE_SIGNAL = {NETWORK_2WAY: 0.764, DISTANCE: 0.647, 'pixcorr': 0.272, 'ssim_2d': 0.265}
"""Known, or means over 500 or more other data sets (standard errors of .002)."""


def _covers(name: str, metric: str, world: str, of: World, true: float) -> Check:
    simulate = partial(covered, world=of, metric=metric, true=true)
    return Check(FAMILY, name, world, 'covers', simulate, note=_note(of))


def _note(world: World) -> str:
    return FOLDS if isinstance(world, Captioned) and world.n_folds > 1 else ''


CHECKS = [
    *(
        Check(FAMILY, metric, name, 'p', partial(p_of, world=world, metric=metric))
        for name, world in _NULLS
        for metric in _TRUE_NULL
    ),
    *(
        _covers(metric, metric, name, world, true)
        for name, world in _NULLS
        for metric, true in _TRUE_NULL.items()
    ),
    *(_covers(metric, metric, *_SIGNAL, true) for metric, true in _TRUE_SIGNAL.items()),
    *(
        Check(
            FAMILY, metric, name, 'p', partial(p_of, world=world, metric=metric), note=_note(world)
        )
        for name, world in _CAPTIONED
        for metric in _TRUE_CAPTIONS
    ),
    *(
        _covers(metric, metric, name, world, true)
        for name, world in _CAPTIONED
        for metric, true in _TRUE_CAPTIONS.items()
    ),
    *(
        Check(
            *(FAMILY, METRIC, name, 'p'),
            partial(p_of, world=world, metric=METRIC),
            quick=25 if world == Noise() else 0,
            before=(0.070, 0.060, 0.083) if world == Noise() else None,
            note='Nulls are widened by the root of 2, a bound for trials that predict each other.',
        )
        for name, world in _BRAINS
    ),
    *(_covers(METRIC, METRIC, name, world, 0.0) for name, world in _BRAINS),
    *(
        Check(
            *(FAMILY, f'{METRIC}, less that of retrieved images', name, 'p'),
            partial(p_of, world=world, metric='difference'),
        )
        for name, world in _BRAINS
    ),
]
