"""The system of conditions, as the program finds it."""

from __future__ import annotations

from typing import Literal

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import System
from bids_neurodecode.report.boilerplate import paragraphs
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.conditions.report import conditions_section
from bids_neurodecode.systems.conditions.steps import (
    add_conditions,
    analyse,
    publish_conditions,
)


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show how conditions are told apart."""
    return (Section('conditions', 'Conditions', conditions_section(reader)),)


def _needs(config: Config) -> dict[str, Literal['neighbours', 'grid']]:
    """Say that searchlights are of neighbours."""
    lights = config.conditions.searchlight is not None
    return {'A searchlight (conditions.searchlight)': 'neighbours'} if lights else {}


SYSTEM = System(
    'conditions',
    ('conditions',),
    train=add_conditions,
    sections=_sections,
    methods=lambda config: paragraphs('conditions', config=config),
    summary='which condition (trial_type) from responses, and how far apart conditions are '
    '(default where no stimulus files are named)',
    aim='tells from the brain responses which condition it was, and how conditions differ',
    needs=_needs,
    large=lambda _: (analyse, publish_conditions),
    descriptions={
        'conditions': 'Conditions told apart by their responses, and how far these are apart',
        'searchlight': 'Of searchlights, each named by the voxel in its centre',
    },
)
