"""A step: a typed function whose parameters are products of earlier steps, found by name.

A product is what a step makes: a file, or several, under a name. What a parameter is annotated
with says how its file is read (an array, a table, a mask, a path); what a step returns is written
by what it is. A step becomes one Nipype interface, which only reads, calls and writes.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import inspect
import shutil
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.pipeline.engine import Node

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.files import read_json, read_record, read_table, save_json
from bids_neurodecode.workflow.process import Job, content_key, run_in_process
from bids_neurodecode.workflow.resources import INTERPRETER_GB, DataSize
from bids_neurodecode.workflow.stage import Stage

P = ParamSpec('P')
T = TypeVar('T')

UNMADE = 'The step {step} returned {names}, which it does not say that it makes.'
UNDECLARED = (
    'The step {step} returned {name} as {kind}, a record that it does not '
    'say that it makes: declare it by records={{{name!r}: {kind}}}.'
)
UNREADABLE = 'The parameter {name} of the step {step} has a type that no file is read as: {kind}.'

TWICE = 'The step {step} takes {name} twice.'
NOBODY = (
    'The step {step} may be run apart, and has to take the participant, who is named where it '
    'fails.'
)

GIVEN: Mapping[type, Any] = {
    str: traits.Str,
    bool: traits.Bool,
    int: traits.Int,
    float: traits.Float,
    dict: traits.Dict,
}
"""Types of parameters that are known when the graph is built, and how Nipype holds them."""
PLACES = frozenset({'folder', 'checkpoints'})
"""Parameters that are folders of the node: where it writes, and what a killed run goes on from."""
WHERE = frozenset({'cache', 'generators'})
"""Given parameters that are folders which nodes share."""


class Inputs:
    """What several steps take, handed over as one parameter.

    Each field of a frozen dataclass of this kind is found by its name and read as what it is
    annotated with, as if it were a parameter of the step.
    """


@dataclass(frozen=True)
class Parameter:
    """What a step takes.

    Parameters
    ----------
    name
        Of the product, or of what is given when the graph is built.
    kind
        What its file is read as.
    many
        A product of several files.
    needed
        Without it the step cannot be run.
    default
        Where it is not needed.
    """

    name: str
    kind: Any
    many: bool
    needed: bool
    default: object = None

    @property
    def is_record(self) -> bool:
        """Whether it is handed over as JSON: the participant, the settings, the run."""
        return self.kind is Config or hasattr(self.kind, 'from_json')

    @property
    def is_given(self) -> bool:
        """Whether it is known when the graph is built."""
        return self.kind in GIVEN or self.is_record

    @property
    def is_product(self) -> bool:
        """Whether an earlier step makes it."""
        return not self.is_given and self.name not in PLACES

    def trait(self) -> Any:
        """Return the Nipype trait that holds it."""
        if self.is_record:
            return traits.Str(mandatory=self.needed)
        if self.is_given:
            return GIVEN[self.kind](mandatory=self.needed)
        if self.many:
            # Nipype takes an empty list for one that was not given
            return InputMultiPath(File(exists=True))
        return File(exists=True, mandatory=self.needed)

    def read(self, value: Any) -> Any:
        """Return what the function is handed for the value of the trait."""
        if self.kind is Config:
            return Config.model_validate_json(value)
        if self.is_record:
            return self.kind.from_json(value)
        if self.is_given:
            return value
        if self.many:
            return [read(self.kind, Path(file)) for file in value]
        return read(self.kind, Path(value))

    def files(self, file: Path) -> tuple[Path, ...]:
        """Return all files that are read for one file of the product: what lies beside it too."""
        return tuple(self.kind.files(file)) if hasattr(self.kind, 'files') else (file,)


def read(kind: Any, file: Path) -> Any:
    """Read a file as what a parameter is annotated with.

    Parameters
    ----------
    kind
        The annotation.
    file
        The file.
    """
    if kind is Path:
        return file
    if hasattr(kind, 'load'):
        return kind.load(file)
    if kind is pd.DataFrame:
        return read_table(file)
    if typing.get_origin(kind) is np.ndarray:
        return np.load(file, mmap_mode='c')
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return read_record(kind, file)
    return read_json(file)


def readable(kind: object) -> bool:
    """Return whether :func:`read` knows how."""
    return (
        kind in (Path, pd.DataFrame)
        or hasattr(kind, 'load')
        or dataclasses.is_dataclass(kind)
        or typing.get_origin(kind) in {np.ndarray, collections.abc.Mapping}
    )


def write(name: str, value: Any, folder: Path) -> str | list[object]:
    """Write what a step returned under a name; return its file, or its files.

    Paths are files that the step wrote itself.

    Parameters
    ----------
    name
        Of the product.
    value
        An array, table, mask, mapping, record (a dataclass), path, or a list of these.
    folder
        That is written into.
    """
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [write(f'{name}-{k:03d}', each, folder) for k, each in enumerate(value)]
    if isinstance(value, np.ndarray):
        np.save(folder / f'{name}.npy', value)
        return str(folder / f'{name}.npy')
    if isinstance(value, pd.DataFrame):
        write_tsv(folder / f'{name}.tsv', value)
        return str(folder / f'{name}.tsv')
    return str(save_json(folder / f'{name}.json', value))


def form_of(kind: Any, within: tuple[Any, ...] = ()) -> str:
    """Return what a record holds: its fields and their types, those of records within too.

    Parameters
    ----------
    kind
        The type.
    within
        Records that this one is a part of, which may hold themselves.

    Examples
    --------
    >>> form_of(dict[str, int | None])
    'dict[str, int | None[int, NoneType]]'
    """
    name = getattr(kind, '__name__', str(kind))
    parts = [form_of(each, within) for each in typing.get_args(kind)]
    if dataclasses.is_dataclass(kind) and kind not in within:
        fields = dataclasses.fields(kind)
        try:
            hints = typing.get_type_hints(kind)
        except NameError:  # a type that is imported for the type checker alone
            hints = {x.name: x.type for x in fields}
        parts = [f'{x.name}: {form_of(hints[x.name], (*within, kind))}' for x in fields]
    return f'{name}[{", ".join(parts)}]' if parts else name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def only(config: Config, groups: tuple[str, ...]) -> Config:
    """Return settings that have no more than the groups that a step names.

    A step that read another group would not be run again when that changes: here it fails.

    Parameters
    ----------
    config
        The settings.
    groups
        Names of groups; :data:`ALL` keeps all.
    """
    narrow = config.model_copy()
    for name in Config.model_fields:
        if name not in groups and groups != ALL:
            del narrow.__dict__[name]
    return narrow


@dataclass(frozen=True)
class Apart:
    """A process of its own.

    Parameters
    ----------
    what, remedy
        Said where it is killed: what it did, and what to do.
    not_trained
        Groups of settings that scores depend on and trainings do not: a training goes on from its
        checkpoints whatever they are.
    memory
        GB that it asks for there; None: what the step asks for.
    """

    what: str
    remedy: str
    not_trained: tuple[str, ...] = ('evaluation',)
    memory: Callable[[DataSize], float] | None = None


class Step(Generic[P]):
    """A function with what it makes and asks for, and the Nipype interface that runs it.

    Parameters
    ----------
    function
        Takes products, settings and ``folder`` by name; returns what it makes by name.
    name
        Of its node.
    makes, many
        Names of the products; those of several files are in ``many`` too.
    records
        What else it makes: records (dataclasses), which are written as JSON, by name.
    settings
        Groups of settings that it reads.
    threads, memory
        What it asks for: threads at most, and GB from the size of the data (the measured peaks of
        ``docs/benchmarks.md``, rounded up).
    seconds
        About how long it takes beside others, in seconds for the simulated data.
    always
        Run in every call, as what it writes may have been removed.
    apart
        For a step that can be run in a process of its own (see
        :mod:`bids_neurodecode.workflow.process`).
    """

    def __init__(
        self,
        function: Callable[P, Mapping[str, object]],
        name: str,
        *,
        makes: tuple[str, ...] = (),
        many: tuple[str, ...] = (),
        records: Mapping[str, type] | None = None,
        settings: tuple[str, ...] = (),
        threads: int = 1,
        memory: Callable[[DataSize], float] = lambda _: 0.2,
        seconds: float = 1.0,
        always: bool = False,
        apart: Apart | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.records = records or {}
        self.makes = (*makes, *self.records)
        self.many = many
        self.settings = settings
        self.threads = threads
        self.memory = memory
        self.seconds = seconds
        self.always = always
        self.apart = apart
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.parameters = parameters_of(function)
        if apart is not None and all(p.kind is not ParticipantInput for p in self.parameters):
            raise TypeError(NOBODY.format(step=name))

    def asks_for(self, size: DataSize, *, apart: bool = False) -> float:
        """Return the memory (GB) that it asks for, that of the interpreter among it.

        Parameters
        ----------
        size
            Of the data.
        apart
            Whether it is run in a process of its own.
        """
        own = self.apart.memory if apart and self.apart is not None else None
        return round(INTERPRETER_GB + (own or self.memory)(size), 2)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Mapping[str, object]:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    @property
    def place(self) -> str:
        """Where :func:`find_step` finds it."""
        return f'{self.__module__}:{self.__name__}'

    @property
    def form(self) -> str:
        """What it makes: names of products, which are several files, and fields of records."""
        several = [name for name in self.makes if name in self.many]
        records = [f'{name}: {form_of(kind)}' for name, kind in self.records.items()]
        return f'{", ".join(self.makes)}; several: {", ".join(several)}; {"; ".join(records)}'

    @cached_property
    def input_spec(self) -> type[BaseInterfaceInputSpec]:
        """What Nipype holds of its parameters."""
        fields = {p.name: p.trait() for p in self.parameters if p.name not in PLACES}
        # both are in the hash of the node: what a step left under its old name, or before its
        # products changed, can be read by nobody, and the step runs again
        fields['step'] = traits.Str(self.place, usedefault=True)
        fields['form'] = traits.Str(self.form, usedefault=True)
        if self.apart is not None:
            fields['apart'] = traits.Bool(False, usedefault=True)
        if 'device' in fields:
            # Nipype counts such nodes against the GPUs
            fields['use_gpu'] = traits.Bool(False, usedefault=True)
        return self._class(BaseInterfaceInputSpec, 'input_spec', fields)

    @cached_property
    def output_spec(self) -> type[TraitedSpec]:
        """What Nipype holds of its products."""
        fields = {
            name: OutputMultiPath(File(exists=True)) if name in self.many else File(exists=True)
            for name in self.makes
        }
        return self._class(TraitedSpec, 'output_spec', fields)

    @cached_property
    def interface(self) -> type[StepInterface]:
        """The Nipype interface that runs it."""
        fields = {
            'step': self,
            'input_spec': self.input_spec,
            'output_spec': self.output_spec,
            '_always_run': self.always,
            '__doc__': self.__doc__,
        }
        return self._class(StepInterface, 'interface', fields)

    def _class(self, base: type[T], attribute: str, fields: dict[str, object]) -> type[T]:
        """Return a class that is found again under this step, as workers look for it."""
        place = {'__module__': self.__module__, '__qualname__': f'{self.__name__}.{attribute}'}
        kind: Any = type(base)
        made: type[T] = kind(f'{self.__name__}_{attribute}', (base,), fields | place)
        return made

    def call(
        self, inputs: Mapping[str, Any], folder: Path, checkpoints: Path
    ) -> dict[str, object]:
        """Read the inputs, call the function, write what it made; return the files by name.

        Parameters
        ----------
        inputs
            Files, JSON and values by name, without those that were not given.
        folder, checkpoints
            Where it writes, and what a killed run goes on from.
        """
        places = {'folder': folder, 'checkpoints': checkpoints}
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in PLACES:
                values[parameter.name] = places[parameter.name]
            elif parameter.name in inputs:
                values[parameter.name] = parameter.read(inputs[parameter.name])
            elif not parameter.needed:
                values[parameter.name] = parameter.default
            elif parameter.many:
                values[parameter.name] = []
            if parameter.kind is Config:
                values[parameter.name] = only(values[parameter.name], self.settings)
        function: Callable[..., Mapping[str, object]] = self.function
        made = function(**self._together(values))
        unknown = sorted(set(made) - set(self.makes))
        if unknown:
            raise ValueError(UNMADE.format(step=self.name, names=', '.join(unknown)))
        for name, value in made.items():
            kind = type(value)
            if dataclasses.is_dataclass(kind) and kind is not self.records.get(name):
                told = {'step': self.name, 'name': name, 'kind': kind.__name__}
                raise TypeError(UNDECLARED.format(**told))
        return {
            name: write(name, value, folder) for name, value in made.items() if value is not None
        }

    def _together(self, values: dict[str, object]) -> dict[str, object]:
        """Put together what the function takes as one."""
        for name, kind in typing.get_type_hints(self.function).items():
            if is_inputs(kind):
                fields = {field.name for field in dataclasses.fields(kind)}
                own = {field: values.pop(field) for field in fields & {*values}}
                values[name] = kind(**own)
        return values

    def key(self, inputs: Mapping[str, Any]) -> str:
        """Return a hash of all that a training depends on: settings, and the content of files.

        Where files lie and what they are called is no part of it.
        """
        skipped = () if self.apart is None else self.apart.not_trained
        files: list[str] = []
        words = [self.name]
        for parameter in self.parameters:
            value = inputs.get(parameter.name)
            if parameter.name in PLACES or value is None:
                continue
            if parameter.is_product:
                own = [file for each in _listed(value) for file in parameter.files(Path(each))]
                words.append(f'{parameter.name}: {len(own)} files')
                files += map(str, own)
            elif parameter.kind is Config:
                groups = vars(only(Config.model_validate_json(value), self.settings))
                words += [f'{k}={v}' for k, v in sorted(groups.items()) if k not in skipped]
            elif parameter.kind is ParticipantInput:
                words.append(ParticipantInput.from_json(value).fingerprint)
            elif not parameter.is_record and parameter.name not in WHERE:
                words.append(f'{parameter.name}={value}')
        return content_key(words, files)

    def call_apart(self, inputs: Mapping[str, Any], folder: Path) -> dict[str, object]:
        """Do the same in a process of its own, which goes on from what a killed one left.

        Checkpoints lie beside the node's folder under their :meth:`key`.

        Parameters
        ----------
        inputs
            Of the step, by the names of its parameters.
        folder
            That is written into.
        """
        assert self.apart is not None
        participant = ParticipantInput.from_json(inputs['participant'])
        checkpoints = folder.parent / f'{folder.name}_checkpoints' / self.key(inputs)
        save_json(folder / 'job.json', Job(self.place, checkpoints, dict(inputs)))
        made: dict[str, object] = read_json(
            run_in_process(
                folder,
                PROCESS,
                what=self.apart.what,
                label=participant.label,
                remedy=self.apart.remedy,
            )
        )
        shutil.rmtree(checkpoints.parent, ignore_errors=True)
        return made


ALL = ('*',)
"""All groups of settings, for steps that write them down."""
PROCESS = 'bids_neurodecode.workflow.apart'
"""The module whose ``__main__`` runs a step in a process of its own."""


class StepInterface(Stage):
    """The one interface: read, call, write."""

    step: Step[...]

    def _compute(self, folder: Path) -> dict[str, object]:
        inputs = {k: v for k, v in self.inputs.get().items() if isdefined(v)}
        for name in ('use_gpu', 'step', 'form'):
            inputs.pop(name, None)
        if inputs.pop('apart', False):
            return self.step.call_apart(inputs, folder)
        return self.step.call(inputs, folder, folder / 'checkpoints')


class StepNode(Node):
    """A node of a step, which says what it makes: Nipype makes all outputs to look for one."""

    def _check_outputs(self, parameter: str) -> bool:
        return parameter in self.interface.step.makes


def step(name: str, **options: Any) -> Callable[[Callable[P, Mapping[str, object]]], Step[P]]:
    """Make a step of a function; see :class:`Step` for the options."""
    return lambda function: Step(function, name, **options)


def find_step(place: str) -> Step[...]:
    """Return the step of ``module:function``."""
    module, _, function = place.partition(':')
    found: Step[...] = getattr(importlib.import_module(module), function)
    return found


def is_inputs(kind: object) -> bool:
    """Return whether something is annotated with :class:`Inputs`."""
    return isinstance(kind, type) and issubclass(kind, Inputs)


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """Return what a function takes, by its annotations; the fields of :class:`Inputs` among them.

    Raises
    ------
    TypeError
        If no file is read as one of them, or one is taken twice.
    """
    hints, found = typing.get_type_hints(function), list[Parameter]()
    for name, given in inspect.signature(function).parameters.items():
        if not is_inputs(hints[name]):
            found.append(_parameter(function, name, hints[name], given.default))
            continue
        kinds = typing.get_type_hints(hints[name])
        for field in dataclasses.fields(hints[name]):
            bare = field.default is dataclasses.MISSING
            default = inspect.Parameter.empty if bare else field.default
            found.append(_parameter(function, field.name, kinds[field.name], default))
    names = [parameter.name for parameter in found]
    for name in names:
        if names.count(name) > 1:
            raise TypeError(TWICE.format(step=function.__name__, name=name))
    return tuple(found)


def _parameter(function: Callable[..., object], name: str, kind: Any, given: object) -> Parameter:
    many = False
    if isinstance(kind, types.UnionType):
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
    if typing.get_origin(kind) is list:
        kind, many = typing.get_args(kind)[0], True
    bare = typing.get_origin(kind) or kind
    kind = bare if bare in GIVEN else kind
    needed = given is inspect.Parameter.empty
    parameter = Parameter(name, kind, many, needed, None if needed else given)
    if parameter.is_product and not readable(kind):
        raise TypeError(UNREADABLE.format(name=name, step=function.__name__, kind=kind))
    return parameter
