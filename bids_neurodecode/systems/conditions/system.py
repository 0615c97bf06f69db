"""The system of conditions, as the program finds it."""

from __future__ import annotations

from bids_neurodecode.extensions import System
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.conditions.report import conditions_section
from bids_neurodecode.systems.conditions.steps import add_conditions


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show how conditions are told apart."""
    return (Section('conditions', 'Conditions', conditions_section(reader)),)


SYSTEM = System('conditions', ('conditions',), train=add_conditions, sections=_sections)
