"""Concept activation vectors: whether an output depends on a concept that people name.

A concept is a set of pictures or chunks. Its vector is the normal of a linear classifier between
the activations of these and of random ones; the output is sensitive to it if it changes along
that vector (Kim et al. 2018, ICML, arXiv 1711.11279).

The sign fraction alone cannot be tested against .5: where the derivative points the same way for
all samples, any direction has a fraction of 0 or 1. What is tested here is the alignment, the
mean cosine of derivative and vector, against that of concepts made by permuting which activations
are the concept's: a set of pictures that is no concept is then significant as often as it should.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.statistics import fdr

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor, nn

TOO_FEW = (
    'The concept {name} needs at least {need} examples, and as many random ones: {n} and {m}.'
)
OTHER_UNITS = 'Activations and gradients must have the same number of columns: {found}.'
TOO_FEW_SPLITS = 'Concept vectors need at least 20 random splits; {found} were asked for.'
NO_LAYER = 'The network has no layer {layer!r}. Layers: {layers}.'

_MIN_EXAMPLES = 10
_MIN_SPLITS = 20

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConceptVectors:
    """The vectors of one concept over random splits.

    Parameters
    ----------
    vectors
        Unit normals that point to the concept, (n_splits, n_units).
    accuracy
        Of each classifier on the examples that it was not fitted on, (n_splits,); chance is .5.
    """

    vectors: FloatArray
    accuracy: FloatArray


def concept_vectors(
    concept: npt.NDArray[np.floating[Any]],
    random: npt.NDArray[np.floating[Any]],
    *,
    rng: np.random.Generator,
    n_splits: int = 20,
    penalty: float = 1.0,
    name: str = '',
) -> ConceptVectors:
    """Fit concept activation vectors, each on a random two thirds of the examples.

    Parameters
    ----------
    concept, random
        Activations of the concept's and of random examples, (n, n_units) and (m, n_units). Each
        split takes as many of one as of the other.
    rng
        Draws the splits.
    n_splits
        At least 20.
    penalty
        Strength of the L2 penalty of the logistic regression on z-scored activations.
    name
        For messages.
    """
    from sklearn.linear_model import LogisticRegression

    if n_splits < _MIN_SPLITS:
        raise ArgumentsError(TOO_FEW_SPLITS.format(found=n_splits))
    size = min(len(concept), len(random))
    if size < _MIN_EXAMPLES:
        raise DataError(
            TOO_FEW.format(name=name, need=_MIN_EXAMPLES, n=len(concept), m=len(random))
        )
    both = np.concatenate([concept, random]).astype(np.float64)
    mean, scale = both.mean(axis=0), both.std(axis=0)
    scale[scale <= 1e-9 * max(1.0, float(scale.max()))] = 1.0
    groups = [(np.asarray(x, dtype=np.float64) - mean) / scale for x in (concept, random)]
    n_fit = round(2 / 3 * size)
    vectors, accuracy = [], []
    for _ in range(n_splits):
        parts = [group[rng.permutation(len(group))[:size]] for group in groups]
        fitted = np.concatenate([part[:n_fit] for part in parts])
        rest = np.concatenate([part[n_fit:] for part in parts])
        model = LogisticRegression(C=1 / penalty, max_iter=1000)
        model.fit(fitted, np.repeat([1, 0], n_fit))
        accuracy.append(model.score(rest, np.repeat([1, 0], size - n_fit)))
        direction = model.coef_[0] / scale  # back to the units of the activations
        vectors.append(direction / max(np.linalg.norm(direction), np.finfo(float).tiny))
    return ConceptVectors(np.array(vectors), np.array(accuracy))


def concept_sensitivity(
    concepts: Mapping[str, npt.NDArray[np.floating[Any]]],
    random: npt.NDArray[np.floating[Any]],
    gradients: npt.NDArray[np.floating[Any]],
    *,
    rng: np.random.Generator,
    n_splits: int = 20,
    n_permutations: int = 199,
    penalty: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Test whether an output depends on concepts.

    Parameters
    ----------
    concepts
        Activations of each concept's examples, (n, n_units), by name.
    random
        Activations of random examples, (m, n_units).
    gradients
        Derivatives of the output by the activations, one row a sample, (n_samples, n_units).
    rng
        Draws splits and permutations.
    n_splits, penalty
        See :func:`concept_vectors`.
    n_permutations
        Permuted concepts; the smallest p value is 1 / (n_permutations + 1).
    progress
        Called with (fits of a set of splits done, all).

    Returns
    -------
    pandas.DataFrame
        A row a concept: ``concept``, ``n_examples``, ``accuracy`` (of the classifiers, held out),
        ``sensitivity`` (share of samples whose derivative along the vector is positive, mean over
        splits) and ``sensitivity_sd`` over splits, ``alignment`` (mean cosine of derivative and
        vector), ``p`` (two-sided, of the alignment) and ``p_fdr`` (over concepts).

    Raises
    ------
    DataError
        If there are too few examples or columns differ.
    """
    import pandas as pd

    slopes = np.asarray(gradients, dtype=np.float64)
    total, done = len(concepts) * (n_permutations + 1), 0
    rows = []
    for name, activations in concepts.items():
        widths = (activations.shape[1], random.shape[1], slopes.shape[1])
        if len(set(widths)) > 1:
            raise DataError(OTHER_UNITS.format(found=widths))
        pool = np.concatenate([activations, random])
        null = np.empty(n_permutations)
        for draw in range(n_permutations + 1):
            order = rng.permutation(len(pool)) if draw else np.arange(len(pool))
            a, b = pool[order[: len(activations)]], pool[order[len(activations) :]]
            found = concept_vectors(a, b, rng=rng, n_splits=n_splits, penalty=penalty, name=name)
            if draw:
                null[draw - 1] = _alignment(slopes, found.vectors).mean()
            else:
                rows.append(_describe(name, len(activations), slopes, found))
            done += 1
            if progress is not None:
                progress(done, total)
        reached = np.count_nonzero(np.abs(null) >= abs(rows[-1]['alignment']) - 1e-12)
        rows[-1]['p'] = (reached + 1) / (n_permutations + 1)
    table = pd.DataFrame(rows)
    return table.assign(p_fdr=fdr(table['p'].to_numpy()))


