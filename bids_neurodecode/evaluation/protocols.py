"""Under which protocol images are compared: sizes, interpolation, networks and their layers.

``bd-982``: Brain-Diffuser (Ozcelik & VanRullen 2023, Sci Rep 13:15666); ``me2-1000``: MindEye2
(Scotti et al. 2024, arXiv 2403.11207); ``seed``: what can be had of SEED (Park et al. 2026, ICLR,
arXiv 2503.06437). They differ in all of these, and so do scores, so that the protocol's name
belongs to every result.
``cpu-1``: of this program, with networks that Python packages hold (the extra ``cpu-nets``), so
that anyone can compute it; no published table is under it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.text import did_you_mean

NO_JUDGE = (
    'Protocol {name} has no network left to compare images by: {used} made them, and a network '
    'never judges what it made. Choose another features.extractor or reconstruction.protocol.'
)
UNKNOWN_PROTOCOL = 'No protocol of images is called {name!r}.{near} There are: {names}.'

SEED_IS = (
    'SEED is the mean of Object F1, Cap-Sim and 1 - efficientnet_distance. It is not computed, as '
    'the first two are not.'
)
NO_OBJECTS = (
    'Object F1 needs the objects that MM-Grounding-DINO-L finds, whose package (mmdet) is not '
    'part of this program.'
)
NO_CAPTIONS = (
    'Cap-Sim needs captions of both images by git-large-coco and their embeddings by '
    'all-MiniLM-L6-v2, whose weights are not in the manifest.'
)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Means and deviations of the networks trained on ImageNet."""
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
"""Means and deviations of EfficientNet-Lite."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Means and deviations of CLIP."""


@dataclass(frozen=True)
class NetworkMetric:
    """One metric of a protocol.

    Parameters
    ----------
    metric
        Its name in the metrics table.
    network, layer
        Whose features.
    kind
        2-way identification, or the mean correlation distance.
    size
        Pixels a side that the network is given.
    scaling
        Means and deviations of the colours.
    """

    metric: str
    network: str
    layer: str
    kind: Literal['2way', 'distance']
    size: int
    scaling: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


@dataclass(frozen=True)
class PictureProtocol:
    """How images are brought to size and compared.

    Parameters
    ----------
    name
        What results are called by.
    n_pictures
        Test images that published tables are over; None: there are none.
    first_size
        Pixels a side that all images are brought to first; None: as they are.
    pixel_size
        Pixels a side for pixel metrics.
    pixel_method
        Interpolation for pixel metrics.
    exact
        Interpolation in floating point (as on tensors), or to 8 bits (as on image files).
    ssim
        Which structural similarities are told; the first is the one of the published tables.
    metrics
        Those of networks.
    captions
        Whether images are compared by captions too, where they have some.
    lacking
        What the protocol has besides, and why it is not computed here; one line each.
    """

    name: str
    n_pictures: int | None
    first_size: int | None
    pixel_size: int
    pixel_method: Literal['bilinear', 'bicubic']
    exact: bool
    ssim: tuple[str, ...]
    metrics: tuple[NetworkMetric, ...]
    lacking: tuple[str, ...] = ()
    captions: bool = False
    about: str = ''
    """What it is, in a clause."""


_KINDS: tuple[Literal['2way', 'distance'], ...] = ('2way', 'distance')


def _metrics(sizes: Mapping[str, int], efficientnet: str) -> tuple[NetworkMetric, ...]:
    alexnet, inception = sizes['alexnet'], sizes['inception']
    return (
        # torchvision's layers 4 and 11: after the second and the fifth rectification
        NetworkMetric('alexnet2_2way', 'alexnet', 'features.4', '2way', alexnet),
        NetworkMetric('alexnet5_2way', 'alexnet', 'features.11', '2way', alexnet),
        NetworkMetric('inception_2way', 'inception-v3', 'avgpool', '2way', inception),
        NetworkMetric('clip_2way', 'clip-vit-l14', 'image_embeds', '2way', 224, CLIP),
        NetworkMetric(
            'efficientnet_distance', efficientnet, 'avgpool', 'distance', sizes['efficientnet']
        ),
        NetworkMetric('swav_distance', 'swav-resnet50', 'avgpool', 'distance', 224),
    )


