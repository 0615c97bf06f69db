"""``bids_neurodecode-tools studies``: the studies of the package."""

from __future__ import annotations

from typing import Any


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
