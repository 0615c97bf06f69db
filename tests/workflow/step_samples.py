"""Steps that the tests of steps run: small, and found by name in worker processes."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode import levels, systems
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import Apart, Inputs, Step, step

Numbers = npt.NDArray[np.float64]
PUZZLE = 'The numbers of sub-{label} add up to {total:g}, which is too much. Take fewer.'
CHECKPOINT = 'half.npy'


@step(
    'draw',
    makes=('numbers', 'table', 'blocks', 'note', 'nothing'),
    many=('blocks',),
    settings=('seed',),
)
def draw(config: Config, n: int, factor: float = 2.0, shift: bool = True) -> Mapping[str, Any]:
    """One product of each kind that is written for a step, and one that is not made."""
    numbers = factor * np.random.default_rng(config.seed).standard_normal(n) + shift
    table = pd.DataFrame({'stimulus': [f'{k:03d}' for k in range(n)], 'value': range(n)})
    return {
        'numbers': numbers,
        'table': table,
        'blocks': [numbers[:2], numbers[2:]],
        'note': {'n': n, 'why': ['so']},
        'nothing': None,
    }


@step('scale', makes=('numbers',), settings=('ridge',))
def scale(config: Config, numbers: Numbers) -> Mapping[str, Any]:
    """Make a product of the same name as the one that it takes."""
    return {'numbers': numbers * len(config.ridge.alphas)}


@step('none', makes=('blocks',), many=('blocks',))
def no_blocks() -> Mapping[str, Any]:
    """Make a product of several files that are none."""
    return {'blocks': []}


@dataclass(frozen=True, kw_only=True)
class Drawn(Inputs):
    """What is taken together."""

    config: Config
    blocks: list[Numbers]
    others: Numbers | None = None


@step('gather', makes=('total',), settings=('ridge',))
def add_up(
    drawn: Drawn,
    numbers: Numbers,
    table: pd.DataFrame,
    note: Mapping[str, Any],
    nothing: Path | None = None,
) -> Mapping[str, Any]:
    """Take one product of each kind; some are not there."""
    return {
        'total': {
            'numbers': numbers.tolist(),
            'table': table.to_dict('list'),
            'blocks': [each.tolist() for each in drawn.blocks],
            'note': dict(note),
            'nothing': nothing,
            'others': None if drawn.others is None else drawn.others.tolist(),
            'alphas': len(drawn.config.ridge.alphas),
        }
    }


@step('publish', makes=('published',), always=True)
def publish(call: Call, total: Path, folder: Path) -> Mapping[str, Any]:
    """Write something outside of the node's folder, which may be removed between two calls."""
    target = call.output_dir / 'total.json'
    target.write_bytes(total.read_bytes())
    return {'published': target}


@step('nosy', makes=('seen',), settings=('seed',))
def nosy(config: Config) -> Mapping[str, Any]:
    """Read settings that it does not name."""
    return {'seen': {'alphas': len(config.ridge.alphas)}}


@step('talkative', makes=('asked',))
def talkative() -> Mapping[str, Any]:
    """Make more than it says."""
    return {'asked': {}, 'unasked': {}, 'another': {}}


@dataclass(frozen=True)
class Said:
    """A record."""

    n: int


@step('say', records={'said': Said})
def say(n: int) -> Mapping[str, Any]:
    """Make a record."""
    return {'said': Said(n)}


@step('hear', makes=('heard',))
def hear(said: Said) -> Mapping[str, Any]:
    """Read it."""
    return {'heard': {'n': said.n}}


@step('apply', makes=('applied',))
def apply(model: Path, factor: int) -> Mapping[str, Any]:
    """Take a file that is known when the graph is built."""
    return {'applied': {'model': model.read_text(), 'factor': factor}}


@step(
    'train',
    makes=('model', 'curves', 'where'),
    many=('curves',),
    settings=('ridge', 'evaluation', 'seed'),
    threads=2,
    memory=lambda size: 3.0 * size.n_stimuli,
    apart=Apart('training of the sample', 'take fewer numbers'),
)
def train(
    participant: ParticipantInput,
    config: Config,
    numbers: Numbers,
    blocks: list[Numbers],
    most: float,
    dies: bool,
    device: str,
    folder: Path,
    checkpoints: Path,
    plan: Plan | None = None,
    cache: str = '',
) -> Mapping[str, Any]:
    """Train in two halves, the first of which is kept; refuse, or be killed, on request."""
    total = float(numbers.sum())
    if total > most:
        raise InputError(PUZZLE.format(label=participant.label, total=total))
    if most < 0:
        raise ZeroDivisionError('no error of the data')
    half = checkpoints / CHECKPOINT
    resumed = half.exists()
    if not resumed:
        checkpoints.mkdir(parents=True)
        np.save(half, numbers / 2)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
    model = np.load(half) * 2 + config.seed
    return {
        'model': model,
        'curves': [block + 1 for block in blocks],
        'where': {'process': os.getpid(), 'resumed': resumed, 'device': device},
    }


def steps_of_the_program() -> list[tuple[str, Step[Any]]]:
    """All steps, by the place at which they are looked for."""
    found = []
    for room in (systems, levels):
        for module in pkgutil.walk_packages(room.__path__, f'{room.__name__}.'):
            content = vars(importlib.import_module(module.name))
            found += [
                (f'{module.name}:{name}', each)
                for name, each in content.items()
                if isinstance(each, Step) and each.__module__ == module.name
            ]
    return found
