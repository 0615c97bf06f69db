"""Training a very deep VAE on images: the prior for machines without published weights.

The images of a step, whether they are mirrored and the noise of their latents depend on the seed
and the number of the step alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.training import as_read, by_channel, train
from bids_neurodecode.models.trainingsettings import Progress, Training, TrainingSettings
from bids_neurodecode.models.vdvae import VDVAE
from bids_neurodecode.models.vdvae_config import VDVAEConfig
from bids_neurodecode.typing import Uint8Array

NOT_PICTURES = (
    'Training the VDVAE needs at least 2 uint8 images of shape (n, {size}, {size}, 3); '
    'these are {found}.'
)

TRAINING = TrainingSettings(
    n_epochs=1,
    learning_rate=2e-3,
    weight_decay=0.01,
    optimizer='adamw',
    betas=(0.9, 0.9),
    fused=True,
    schedule='cosine',
    warmup=50,
    clip_norm=5.0,
    skip_norm=1000.0,
    ema=0.995,
    shuffle=False,
    curve='step',
    checkpoint_every=100,
)
"""How a VDVAE is trained; its images are in order of its steps, so that one epoch is all."""


@dataclass
class Draws:
    """The images of all steps, half of them mirrored: each once before any comes again.

    Parameters
    ----------
    images
        Training images, (n, h, w, 3).
    n_steps, batch_size
        Steps, and images in each.
    seed
        Of their order, of mirroring and of latents.
    """

    images: Uint8Array
    n_steps: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return self.n_steps * self.batch_size

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        """Return an image, and the seed of the noise of its latents."""
        step, place = divmod(position, self.batch_size)
        rng = np.random.default_rng([self.seed, step])
        mirrored = rng.random(self.batch_size)[place] < 0.5
        seed = int(rng.integers(2**62, size=self.batch_size)[place])
        image = self.images[self._row(position)]
        return torch.from_numpy((image[:, ::-1] if mirrored else image).copy()), seed

    def _row(self, position: int) -> int:
        n = len(self.images)
        epoch, place = divmod(position, n)
        if getattr(self, '_epoch', None) != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch, 1]).permutation(n)
        return int(self._order[place])


class _Objective(nn.Module):
    """Negative evidence lower bound of images, nats a dimension."""

    def __init__(self, network: VDVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        return {'loss': self.network.likelihood(images.float(), Noise(seeds.tolist())).elbo.mean()}


def train_vdvae(
    images: Uint8Array,
    config: VDVAEConfig,
    settings: TrainingSettings = TRAINING,
    *,
    n_steps: int = 1500,
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[VDVAE, Training]:
    """Train a model on images; return it with its averaged weights, and how that went.

    Parameters
    ----------
    images
        Training images of the model's size, (n, h, w, 3), uint8.
    config
        What the model is built from.
    settings
        How it is trained: some of :data:`TRAINING`. The seed is also of the initial weights, the
        order of the images, mirroring and latents.
    n_steps
        Updates.
    checkpoint_dir
        Folder of the checkpoints of this training alone, to go on from after a stop.
    progress
        Called with (steps done, all steps).

    Raises
    ------
    DataError
        For images of another shape, a checkpoint of another run, or a training that diverges.
    """
    size = config.image_size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3) or len(images) < 2:
        found = f'{images.dtype} {images.shape}'
        raise DataError(NOT_PICTURES.format(size=size, found=found))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = VDVAE(config)
    by_channel(network)
    draws = Draws(images, n_steps, settings.batch_size, settings.seed)
    told = train(
        _Objective(network), draws, settings, checkpoint_dir=checkpoint_dir, progress=progress
    )
    as_read(network)
    return network.eval().requires_grad_(requires_grad=False), told
