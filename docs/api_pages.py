"""One page per module and per room, written into ``docs/api`` when the documentation is built."""

from __future__ import annotations

import ast
from pathlib import Path

import bids_neurodecode

PACKAGE = Path(bids_neurodecode.__file__).parent
ROOMS = {
    'settings': 'Settings',
    'signals': 'BOLD to responses',
    'stimuli': 'Images and films to features',
    'models': 'Estimators and networks',
    'evaluation': 'Scores and statistics',
    'explain': 'What a model relies on',
    'systems': 'The systems',
    'bids': 'Reading and naming files',
    'simulate': 'Datasets whose truth is known',
}
"""The rooms whose functions take and return arrays, and those that read and make datasets."""
GROUND = (
    *('samples', 'standardizer', 'spaces', 'config', 'tables', 'extensions'),
    *('algebra', 'fetched', 'text', 'typing', 'errors'),
)


LEFT_OUT = {'steps', 'report', 'methods'}
"""Nodes, sections and methods texts of systems."""


def write_api_pages(folder: Path) -> None:
    """Write the pages of all public modules; a page that says the same is left as it is."""
    pages = _pages()
    folder.mkdir(parents=True, exist_ok=True)
    for file in set(folder.glob('*.md')) - {folder / name for name in pages}:
        file.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.is_file() or file.read_text('utf-8') != text:
            file.write_text(text, encoding='utf-8')


def _pages() -> dict[str, str]:
    pages = {f'{name}.md': _module_page(name) for name in GROUND}
    lines = ['# Modules', '', INTRODUCTION, '', '## Ground floor', '', *_table(GROUND, '')]
    for room, title in ROOMS.items():
        names = _modules(room)
        lines += [f'## {title}', '', f'`bids_neurodecode.{room}`', '', *_table(names, room)]
        pages |= {f'{room}.{name}.md': _module_page(f'{room}.{name}') for name in names}
    lines += ['```{toctree}', ':hidden:', ':glob:', '', '*', '```', '']
    return pages | {'index.md': '\n'.join(lines)}


INTRODUCTION = (
    'For those who extend the program. These modules are not public: names may change in any '
    'version. What is public, for notebooks, is [one page](../python.md). Functions that compute '
    'take arrays and return arrays; a room imports only what stands below it. The command line '
    'and the nodes of the workflow are left out.'
)


def _modules(room: str) -> list[str]:
    files = sorted((PACKAGE / room).rglob('*.py'))
    names = [file.relative_to(PACKAGE / room).with_suffix('') for file in files]
    return [
        '.'.join(name.parts)
        for name in names
        if not name.stem.startswith('_') and LEFT_OUT.isdisjoint(name.parts)
    ]


def _table(names: tuple[str, ...] | list[str], room: str) -> list[str]:
    rows = ['| module | |', '| --- | --- |']
    for name in names:
        dotted = f'{room}.{name}' if room else name
        rows.append(f'| [{name}](./{dotted}.md) | {_summary(dotted)} |')
    return [*rows, '']


def _summary(dotted: str) -> str:
    """Return the first paragraph of a module's docstring, read without importing it."""
    file = PACKAGE.joinpath(*dotted.split('.')).with_suffix('.py')
    text = ast.get_docstring(ast.parse(file.read_text('utf-8'))) or ''
    return ' '.join(text.split('\n\n')[0].split()).replace('|', '\\|').replace('``', '`')


def _module_page(dotted: str) -> str:
    full = f'bids_neurodecode.{dotted}'
    return f'# {dotted}\n\n```{{eval-rst}}\n.. automodule:: {full}\n   :members:\n```\n'
