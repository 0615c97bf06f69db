"""Images from responses, in two stages, over folds; then one final model.

Stage 1: the first latents of a very deep VAE are predicted from responses and decoded to an
image, the *initial* one. Stage 2: a diffusion model starts from the noised initial image and
takes the noise off under the guidance of features that were predicted from the same responses:
the *final* image (Brain-Diffuser, Ozcelik & VanRullen 2023, Sci Rep 13:15666; arXiv 2412.13237).

Whatever learns (voxel selection, prior, refiner, components, regressions) sees the training
samples of a fold and their images only. Folds with the same training images share one prior
and one refiner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import TRUE_LATENTS, TRUE_TARGETS
from bids_neurodecode.mapped import blocks
from bids_neurodecode.models.precision import products
from bids_neurodecode.models.sampling import picture_seed
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.systems.base import AT_ONCE
from bids_neurodecode.systems.linear import candidate_stimuli
from bids_neurodecode.systems.outcomes import MEAN_IMAGE
from bids_neurodecode.systems.pooling import CLOSED_SET, ONE_CANDIDATE
from bids_neurodecode.systems.reconstruction.generation.data import Applied, Generation, Inputs
from bids_neurodecode.systems.reconstruction.generation.fit import (
    Fitting,
    Rows,
    Stage,
    check_extra,
    encoded,
    training_rows,
)
from bids_neurodecode.systems.reconstruction.generation.generators import Generator, Progress
from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel, refine
from bids_neurodecode.systems.reconstruction.generation.record import (
    FINAL,
    INITIAL,
    HeldOut,
    Record,
    nearest_stimuli,
    tested,
)
from bids_neurodecode.systems.voxels import Estimates
from bids_neurodecode.typing import BoolArray, Float32Array, Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.models.latent_training import LatentSettings

NAMES_DIFFER = 'There must be one name per response: {n} responses, {found} names.'
NO_REGIONS = (
    'The regressor {name!r} needs regions of voxels. Give an atlas, or choose another regressor.'
)
FIRST_PRIOR = (
    'The final model keeps the prior and refiner of the first fold, which learned from the '
    'images of its training samples; its regressions are fitted on all samples.'
)
TRANSDUCTIVE = (
    'Predictions were re-standardised by those of all test samples (reconstruction.renorm = '
    'transductive, as in published code): each depends on the others.'
)
NEAREST, SHUFFLED, RIDGE = 'baseline-nearest-blurred', 'baseline-shuffled', 'baseline-ridge'
BLUR = 4.0
"""Deviation of the blur of the nearest image, in per cent of an image's side."""

# of progress: a fold, its training of prior and refiner, and the final model with all scores
_UNITS, _STAGE_UNITS, _FINAL_UNITS = 100, 70, 30


