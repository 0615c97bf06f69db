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
from bids_neurodecode.systems.reconstruction.checks import check_reconstruction
from bids_neurodecode.systems.reconstruction.generation.steps import outputs
from bids_neurodecode.systems.reconstruction.generation.steps.training import generate
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
)
