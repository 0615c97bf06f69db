"""The system of films, as the program finds it."""

from __future__ import annotations

from typing import Any

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import System
from bids_neurodecode.report.boilerplate import paragraphs
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.movie.checks import check_films
from bids_neurodecode.systems.movie.report.agreement import agreement_section
from bids_neurodecode.systems.movie.report.section import film_section
from bids_neurodecode.systems.movie.steps import network_outputs, outputs
from bids_neurodecode.systems.movie.steps.encoding import encode
from bids_neurodecode.systems.movie.steps.model import check_film_model
from bids_neurodecode.systems.movie.steps.network import train_network
from bids_neurodecode.systems.movie.steps.prediction import add_film_prediction
from bids_neurodecode.systems.movie.steps.training import add_films
from bids_neurodecode.workflow.step import Step


def _sections(reader: Reader) -> tuple[Section, ...]:
    """Show which voxels are predicted and how near to their ceiling, and the network."""
    title = 'Tests of voxels' if reader.results.agreement is None else 'Voxels and their ceiling'
    return (
        Section('agreement', title, agreement_section(reader)),
        Section('network', 'Movie network', film_section(reader)),
    )


def _large(config: Config) -> tuple[Step[Any], ...]:
    """Return the steps that hold most."""
    network = (train_network,) if config.movie.model == 'network' else ()
    return (encode, outputs.publish_films, *network)


SYSTEM = System(
    'movie',
    ('movie',),
    train=add_films,
    predict=add_film_prediction,
    sections=_sections,
    check=check_films,
    check_model=check_film_model,
    models=(outputs.DESC,),
    beside=(network_outputs.DESC,),
    methods=lambda config: paragraphs('films', config=config),
    summary='responses to films from what they show; with a network also frames of films from '
    'responses (default for films)',
    aim='relates the films to the brain responses',
    large=_large,
)
