"""The system of image encoding, as the program finds it."""

from __future__ import annotations

from bids_neurodecode.extensions import System
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.encoding.checks import check_encoding
from bids_neurodecode.systems.encoding.report.section import encoding_section
from bids_neurodecode.systems.encoding.steps.outputs import ENCODERS
from bids_neurodecode.systems.encoding.steps.prediction import add_encoding_prediction
from bids_neurodecode.systems.encoding.steps.training import add_picture_encoding


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show the model of each voxel."""
    return (Section('encoding', 'Encoding model', encoding_section(reader)),)


SYSTEM = System(
    'encoding',
    ('images',),
    train=add_picture_encoding,
    predict=add_encoding_prediction,
    sections=_sections,
    check=check_encoding,
    models=tuple(sorted(ENCODERS)),
)
