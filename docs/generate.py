"""Write the pages that are made from the code: ``python docs/generate.py``.

Settings, presets, options, output names, exit codes and messages are read from where the program
itself reads them, so that a page and the program cannot say different things for long: a test
compares them.
"""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bids_neurodecode.bids.names import BIDSIGNORE, PRODUCTS, product_path, stimulus_path
from bids_neurodecode.cli import exits, tools
from bids_neurodecode.cli.parser import build_parser
from bids_neurodecode.config import Config, build_config, preset_names, read_settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from kinds import code, takes  # noqa: E402
from messages import Message, constants_with_docstrings, find_messages  # noqa: E402

MADE = 'Made from the code by `docs/generate.py`.'


ABOUT_SETTINGS = """\
Of a [preset](presets.md) or a configuration file (TOML, `--config-file`); `"none"` stands for no
value. An unknown key is an error."""
ABOUT_PRESETS = """\
A preset is a TOML file of the package, chosen with `--preset NAME`; a file of one's own is given
in the same way, or on top of it with `--config-file`. The command line wins over both.
`bids_neurodecode-tools presets show NAME` prints all settings as they come out."""
ABOUT_PRODUCTS = """\
Declared once, in `bids_neurodecode.bids.names`. `S` stands for `space-<label>[_res-<label>]`.
Further entities (`ses`, `run`, `desc`, `atlas` and the like) are those of the data or of the
model; what each file holds, and when it is written, is told in [Outputs](outputs.md)."""
ABOUT_ERRORS = """\
Every error of the program is one line: what is wrong, where, and the way out. Below are all of
them, words in italics standing for what is filled in. Code 2 means that no work was started. An
error with code 1 ends one step of one participant; the others go on. A traceback is a bug: please
report it."""
ABOUT_NOTES = """\
These stop nothing: the log says them, and the participant's report repeats them."""

# Settings and presets


def settings() -> str:
    """Return every setting with what it takes, its default and what it means."""
    lines = ['# Settings', '', MADE, '', ABOUT_SETTINGS, '']
    top = [name for name, field in Config.model_fields.items() if not _is_group(field.annotation)]
    lines += ['## At the top', '', *_setting_table(Config, top)]
    for name, group in _groups():
        title = (group.__doc__ or '').split('\n')[0]
        lines += [
            f'## `[{name}]`',
            '',
            title,
            '',
            *_setting_table(group, list(group.model_fields)),
        ]
    return _page(lines)


def presets() -> str:
    """Return every preset: what it is for, and each setting that it changes."""
    lines = ['# Presets', '', MADE, '', ABOUT_PRESETS, '']
    for name in preset_names():
        lines += [f'## `{name}`', '', _comment(name), '', *_preset_table(name)]
    return _page(lines)


def _comment(preset: str) -> str:
    from importlib import resources

    file = resources.files('bids_neurodecode') / 'presets' / f'{preset}.toml'
    lines = file.read_text('utf-8').splitlines()
    head = []
    for line in lines:
        if not line.startswith('#'):
            break
        head.append(line.lstrip('# '))
    return ' '.join(head)


def _preset_table(name: str) -> list[str]:
    values = dict(_flat(read_settings(name)))
    defaults = dict(_flat(build_config().model_dump(mode='json')))
    changed = {
        key: value
        for key, value in values.items()
        if key != 'schema_version' and value != _as_toml(defaults.get(key))
    }
    if not changed:
        return ['Every setting has its default.', '']
    rows = ['| setting | value | default |', '| --- | --- | --- |']
    for key, value in changed.items():
        rows.append(f'| `{key}` | {code(value)} | {code(_as_toml(defaults.get(key)))} |')
    return [*rows, '']


