"""More training samples: what an encoding model predicts for images without responses.

The encoder is fitted on training samples alone. What it cannot explain is noise to the decoder,
so noise is added again: whole rows of the encoder's residuals, which keep the correlations of
voxels, brought to the variance that the encoder misses in held-out samples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Samples
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings, fit
from bids_neurodecode.typing import Float32Array

NO_PICTURES = 'Synthetic responses need images without responses; there are none.'


def synthetic_responses(
    train: Samples,
    features: PerStimulus,
    new: npt.NDArray[np.floating[Any]],
    settings: EncoderSettings | None = None,
    *,
    rng: np.random.Generator,
) -> Float32Array:
    """Predict responses to images without responses, with noise.

    Parameters
    ----------
    train
        Training samples; the noise is that of these samples (single trials, or averages).
    features
        Of (at least) the training stimuli.
    new
        Features of the images without responses, (n, n_features).
    settings
        Of the encoder; ridge.
    rng
        Draws the noise.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_voxels), float32, in the units of the training responses.

    Raises
    ------
    DataError
        If there are no images, or the encoder cannot be fitted.
    """
    if not len(new):
        raise DataError(NO_PICTURES)
    settings = replace(settings or EncoderSettings(), model='ridge')
    encoder = fit(train, {'features': features}, settings, rng=rng)
    names = train.table['stimulus'].astype(str)
    residuals = train.values - encoder.predict({'features': features.of(names)})
    residuals = residuals - residuals.mean(axis=0)
    missed = 1 - np.clip(np.nan_to_num(encoder.cv_r2), 0, 1)
    wanted = encoder.responses.scale * np.sqrt(missed)
    found = residuals.std(axis=0)
    factor = np.where(found > 0, wanted / np.where(found > 0, found, 1), 0)
    drawn = residuals[rng.integers(len(residuals), size=len(new))]
    predicted = encoder.predict({'features': np.asarray(new, dtype=np.float32)})
    return np.asarray(predicted + drawn * factor, dtype=np.float32)


def draw_pictures(n_pictures: int, n_wanted: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw rows of images: each once before any comes again.

    Parameters
    ----------
    n_pictures
        How many there are.
    n_wanted
        How many rows are drawn.
    rng
        Draws them.

    Raises
    ------
    DataError
        If there are none.
    """
    if n_pictures < 1:
        raise DataError(NO_PICTURES)
    rounds = -(-n_wanted // n_pictures)
    return np.concatenate([rng.permutation(n_pictures) for _ in range(max(rounds, 1))])[:n_wanted]
