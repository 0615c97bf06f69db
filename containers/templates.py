"""Put templates into the TemplateFlow folder of an image; without a network, say so and go on."""

import sys

from requests.exceptions import RequestException
from templateflow import api

WANTED = (
    {'suffix': 'T1w', 'resolution': 2, 'desc': None, 'extension': '.nii.gz'},
    {'suffix': 'mask', 'resolution': 2, 'desc': 'brain', 'extension': '.nii.gz'},
    {'suffix': 'dseg', 'resolution': 2, 'atlas': 'Schaefer2018', 'extension': '.nii.gz'},
    {'suffix': 'dseg', 'atlas': 'Schaefer2018', 'extension': '.tsv'},
)


def main(names: list[str]) -> None:
    """Fetch what the program reads of each template."""
    for name in names:
        try:
            files = [file for query in WANTED for file in _listed(api.get(name, **query))]
        except RequestException as error:
            reason = type(error).__name__
            sys.stdout.write(f'SKIP template {name}: {reason}; mount a TemplateFlow folder\n')
            return
        sys.stdout.write(f'template {name}: {len(files)} files\n')


def _listed(found: object) -> list[object]:
    return found if isinstance(found, list) else [found]


if __name__ == '__main__':
    main(sys.argv[1:])
