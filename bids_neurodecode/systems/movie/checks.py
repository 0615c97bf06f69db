"""What models of films are refused for, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import Asked
from bids_neurodecode.extras import require_networks
from bids_neurodecode.stimuli.features import networks_needed
from bids_neurodecode.stimuli.motion import require_motion_energy
from bids_neurodecode.systems.movie.agreement import MIN_FOR_AUTO
from bids_neurodecode.systems.movie.steps.earlier import earlier_sources
from bids_neurodecode.systems.movie.steps.explain import check_explain
from bids_neurodecode.systems.movie.steps.group import NOBODY_ELSE
from bids_neurodecode.systems.movie.steps.training import with_motion

NO_SELECTION = (
    'Voxels of films are not selected by {measure!r} ({where}). Set selection.measure to "isc" '
    '(agreement between participants), "none" or "auto".'
)
ONLY_PUBLISHED = (
    'selection.measure = "snr" looks at held-out volumes too: it goes with the published split '
    '(split.by = "paper") and clean.scaling = "none" only, as in the preset emofilm-paper. '
    'Set selection.measure to "isc".'
)


def check_films(asked: Asked) -> None:
    """Check weights and concepts, that networks are installed, and how voxels are selected.

    Parameters
    ----------
    asked
        What the run asks for.

    Raises
    ------
    ArgumentsError, InputError
        One line: what is missing or cannot be, and the way out.
    """
    from bids_neurodecode.models.weights import weights_path

    config, movie = asked.config, asked.config.movie
    for name in film_networks(config)[0]:
        weights_path(name, asked.weights_dir)
    check_explain(config)
    if not asked.people:
        return
    if asked.fits:
        require_networks(_network(asked))
    if movie.motion == 'energy' and movie.with_banded:
        require_motion_energy()
    _check_selection(asked)


def film_networks(config: Config) -> tuple[list[str], list[str]]:
    """Return the pretrained networks that the network of films is trained by; none judges."""
    movie = config.movie
    made = movie.model == 'network' and movie.mode != 'encoder'
    return ['vgg16'] if made and movie.perceptual == 'vgg16' else [], []


def films_resolved(asked: Asked) -> Iterator[str]:
    """Say what is held out of films, which voxels are used and which features are added."""
    config, n_viewers = asked.config, len(asked.people)
    if config.split.by == 'auto':
        yield 'split.by: the parts that the dataset or split.test gives, else time (end of films)'
    if config.selection.measure == 'auto':
        measure = 'isc' if n_viewers >= MIN_FOR_AUTO else 'none (all voxels)'
        yield (
            f'selection.measure: {measure}; {n_viewers} participant{"s" * (n_viewers != 1)} in '
            f'this call, isc from {MIN_FOR_AUTO} on (participants of earlier calls count too)'
        )
    if config.movie.banded == 'auto':
        yield f'movie.banded: {"on" if config.movie.with_banded else "off"}'
    if config.movie.motion == 'auto' and config.movie.with_banded:
        yield f'movie.motion: {with_motion(config).movie.motion}'


def _network(asked: Asked) -> str:
    """Return the setting or the trained model that needs networks; empty if none does."""
    movie = asked.config.movie
    if asked.models:
        beside = [
            network.name
            for model in asked.models.values()
            for network in sorted(model.parent.glob('*_desc-network_model.safetensors'))
        ]
        return f'the model {beside[0]}' if beside else ''
    if movie.model == 'network' and movie.target == 'participant':
        return 'movie.model = "network"'
    return networks_needed(asked.config.features.extractor)


def _check_selection(asked: Asked) -> None:
    """Refuse measures that films do not have, and agreement where there is nobody to agree."""
    config: Config = asked.config
    measure = config.selection.measure
    if measure not in {'auto', 'none', 'isc', 'snr'}:
        where = asked.where('selection', 'measure')
        raise ArgumentsError(NO_SELECTION.format(measure=measure, where=where))
    if measure == 'snr' and (config.split.by != 'paper' or config.clean.scaling != 'none'):
        raise ArgumentsError(ONLY_PUBLISHED)
    viewers = [person for person in asked.everyone if person.paradigm == 'movie']
    compared = measure in {'isc', 'snr'} and config.movie.target == 'participant'
    if not compared or len(viewers) > 1 or asked.models:
        return
    label, folder = viewers[0].label, asked.output_dir
    if not earlier_sources(viewers[0], folder, config):
        raise ArgumentsError(NOBODY_ELSE.format(measure=measure, label=label, folder=folder))