PROTOCOLS: Mapping[str, PictureProtocol] = {
    'bd-982': PictureProtocol(
        name='bd-982',
        about="sizes and networks of Brain-Diffuser's tables",
        n_pictures=982,
        first_size=None,
        pixel_size=425,
        pixel_method='bicubic',
        exact=False,
        ssim=('ssim_columnwise_legacy', 'ssim_2d'),
        metrics=_metrics(
            {'alexnet': 224, 'inception': 224, 'efficientnet': 224}, 'efficientnet-b1-v1'
        ),
    ),
    'me2-1000': PictureProtocol(
        name='me2-1000',
        about="sizes and networks of MindEye2's tables",
        n_pictures=1000,
        first_size=256,
        pixel_size=425,
        pixel_method='bilinear',
        exact=True,
        ssim=('ssim_2d',),
        metrics=_metrics(
            {'alexnet': 256, 'inception': 342, 'efficientnet': 255}, 'efficientnet-b1-v2'
        ),
    ),
    'cpu-1': PictureProtocol(
        name='cpu-1',
        about='small networks that Python packages bring; no published table is under it',
        n_pictures=None,
        first_size=None,
        pixel_size=425,
        pixel_method='bicubic',
        exact=False,
        ssim=('ssim_2d',),
        captions=True,
        metrics=tuple(
            NetworkMetric(f'{name.replace("-", "_")}_{kind}', name, 'avgpool', kind, size, scaling)
            for name, size, scaling in (
                ('efficientnet-lite0', 224, LITE),
                ('efficientnet-lite2', 260, LITE),
                ('mobilenetv2', 224, IMAGENET),
            )
            for kind in _KINDS
        ),
    ),
    'seed': PictureProtocol(
        name='seed',
        about="what can be had of SEED's",
        n_pictures=1000,
        first_size=None,
        pixel_size=255,
        pixel_method='bilinear',
        exact=True,
        ssim=(),
        metrics=(
            NetworkMetric(
                'efficientnet_distance', 'efficientnet-b1-v2', 'avgpool', 'distance', 255
            ),
        ),
        lacking=(
            SEED_IS,
            NO_OBJECTS,
            NO_CAPTIONS,
        ),
    ),
}


def get_protocol(name: str) -> PictureProtocol:
    """Return a protocol by its name.

    Raises
    ------
    ArgumentsError
        If there is none.
    """
    if name not in PROTOCOLS:
        told = {'near': did_you_mean(name, PROTOCOLS), 'names': ', '.join(PROTOCOLS)}
        raise ArgumentsError(UNKNOWN_PROTOCOL.format(name=name, **told))
    return PROTOCOLS[name]


def held_out(protocol: PictureProtocol, used: Collection[str]) -> PictureProtocol:
    """Leave out the networks that had a part in what is judged.

    Parameters
    ----------
    protocol
        How images are compared.
    used
        Networks that features were fitted to, that guided a generator, or that chose between
        images or settings.

    Raises
    ------
    ArgumentsError
        If no network is left.
    """
    left = without(protocol, used)
    if not left.metrics:
        raise ArgumentsError(NO_JUDGE.format(name=protocol.name, used=', '.join(sorted(used))))
    return left


def without(protocol: PictureProtocol, used: Collection[str]) -> PictureProtocol:
    """Return a protocol without the metrics of some networks, whether one is left or not.

    Parameters
    ----------
    protocol
        How images are compared.
    used
        Names of the networks.
    """
    metrics = tuple(metric for metric in protocol.metrics if metric.network not in used)
    return replace(protocol, metrics=metrics)


@dataclass(frozen=True)
class Published:
    """Scores that a paper prints.

    Parameters
    ----------
    protocol
        By which they were computed.
    label
        Of the model.
    of
        Whose data, and how many.
    source
        Where they are printed.
    scores
        By the names of metrics.
    """

    protocol: str
    label: str
    of: str
    source: str
    scores: Mapping[str, float]


def published_scores(protocol: str) -> tuple[Published, ...]:
    """Return what was published under a protocol; none of a protocol without published tables.

    Examples
    --------
    >>> published_scores('bd-982')[3].scores['pixcorr']
    0.254
    """
    file = resources.files('bids_neurodecode') / 'data' / 'published.toml'
    rows = tomllib.loads(file.read_text('utf-8'))['published']
    return tuple(Published(**row) for row in rows if row['protocol'] == protocol)
