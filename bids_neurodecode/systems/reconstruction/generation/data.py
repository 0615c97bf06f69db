"""What images are made from, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.signals.selection import VoxelSelection
from bids_neurodecode.stimuli.features import FeatureExtractor
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.typing import Float32Array, Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.metrics import Score
    from bids_neurodecode.evaluation.networks import FeatureNetwork
    from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel


@dataclass(frozen=True, eq=False)
class ExtraPictures:
    """Images without responses, which prior and refiner (and synthetic samples) learn from.

    Parameters
    ----------
    pictures
        Shape (n, h, w, 3), uint8, of the size of the stimuli's images.
    features
        Shape (n, n_features), by the extractor of the stimuli's features.
    """

    pictures: Uint8Array
    features: Float32Array


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """What was made of held-out responses, one row per image.

    Parameters
    ----------
    table
        Columns ``picture`` (a name for files: letters, digits and hyphens, one a row), ``space``
        (``repeat-average`` or ``single-trial``), ``fold``, ``sample`` (row number among all
        samples; of an average, its first), ``stimulus``, ``run``, ``n_repeats`` (trials averaged),
        ``nearest`` (the training stimulus that ridge retrieves), and, of the initial and the
        final image, ``pixcorr_initial``, ``pixcorr_final``, ``ssim_initial``, ``ssim_final``
        (2-D) and of the final one ``identified`` and ``two_way`` (0 to 1) among the candidates.
    initial, final
        Images of stage 1 (n, s, s, 3) and of stage 2 (n, t, t, 3), uint8. Both in the order of
        ``table``. Without a second stage (conditions and start switched off) they are equal.
    prior
        What the prior itself makes of the true image's latents, (n, s, s, 3): the ceiling of
        stage 1.
    truth, nearest
        The true images, and the training images that ridge retrieves, (n, h, w, 3), uint8.
    """

    table: pd.DataFrame
    initial: Uint8Array
    final: Uint8Array
    prior: Uint8Array
    truth: Uint8Array
    nearest: Uint8Array


@dataclass(frozen=True, eq=False)
class Generation:
    """What :func:`.run.generate_pictures` gives back.

    Parameters
    ----------
    scores
        Rows of the metrics table. ``model`` is the latent regressor (``ridge``, ``gru``, ...) or
        a baseline: ``baseline-mean-image``, ``baseline-nearest-blurred`` (the training image
        that ridge retrieves, blurred), ``baseline-shuffled`` (all fitted on shuffled pairs),
        ``baseline-ridge`` (where another regressor is used), ``reference-true-latents`` (stage 1
        given these) and ``reference-true-latents-and-features`` (stage 2 given these).
        ``space`` is ``initial`` or ``final`` (images from averages of repeats where there are
        any, else from single trials), ``initial-single-trial`` or ``final-single-trial`` (where
        averages are scored too), or ``latents``. ``protocol`` is that of the split and of
        images, ``<split>/bd-982``.
    pictures
        The reconstructions.
    nulls
        Permuted scores of the system's own model, (n_permutations,), by ``<space>/<metric>``.
    model
        Fitted on everything, for new responses; no score is computed from it.
    selection, fold_selections
        The voxels of the final model, and of each fold.
    curves
        How networks learned, one row per look: ``fold`` (-1 is the final model; of the first fold
        that uses it), ``network`` (``prior``, ``refiner``, ``latents``), ``part`` (``training`` or
        ``validation``), ``step``, ``loss``. Empty if nothing was trained.
    notes
        What a reader of the scores should know, one line each.
    used
        Networks that had a part in the images, and judged none of them.
    """

    scores: tuple[Score, ...]
    pictures: Reconstructions
    nulls: Mapping[str, npt.NDArray[np.float64]]
    model: GenerationModel
    selection: VoxelSelection
    fold_selections: tuple[VoxelSelection, ...]
    curves: pd.DataFrame
    notes: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know, each line once."""
        lines = [w for s in (*self.fold_selections, self.selection) for w in s.warnings]
        return tuple(dict.fromkeys([*self.notes, *lines]))


@dataclass(frozen=True, eq=False)
class Applied:
    """Images made of new responses by :func:`.run.apply_generation`.

    Parameters
    ----------
    initial, final
        Shapes (n, s, s, 3) and (n, t, t, 3), uint8.
    latents
        Predicted, (n, length), float32.
    """

    initial: Uint8Array
    final: Uint8Array
    latents: Float32Array


@dataclass(frozen=True, eq=False)
class Inputs:
    """What images are made from and compared with, beside the samples.

    Parameters
    ----------
    features
        Of all stimuli, (n_stimuli, n_features), by ``extractor``.
    pictures
        Of all stimuli, squares of :attr:`Generator.picture_size` pixels or more, uint8.
    extractor
        Describes generated images (brought to ``features.image_size``) to identify them.
    captions
        Captions of each stimulus, for generators that read them (the published one).
    extra
        Images without responses.
    regions
        Region of each voxel of the mask, (n_voxels,), 0 is none: for regressors with regions.
    networks
        Networks with weights, by the names of the protocol's metrics.
    embed
        Turns captions into embeddings, (n, n_values), by which they are compared.
    viewers
        Feature spaces of networks that may predict responses to what was made (brain
        correlation), by the name of the network; the first that had no part in the images does.
    """

    features: PerStimulus
    pictures: PerStimulus
    extractor: FeatureExtractor
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extra: ExtraPictures | None = None
    regions: npt.NDArray[np.integer[Any]] | None = None
    networks: Mapping[str, FeatureNetwork] = field(default_factory=dict)
    embed: Callable[[Sequence[str]], Float32Array] | None = None
    viewers: Mapping[str, Mapping[str, FeatureExtractor]] = field(default_factory=dict)
