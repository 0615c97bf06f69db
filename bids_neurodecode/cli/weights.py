"""``bids_neurodecode-tools weights``: list, fetch, verify and import pretrained weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import own_defaults, system_named
from bids_neurodecode.extras import PACKAGED, has_packaged
from bids_neurodecode.models.weights import (
    WEIGHTS_VARIABLE,
    WeightsEntry,
    check_sizes,
    default_weights_dir,
    find_entry,
    load_manifest,
    verify_weights,
)

if TYPE_CHECKING:
    from bids_neurodecode.config import Config

JUDGES = (
    'Networks that judge images are not counted: {names}. Where one is not there, its scores are '
    'left out.'
)
TOTAL = '{preset} needs {n} of these, {total} in all; {missing} of them are not here.'
NO_NAMES = 'Say which weights to fetch ({names}), or --all.'

_STEP = 5  # per cent between two lines of progress


def add_weights_parser(subparsers: Any) -> None:
    """Add ``weights`` and its actions to the sub-commands of a parser."""
    weights = subparsers.add_parser(
        'weights',
        help='pretrained weights: list, fetch, verify or import them',
        description='Pretrained weights. Nothing is downloaded but by "fetch".',
    )
    actions = weights.add_subparsers(
        dest='action', required=True, metavar='{list,fetch,verify,import}'
    )
    listing = _add_action(actions, 'list', 'what there is, for what, under which licence')
    listing.add_argument(
        '--for', dest='preset', metavar='NAME_OR_FILE', help='what a preset needs, and its total'
    )
    fetch = _add_action(actions, 'fetch', 'download weights, and check them')
    fetch.add_argument('names', nargs='*', metavar='NAME')
    fetch.add_argument('--all', action='store_true', dest='everything', help='all of them')
    fetch.add_argument(
        '--hub-endpoint', metavar='URL', help='another address of the Hugging Face hub'
    )
    verify = _add_action(actions, 'verify', 'compare every file with its SHA-256')
    verify.add_argument('names', nargs='*', metavar='NAME', help='default: all that are there')
    load = _add_action(actions, 'import', 'take weights from a local file or folder')
    load.add_argument('name', metavar='NAME')
    load.add_argument('source', type=Path, metavar='PATH')


def run_weights(args: argparse.Namespace) -> int:
    """Run an action.

    Parameters
    ----------
    args
        As :func:`add_weights_parser` parses them.

    Returns
    -------
    int
        0 all well; 1 if weights that were to be verified are missing or damaged.
    """
    folder = args.weights_dir or default_weights_dir()
    actions: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        'list': _list,
        'fetch': _fetch,
        'verify': _verify,
        'import': _import,
    }
    return actions[args.action](args, folder)


def _add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.add_argument(
        '--weights-dir',
        type=Path,
        metavar='DIR',
        help=f'folder of weights (default: ${WEIGHTS_VARIABLE}, else one in the cache)',
    )
    parser.set_defaults(run=run_weights)
    return parser


def _list(args: argparse.Namespace, folder: Path) -> int:
    manifest = load_manifest()
    names = list(manifest)
    if args.preset is not None:
        from bids_neurodecode.config import build_config, read_settings

        config = build_config(read_settings(args.preset), source=args.preset)
        names, judges = networks_of(config)
    print(f'folder: {folder}')
    total = missing = 0
    for entry in (manifest[name] for name in names):
        found = check_sizes(entry, folder)
        state = 'here' if found.state in {'good', 'unverified'} else found.state
        print(f'{entry.name}: {state}, {size_text(entry, found.size)}; {entry.about}')
        print(f'    licence {entry.licence}; for {"; ".join(entry.used_by)}')
        print(f'    from {_source(entry)}')
        size = found.size or entry.size or entry.about_mb * 10**6
        total += size
        missing += 0 if state == 'here' else size
    if args.preset is None:
        for name, network in PACKAGED.items():
            installed = 'here' if has_packaged(name) else 'not installed'
            print(f'{name}: {installed}; {network.about}')
            print(f'    licence {network.licence}; for features: {name}')
            print(f'    from the Python package {network.distribution} {network.version}')
    else:
        sizes = {'total': total, 'missing': missing}
        said = {name: _bytes_text(size) or '0 MB' for name, size in sizes.items()}
        print(TOTAL.format(n=len(names), preset=args.preset, **said))
        if known := [name for name in judges if name in manifest]:
            print(JUDGES.format(names=', '.join(known)))
    return 0


def networks_of(config: Config) -> tuple[list[str], list[str]]:
    """Return the networks that settings need, whatever is there, and those that judge images."""
    systems = own_defaults() if config.system == 'auto' else (config.system,)
    told = [tell(config) for name in systems if (tell := system_named(name).networks)]
    needed, judging = zip(*told, strict=True) if told else ((), ())
    return [*dict.fromkeys(chain(*needed))], [*dict.fromkeys(chain(*judging))]


def _fetch(args: argparse.Namespace, folder: Path) -> int:
    from bids_neurodecode.models.weights_fetch import fetch_weights

    manifest = load_manifest()
    names = list(manifest) if args.everything else args.names
    if not names:
        raise ArgumentsError(NO_NAMES.format(names=', '.join(manifest)))
    for entry in [find_entry(name, manifest) for name in names]:
        print(f'{entry.name}: from {_source(entry)} (licence {entry.licence})', flush=True)
        path = fetch_weights(
            entry, folder, progress=_Percent(entry.name), endpoint=args.hub_endpoint
        )
        print(f'{entry.name}: {path}')
    return 0


def _verify(args: argparse.Namespace, folder: Path) -> int:
    manifest = load_manifest()
    entries = [find_entry(name, manifest) for name in args.names or manifest]
    failed = 0
    for entry in entries:
        found = verify_weights(entry, folder, _Percent(entry.name))
        if found.state == 'missing' and not args.names:
            continue
        failed += found.state in {'missing', 'damaged'}
        print(f'{entry.name}: {found.state}{found.reason and f" ({found.reason})"}')
    return 1 if failed else 0


def _import(args: argparse.Namespace, folder: Path) -> int:
    from bids_neurodecode.models.weights_fetch import import_weights

    path = import_weights(find_entry(args.name), args.source, folder)
    print(f'{args.name}: {path}')
    return 0


def _source(entry: WeightsEntry) -> str:
    return f'huggingface.co/{entry.repo}' if entry.kind == 'hub' else entry.urls[0]


def size_text(entry: WeightsEntry, found: int = 0) -> str:
    """Return how large weights are: as they are here, as published, or about.

    Parameters
    ----------
    entry
        Of the manifest.
    found
        Bytes that are here already.
    """
    size = found or entry.size
    if size:
        return _bytes_text(size)
    return f'about {entry.about_mb:,} MB' if entry.about_mb else 'of unknown size'


def _bytes_text(size: int) -> str:
    return f'{size / 1e6:,.1f} MB' if size else ''


class _Percent:
    """Prints a line at every few per cent."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent >= self._shown + _STEP:
            self._shown = percent - percent % _STEP
            print(f'{self._name}: {self._shown} % of {_bytes_text(total)}', file=sys.stderr)
