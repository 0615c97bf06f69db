"""What encoding models are refused for, before anything runs."""

from __future__ import annotations

from pathlib import Path

from bids_neurodecode.bids.captions import first_captions
from bids_neurodecode.config import Config, load_config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import Asked
from bids_neurodecode.extras import PACKAGED, packaged_files, require_networks
from bids_neurodecode.stimuli.features import WEIGHTS
from bids_neurodecode.systems.encoding.encoders import NO_HEAD
from bids_neurodecode.systems.encoding.shared import OTHER_BANDS
from bids_neurodecode.systems.encoding.steps.features import CAPTIONED
from bids_neurodecode.systems.encoding.steps.group import load_head
from bids_neurodecode.systems.encoding.steps.training import LINEAR

BANDS = ('gabor', 'efficientnet-lite0:stage5', 'efficientnet-lite0')
"""Feature spaces of linear encoding models where small networks are installed."""
NOT_SELECTED = (
    'Encoding models predict all voxels of the mask (or of the regions of an atlas): none are '
    'selected by {measure!r} ({where}). Leave selection.measure at "auto".'
)


def check_encoding(asked: Asked) -> None:
    """Check the feature spaces: their weights, captions, networks, and a head that is shared.

    Parameters
    ----------
    asked
        What the run asks for.

    Raises
    ------
    ArgumentsError, InputError
        If voxels are to be selected, or something is missing.
    """
    from bids_neurodecode.models.weights import weights_path

    measure = asked.config.selection.measure
    if asked.people and measure not in {'auto', 'none'}:
        where = asked.where('selection', 'measure')
        raise ArgumentsError(NOT_SELECTED.format(measure=measure, where=where))
    if asked.people and not asked.models:
        _check_head(asked.config)
    for person in asked.people:
        config = asked.config
        if asked.models:
            config = load_config(asked.models[person.label].with_suffix('.toml'))
        if asked.fits:
            require_networks(_network(config))
        for band in config.encoding.bands:
            if band in WEIGHTS:
                weights_path(WEIGHTS[band], asked.weights_dir)
            if (name := band.partition(':')[0]) in PACKAGED:
                packaged_files(name)
            if band in CAPTIONED:
                first_captions(person)


def band_networks(config: Config) -> tuple[list[str], list[str]]:
    """Return the pretrained networks that feature spaces need; none judges."""
    return [WEIGHTS[band] for band in config.encoding.bands if band in WEIGHTS], []


def bands_packaged(config: Config, _: Path | None) -> dict[tuple[str, str], tuple[str, ...]]:
    """Linear models take any number of feature spaces; networks were tuned to what they take.

    Parameters
    ----------
    config, _
        The settings, and the folder of weights.
    """
    if 'bands' in config.encoding.model_fields_set or config.encoding.model not in LINEAR:
        return {}
    return {('encoding', 'bands'): BANDS}


def bands_described(config: Config, _: str) -> dict[str, str]:
    """Say which voxels and feature spaces encoding models take.

    Parameters
    ----------
    config, _
        The settings, and the mode.
    """
    features = f'{", ".join(config.encoding.bands)}; encoding model: {config.encoding.model}'
    return {'voxels': 'all of the mask, or of the regions of an atlas', 'features': features}


def _check_head(config: Config) -> None:
    """Refuse a model of a head that participants share without it, or with other spaces."""
    encoding = config.encoding
    if encoding.model != 'shared':
        return
    if encoding.shared_head is None:
        raise ArgumentsError(NO_HEAD)
    bands = load_head(encoding.shared_head).bands
    if bands != encoding.bands:
        raise ArgumentsError(OTHER_BANDS.format(expected=[*bands], found=[*encoding.bands]))


def _network(config: Config) -> str:
    """Return the setting that needs networks; empty if none does."""
    if config.encoding.model not in LINEAR:
        return f'encoding.model = "{config.encoding.model}"'
    bands = config.encoding.bands
    frozen = sorted(x for x in bands if x.partition(':')[0] in {*WEIGHTS, *PACKAGED})
    return f'encoding.bands with {", ".join(frozen)}' if frozen else ''
