"""What a decoder must beat: shuffled responses, the nearest training response, the mean image.

Each is a function from test responses (n, n_voxels) to whitened components (n, n_components) in
the space of the decoder that it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.evaluation import identification
from bids_neurodecode.mapped import rows_of
from bids_neurodecode.samples import Responses, Samples
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.typing import Float32Array, RealArray

if TYPE_CHECKING:
    from bids_neurodecode.systems.linear import LinearDecoder

Components = Callable[[RealArray], Float32Array]


def shuffled(train: Samples, rng: np.random.Generator) -> Samples:
    """Return training samples whose responses no longer belong to their stimuli.

    Parameters
    ----------
    train
        Training samples.
    rng
        Draws the order.
    """
    order = rng.permutation(train.n_samples)
    values = rows_of(train.values, order, train.values)
    return Samples(Responses(values, train.responses.mask), train.table)


def nearest(decoder: LinearDecoder, train: Samples, features: PerStimulus) -> Components:
    """Take the features of the training stimulus whose mean response correlates most.

    Haxby et al. (2001, Science 293:2425) decoded so.

    Parameters
    ----------
    decoder
        Gives components and standardisation.
    train
        Training samples.
    features
        Of the training stimuli.
    """
    average = train.averaged()
    patterns = decoder.voxels.apply(average.values)
    known = decoder.space.transform(features.of(average.table['stimulus'].astype(str)))

    def components(responses: RealArray) -> Float32Array:
        alike = identification.similarity(
            decoder.voxels.apply(responses), patterns, measure='pearson'
        )
        return known[identification.nearest(alike)]

    return components


def mean_image(decoder: LinearDecoder) -> Components:
    """Predict the mean of the training stimuli, which is the origin of the space."""

    def components(responses: RealArray) -> Float32Array:
        return np.zeros((len(responses), decoder.space.n_components), dtype=np.float32)

    return components
