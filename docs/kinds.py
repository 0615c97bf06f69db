"""What a setting may be, in words, from its annotation."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo


def code(value: Any) -> str:
    """Write a value as TOML or JSON would, as Markdown code."""
    text = f'{value:g}' if isinstance(value, float) else json.dumps(value, default=str)
    return f'`{text}`'.replace('|', '\\|')


def takes(field: FieldInfo) -> str:
    """Say what a setting may be, from its annotation.

    Examples
    --------
    >>> from bids_neurodecode.config import Config
    >>> takes(Config.model_fields['seed'])
    'whole number, 0 or more, below 4294967296'
    """
    kinds, limits = _kinds(field.annotation)
    limits += _limits(field.metadata)
    return ', '.join([' or '.join(dict.fromkeys(kinds)), *dict.fromkeys(limits)])


def _kinds(annotation: Any) -> tuple[list[str], list[str]]:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return [code(value) for value in arguments], []
    if origin is typing.Annotated:
        kinds, limits = _kinds(arguments[0])
        return kinds, limits + _limits(arguments[1:])
    if origin in {typing.Union, types.UnionType}:
        parts = [_kinds(argument) for argument in arguments if argument is not type(None)]
        kinds = [kind for part, _ in parts for kind in part]
        none = ['`"none"`'] if type(None) in arguments else []
        return kinds + none, [limit for _, part in parts for limit in part]
    if origin is tuple:
        inner = [_kinds(argument) for argument in arguments if argument is not Ellipsis]
        words = ' or '.join(dict.fromkeys(kind for kinds, _ in inner for kind in kinds))
        return [f'list of {words}'], list(dict.fromkeys(x for _, part in inner for x in part))
    if origin is dict:
        kinds, limits = _kinds(arguments[1])
        return [f'table of {" or ".join(kinds)}'], limits
    names = {
        int: 'whole number',
        float: 'number',
        bool: 'true or false',
        str: 'text',
        Path: 'path',
    }
    return [names.get(annotation, getattr(annotation, '__name__', str(annotation)))], []


NAMES = {
    int: 'whole number',
    float: 'number',
    bool: 'true or false',
    str: 'text',
    Path: 'path',
}


def _limits(metadata: Any) -> list[str]:
    words = {
        'ge': '{} or more', 'gt': 'above {}', 'le': '{} or less', 'lt': 'below {}',
        'multiple_of': 'a multiple of {}', 'min_length': 'at least {} of them',
    }  # fmt: skip
    found = []
    for item in metadata:
        constraints = getattr(item, 'metadata', None) or [item]
        for one in constraints:
            for key, text in words.items():
                value = getattr(one, key, None)
                if value is not None:
                    found.append(text.format(value))
    return found
