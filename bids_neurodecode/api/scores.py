"""Scores of decoded features and of reconstructions, as the program's metrics table has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.api.features import load
from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.bids.imagesets import Matched, match_images, read_image_set
from bids_neurodecode.bids.responsesets import (
    ResponseSet,
    Side,
    read_regions,
    read_responses,
    read_values,
)
from bids_neurodecode.errors import UsageError
from bids_neurodecode.evaluation.identification import Measure, identification_2way, similarity
from bids_neurodecode.evaluation.metrics import METRICS, scores_table
from bids_neurodecode.text import did_you_mean

NOT_PAIRED = 'y_true {true} and y_pred {found} must have one row per sample and the same columns.'
ONE_CANDIDATE = 'Two-way identification needs two different rows of y_true; there is one.'
OTHER_COUNT = '{true} true images and {found} reconstructions were given; give one for each.'
UNKNOWN_GUIDE = 'No network that judges is called {name!r} (guided_by).{near} There are: {names}.'
TOO_FEW = 'Scores need two images or more; there is {n}.'


def two_way(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, measure: Measure = 'pearson'
) -> float:
    """Two-way identification: how often the truth is more similar than another candidate.

    Parameters
    ----------
    y_true
        True features (or pixels, or responses), (n_samples, n_features). Equal rows are one
        candidate (repeats of one image).
    y_pred
        Predicted ones, of the same shape.
    measure
        ``pearson`` or ``cosine``.

    Returns
    -------
    float
        Mean over samples of the share of other candidates that are less similar to the
        prediction than the truth is, ties counting half. Chance is .5.

    Raises
    ------
    UsageError
        If the arrays do not match, or there is one candidate only.

    Notes
    -----
    The order of arguments is that of :mod:`sklearn.metrics`, so that
    ``make_scorer(nd.two_way)`` goes into cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> true = np.random.default_rng(0).normal(size=(50, 20))
    >>> nd.two_way(true, true), nd.two_way(true, np.zeros((50, 20)))
    (1.0, 0.5)
    """
    true, predicted = (np.asarray(x, dtype=np.float64) for x in (y_true, y_pred))
    if true.shape != predicted.shape or true.ndim < 2:
        raise UsageError(NOT_PAIRED.format(true=true.shape, found=predicted.shape))
    true, predicted = (x.reshape(len(x), -1) for x in (true, predicted))
    candidates, codes = np.unique(true, axis=0, return_inverse=True)
    if len(candidates) < 2:
        raise UsageError(ONE_CANDIDATE)
    with speaking_of_arguments():
        return identification_2way(similarity(predicted, candidates, measure), codes.ravel())


def score_reconstructions(
    true: Any,
    reconstructed: Any,
    *,
    protocol: str = 'bd-982',
    networks: bool = True,
    baselines: bool = False,
    weights_dir: str | Path | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    guided_by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare reconstructions with what was seen, beside chance and with intervals.

    ``bids_neurodecode-tools score`` writes the same table, and a page.

    Parameters
    ----------
    true, reconstructed
        A folder with images, an output folder of the program, or a ``.pt``, ``.npy`` or ``.npz``
        file of other programs, matched by the names of images (a row of an array by its number);
        or a list of files, or an array of uint8 (n, h, w, 3), one reconstruction an image in the
        same order.
    protocol
        Sizes, interpolation and networks: ``bd-982`` (Brain-Diffuser), ``me2-1000`` (MindEye2),
        or another of ``evaluation.protocols.PROTOCOLS``. Scores of
        different protocols do not compare.
    networks
        Use the networks whose weights are there; scores of Gabor features stand in for the
        others, under a name of their own.
    baselines
        Score the mean image and the blurred truth too, under their own ``model``.
    weights_dir
        Folder of pretrained weights; the program's default if left out. Nothing is downloaded.
    n_permutations
        Of the pairing of images and reconstructions; 0 leaves p values out.
    seed
        Of permutations and intervals.
    guided_by
        Names of the networks that had a part in the reconstructions, which then do not judge
        them; ``()``: none had. Left out, ``attrs['warnings']`` says what follows.

    Returns
    -------
    pandas.DataFrame
        The columns of the metrics table, one row per model and metric: ``model``, ``metric``,
        ``value``, ``chance`` (known, or the mean over shuffled pairs), ``ci_low`` and ``ci_high``
        (95 %, over images), ``p`` (permutation), ``n``, ``image_size`` (pixels at which pixel
        metrics compare) and others; and ``higher_is_better``. ``attrs['notes']`` says what its
        reader should know, images without a counterpart among it. Below six images there is no
        interval and no p.

    Raises
    ------
    UsageError
        If there is no such protocol, or images and reconstructions are not one to one.
    InputError
        If a file is no image that can be read, or no name is on both sides.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> true = rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    >>> table = nd.score_reconstructions(true, true, networks=False, n_permutations=99)
    >>> table.set_index('metric').loc['pixel_2way', ['value', 'chance']].tolist()
    [1.0, 0.5]
    """
    from bids_neurodecode.evaluation.protocols import PROTOCOLS, get_protocol
    from bids_neurodecode.systems.reconstruction.steps.image_scores import (
        protocol_networks,
        score_images,
    )

    judges = {metric.network for known in PROTOCOLS.values() for metric in known.metrics}
    unknown = sorted({*(guided_by or ())} - judges)
    if unknown:
        told = {'near': did_you_mean(unknown[0], judges), 'names': ', '.join(sorted(judges))}
        raise UsageError(UNKNOWN_GUIDE.format(name=unknown[0], **told))
    with speaking_of_arguments():
        size = get_protocol(protocol).pixel_size
        matched = _matched(true, reconstructed, size)
        folder = None if weights_dir is None else Path(weights_dir)
        found = score_images(
            matched.truth,
            matched.made,
            matched.names,
            protocol,
            protocol_networks(protocol, folder) if networks else {},
            baselines=baselines,
            n_permutations=n_permutations,
            seed=seed,
            guided_by=matched.guided_by if guided_by is None else guided_by,
        )
    table = scores_table(found.scores)
    table['higher_is_better'] = [METRICS[name].higher_is_better for name in table['metric']]
    table.attrs |= {
        'protocol': protocol,
        'notes': [*matched.notes, *found.notes],
        'warnings': list(found.warnings),
    }
    return table


