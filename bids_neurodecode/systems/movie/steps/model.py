"""Trained models of films on disk: found, checked against new data, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.errors import BROKEN_TEXT, InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.models.storage import KEY, load_arrays
from bids_neurodecode.samples import MASK_ARRAYS, VoxelMask
from bids_neurodecode.systems.movie.network import MovieNetwork, read_extra
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from bids_neurodecode.systems.movie.recipe import FilmEncoder

NO_FILM_MODEL = '{file} is no model of films that can be applied ({reason}). Train it again.'
OTHER_GRID = (
    'The model {file} was trained on a grid of {model} voxels, {bold} has {data} (or lies '
    'elsewhere). Apply it to data in the same space and resolution.'
)
OTHER_TR = (
    'The model {file} was trained at a repetition time of {model:g} s, {bold} has {data:g} s. '
    'Apply it to runs with the same one.'
)
KIND = 'film-encoder'


@dataclass(frozen=True)
class FilmModelFacts:
    """What a saved model says of itself: its description, and its voxels on the grid."""

    description: dict[str, Any]
    mask: VoxelMask

    @property
    def repetition_time(self) -> float:
        """Seconds."""
        return float(self.description['repetition_time'])


@dataclass(frozen=True, eq=False)
class FilmModels:
    """The models of one participant.

    Parameters
    ----------
    facts, encoder
        The linear model.
    network, network_mask, mean_frame
        The network, its voxels and the mean frame it was trained on; None without one.
    """

    facts: FilmModelFacts
    encoder: FilmEncoder
    network: MovieNetwork | None = None
    network_mask: VoxelMask | None = None
    mean_frame: Float32Array | None = None


def facts_of(file: Path) -> FilmModelFacts:
    """Read what a linear model of films says of itself, without its weights.

    Raises
    ------
    InputError
        If it is no such model.
    """
    from safetensors import SafetensorError, safe_open

    check_fetched(file)
    with (
        raised_as(InputError, NO_FILM_MODEL, *BROKEN_TEXT, SafetensorError, KeyError, file=file),
        safe_open(file, 'numpy') as stored,
    ):
        description = json.loads((stored.metadata() or {})[KEY])
        voxels = {x: stored.get_tensor(x) for x in set(MASK_ARRAYS).intersection(stored.keys())}
        mask = VoxelMask.from_state(voxels)
    if description.get('kind') != KIND:
        reason = f'it is a {description.get("kind", "model of another kind")}'
        raise InputError(NO_FILM_MODEL.format(file=file, reason=reason))
    return FilmModelFacts(description, mask)


def check_film_model(file: Path, participant: ParticipantInput) -> None:
    """Refuse a model that does not fit the runs of a participant, before work starts.

    Parameters
    ----------
    file
        The model.
    participant
        Whose data.

    Raises
    ------
    InputError
        If it is no model of films, or was trained on another grid or repetition time.
    """
    facts = facts_of(file)
    for run in participant.runs:
        if abs(run.repetition_time - facts.repetition_time) > 1e-3:
            tr = {'model': facts.repetition_time, 'data': run.repetition_time}
            raise InputError(OTHER_TR.format(file=file, bold=run.bold, **tr))
        grid = read_header(run.bold).grid
        data = VoxelMask(np.ones(grid.shape, dtype=bool), grid.affine, space=grid.space)
        if not data.same_grid(facts.mask):
            raise InputError(
                OTHER_GRID.format(
                    file=file, model=facts.mask.mask.shape, bold=run.bold, data=grid.shape
                )
            )


def network_of(file: Path) -> Path | None:
    """Return the network that lies beside a linear model; None if there is none."""
    other = file.with_name(file.name.replace('_desc-linear_', '_desc-network_'))
    check_fetched(other)
    return other if other.is_file() else None


def load_models(file: Path) -> FilmModels:
    """Read the linear model, and the network beside it.

    Raises
    ------
    InputError, DataError
        If a file is missing, damaged or of another kind.
    """
    from bids_neurodecode.systems.movie.applying import encoder_from

    facts = facts_of(file)
    encoder = encoder_from(*load_arrays(file))
    weights = network_of(file)
    if weights is None:
        return FilmModels(facts, encoder)
    extra = read_extra(weights)
    if 'mask' not in extra:
        raise InputError(NO_FILM_MODEL.format(file=weights, reason='it does not hold its voxels'))
    return FilmModels(
        facts,
        encoder,
        MovieNetwork.read(weights, weights.with_suffix('.json')),
        VoxelMask.from_state(extra),
        extra.get('mean_frame'),
    )
