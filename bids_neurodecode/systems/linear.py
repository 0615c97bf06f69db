"""The linear decoder: from responses to features by ridge regression, and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.algebra import Device
from bids_neurodecode.config import Config, RidgeSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.identification import Measure
from bids_neurodecode.models.ridge import RidgeModel
from bids_neurodecode.models.storage import joined, under
from bids_neurodecode.samples import Samples, contents
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.typing import Float32Array

NO_GROUPS = (
    'Choosing the ridge penalty needs training samples of at least two {by} values; there is '
    'one. Use more runs or stimuli.'
)


Group = Literal['auto', 'stimulus', 'run']
MANY_STIMULI = 20


@dataclass(frozen=True)
class DecoderSettings:
    """How a linear decoder is fitted.

    Parameters
    ----------
    n_components
        Feature components kept, at most; None keeps all that the training stimuli span.
    ridge
        Penalties and folds.
    groups
        What is held out together when the penalty is chosen; ``auto``: stimuli if there are at
        least :data:`MANY_STIMULI`, else runs.
    measure
        How predicted components are compared with candidates.
    device
        Where the regression is computed.
    """

    n_components: int | None = 100
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    groups: Group = 'auto'
    measure: Measure = 'cosine'
    device: Device = 'cpu'

    @classmethod
    def of(cls, config: Config, device: str = 'cpu') -> DecoderSettings:
        """Return what the settings ask for.

        Parameters
        ----------
        config
            Feature components and ridge.
        device
            ``cpu`` or ``cuda``.
        """
        where: Device = 'cuda' if device == 'cuda' else 'cpu'
        return cls(config.features.n_components, config.ridge, device=where)


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """A fitted decoder.

    Parameters
    ----------
    voxels
        Mean and deviation of the training responses.
    space
        The whitened feature space of the training stimuli.
    ridge
        From standardised voxels to components.
    library
        The training stimuli, in order of first appearance: what can be retrieved.
    measure
        How components are compared.
    """

    voxels: Standardizer
    space: FeatureSpace
    ridge: RidgeModel
    library: tuple[str, ...]
    measure: Measure = 'cosine'

    def components(self, responses: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Predict whitened components (n, n_components) from responses (n, n_voxels)."""
        return self.ridge.predict(self.voxels.apply(responses))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the decoder's arrays; with ``library`` and ``measure`` they rebuild it."""
        space, ridge = self.space.state(), self.ridge.state()
        return joined({'voxels': self.voxels.state(), 'space': space, 'ridge': ridge})

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, npt.NDArray[Any]],
        library: Sequence[str],
        measure: Measure = 'cosine',
    ) -> LinearDecoder:
        """Rebuild a decoder from :meth:`state`.

        Parameters
        ----------
        state
            Arrays by name.
        library
            Training stimuli.
        measure
            By which similarity is measured.
        """
        return cls(
            Standardizer(**under(state, 'voxels')),
            FeatureSpace.from_state(under(state, 'space')),
            RidgeModel.from_state(under(state, 'ridge')),
            tuple(library),
            measure,
        )


def candidate_stimuli(train: pd.DataFrame, test: pd.DataFrame) -> tuple[tuple[str, ...], bool]:
    """Return the candidates of a fold, and whether they are a closed set.

    A set is closed if every test stimulus was seen in training: then all distinct stimuli are
    candidates, else the distinct test stimuli.

    Parameters
    ----------
    train, test
        Tables of the samples of a fold.
    """
    return candidates_of(train['stimulus'].astype(str), test['stimulus'].astype(str))


def candidates_of(train: Iterable[str], test: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """Return what :func:`candidate_stimuli` does, of the stimuli of the samples of a fold.

    Parameters
    ----------
    train, test
        The stimulus of each sample.
    """
    seen, tested = set(train), set(test)
    if tested <= seen:
        return tuple(sorted(seen)), True
    return tuple(sorted(tested)), False


def group_labels(train: Samples, n_stimuli: int, groups: Group) -> npt.NDArray[Any]:
    """Return what training samples are kept together by in inner folds, (n_samples,).

    Parameters
    ----------
    train
        Training samples.
    n_stimuli
        How many stimuli there are among all samples.
    groups
        ``stimulus``, ``run``, or ``auto``.
    """
    labels = {
        'stimulus': contents(train.table['stimulus'], train.table),
        'run': run_labels(train.table),
    }
    by = groups
    if by == 'auto':
        by = 'stimulus' if n_stimuli >= MANY_STIMULI else 'run'
        if len(set(labels[by])) < 2:
            by = 'stimulus'
    if len(set(labels[by])) < 2:
        raise DataError(NO_GROUPS.format(by=by))
    return labels[by]
