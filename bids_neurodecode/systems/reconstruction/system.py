"""The system that decodes and reconstructs images, as the program finds it."""

from __future__ import annotations

from bids_neurodecode.extensions import System
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.reconstruction.checks import check_reconstruction
from bids_neurodecode.systems.reconstruction.generation.steps import outputs
from bids_neurodecode.systems.reconstruction.report import generation_section
from bids_neurodecode.systems.reconstruction.steps.prediction import add_prediction
from bids_neurodecode.systems.reconstruction.steps.training import DESC, add_pictures


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show the images that were made."""
    return (Section('images', 'Reconstructions', generation_section(reader)),)


SYSTEM = System(
    'reconstruction',
    ('images',),
    train=add_pictures,
    predict=add_prediction,
    sections=_sections,
    check=check_reconstruction,
    models=(DESC,),
    beside=(outputs.DESC,),
)
