"""Concept activation vectors: whether an output depends on a concept that people name.

A concept is a set of images or chunks. Its vector is the normal of a linear classifier between
the activations of these and of random ones; the output is sensitive to it if it changes along
that vector (Kim et al. 2018, ICML, arXiv 1711.11279).

The sign fraction alone cannot be tested against .5: where the derivative points the same way for
all samples, any direction has a fraction of 0 or 1. What is tested here is the alignment, the
mean cosine of derivative and vector, against that of random concepts. Volumes of a film are alike
because they are near in time: a scene has a direction of its own whether or not it shows a
concept. A random concept of film is therefore the same pattern of volumes at another time, as
contiguous as the concept is; images, which have no time, are permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.statistics import fdr
from bids_neurodecode.typing import BoolArray, FloatArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TOO_FEW = (
    'The concept {name} needs at least {need} examples, and as many random ones: {n} and {m}.'
)
OTHER_UNITS = 'Activations and gradients must have the same number of columns: {found}.'
OTHER_ROWS = 'There must be one {what} label an example: {n} examples, {found} labels.'
NO_LAYER = 'The network has no layer {layer!r}. Layers: {layers}.'

_MIN_EXAMPLES = 10
_SPLITS = 20
_PENALTY = 1.0  # of the squared slopes of the logistic regression on z-scored activations
_SHORTEST_STEP = 1e-6  # of Newton's method
_MOST_STEPS = 50

LEAST_TIMES = 20
"""Times at which the pattern of a concept of film has to fit: fewer give no p below .05."""
FEW_TIMES = (
    'The concept {name} is spread over the film in a way that fits at {n} other time(s), where '
    '{least} are needed: it has no p value.'
)


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a concept among others, and what a random concept is.

    Parameters
    ----------
    activations
        Of all examples and others, (n, n_units).
    concept
        Which rows are the concept's, (n,).
    films
        One label per row, which are volumes in order of time: a random concept is the same pattern
        at another time. None: rows have no order (images), and random concepts are permuted.
    """

    activations: npt.NDArray[np.floating[Any]]
    concept: BoolArray
    films: npt.NDArray[Any] | None = None

    @property
    def shifts(self) -> npt.NDArray[np.intp]:
        """Shifts in time at which the concept is in no more pieces than it is, (n_shifts,).

        A stretch that another film begins in, or that goes round from the end to the start, would
        be two independent ones: a random concept less contiguous than the concept.
        """
        if self.films is None:
            return np.empty(0, dtype=np.intp)
        n, films = len(self.concept), np.asarray(self.films)
        same = np.concatenate([[False], films[1:] == films[:-1]])
        joined = self.concept & np.roll(self.concept, 1)
        # joined volumes that a shift puts on both sides of a cut, for all shifts at once
        cut = np.fft.irfft(np.fft.rfft(~same) * np.conj(np.fft.rfft(joined)), n).round()
        return np.flatnonzero(cut <= cut[0]).astype(np.intp)

    def random(self, shifts: npt.NDArray[np.intp], rng: np.random.Generator) -> BoolArray:
        """Return which rows a random concept has, (n,).

        Parameters
        ----------
        shifts
            Rows by which a film's concept may be rolled, (n_shifts,); not used for images.
        rng
            Draws the permutation or the shift.
        """
        if self.films is None:
            return rng.permutation(self.concept)
        return np.roll(self.concept, int(rng.choice(shifts)))


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
    name
        For messages.
    """
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
    drawn = [
        np.stack([group[rng.permutation(len(group))[:size]] for _ in range(_SPLITS)])
        for group in groups
    ]
    fitted, rest = (
        np.concatenate([part[:, rows] for part in drawn], axis=1)
        for rows in (slice(n_fit), slice(n_fit, None))
    )
    slopes, offsets = fit_logistic(fitted, np.repeat([1.0, 0.0], n_fit), _PENALTY)
    said = np.einsum('kij,kj->ki', rest, slopes) + offsets[:, None] > 0
    accuracy = (said == np.repeat([True, False], size - n_fit)).mean(axis=1)
    directions = slopes / scale  # back to the units of the activations
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    return ConceptVectors(directions / np.maximum(length, np.finfo(float).tiny), accuracy)


def fit_logistic(x: FloatArray, y: FloatArray, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Fit many logistic regressions of one size at once, by Newton's method.

    Minimises the sum of the log losses plus ``penalty / 2`` times the squared slopes, the offset
    being free, as scikit-learn does with C = 1 / penalty; thousands of small fits take seconds
    rather than minutes.

    Parameters
    ----------
    x
        Samples of each fit, (n_fits, n_samples, n_units).
    y
        0 or 1 of each sample, (n_samples,).
    penalty
        Above 0.

    Returns
    -------
    tuple of numpy.ndarray
        Slopes (n_fits, n_units) and offsets (n_fits,).
    """
    from scipy.special import expit

    n_fits, _, n_units = x.shape
    design = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    ridge = np.diag([penalty] * n_units + [1e-9])  # the offset has none
    weights = np.zeros((n_fits, n_units + 1))

    def loss(w: FloatArray) -> FloatArray:
        z = np.einsum('kij,kj->ki', design, w)
        return np.asarray((np.logaddexp(0, z) - y * z).sum(1) + (w**2 @ ridge.diagonal()) / 2)

    now = loss(weights)
    for _ in range(_MOST_STEPS):
        p = expit(np.einsum('kij,kj->ki', design, weights))
        slope = np.einsum('kij,ki->kj', design, p - y) + weights * ridge.diagonal()
        curvature = np.swapaxes(design * (p * (1 - p))[..., None], 1, 2) @ design + ridge
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        then = loss(weights - step)
        while (worse := then > now + 1e-9).any():  # too far: half of the way
            step[worse] /= 2
            then = loss(weights - step)
        weights, now = weights - step, then
        if np.abs(step).max() < _SHORTEST_STEP:
            break
    return weights[:, :-1], weights[:, -1]