def _flat(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def _as_toml(value: Any) -> Any:
    if value is None:
        return 'none'
    return list(value) if isinstance(value, tuple) else value


def _groups() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Config.model_fields.items():
        if _is_group(field.annotation):
            yield name, typing.cast('type[BaseModel]', field.annotation)


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _setting_table(group: type[BaseModel], names: list[str]) -> list[str]:
    rows = ['| setting | takes | default | meaning |', '| --- | --- | --- | --- |']
    for name in names:
        field = group.model_fields[name]
        meaning = _prose(field.description or '')
        default = code(_as_toml(field.default))
        rows.append(f'| `{name}` | {takes(field)} | {default} | {meaning} |')
    return [*rows, '']


# Options


def options() -> str:
    """Return every option of both programs, in the groups of their help."""
    parser = build_parser()
    lines = ['# Options', '', MADE, '', '## `bids_neurodecode`', '']
    usage = 'bids_neurodecode BIDS_DIR OUTPUT_DIR {participant,group} [options]'
    lines += ['```text', usage, '```', '']
    lines += [_prose(parser.description or ''), '']
    lines += _parser_tables(parser, '###')
    lines += [
        '## `bids_neurodecode-tools`',
        '',
        _prose(tools.build_parser().description or ''),
        '',
    ]
    for command in _leaves(tools.build_parser()):
        lines += [f'### `{command.prog}`', '']
        about = _prose(command.description or '')
        lines += [about, ''] if about else []
        lines += _parser_tables(command, None)
    return _page(lines)


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the sub-commands that have none themselves."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not nested:
        yield parser
    for action in nested:
        about = {choice.dest: choice.help for choice in action._choices_actions}
        for name, child in action.choices.items():
            child.description = child.description or _sentence(about.get(name) or '')
            yield from _leaves(child)


def _parser_tables(parser: argparse.ArgumentParser, heading: str | None) -> list[str]:
    lines: list[str] = []
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions:
            continue
        if heading:
            lines += [f'{heading} {_sentence(group.title or "").rstrip(".")}', '']
        elif group.title == 'options' and lines:
            lines = lines[:-1]  # one table for a sub-command's arguments and options
        if heading or not lines:
            lines += ['| option | default | meaning |', '| --- | --- | --- |']
        lines += [_option_row(action) for action in actions]
        lines += ['']
    return lines


def _option_row(action: argparse.Action) -> str:
    names = ', '.join(f'`{name}`' for name in action.option_strings)
    value = _metavar(action)
    shown = ' '.join(part for part in (names, value) if part)
    default = action.default
    plain = default in (None, argparse.SUPPRESS, (), [], False) or default == {}
    # a folder of the machine that made the page says nothing
    known = isinstance(default, str | int | float) and not isinstance(default, bool)
    text = code(default) if known and not plain and action.nargs != 0 else ''
    meaning = (action.help or '').replace('%(default)s', str(default)).replace('%%', '%')
    return f'| {shown} | {text} | {_prose(_sentence(meaning))} |'


def _metavar(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ''
    if action.choices is not None and action.metavar is None:
        return ' / '.join(f'`{choice}`' for choice in action.choices)
    name = action.metavar or action.dest.upper()
    name = ' '.join(name) if isinstance(name, tuple) else name
    return f'`{name} ...`' if action.nargs in {'+', '*'} else f'`{name}`'


# Outputs


def products() -> str:
    """Return every kind of output file with its name, as :data:`PRODUCTS` declares it."""
    lines = ['# Names of all outputs', '', MADE, '', ABOUT_PRODUCTS, '']
    rows = ['| product | name | meaning | units |', '| --- | --- | --- | --- |']
    for key, product in PRODUCTS.items():
        about = product.sidecar.get('Description', '')
        units = product.sidecar.get('Units', '')
        rows.append(f'| `{key}` | `{_name_of(key)}` | {_prose(about)} | {units} |')
    lines += [*rows, '', '## Made for one stimulus', '']
    lines += ['| kind | name |', '| --- | --- |']
    for suffix in ('image', 'video'):
        path = stimulus_path({'sub': 'LABEL', 'task': 'LABEL'}, 'STIMULUS', suffix, 'DESC')
        lines.append(f'| {suffix} | `{_labels(path)}` |')
    lines += [
        '',
        '## `.bidsignore`',
        '',
        'Names that the merged specification does not know yet:',
        '',
    ]
    lines += ['```text', *BIDSIGNORE, '```', '']
    return _page(lines)


def _name_of(key: str) -> str:
    entities = {'sub': 'LABEL', 'task': 'LABEL'}
    path = product_path(key, entities, space='SPACE')
    return _labels(path).replace('space-SPACE', 'S')


def _labels(path: Path) -> str:
    text = path.as_posix()
    for name, shown in (('LABEL', 'label'), ('STIMULUS', 'stimulus'), ('DESC', 'label')):
        text = text.replace(name, f'<{shown}>')
    return text


# Exit codes and messages


def errors() -> str:
    """Return exit codes, and every message with the way out."""
    lines = ['# Exit codes and messages', '', MADE, '', '## Exit codes', '']
    lines += ['| code | meaning |', '| --- | --- |']
    about = constants_with_docstrings(Path(exits.__file__))
    for name, number in _codes().items():
        lines.append(f'| {number} | {about.get(name) or "All well."} |')
    lines += ['', ABOUT_ERRORS, '']
    found = find_messages()
    if left := {message.room for message in found if message.error} - set(ROOMS):
        raise KeyError(left)
    for room, title in ROOMS.items():
        part = [message for message in found if message.room == room and message.error]
        if part:
            lines += [f'## {title}', '', *_message_table(part)]
    notes = [message for message in found if not message.error]
    lines += ['## Notes and warnings', '', ABOUT_NOTES, '', *_note_table(notes)]
    return _page(lines)


ROOMS = {
    'cli': 'Command line, and checks before work starts',
    'config': 'Settings',
    'study': 'Studies',
    'extensions': 'Packages of others',
    'extras': 'Packages that can be left out',
    'bids': 'Datasets',
    'fetched': 'Files that were not fetched',
    'headers': 'Files smaller than they claim',
    'tables': 'Tables',
    'spaces': 'Surfaces, CIFTI and parcels',
    'algebra': 'Devices',
    'workflow': 'While the workflow runs',
    'levels': 'Participants, the group, and their pages',
    'signals': 'BOLD, events and atlases',
    'stimuli': 'Images and films',
    'samples': 'Samples and splits',
    'models': 'Models, weights and training',
    'systems': 'Systems',
    'evaluation': 'Scores',
    'explain': 'Explanation',
    'report': 'Reports',
    'simulate': 'Simulated datasets',
    'api': 'The library',
}


def _codes() -> dict[str, int]:
    return {
        name: value
        for name, value in vars(exits).items()
        if name.isupper() and isinstance(value, int)
    }


def _message_table(found: list[Message]) -> list[str]:
    rows = ['| what is wrong | the way out | code | module |', '| --- | --- | --- | --- |']
    rows += [f'| {m.wrong} | {m.way_out} | {m.code} | `{m.module}` |' for m in found]
    return [*rows, '']


def _note_table(found: list[Message]) -> list[str]:
    rows = ['| note | module |', '| --- | --- |']
    rows += [f'| {message.whole} | `{message.module}` |' for message in found]
    return [*rows, '']


# Words


def _page(lines: list[str]) -> str:
    return '\n'.join(lines).rstrip() + '\n'


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _prose(text: str) -> str:
    """Turn the words of a docstring or a help into one line of Markdown."""
    import re

    text = ' '.join(text.split())
    text = re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text).replace('``', '`')
    text = re.sub(r'(?<![\w`])\$(?=\w)', r'\\$', text)
    return text.replace('|', '\\|')


PAGES = {
    'settings.md': settings,
    'presets.md': presets,
    'options.md': options,
    'products.md': products,
    'errors.md': errors,
}
"""The generated pages, and what writes each."""

if __name__ == '__main__':
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding='utf-8')
