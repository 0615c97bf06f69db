"""Steps name every group of settings that they may read, in branches too that no test runs.

A step is handed the groups that it names, and reading another fails: better here than in the
third hour of somebody's run. The program is read, not run: wherever settings, or an object that
holds them, are handed on, the function (the methods of the class) is read as well.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import bids_neurodecode
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.step import ALL
from tests.workflow.step_samples import steps_of_the_program

ROOT = Path(bids_neurodecode.__file__).parent
GROUPS = frozenset(Config.model_fields)
Place = tuple[str, str]
"""Module and name."""


def annotation(node: ast.arg | ast.AnnAssign) -> str:
    """The type without quotes and without what else it may be."""
    text = '' if node.annotation is None else ast.unparse(node.annotation)
    return text.strip('\'"').split(' |')[0]


def arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.args, *function.args.kwonlyargs]


def methods(kind: ast.ClassDef) -> list[ast.FunctionDef]:
    return [each for each in kind.body if isinstance(each, ast.FunctionDef)]


class Program:
    """The functions and classes of the package, and what each module imports."""

    def __init__(self, sources: dict[str, str]) -> None:
        trees = {name: ast.parse(source) for name, source in sources.items()}
        self.modules = set(trees)
        self.functions: dict[Place, ast.FunctionDef] = {}
        self.classes: dict[Place, ast.ClassDef] = {}
        self.imports: dict[Place, Place] = {}
        self.methods: dict[str, list[tuple[str, ast.FunctionDef, str]]] = defaultdict(list)
        for module, tree in trees.items():
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    self.functions[module, node.name] = node
                elif isinstance(node, ast.ClassDef):
                    self.classes[module, node.name] = node
                    for each in methods(node):
                        self.methods[each.name].append((module, each, node.name))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module:
                    for name in node.names:
                        self.imports[module, name.asname or name.name] = node.module, name.name
        self.holders = self._holders()

    def _holders(self) -> set[str]:
        """Names of the classes that hold settings, or an object that does."""
        found = {'Config'}
        while True:
            more = {
                name
                for (_, name), kind in self.classes.items()
                if {
                    annotation(each)
                    for node in kind.body
                    for each in (
                        [node] if isinstance(node, ast.AnnAssign)
                        else arguments(node) if getattr(node, 'name', '') == '__init__'
                        else []
                    )
                } & found
            }  # fmt: skip
            if more <= found:
                return found - {'Config'}
            found |= more

    def resolve(self, module: str, name: str) -> Place:
        """Where something is defined that a module calls by a name."""
        while (module, name) not in {**self.functions, **self.classes}:
            if (module, name) not in self.imports:
                break
            module, name = self.imports[module, name]
        return module, name

    def read(self, module: str, function: ast.FunctionDef, kind: str = '') -> 'Reading':
        return Reading(self, module, function, kind)

    def groups(self, module: str, name: str) -> dict[str, str]:
        """Groups that a function reads, each with the way to where it is read."""
        todo = [(module, self.functions[module, name], '', '')]
        seen: set[ast.FunctionDef] = set()
        found: dict[str, str] = {}
        while todo:
            module, function, kind, way = todo.pop(0)
            if function in seen:
                continue
            seen.add(function)
            reading = self.read(module, function, kind)
            way = f'{way} > {function.name}' if way else function.name
            for group in reading.groups():
                found.setdefault(group, way)
            todo += [(*each, way) for each in reading.calls()]
        return found


class Reading:
    """One function: which of its names are settings, which hold some, and who is handed them."""

    def __init__(
        self, program: Program, module: str, function: ast.FunctionDef, kind: str
    ) -> None:
        self.program, self.module, self.function = program, module, function
        given = {each.arg: annotation(each) for each in arguments(function)} | {'self': kind}
        self.settings = {name for name, of in given.items() if of == 'Config'}
        self.holding = {name for name, of in given.items() if of in program.holders}
        for _ in range(3):  # names of names of names
            for target, value in self._assigned():
                copied = getattr(getattr(value, 'func', None), 'attr', '') == 'model_copy'
                if self.is_settings(value.func.value if copied else value):
                    self.settings.add(target)
                elif isinstance(value, ast.Call) and self.hands_on(value):
                    self.holding.add(target)

    def _assigned(self) -> Iterator[tuple[str, ast.expr]]:
        for node in ast.walk(self.function):
            if not isinstance(node, ast.Assign):
                continue
            target, value = node.targets[0], node.value
            both = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                both = list(zip(target.elts, value.elts, strict=True))
            yield from ((t.id, v) for t, v in both if isinstance(t, ast.Name))

    def is_settings(self, node: ast.expr) -> bool:
        """Whether it is all settings: a name, or ``something.config``."""
        if isinstance(node, ast.Attribute):
            return node.attr == 'config'
        return isinstance(node, ast.Name) and node.id in self.settings

    def hands_on(self, call: ast.Call) -> bool:
        """Whether settings, or what holds some, are among the arguments (or the object)."""
        values = [*call.args, *(each.value for each in call.keywords)]
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            values += [call.func.value] if call.func.value.id in self.holding else []
        several = (ast.Tuple, ast.List, ast.Dict, ast.Starred)
        inside = [
            each
            for value in values
            for each in (ast.walk(value) if isinstance(value, several) else [value])
        ]
        return any(
            self.is_settings(each) or (isinstance(each, ast.Name) and each.id in self.holding)
            for each in inside
        )

    def groups(self) -> set[str]:
        return {
            node.attr
            for node in ast.walk(self.function)
            if isinstance(node, ast.Attribute)
            and node.attr in GROUPS
            and self.is_settings(node.value)
        }

    def calls(self) -> Iterator[tuple[str, ast.FunctionDef, str]]:
        """Module, function and class of each that is handed settings."""
        program = self.program
        for call in ast.walk(self.function):
            if not isinstance(call, ast.Call) or not self.hands_on(call):
                continue
            function = call.func
            if isinstance(function, ast.Name):
                yield from self._defined(program.resolve(self.module, function.id))
            elif isinstance(function, ast.Attribute):
                base = getattr(function.value, 'id', '')
                module, name = program.resolve(self.module, base)
                if (module, name) in program.classes:
                    yield from self._defined((module, name))
                elif f'{module}.{name}' in program.modules:
                    yield from self._defined((f'{module}.{name}', function.attr))
                else:  # of an object: any method of that name
                    yield from program.methods[function.attr]

    def _defined(self, place: Place) -> Iterator[tuple[str, ast.FunctionDef, str]]:
        program = self.program
        if place in program.functions:
            yield place[0], program.functions[place], ''
        elif place in program.classes:
            yield from ((place[0], each, place[1]) for each in methods(program.classes[place]))


@pytest.fixture(scope='module')
def program():
    files = {file.relative_to(ROOT.parent).with_suffix(''): file for file in ROOT.rglob('*.py')}
    return Program({'.'.join(name.parts): file.read_text() for name, file in files.items()})


@pytest.mark.slow
def test_every_group_that_may_be_read_is_named(program):
    missing = {}
    for place, step in steps_of_the_program():
        module, _, name = place.partition(':')
        if step.settings != ALL:
            found = program.groups(module, name)
            missing |= {
                f'{place}: {group}': way
                for group, way in found.items()
                if group not in step.settings
            }
    assert missing == {}


SAMPLE = {
    'p.a': """
from p.b import Case, fit
from p import c

def function(config: Config, x):
    seed, mine = config.seed, config
    case = Case(x, mine)
    fit(x, settings=mine)
    c.judge((1, case))
    case.look()
    unseen(x)

def unseen(config: Config):
    return config.movie
""",
    'p.b': """
class Case:
    x: int
    config: 'Config | None'
    def look(self):
        return self.config.atlas

def fit(x, settings: Config):
    narrow = settings.model_copy(update={})
    return narrow.ridge.alphas
""",
    'p.c': """
def judge(both):
    case = both[1]
    return case.config.evaluation
""",
}


def test_settings_are_followed_wherever_they_are_handed_on():
    found = Program(SAMPLE).groups('p.a', 'function')
    assert set(found) == {'seed', 'atlas', 'ridge', 'evaluation'}
    assert found['ridge'] == 'function > fit'
