"""The system of image encoding, as the program finds it."""

from __future__ import annotations

from typing import Literal

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import System
from bids_neurodecode.report.boilerplate import described_by, paragraphs
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.encoding.checks import (
    band_networks,
    bands_described,
    bands_packaged,
    check_encoding,
)
from bids_neurodecode.systems.encoding.report.section import encoding_section
from bids_neurodecode.systems.encoding.steps.outputs import ENCODERS, publish_encoding
from bids_neurodecode.systems.encoding.steps.prediction import add_encoding_prediction
from bids_neurodecode.systems.encoding.steps.training import add_picture_encoding, encode
from bids_neurodecode.systems.steps.responses import reliable_voxels


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show the model of each voxel."""
    return (Section('encoding', 'Encoding model', encoding_section(reader)),)


def _methods(config: Config) -> tuple[str, ...]:
    """Say which feature spaces predict responses."""
    spaces = [described_by(band) for band in config.encoding.bands]
    return paragraphs('encoding', config=config, spaces=spaces)


def _needs(config: Config) -> dict[str, Literal['neighbours', 'grid']]:
    """Say that a convolution is over a grid."""
    cut = config.encoding.model == 'cnn'
    return {'A convolutional model (encoding.model)': 'grid'} if cut else {}


SYSTEM = System(
    'encoding',
    ('images',),
    train=add_picture_encoding,
    predict=add_encoding_prediction,
    sections=_sections,
    check=check_encoding,
    models=tuple(sorted(ENCODERS)),
    methods=_methods,
    summary='responses from images: those of each voxel, by one or more feature spaces',
    aim='predicts the brain responses from what was shown',
    needs=_needs,
    large=lambda _: (reliable_voxels, encode, publish_encoding),
    scores='voxels',
    identified_by='predicted responses',
    new_stimuli='images',
    networks=band_networks,
    packaged=bands_packaged,
    described=bands_described,
    descriptions={
        'ridge': 'Encoding model: ridge regression',
        'banded': 'Encoding model: banded ridge regression, a penalty for each feature space',
        'linearhead': 'Encoding model: linear head trained by gradient descent',
        'mlp': 'Encoding model: multilayer perceptron',
        'siren': 'Encoding model: network with sinusoidal activations',
        'cnn': 'Encoding model: convolutional head',
        'shared': 'Encoding model: head that participants share',
    },
)
