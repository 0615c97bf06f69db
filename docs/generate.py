"""Write ``settings.md`` and ``options.md`` from the code: ``python docs/generate.py``."""

from __future__ import annotations

import typing
from pathlib import Path

from pydantic import BaseModel

from bids_neurodecode.cli.parser import build_parser
from bids_neurodecode.config import Config

HERE = Path(__file__).parent


def settings() -> str:
    """Return every setting with its kind, its default and what it means."""
    lines = ['# Settings', '', 'Made from the code by `docs/generate.py`.', '']
    lines += ['Of a preset or a configuration file (TOML); `"none"` stands for no value.', '']
    top = [name for name, field in Config.model_fields.items() if not _is_group(field.annotation)]
    lines += ['## At the top', '', *_table(Config, top)]
    for name, field in Config.model_fields.items():
        if _is_group(field.annotation):
            group = typing.cast(type[BaseModel], field.annotation)
            title = (group.__doc__ or '').split('\n')[0]
            lines += [f'## `[{name}]`', '', title, '', *_table(group, list(group.model_fields))]
    return '\n'.join(lines).rstrip() + '\n'


def options() -> str:
    """Return the help of the command line."""
    return f'# Options\n\n```\n{build_parser().format_help().rstrip()}\n```\n'


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(group: type[BaseModel], names: list[str]) -> list[str]:
    rows = ['| setting | default | meaning |', '| --- | --- | --- |']
    for name in names:
        field = group.model_fields[name]
        default = 'none' if field.default is None else repr(field.default).replace('|', '\\|')
        kinds = _choices(field.annotation)
        meaning = ' '.join((field.description or '').split())
        if kinds:
            meaning = f'{meaning} One of {", ".join(f"`{kind}`" for kind in kinds)}.'.strip()
        rows.append(f'| `{name}` | `{default}` | {meaning} |')
    return [*rows, '']


def _choices(annotation: object) -> list[str]:
    found = []
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is typing.Literal:
            found += [str(value) for value in typing.get_args(part)]
    return found


if __name__ == '__main__':
    (HERE / 'settings.md').write_text(settings(), encoding='utf-8')
    (HERE / 'options.md').write_text(options(), encoding='utf-8')