def _matched(true: Any, made: Any, size: int) -> Matched:
    """Match both sides: by name where both have names, else by their order."""
    if all(isinstance(side, str | Path) for side in (true, made)):
        matched = match_images(read_image_set(Path(true)), read_image_set(Path(made)), size)
    else:
        shown, found = load(true, None), load(made, None)
        if len(shown) != len(found):
            raise UsageError(OTHER_COUNT.format(true=len(shown), found=len(found)))
        matched = Matched(shown, found, tuple(f'{k:06d}' for k in range(len(shown))))
    if len(set(matched.names)) < 2:
        raise UsageError(TOO_FEW.format(n=len(set(matched.names))))
    return matched


def score_responses(
    measured: Any,
    predicted: Any,
    *,
    stimuli: npt.ArrayLike | None = None,
    ncsnr: npt.ArrayLike | str | Path | None = None,
    regions: Mapping[str, npt.NDArray[Any]] | str | Path | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare predicted responses with measured ones, beside chance and noise ceiling.

    ``bids_neurodecode-tools score --responses`` writes the same table, and a page.

    Parameters
    ----------
    measured, predicted
        A series of maps with its table of events beside it, an output folder of the program, an
        array file, or an array (n, n_voxels). Maps are matched by stimulus, arrays row by row;
        repeats of a stimulus are averaged.
    stimuli
        What each row of an array ``measured`` is the response to, (n,), where these are trials;
        ``predicted`` then has a row for each distinct one, in order of their first trial.
    ncsnr
        Noise-ceiling signal-to-noise ratio of a single trial, (n_voxels,), or a map of it; from
        the repeats in ``measured`` if left out.
    regions
        Voxels of each region, (n_voxels,) each, or a segmentation (``dseg``) with its table.
    n_permutations
        Of stimuli among predictions; 0 leaves p values out.
    seed
        Of permutations and intervals.

    Returns
    -------
    pandas.DataFrame
        The columns of the metrics table, one row per metric and set of voxels (``space``):
        correlation, variance explained, accuracy over the noise ceiling, and identification of
        stimuli by their responses. ``attrs['notes']`` says what its reader should know.

    Raises
    ------
    UsageError, InputError
        If the two do not fit, or a file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(40, 30))
    >>> stimuli = np.repeat(np.arange(40), 3)
    >>> trials = signal[stimuli] + rng.normal(size=(120, 30))
    >>> table = nd.score_responses(trials, signal, stimuli=stimuli, n_permutations=0)
    >>> table.set_index('metric').loc['noise_normalized_mean', 'value'].round(1)
    np.float64(1.0)
    """
    from bids_neurodecode.systems.encoding.steps.response_scores import score_response_sets

    with speaking_of_arguments():
        truth, found = _responses(measured, predicted, stimuli)
        if isinstance(ncsnr, str | Path):
            ncsnr = read_values(Path(ncsnr))
        if isinstance(regions, str | Path):
            regions = read_regions(Path(regions), truth)
        scores, notes = score_response_sets(
            truth,
            found,
            ratio=None if ncsnr is None else np.asarray(ncsnr),
            regions=regions or {},
            n_permutations=n_permutations,
            seed=seed,
        )
    table = scores_table(scores)
    table.attrs |= {'notes': list(notes)}
    return table


def _responses(
    measured: Any, predicted: Any, stimuli: npt.ArrayLike | None
) -> tuple[ResponseSet, ResponseSet]:
    def one(side: Any, desc: Side, names: Sequence[str] | None) -> ResponseSet:
        if isinstance(side, str | Path):
            return read_responses(Path(side), desc)
        values = np.asarray(side)
        known = [str(k) for k in range(len(values))] if names is None else names
        return ResponseSet(values, tuple(known))

    labels = None if stimuli is None else [str(x) for x in np.asarray(stimuli)]
    distinct = None if labels is None else list(dict.fromkeys(labels))
    return one(measured, 'singletrial', labels), one(predicted, 'predicted', distinct)