def generate_pictures(
    estimates: Estimates,
    inputs: Inputs,
    generator: Generator,
    config: Config,
    *,
    device: str = 'cpu',
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> Generation:
    """Run the pipeline.

    Each test stimulus is reconstructed from the average of its repeats in the fold's test samples
    and, where there are repeats, from each single trial. Where the same few stimuli are in all
    folds (a closed set), they are reconstructed in each fold anew.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out; voxels are chosen as for the decoder.
    inputs
        Features, images and what else images are made from.
    generator
        Prior and refiner: :class:`.small.SmallGenerator` or
        :class:`.published.PublishedGenerator`, or another with their interface.
    config
        Settings; those of ``reconstruction`` are used, and selection, ridge, features, evaluation
        and seed.
    device
        ``cpu`` or ``cuda``, of the regressions and their networks.
    checkpoint_dir
        Folder where trained priors, refiners and networks are kept under the digest of what they
        are a function of, so that a run that was stopped goes on. None: nothing is kept.
    progress
        Called with (steps done, all steps).

    Raises
    ------
    DataError
        If nothing can be held out or identified, a stimulus has no image, or a held-out image
        is among the extra ones.
    """
    with products(config.reconstruction.precision):
        split, features = estimates.split, inputs.features
        work = _Work(split, inputs, generator, config, device, checkpoint_dir, progress)
        selections = []
        for number, parts in enumerate(estimates.parts()):
            chosen = estimates.choose(parts.train, features, config, device)
            selections.append(chosen)
            train, test = parts.train.voxels(chosen.keep), parts.test.voxels(chosen.keep)
            work.fold(number, train, test, chosen.keep)
        final = estimates.choose(estimates.samples, features, config, device)
        model = work.final(estimates.samples.voxels(final.keep), final.keep)
        return work.result(model, final, tuple(selections))


def apply_generation(
    model: GenerationModel,
    responses: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
    config: Config,
) -> Applied:
    """Make images of new responses.

    Parameters
    ----------
    model
        Fitted on everything (:attr:`Generation.model`), or read by ``GenerationModel.from_state``.
    responses
        Shape (n, n_voxels), of the voxels that the model was fitted on (its selection).
    names
        One a response, by which noise is drawn: the same name and seed give the same noise.
    config
        The settings of sampling (strength, start, noise, conditions, guidance) and the seed.
        Transductive re-standardisation needs two responses or more.

    Raises
    ------
    DataError
        For responses of other voxels, or names that do not match.
    """
    if len(names) != len(responses):
        raise DataError(NAMES_DIFFER.format(n=len(responses), found=len(names)))
    seeds = [picture_seed(config.seed, name) for name in names]
    with products(config.reconstruction.precision):
        latents = model.predict_latents(responses)
        initial = model.fitted.decode(latents, seeds)
        conditions = model.predict_conditions(responses)
        final = refine(
            model.fitted, initial, conditions, seeds, config.reconstruction, trust=model.trust
        )
    return Applied(initial, final, latents)


@dataclass
class _Work:
    """A run under way: what was learned, and what was made."""

    split: Split
    inputs: Inputs
    generator: Generator
    config: Config
    device: str
    checkpoint_dir: Path | None
    progress: Progress | None
    stages: dict[tuple[str, ...], Stage] = field(default_factory=dict)
    learned: list[dict[str, Any]] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        from bids_neurodecode.models.latent_training import LatentSettings

        self.settings: LatentSettings = LatentSettings.of(
            self.config, seed=self.config.seed, device=self.device
        )
        fits, self._scores_rng = np.random.default_rng([self.config.seed, 4]).spawn(2)
        self._rngs = fits.spawn(len(self.split) + 1)
        self.told = self.config.reconstruction
        self.record = Record(self.split, self.inputs, self.config, self.device)

    def fold(
        self,
        number: int,
        train: Samples,
        test: Samples,
        keep: BoolArray,
    ) -> None:
        """Learn from the training samples of a fold, and reconstruct its test samples."""
        candidates, is_closed = candidate_stimuli(train.table, test.table)
        if len(candidates) < 2:
            raise DataError(ONE_CANDIDATE.format(fold=number))
        self.closed.append(is_closed)
        stage = self._stage(number, train, test)
        rng = self._rngs[number]
        rows = training_rows(train, stage, self.config, rng)
        models = self._fitting(rows, stage, keep).models(rng)
        model = models.own
        self._learned(number, model)
        repeats = bool(test.table['stimulus'].duplicated().any())
        for average in (True, False) if repeats else (False,):
            given = tested(
                number,
                test,
                np.asarray(self.split.folds[number].test),
                candidates,
                self.config.seed,
                average=average,
                repeats=repeats,
            )
            initial, final = self._reconstruct(self.told.regressor, given, model, stage)
            if given.is_main:
                self._baselines(given, model, stage)
                self._reconstruct(SHUFFLED, given, models.shuffled, stage)
                if models.ridge is not None:
                    self._reconstruct(RIDGE, given, models.ridge, stage)
            if repeats and not average:
                self.record.note_brain(given, train, final, model, stage)
            self.record.remember(given, model, stage, initial, final)
        self._tell(_UNITS * (number + 1))

    def final(self, samples: Samples, keep: BoolArray) -> GenerationModel:
        """Fit the final model on everything, with the prior of the first fold."""
        stage = next(iter(self.stages.values())).extended(
            [*samples.table['stimulus'].astype(str)], self.checkpoint_dir
        )
        rng = self._rngs[-1]
        rows = training_rows(samples, stage, self.config, rng)
        model = self._fitting(rows, stage, keep).model(rng)
        self._learned(-1, model)
        self._tell(_UNITS * len(self.split) + _FINAL_UNITS // 3)
        return model

    def result(
        self,
        model: GenerationModel,
        selection: VoxelSelection,
        fold_selections: tuple[VoxelSelection, ...],
    ) -> Generation:
        """Score what was made."""
        scores, nulls, notes = self.record.scores(self._scores_rng)
        self._tell(_UNITS * len(self.split) + _FINAL_UNITS)
        if all(self.closed):
            notes.insert(0, CLOSED_SET)
        else:
            notes.append(FIRST_PRIOR)
        if self.told.renorm == 'transductive':
            notes.append(TRANSDUCTIVE)
        curves = pd.DataFrame(self.learned, columns=['fold', 'network', 'part', 'step', 'loss'])
        return Generation(
            tuple(scores),
            self.record.pictures(),
            nulls,
            model,
            selection,
            fold_selections,
            curves,
            tuple(dict.fromkeys(notes)),
            self.record.used,
        )

    def _stage(self, number: int, train: Samples, test: Samples) -> Stage:
        """Return what is known of the fold's training images; learn it if it is not known."""
        names = tuple(sorted(set(train.table['stimulus'].astype(str))))
        if names not in self.stages:
            held_out = sorted(set(test.table['stimulus'].astype(str)) - set(names))
            check_extra(self.inputs, held_out)
            start = self.done

            def tell(done: int, total: int) -> None:
                self._tell(start + round(_STAGE_UNITS * done / total))

            stage = Stage.learn(
                names,
                self.inputs,
                self.generator,
                self.config,
                checkpoint_dir=self.checkpoint_dir,
                progress=tell if self.progress is not None else None,
            )
            self.stages[names] = stage
            self.learned += [{'fold': number, **row} for row in stage.fitted.curves()]
        return self.stages[names]

    def _fitting(self, rows: Rows, stage: Stage, keep: BoolArray) -> Fitting:
        return Fitting(
            rows,
            stage,
            self.config,
            self.settings,
            regions=self._regions(keep),
            device=self.device,
            checkpoint_dir=self.checkpoint_dir,
        )

    def _learned(self, number: int, model: GenerationModel) -> None:
        self.learned += [{'fold': number, **row} for row in model.latents.curves()]

    def _regions(self, keep: BoolArray) -> list[npt.NDArray[np.intp]] | None:
        if not self.told.regressor.startswith('regions'):
            return None
        if self.inputs.regions is None:
            raise DataError(NO_REGIONS.format(name=self.told.regressor))
        labels = self.inputs.regions[keep]
        return [np.flatnonzero(labels == label) for label in np.unique(labels[labels > 0])]

    def _reconstruct(
        self, name: str, given: HeldOut, model: GenerationModel, stage: Stage
    ) -> tuple[Uint8Array, Uint8Array]:
        """Make both images of each sample, and note them under a name."""
        values, keep = given.samples.values, self.record.keep
        n, length = len(values), stage.latents.shape[1]
        latents = keep(n, (model.predict_latents(values[part]) for part in self._parts(n, length)))
        initial = keep(
            n,
            (
                model.fitted.decode(latents[part], given.seeds[part])
                for part in self._parts(n, length)
            ),
        )
        final = self._refined(
            stage, given, initial, lambda part: model.predict_conditions(values[part]),
            trust=model.trust,
        )  # fmt: skip
        self.record.note(name, given.space(INITIAL), given, initial, stage)
        outcome = self.record.note(name, given.space(FINAL), given, final, stage)
        if given.is_main:
            self.record.note_latents(name, outcome, latents, given, stage)
        return initial, final

    def _refined(
        self,
        stage: Stage,
        given: HeldOut,
        initial: Uint8Array,
        conditions: Callable[[slice], Mapping[str, npt.NDArray[Any]]],
        *,
        trust: Mapping[str, Float32Array] | None = None,
    ) -> Uint8Array:
        """Make final images, as many at once as their conditions have room for."""
        n, fitted = len(initial), stage.fitted
        size = sum(int(np.prod(values.shape[1:])) for values in stage.conditions.values())
        made = (
            refine(
                fitted, initial[part], conditions(part), given.seeds[part], self.told, trust=trust
            )
            for part in self._parts(n, size)
        )
        return self.record.keep(n, made)

    def _parts(self, n: int, size: int) -> Iterable[slice]:
        """Cut n samples so that what is predicted of each, of a size, has room.

        Re-standardised by one another, they stay together.
        """
        return [slice(n)] if self.told.renorm == 'transductive' else blocks(n, size)

    def _baselines(self, given: HeldOut, model: GenerationModel, stage: Stage) -> None:
        """Note what needs no responses, the nearest image, and what the truth makes."""
        n = len(given.table)
        mean = np.rint(self.inputs.pictures.mean(model.library)).astype(np.uint8)
        outcome = self.record.note(
            MEAN_IMAGE, FINAL, given, np.broadcast_to(mean, (n, *mean.shape)), stage
        )
        average = stage.latents.mean(axis=0)
        self.record.note_latents(
            MEAN_IMAGE, outcome, np.broadcast_to(average, (n, *average.shape)), given, stage
        )
        pictures = self.inputs.pictures.of(nearest_stimuli(given, model, stage))
        self.record.note(NEAREST, FINAL, given, self.record.keep(n, blurred(pictures)), stage)
        latents = encoded(stage.fitted, self.inputs.pictures.of(given.stimuli))
        decoded = self.record.keep(n, [stage.fitted.decode(latents, given.seeds)])
        self.record.note(TRUE_LATENTS, INITIAL, given, decoded, stage)
        final = self._refined(stage, given, decoded, lambda part: stage.truth(given.stimuli[part]))
        self.record.note(TRUE_TARGETS, FINAL, given, final, stage)
        self.record.note_retrieval(given, model, stage)

    def _tell(self, done: int) -> None:
        self.done = max(self.done, done)
        if self.progress is not None:
            self.progress(self.done, _UNITS * len(self.split) + _FINAL_UNITS)


def blurred(pictures: Uint8Array) -> Iterator[Uint8Array]:
    """Blur images (n, h, w, 3) with a deviation of :data:`BLUR` per cent of their side."""
    from scipy.ndimage import gaussian_filter

    sigma = BLUR / 100 * pictures.shape[1]
    for at in range(0, len(pictures), AT_ONCE):
        some = pictures[at : at + AT_ONCE].astype(np.float32)
        yield np.rint(gaussian_filter(some, (0, sigma, sigma, 0))).astype(np.uint8)