def concept_sensitivity(
    concepts: Mapping[str, Examples],
    gradients: npt.NDArray[np.floating[Any]] | Mapping[str, npt.NDArray[np.floating[Any]]],
    *,
    rng: np.random.Generator,
    n_permutations: int = 199,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Test whether outputs depend on concepts.

    Parameters
    ----------
    concepts
        Examples of each concept among others, by name.
    gradients
        Derivatives of the output by the activations, one row per sample, (n_samples, n_units); of
        several outputs by name.
    rng
        Draws splits and random concepts.
    n_permutations
        Random concepts; the smallest p value is 1 / (n_permutations + 1).
    progress
        Called with (fits of a set of splits done, all).

    Returns
    -------
    pandas.DataFrame
        One row per output and concept: ``output`` (where there are several), ``concept``,
        ``n_examples``, ``accuracy`` (of the classifiers, held out) and ``accuracy_random`` (the
        same of random concepts: volumes that are near in time are told from others whatever
        they show), ``sensitivity`` (share of samples whose derivative along the vector is
        positive, mean over splits) and ``sensitivity_sd`` over splits, ``alignment`` (mean
        cosine of derivative and vector), ``p`` (two-sided, of the alignment; NaN where the
        pattern of a concept of film fits at fewer than :data:`LEAST_TIMES` times) and ``p_fdr``
        (over all rows).

    Raises
    ------
    DataError
        If there are too few examples or columns differ.
    """
    several = isinstance(gradients, Mapping)
    outputs = dict(gradients) if isinstance(gradients, Mapping) else {'': gradients}
    slopes = {name: np.asarray(values, dtype=np.float64) for name, values in outputs.items()}
    total, done = len(concepts) * (n_permutations + 1), 0
    rows = []
    for name, examples in concepts.items():
        _check(examples, slopes)
        shifts = examples.shifts
        tested = examples.films is None or len(shifts) >= LEAST_TIMES
        n_reached = dict.fromkeys(slopes, 0)
        mine: dict[str, dict[str, Any]] = {}
        accuracies = []
        for draw in range(n_permutations + 1 if tested else 1):
            inside = examples.random(shifts, rng) if draw else examples.concept
            a, b = examples.activations[inside], examples.activations[~inside]
            found = concept_vectors(a, b, rng=rng, name=name)
            if draw:
                accuracies.append(float(found.accuracy.mean()))
            for output, values in slopes.items():
                if not draw:
                    mine[output] = _describe(name, int(inside.sum()), values, found)
                    continue
                null = abs(float(_alignment(values, found.vectors).mean()))
                n_reached[output] += null >= abs(mine[output]['alignment']) - 1e-12
            done += 1
            if progress is not None:
                progress(done, total)
        for output, row in mine.items():
            row['accuracy_random'] = float(np.mean(accuracies)) if accuracies else float('nan')
            p = (n_reached[output] + 1) / (n_permutations + 1)
            row['p'] = p if tested else float('nan')
            rows.append({'output': output, **row} if several else row)
    table = pd.DataFrame(rows)
    return table.assign(p_fdr=fdr(table['p'].to_numpy()))


def _check(examples: Examples, slopes: Mapping[str, FloatArray]) -> None:
    n, width = examples.activations.shape
    for what, labels in (('concept', examples.concept), ('film', examples.films)):
        if labels is not None and len(labels) != n:
            raise DataError(OTHER_ROWS.format(what=what, n=n, found=len(labels)))
    widths = (width, *(x.shape[1] for x in slopes.values()))
    if len(set(widths)) > 1:
        raise DataError(OTHER_UNITS.format(found=widths))


def layer_activations(
    network: nn.Module, layer: str, inputs: Tensor, *, batch_size: int = 16
) -> npt.NDArray[np.float32]:
    """Return the activations of a layer, averaged over positions (and time): (n, n_channels).

    Parameters
    ----------
    network
        In evaluation mode.
    layer
        Name of the layer, as ``named_modules`` gives it.
    inputs
        Of the network, (n, ...).
    batch_size
        Inputs that are run at once.

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
        'accuracy_random': float('nan'),
        'sensitivity': float(positive.mean()),
        'sensitivity_sd': float(positive.std(ddof=1)),
        'alignment': float(_alignment(slopes, found.vectors).mean()),
    }
