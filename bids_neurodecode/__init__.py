"""bids_neurodecode: relates what people see to their fMRI, both ways, as a BIDS-App.

As a library, ``import bids_neurodecode as nd`` offers the names below. They are loaded when they
are first used, so that the import itself costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_neurodecode._version import __version__

if TYPE_CHECKING:
    from bids_neurodecode.api.betas import Betas, fit_betas
    from bids_neurodecode.api.datasets import Dataset, load_dataset
    from bids_neurodecode.api.estimators import ImageDecoder, MovieEncoder, VoxelEncoder
    from bids_neurodecode.api.features import extract_features
    from bids_neurodecode.api.reliability import noise_ceiling, reliability
    from bids_neurodecode.api.results import Results, load_results
    from bids_neurodecode.api.scores import score_reconstructions, score_responses, two_way
    from bids_neurodecode.api.usage import UsageError

_HOMES = {
    'Betas': 'betas',
    'fit_betas': 'betas',
    'Dataset': 'datasets',
    'load_dataset': 'datasets',
    'ImageDecoder': 'estimators',
    'MovieEncoder': 'estimators',
    'VoxelEncoder': 'estimators',
    'extract_features': 'features',
    'noise_ceiling': 'reliability',
    'reliability': 'reliability',
    'Results': 'results',
    'load_results': 'results',
    'score_reconstructions': 'scores',
    'score_responses': 'scores',
    'two_way': 'scores',
    'UsageError': 'usage',
}
"""The module below :mod:`bids_neurodecode.api` that holds each public name."""

__all__ = [
    'Betas',
    'Dataset',
    'ImageDecoder',
    'MovieEncoder',
    'Results',
    'UsageError',
    'VoxelEncoder',
    '__version__',
    'extract_features',
    'fit_betas',
    'load_dataset',
    'load_results',
    'noise_ceiling',
    'reliability',
    'score_reconstructions',
    'score_responses',
    'two_way',
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f'{__name__}.api.{_HOMES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
