"""``presets`` and ``config`` of the tools: settings to look at, and a file of one's own."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import ArgumentsError

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.settings.base import Settings

THERE = '{file} is there already. Give another name, or remove it.'
HEAD = (
    '# Settings of bids_neurodecode: --config-file {name}\n'
    '# Lines that begin with "# name = value" show defaults: take the "#" away to change one.\n'
    '# "none" switches off what can be switched off. Unknown names are errors.\n'
)


def add_settings_parsers(commands: Any) -> None:
    """Add ``presets`` and ``config`` to the sub-commands of a parser."""
    presets = commands.add_parser('presets', help='list the presets of settings, or show one')
    actions = presets.add_subparsers(dest='action', required=True, metavar='{list,show}')
    listing = actions.add_parser('list', help='all presets: what for, and the weights they need')
    listing.set_defaults(run=_list_presets)
    show = actions.add_parser('show', help='all settings of a preset, defaults included, as TOML')
    show.add_argument('name', metavar='NAME_OR_FILE')
    show.set_defaults(run=_show_preset)
    config = commands.add_parser('config', help='write a file of settings to edit')
    actions = config.add_subparsers(dest='action', required=True, metavar='{init}')
    init = actions.add_parser(
        'init', help='write all settings with their meaning and default, as TOML with comments'
    )
    init.add_argument('file', type=Path, metavar='FILE', help='such as config.toml')
    init.add_argument(
        '--preset', default='default', metavar='NAME_OR_FILE', help='whose values are set in it'
    )
    init.set_defaults(run=_init_config)


def commented(preset: Mapping[str, Any], name: str) -> str:
    """Return a TOML file with every setting, its meaning and its default as comments.

    Parameters
    ----------
    preset
        Settings that are set in the file, nested; all others are comments.
    name
        Of the file.
    """
    from bids_neurodecode.config import SCHEMA_VERSION, Config

    lines = [HEAD.format(name=name), f'schema_version = {SCHEMA_VERSION}']
    groups = []
    for key in Config.model_fields:
        value = getattr(Config(), key)
        if _is_settings(value):
            groups.append(key)
        elif key != 'schema_version':
            lines += _setting(key, Config, value, preset)
    for key in groups:
        group = getattr(Config(), key)
        about = _plain((type(group).__doc__ or '').split('\n')[0])
        lines += ['', '', f'# {about}', f'[{key}]']
        for inner in type(group).model_fields:
            value = getattr(group, inner)
            lines += _setting(inner, type(group), value, preset.get(key, {}))
    return '\n'.join(lines) + '\n'


def _is_settings(value: object) -> bool:
    from bids_neurodecode.settings.base import Settings

    return isinstance(value, Settings)


def _setting(
    key: str, model: type[Settings], default: Any, preset: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the meaning of a setting, and the setting itself, commented unless it is set."""
    import typing

    field, switchable = model.model_fields[key], model.switchable()
    yield ''
    about = _plain(field.description or '')
    choices = [a for a in typing.get_args(field.annotation) if isinstance(a, str)]
    if typing.get_origin(field.annotation) is typing.Literal and choices:
        about = f'{about} One of: {", ".join(choices)}.'.strip()
    unset = default is None and key not in switchable
    about += ' Not set by default.' if unset else ''
    yield from textwrap.wrap(about, 96, initial_indent='# ', subsequent_indent='# ')
    if key in preset:
        yield _toml(key, preset[key])
    elif unset:
        yield f'# {key} ='
    else:
        yield f'# {_toml(key, default)}'


def _plain(text: str) -> str:
    """Return the words of a docstring on one line, without its markup."""
    return ' '.join(re.sub(r':\w+:`~?([^`]+)`', r'\1', text).replace('``', '').split())


def _toml(key: str, value: Any) -> str:
    """Write one setting on one line."""
    import tomli_w

    if value is None:
        return f'{key} = "none"'
    if _is_settings(value):
        value = value.written()
    if isinstance(value, Mapping):
        inner = ', '.join(_toml(name, each) for name, each in value.items())
        return f'{key} = {{{inner}}}'
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    line = ' '.join(tomli_w.dumps({key: value}).split())
    return line.replace('[ ', '[').replace(', ]', ']')


def _list_presets(options: argparse.Namespace) -> None:
    del options
    from bids_neurodecode.config import build_config, preset_names, read_settings

    for name in preset_names():
        config = build_config(read_settings(name), source=name)
        needs = _weights_of(config)
        print(f'{name} (system: {config.system}; weights: {needs or "none"})')
        print(f'    {_about(name)}')


def _about(preset: str) -> str:
    """Return the first sentence of the comment at the head of a preset."""
    from importlib import resources

    file = resources.files('bids_neurodecode') / 'presets' / f'{preset}.toml'
    head = []
    for line in file.read_text('utf-8').splitlines():
        if not line.startswith('#'):
            break
        head.append(line.lstrip('# '))
    text = ' '.join(head)
    end = text.find('. ')
    return text if end < 0 else text[: end + 1]


def _weights_of(config: Config) -> str:
    """Return the pretrained weights that settings need, with their sizes where known."""
    from bids_neurodecode.cli.weights import networks_of, size_text
    from bids_neurodecode.models.weights import find_entry

    return '; '.join(f'{name}, {size_text(find_entry(name))}' for name in networks_of(config)[0])


def _show_preset(options: argparse.Namespace) -> None:
    from bids_neurodecode.config import build_config, read_settings

    print(build_config(read_settings(options.name), source=options.name).to_toml(), end='')


def _init_config(options: argparse.Namespace) -> None:
    from bids_neurodecode.bids.sink import write_text
    from bids_neurodecode.config import build_config, read_settings

    file: Path = options.file
    if file.exists():
        raise ArgumentsError(THERE.format(file=file))
    preset = {} if options.preset == 'default' else read_settings(options.preset)
    build_config(preset, source=options.preset)
    write_text(file, commented(preset, file.name))
    print(f'settings: {file}')


def list_studies(options: Any) -> None:
    """Print the names of the studies in the package, and what each answers."""
    from bids_neurodecode.study import read_study, study_names

    del options
    for name in study_names():
        _, _, settings = read_study(name)
        print(f'{name}: {settings.question}')


def show_study(options: Any) -> None:
    """Print a study as its file says it."""
    from bids_neurodecode.study import read_study

    _, text, _ = read_study(options.name)
    print(text, end='')


def add_studies_parser(subparsers: Any) -> None:
    """Add ``studies`` to the sub-commands of a parser."""
    parser = subparsers.add_parser('studies', help='list the studies (--study), or show one')
    actions = parser.add_subparsers(dest='action', required=True, metavar='{list,show}')
    listing = actions.add_parser('list', help='names of all studies, and what they answer')
    listing.set_defaults(run=list_studies)
    show = actions.add_parser('show', help='a study as TOML: a start for one of your own')
    show.add_argument('name', metavar='NAME_OR_FILE')
    show.set_defaults(run=show_study)
