"""What a simulated dataset is made of: one validated, frozen set of numbers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.settings.base import Settings
from bids_neurodecode.simulate.sampling import SpaceName

INVALID = 'The simulation cannot be made: {key}: {reason}.'

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PARADIGM_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    'images': {},
    'movie': {'n_subjects': 4, 'n_runs': 2, 'n_repeats': 1, 'lead_in': 6.0, 'lead_out': 0.0},
}
"""Where the paradigms' defaults differ from those of :class:`SimulationSpec`."""


class SimulationSpec(Settings):
    """All that decides the bytes of a simulated dataset.

    Raises
    ------
    pydantic.ValidationError
        For an unknown key or a value out of range; :func:`build_spec` turns it into one line.
    """

    paradigm: Literal['images', 'movie'] = 'images'
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 20260101

    n_subjects: Annotated[int, Field(ge=1, le=99)] = 2
    n_sessions: Annotated[int, Field(ge=1, le=99)] = 1
    n_runs: Annotated[int, Field(ge=1, le=99)] = 6
    """Runs a session."""
    n_images: Annotated[int, Field(ge=2, le=100_000)] = 100
    """Images; each is shown ``n_repeats`` times."""
    n_categories: Annotated[int, Field(ge=1, le=6)] = 6
    """Kinds of shapes in the images and films that the program makes."""
    n_repeats: Annotated[int, Field(ge=1)] = 3
    """How often each image or film is shown, in as many different runs."""
    imagery_runs: Annotated[int, Field(ge=0, le=99)] = 0
    """Further runs (``task-imagery``) in which each image is imagined once."""
    imagery_gain: NonNegative = 0.5
    """Responses to imagined images, as a share of those to the same images seen."""
    image_size: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = 96
    """Pixels a side of the images and films that the program makes."""

    repetition_time: Annotated[float, Field(gt=0, le=10)] = 2.0
    stimulus_duration: Positive = 2.0
    isi: tuple[NonNegative, NonNegative] = (2.0, 4.0)
    """Shortest and longest pause between two images, in seconds."""
    lead_in: NonNegative = 8.0
    """Seconds before the first stimulus of a run."""
    lead_out: NonNegative = 16.0
    """Seconds after the last stimulus of a run."""
    on_grid: bool = True
    """Onsets at volumes; else anywhere on a grid of 0.1 s."""
    film_duration: Positive = 240.0
    """Length of the films in seconds (longest used, for a user's own films)."""
    response_delay: Annotated[float, Field(ge=0, le=20)] | None = None
    """Films only: responses follow the film by exactly this delay, without an HRF's blur."""

    voxel_size: Annotated[float, Field(ge=4, le=20)] = 9.0
    """In mm, of the grid laid over nilearn's MNI152 template."""
    space: SpaceName = 'MNI152NLin2009aSym'
    """In which preprocessed series and the truth are written."""
    responsive_fraction: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the voxels of responsive regions that do respond."""
    snr: NonNegative = 1.0
    """Factor on every voxel's signal-to-noise ratio; 0 plants no signal."""
    max_noise_ceiling: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Largest share of the variance of a single trial (or volume) that is signal, at ``snr`` 1."""

    noise_sd: NonNegative = 1.0
    """Standard deviation of the autocorrelated noise, percent signal; 0 gives data without it."""
    autocorrelation: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Correlation of that noise from one volume to the next."""
    shared_noise: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of that noise's variance that has sources common to the whole brain."""
    drift: NonNegative = 1.0
    """Standard deviation of slow drifts, in units of the voxel's noise."""
    physiology: NonNegative = 0.3
    """Amplitude of breathing and heart beat, in units of the voxel's noise."""
    motion: NonNegative = 0.5
    """How strongly head motion shows in the series; 0 also keeps the head still."""
    motion_spikes: NonNegative = 1.0
    """Sudden movements a run, on average."""

    stimuli_dir: Path | None = None
    """A folder with the user's own images or films; none are made then."""
    noise_from: Path | None = None
    """A real run (4-D NIfTI) whose phase-randomised residuals are the noise."""

    @model_validator(mode='before')
    @classmethod
    def _paradigm_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            return {**PARADIGM_DEFAULTS.get(str(values.get('paradigm')), {}), **values}
        return values

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if self.isi[0] > self.isi[1]:
            raise ValueError('the shortest pause (isi) is longer than the longest')
        if self.n_repeats > self.total_runs:
            msg = (
                f'{self.n_repeats} repeats in different runs need as many runs; there are '
                f'{self.total_runs}. Ask for more runs (n_runs), or for fewer repeats (n_repeats)'
            )
            raise ValueError(msg)
        if self.imagery_runs and self.paradigm == 'movie':
            raise ValueError('images are imagined, not films: imagery_runs goes with images')
        if self.paradigm == 'movie' and self.total_runs % self.n_repeats:
            msg = (
                f'{self.total_runs} runs cannot show every film {self.n_repeats} times; '
                'choose a number of repeats (n_repeats) that divides the runs'
            )
            raise ValueError(msg)
        return self

    @property
    def total_runs(self) -> int:
        """Runs of one participant over all sessions."""
        return self.n_sessions * self.n_runs

    @property
    def n_films(self) -> int:
        """Number of different films."""
        return self.total_runs // self.n_repeats

    @property
    def task(self) -> str:
        """The BIDS task label."""
        return self.paradigm

    def to_json(self) -> str:
        """Write all values as JSON."""
        return json.dumps(self.model_dump(mode='json'), indent=2) + '\n'


def build_spec(**values: Any) -> SimulationSpec:
    """Validate values; those left out take the defaults of the paradigm.

    Raises
    ------
    ArgumentsError
        For an unknown key or a value that cannot be used, naming it.
    """
    try:
        return SimulationSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(part) for part in first['loc']) or 'settings'
        reason = first['msg'].removeprefix('Value error, ')
        reason = 'unknown key' if first['type'] == 'extra_forbidden' else reason
        raise ArgumentsError(INVALID.format(key=key, reason=reason)) from error


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator of one part of the dataset.

    Parts have streams of their own, so that adding a participant or a run does not change the
    others.

    Examples
    --------
    >>> a, b = generator(1, 'sub-01', 2), generator(1, 'sub-01', 2)
    >>> float(a.random()) == float(b.random())
    True
    """
    numbers = [k if isinstance(k, int) else zlib.crc32(k.encode()) for k in keys]
    return np.random.default_rng([seed, *numbers])
