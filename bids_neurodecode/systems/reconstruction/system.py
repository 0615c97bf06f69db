"""The system that decodes and reconstructs images, as the program finds it."""

from __future__ import annotations

from typing import Any

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import System
from bids_neurodecode.report.boilerplate import described_by, paragraphs
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.features import image_size_of
from bids_neurodecode.systems.reconstruction.checks import (
    check_reconstruction,
    features_packaged,
    generator_resolved,
    image_networks,
)
from bids_neurodecode.systems.reconstruction.generation.steps import outputs
from bids_neurodecode.systems.reconstruction.generation.steps.training import generate
from bids_neurodecode.systems.reconstruction.methods import methods_of_images
from bids_neurodecode.systems.reconstruction.report import generation_section
from bids_neurodecode.systems.reconstruction.steps.decoding import decode
from bids_neurodecode.systems.reconstruction.steps.prediction import add_prediction
from bids_neurodecode.systems.reconstruction.steps.training import (
    DESC,
    add_pictures,
    publish_pictures,
)
from bids_neurodecode.workflow.step import Step


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show the images that were made."""
    return (Section('images', 'Reconstructions', generation_section(reader)),)


def _methods(config: Config) -> tuple[str, ...]:
    """Say which features are decoded."""
    features, described = config.features, None
    if features.extractor != TABLE:
        parts = features.extractor.split('+')
        described = [(described_by(x), image_size_of(x, features.image_size)) for x in parts]
    return paragraphs('decoding', config=config, spaces=described)


def _large(config: Config) -> tuple[Step[Any], ...]:
    """Return the steps that hold most."""
    made = () if config.reconstruction.generator == 'none' else (generate,)
    return (decode, publish_pictures, *made)


def _described(config: Config, mode: str) -> dict[str, str]:
    """Say what makes images, where that is not the trained model's."""
    return {'images are made by': config.reconstruction.generator} if mode == 'train' else {}


SYSTEM = System(
    'reconstruction',
    ('images',),
    train=add_pictures,
    predict=add_prediction,
    sections=_sections,
    check=check_reconstruction,
    models=(DESC,),
    beside=(outputs.DESC,),
    methods=_methods,
    summary='images from responses: decodes their features, retrieves and reconstructs them '
    '(default for images)',
    large=_large,
    scores='decoded',
    identified_by='decoded features',
    methods_of_images=methods_of_images,
    resolved=generator_resolved,
    networks=image_networks,
    packaged=features_packaged,
    described=_described,
    descriptions={
        'generated': 'Images made in two stages from the responses',
        'initial': 'Image of the first stage, from the responses',
        'final': 'Image of the second stage, from the responses',
    },
)
