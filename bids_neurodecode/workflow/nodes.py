"""What every factory needs: the settings of the run, and nodes with their resources."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bids_neurodecode.bids.records import ParticipantInput, read_as
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.resources import INTERPRETER_GB, DataSize
from bids_neurodecode.workflow.step import ALL, PLACES, Step, StepNode

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow


@dataclass(frozen=True)
class Call:
    """What steps that write outputs need to know of a call of the program.

    Parameters
    ----------
    output_dir, bids_dir
        Folders.
    derivatives
        Names of the preprocessed datasets.
    notes
        What was said before work started.
    run_id
        Of this call.
    """

    output_dir: Path
    bids_dir: Path
    derivatives: tuple[str, ...]
    notes: tuple[str, ...]
    run_id: str

    def relative(self, text: str) -> str:
        """Return a text for the report, with paths below the folders relative to these.

        Examples
        --------
        >>> call = Call(Path('/data/out'), Path('/data/raw'), (), (), '')
        >>> call.relative('No error in /data/raw; read /data/raw/stimuli/a.png.')
        'No error in the raw dataset; read stimuli/a.png.'
        """
        for folder, name in (
            (self.output_dir, 'the output folder'),
            (self.bids_dir, 'the raw dataset'),
        ):
            text = text.replace(f'{folder}/', '')
            text = re.sub(rf'{re.escape(str(folder))}(?![\w-])', name, text)
        return text

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it from JSON."""
        return read_as(cls, text)


@dataclass(frozen=True)
class RunSettings:
    """What a whole run shares and every factory needs.

    ``threads`` is what one node may use; ``device`` is ``cpu`` or ``cuda``.
    """

    config: Config
    output_dir: Path
    work_dir: Path
    run_id: str
    threads: int
    device: str
    bids_dir: Path
    derivatives: dict[str, Path]
    notes: tuple[str, ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    """In predict mode, the trained model of each participant."""
    everyone: Path | None = None
    """Records of the participants of the call, where they can be compared with each other."""
    weights_dir: Path | None = None
    """Pretrained weights; None: the default folder."""
    level: str = 'full'
    """How far it goes: ``full``, or ``betas`` alone."""
    blocks: int = 1
    """Into how many nodes each pass of the estimation of betas is cut."""

    @property
    def call(self) -> Call:
        """What steps that write outputs need to know of it."""
        return Call(
            self.output_dir, self.bids_dir, tuple(self.derivatives), self.notes, self.run_id
        )


def settings_of(config: Config, *groups: str) -> str:
    """Return the settings as JSON with every other group at its default.

    A node that gets no more than what it depends on stays cached when other settings change.
    """
    default = _default()
    others = {name: getattr(default, name) for name in Config.model_fields if name not in groups}
    return config.model_copy(update=others).model_dump_json()


@cache
def _default() -> Config:
    """Return the settings of who sets none, which are frozen; making them takes a while."""
    return Config()


def cost_of(node: Node) -> float:
    """Return about how long a node takes beside others; in seconds for the simulated data."""
    made_of = getattr(node.interface, 'step', None)
    return made_of.seconds if isinstance(made_of, Step) else 1.0


NOBODY = ParticipantInput('', '', 'images', (), Path(), ())
NO_DATA = DataSize(0, (0,), 0)
NO_MAKER = 'The step {step} needs {product}, which is not given and which no step before it makes.'
UNKNOWN = 'The step {step} neither takes nor makes {names}.'


class Ladder:
    """Steps, each fed by name with what earlier ones made.

    Parameters
    ----------
    workflow
        Of Nipype; nodes are added to it.
    run
        With which settings.
    participant, size
        Whose data, and how large; at group level there are none.

    Attributes
    ----------
    made
        The node and the name of its output that each product comes from. A later step that makes
        a product of the same name takes its place.
    """

    def __init__(
        self,
        workflow: Workflow,
        run: RunSettings,
        participant: ParticipantInput = NOBODY,
        size: DataSize = NO_DATA,
    ) -> None:
        self.workflow = workflow
        self.participant = participant
        self.run = run
        self.size = size
        self.made: dict[str, tuple[Node, str]] = {}

    def add(
        self,
        step: Step[...],
        name: str = '',
        *,
        made: Mapping[str, str] | None = None,
        apart: bool = False,
        **given: object,
    ) -> Node:
        """Add a step and connect it; return its node.

        Parameters
        ----------
        step
            What is run.
        name
            Of the node; that of the step by default.
        made
            Other names of what it makes, where two nodes run one step.
        apart
            Run it in a process of its own.
        **given
            Values of its other parameters.

        Raises
        ------
        LookupError
            If it needs what is not given and no earlier step makes.
        TypeError
            If it takes nothing of a name that is given, or makes nothing of one that is renamed.
        """
        renamed = made or {}
        unknown = {*given} - {p.name for p in step.parameters} | {*renamed} - {*step.makes}
        if unknown:
            raise TypeError(UNKNOWN.format(step=step.name, names=', '.join(sorted(unknown))))
        facts = self._facts(step, given)
        if apart:
            facts['apart'] = True
        node = StepNode(
            step.interface(**facts),
            name=name or step.name,
            mem_gb=step.asks_for(self.size, apart=apart),
            n_procs=min(step.threads, self.run.threads),
        )
        self.workflow.add_nodes([node])
        for parameter in step.parameters:
            if parameter.name in facts or parameter.name in PLACES:
                continue
            if parameter.is_product and parameter.name in self.made:
                source, output = self.made[parameter.name]
                self.workflow.connect(source, output, node, parameter.name)
            elif parameter.needed:
                raise LookupError(NO_MAKER.format(step=node.name, product=parameter.name))
        self.made |= {renamed.get(product, product): (node, product) for product in step.makes}
        return node

    def gather(self, product: str, products: Sequence[str], *, name: str = '') -> None:
        """Make one product of several files out of several, in their order.

        Parameters
        ----------
        product
            Its name.
        products
            Names of those that it is made of.
        name
            Of the node; that of the product by default.
        """
        from nipype.interfaces.utility import Merge
        from nipype.pipeline import engine as pe

        node = pe.Node(Merge(len(products)), name=name or product, mem_gb=INTERPRETER_GB)
        for number, each in enumerate(products, 1):
            source, output = self.made[each]
            self.workflow.connect(source, output, node, f'in{number}')
        self.made[product] = (node, 'out')

    @cached_property
    def _participant(self) -> str:
        return self.participant.to_json()

    def _facts(self, step: Step[...], given: Mapping[str, object]) -> dict[str, object]:
        """Return what is known before anything is run, by the names of the parameters."""
        run = self.run
        config = run.config
        facts: dict[str, object] = {}
        for parameter in step.parameters:
            if parameter.name == 'device':
                device = given.get('device', run.device)
                facts |= {'device': device, 'use_gpu': device == 'cuda'}
            elif parameter.name in given:
                facts[parameter.name] = given[parameter.name]
            elif parameter.kind is Config:
                whole = step.settings == ALL
                facts[parameter.name] = (
                    config.model_dump_json() if whole else settings_of(config, *step.settings)
                )
            elif parameter.kind is ParticipantInput:
                facts[parameter.name] = self._participant
            elif parameter.kind is Call:
                facts[parameter.name] = run.call.to_json()
        return facts
