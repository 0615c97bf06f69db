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

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.systems.reconstruction.generation.data import Applied, Generation, Inputs
from bids_neurodecode.typing import BoolArray

if TYPE_CHECKING:
    from bids_neurodecode.systems.reconstruction.generation.generators import Generator
    from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel


def generate_pictures(
    samples: Samples,
    tuned: Sequence[Samples],
    split: Split,
    inputs: Inputs,
    generator: Generator,
    config: Config,
    *,
    tsnr_runs: npt.NDArray[np.float32],
    within: BoolArray | None = None,
    device: str = 'cpu',
    checkpoint_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Generation:
    """Run the pipeline.

    Each test stimulus is reconstructed from the average of its repeats in the fold's test samples
    and, where there are repeats, from each single trial. Where the same few stimuli are in all
    folds (a closed set), they are reconstructed in each fold anew.

    Parameters
    ----------
    samples, tuned, split, tsnr_runs, within
        As in :func:`~bids_neurodecode.systems.reconstruction.decoding.decode_pictures`; voxels
        are chosen alike.
    inputs
        Features, images and what else images are made from.
    generator
        Prior and refiner: :class:`~.generation_generators.SmallGenerator` or
        :class:`~.generation_generators.PublishedGenerator`, or another with their interface.
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
    from bids_neurodecode.models.precision import products
    from bids_neurodecode.systems.reconstruction.generation.run import run

    with products(config.reconstruction.precision):
        return run(
            samples,
            tuned,
            split,
            inputs,
            generator,
            config,
            tsnr_runs=tsnr_runs,
            within=within,
            device=device,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )


def apply_generation(
    model: GenerationModel,
    responses: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
    config: Config,
    *,
    progress: Callable[[int, int], None] | None = None,
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
    progress
        Called with (steps done, all steps) of the second stage.

    Raises
    ------
    DataError
        For responses of other voxels, or names that do not match.
    """
    from bids_neurodecode.models.precision import products
    from bids_neurodecode.systems.reconstruction.generation.run import apply

    with products(config.reconstruction.precision):
        return apply(model, responses, names, config, progress=progress)
