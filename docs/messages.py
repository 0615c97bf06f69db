"""Find every message of the program by reading its source: constants, and who raises them."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bids_neurodecode
from bids_neurodecode import errors
from bids_neurodecode.cli.exits import exit_code

PACKAGE = Path(bids_neurodecode.__file__).parent
OURS = 'bids_neurodecode.'
PAGES = re.compile(r'(^|\.)report(\.|$)|_page$')
"""Modules that write pages."""
NO_MESSAGES = {'simulate.write', 'simulate.writetruth'}
"""Modules whose long texts are README files of what they write."""


@dataclass(frozen=True)
class Message:
    """One message.

    Parameters
    ----------
    module
        Where the constant is, without the package's name.
    name
        Of the constant.
    template
        Its text, with fields in braces.
    errors
        Names of the exceptions that it is raised with; none: it is a note.
    """

    module: str
    name: str
    template: str
    errors: tuple[str, ...]

    @property
    def room(self) -> str:
        """The package that the module is in, or the module itself."""
        head = self.module.split('.')[0]
        return 'config' if head.startswith('settings') else head

    @property
    def error(self) -> bool:
        """Whether it is raised."""
        return bool(self.errors)

    @property
    def code(self) -> str:
        """The exit codes that it leads to."""
        codes = {exit_code(getattr(errors, name)('')) for name in self.errors}
        return ', '.join(str(code) for code in sorted(codes))

    @property
    def whole(self) -> str:
        """The text as Markdown, fields in italics."""
        return markdown(self.template)

    @property
    def wrong(self) -> str:
        """What is wrong: the first sentence."""
        return markdown(sentences(self.template)[0])

    @property
    def way_out(self) -> str:
        """What to do: the sentences after the first."""
        return markdown(' '.join(sentences(self.template)[1:]))


def sentences(text: str) -> list[str]:
    """Cut a text into sentences.

    Examples
    --------
    >>> sentences('The file {file} is empty. Write it again, e.g. as PNG.')
    ['The file {file} is empty.', 'Write it again, e.g. as PNG.']
    """
    return re.split(r'(?<=[.!?])\s+(?=[A-Z-])', ' '.join(text.split()))


def markdown(text: str) -> str:
    r"""Write a template as Markdown: fields in italics, what Markdown would read escaped.

    Examples
    --------
    >>> markdown('No preset is called {name!r}: a|b.')
    'No preset is called *name*: a\\|b.'
    """
    text = re.sub(r'([\\|*_<>$\[\]`#])', r'\\\1', ' '.join(text.split()))
    text = text.replace('{{', '{').replace('}}', '}')
    return re.sub(r'\{(\w[\w\\]*)[^{}]*\}', r'*\1*', text)


@cache
def find_messages() -> tuple[Message, ...]:
    """Return all messages, by module and in the order of the source (read once)."""
    trees = {_dotted(file): ast.parse(file.read_text('utf-8')) for file in _files()}
    raised = _raised(trees)
    found = []
    for module, tree in trees.items():
        if module in NO_MESSAGES:
            continue
        used = _formatted(tree)
        for name, template in _constants(tree):
            made = raised.get((module, name), set())
            text, written = _without_class(template)
            errors_of = tuple(sorted(made | written))
            # what a report prints below its figures is no message
            told = not PAGES.search(module) and (name in used or _is_sentence(text))
            told = told or bool(errors_of)
            if told and len(text.split()) > 3 and '\n' not in text and _starts(text):
                found.append(Message(module, name, text, errors_of))
    return tuple(found)


def constants_with_docstrings(file: Path) -> dict[str, str]:
    """Return what the docstring below each constant of a module says."""
    body = ast.parse(file.read_text('utf-8')).body
    found = {}
    for one, after in itertools.pairwise(body):
        if not isinstance(one, ast.Assign) or not isinstance(one.targets[0], ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[one.targets[0].id] = ' '.join(str(after.value.value).split())
    return found


def _without_class(text: str) -> tuple[str, set[str]]:
    """Cut off the exception's name that a text for Nipype's log starts with."""
    match = re.match(r'bids_neurodecode\.errors\.(\w+): ', text)
    return (text[match.end() :], {match[1]}) if match else (text, set())


@cache
def _nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return a tree and all below it, which is walked once."""
    return tuple(ast.walk(tree))


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob('*.py'))


def _dotted(file: Path) -> str:
    return '.'.join(file.relative_to(PACKAGE).with_suffix('').parts)


def _is_sentence(text: str) -> bool:
    return len(text.split()) > 5 and text.rstrip().endswith('.') and '\n' not in text


def _starts(text: str) -> bool:
    """Whether a text stands for itself, not inside another one."""
    return text[0].isupper() or text[0] in '{-'


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield upper-case names of the module that hold a text."""
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name, value = node.targets[0].id, node.value
        text = value.value if isinstance(value, ast.Constant) else None
        if name.lstrip('_').isupper() and isinstance(text, str):
            yield name, text


def _formatted(tree: ast.Module) -> set[str]:
    """Return the names that ``.format`` is called on."""
    return {
        node.value.id
        for node in _nodes(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == 'format'
        and isinstance(node.value, ast.Name)
    }


def _raised(trees: dict[str, ast.Module]) -> dict[tuple[str, str], set[str]]:
    """Return the exceptions by module and constant.

    A constant belongs to an exception if it stands in the call that makes it, or in a function
    that this call calls (helpers that choose among texts), or beside it where the call formats a
    variable.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for module, tree in trees.items():
        homes = _imported(tree)
        functions = {n.name: n for n in _nodes(tree) if isinstance(n, ast.FunctionDef)}
        for error, call in _errors_made(tree):
            names = _upper(call)
            for helper in (functions.get(name) for name in _called(call)):
                names |= _upper(helper) if helper is not None else set()
            if _formats_a_variable(call):
                around = [f for f in functions.values() if call in ast.walk(f)]
                names |= {name for function in around for name in _upper(function)}
            for name in names:
                found.setdefault(homes.get(name, (module, name)), set()).add(error)
    return found


def _errors_made(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call that makes one of the program's exceptions, with the exception's name."""
    family = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.NeurodecodeError)
    }
    aliases = {'ArgumentTypeError': 'ArgumentsError', 'error': 'ArgumentsError'}
    for node in _nodes(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, 'id', '')
            if name == 'raised_as':
                name = ast.unparse(node.args[0])
            name = 'ArgumentsError' if name == 'validated' else name
            if name in family or name in aliases:
                yield aliases.get(name, name), node


def _formats_a_variable(call: ast.Call) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == 'format'
        and isinstance(node.value, ast.Name)
        and node.value.id.islower()
        for node in ast.walk(call)
    )


def _upper(tree: ast.AST) -> set[str]:
    return {
        node.id
        for node in _nodes(tree)
        if isinstance(node, ast.Name) and node.id.lstrip('_').isupper()
    }


def _called(tree: ast.AST) -> set[str]:
    return {
        node.func.id
        for node in _nodes(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _imported(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Return where imported names of ours come from."""
    homes = {}
    for node in _nodes(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(
            'bids_neurodecode.'
        ):
            module = str(node.module).removeprefix('bids_neurodecode.')
            for alias in node.names:
                homes[alias.asname or alias.name] = (module, alias.name)
    return homes
