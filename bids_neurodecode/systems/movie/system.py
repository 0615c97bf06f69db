"""The system of films, as the program finds it."""

from __future__ import annotations

from typing import Any

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import System
from bids_neurodecode.report.boilerplate import paragraphs
from bids_neurodecode.report.build import Section
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.systems.movie.checks import check_films, film_networks, films_resolved
from bids_neurodecode.systems.movie.report.agreement import agreement_section
from bids_neurodecode.systems.movie.report.section import film_section
from bids_neurodecode.systems.movie.steps import network_outputs, outputs
from bids_neurodecode.systems.movie.steps.encoding import encode
from bids_neurodecode.systems.movie.steps.group import viewers_of
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


def _became(config: Config) -> tuple[tuple[str, str, str], ...]:
    """Return what settings that may be ``auto`` became."""
    return (('movie.banded', config.movie.banded, 'on' if config.movie.with_banded else 'off'),)


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
    ceiling_from='other participants who saw the films',
    shuffles_pairs=False,
    titles={'pearsonr': 'Prediction accuracy of ridge regression'},
    resolved=films_resolved,
    became=_became,
    together=viewers_of,
    new_stimuli='films',
    networks=film_networks,
    descriptions={
        'isc': 'Voxels on whose responses participants agree',
        'snr': 'Voxels with a high signal-to-noise ratio over participants, as published',
        'network': 'Network between the series and films, both ways',
        'networkpredicted': 'Predicted by a trained network from the stimuli alone',
        'networkapplied': 'A trained network applied to data that it was not trained on',
        'recon': 'Held-out frames of a film as reconstructed from the responses',
    },
)