def layer_activations(
    network: nn.Module, layer: str, inputs: Tensor, *, batch_size: int = 16
) -> npt.NDArray[np.float32]:
    """Return the activations of a layer, averaged over positions (and time): (n, n_channels).

    Raises
    ------
    ArgumentsError
        If the network has no such layer.
    """
    import torch

    kept = []
    with torch.no_grad():
        for batch in torch.split(inputs, batch_size):
            activations, _ = _run(network, layer, batch)
            kept.append(_channels(activations, torch.mean).cpu())
    return np.asarray(torch.cat(kept).numpy())


def layer_gradients(
    network: nn.Module,
    layer: str,
    inputs: Tensor,
    output: Callable[[Tensor], Tensor],
    *,
    batch_size: int = 16,
) -> npt.NDArray[np.float32]:
    """Differentiate an output by a layer's channels, the same change at all positions.

    Parameters
    ----------
    output
        From what the network returns for n inputs to one number each, (n,): such as the mean
        response of a region.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_channels), to go with :func:`layer_activations`.
    """
    import torch

    kept = []
    for batch in torch.split(inputs, batch_size):
        with torch.enable_grad():
            activations, result = _run(network, layer, batch.requires_grad_())
            (slopes,) = torch.autograd.grad(output(result).sum(), activations)
        kept.append(_channels(slopes, torch.sum).cpu())
    return np.asarray(torch.cat(kept).numpy())


def _run(network: nn.Module, layer: str, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's activations and the network's output, in evaluation mode."""
    modules = dict(network.named_modules())
    if layer not in modules or not layer:
        names = ', '.join(name for name in modules if name)
        raise ArgumentsError(NO_LAYER.format(layer=layer, layers=names))
    seen: list[Tensor] = []
    handle = modules[layer].register_forward_hook(lambda _m, _i, out: seen.append(out))
    was_training = network.training
    network.eval()
    try:
        result = network(batch)
    finally:
        handle.remove()
        network.train(was_training)
    return seen[0], result


def _channels(values: Tensor, reduce: Callable[..., torch.Tensor]) -> Tensor:
    """Reduce (n, channels, ...) over all but samples and channels."""
    dims = tuple(range(2, values.ndim))
    return reduce(values, dims) if dims else values


def _alignment(slopes: FloatArray, vectors: FloatArray) -> FloatArray:
    """Mean cosine of the derivatives of all samples and each vector, (n_splits,)."""
    size = np.linalg.norm(slopes, axis=1, keepdims=True)
    unit = slopes / np.where(size > 0, size, 1.0)
    return np.asarray(vectors @ unit.mean(axis=0))


def _describe(
    name: str, n_examples: int, slopes: FloatArray, found: ConceptVectors
) -> dict[str, Any]:
    positive = (slopes @ found.vectors.T > 0).mean(axis=0)
    return {
        'concept': name,
        'n_examples': n_examples,
        'accuracy': float(found.accuracy.mean()),
        'sensitivity': float(positive.mean()),
        'sensitivity_sd': float(positive.std(ddof=1)),
        'alignment': float(_alignment(slopes, found.vectors).mean()),
    }
