"""Every name that the program writes, declared once.

A product is a template of BIDS entities, a suffix and an extension; :func:`product_path` fills it
in for a participant, a run or the dataset. Entities are written in the order of the schema.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bids_neurodecode.bids.maps import BESIDE, MAPS, MapSpec
from bids_neurodecode.errors import DataError
from bids_neurodecode.extensions import declared
from bids_neurodecode.spaces import EXTENSIONS, Content, Form

UNKNOWN_ENTITY = 'No entity is called {name!r} in output names; known: {known}.'
BAD_VALUE = 'The value {value!r} of the entity {name!r} may hold letters, digits and + only.'
NEEDS_SUBJECT = 'The name of {key} needs a participant.'

LONGEST_LABEL = 100
"""Letters of a label; a name of a file may hold 255 in all."""
ENTITY_ORDER = (
    'sub',
    'ses',
    'task',
    'acq',
    'ce',
    'rec',
    'dir',
    'run',
    'echo',
    'part',
    'hemi',
    'space',
    'atlas',
    'seg',
    'scale',
    'res',
    'den',
    'label',
    'stat',
    'desc',
)

Folder = Literal['func', 'models', 'figures', 'stimuli']


@dataclass(frozen=True)
class Product:
    """One kind of output file.

    Parameters
    ----------
    suffix, extension
        The end of the name.
    entities
        Entities fixed by the kind.
    folder
        The folder below the participant's.
    spatial
        Whether the name carries ``space`` and ``res``.
    content
        Of a spatial product: one map, a series of them (of volumes, trials), or whole numbers.
    sidecar
        Fixed fields of the JSON sidecar (what a ``stat`` or ``desc`` means, units).
    """

    suffix: str
    extension: str = '.nii.gz'
    entities: Mapping[str, str] = field(default_factory=dict)
    folder: Folder = 'func'
    spatial: bool = True
    content: Content = 'map'
    sidecar: Mapping[str, Any] = field(default_factory=dict)


def _of_map(name: str, spec: MapSpec) -> Product:
    """Return how a map of a value per voxel is called."""
    if spec.suffix == 'mask':
        sidecar = {'Type': 'ROI'}
        return Product('mask', entities={'label': name}, content='labels', sidecar=sidecar)
    entities = {'stat': name} | ({'desc': spec.desc} if spec.desc else {})
    sidecar = {'Description': spec.description, 'Units': spec.units}
    return Product(spec.suffix, entities=entities, sidecar=sidecar)


PRODUCTS: Mapping[str, Product] = {
    **{
        key: _of_map(spec.stat or key, spec)
        for key, spec in (MAPS | BESIDE).items()
        if not spec.product
    },
    'betas': Product(
        'statmap',
        content='series',
        entities={'stat': 'effect', 'desc': 'singletrial'},
        sidecar={
            'Description': 'Single-trial response amplitudes, one volume a trial, in the order of '
            'the events table',
            'Units': 'percent signal change',
        },
    ),
    'betas_events': Product('events', '.tsv', {'desc': 'singletrial'}, spatial=False, sidecar={}),
    'predicted_betas': Product(
        'statmap',
        content='series',
        entities={'stat': 'effect', 'desc': 'predicted'},
        sidecar={
            'Description': 'Predicted response amplitudes, one volume a row of the events table '
            'beside it',
            'Units': 'percent signal change',
        },
    ),
    'predicted_events': Product('events', '.tsv', {'desc': 'predicted'}, spatial=False),
    'dseg': Product(
        'dseg',
        content='labels',
        sidecar={'Description': 'Parcellation resampled to the grid of the data'},
    ),
    'dseg_table': Product('dseg', '.tsv'),
    'timeseries': Product(
        'timeseries', '.tsv', {'stat': 'mean'}, sidecar={'Description': 'Mean over each parcel'}
    ),
    'delayed': Product(
        'bold',
        content='series',
        entities={'desc': 'aligned'},
        sidecar={'Description': 'Cleaned series shifted back by the haemodynamic delay'},
    ),
    'predicted': Product(
        'bold',
        content='series',
        entities={'desc': 'predicted'},
        sidecar={'Description': 'Held-out volumes as predicted from the stimuli; see RunOnsets'},
    ),
    'regions': Product('regions', '.tsv', {'stat': 'saliency'}, spatial=False),
    'perturbation': Product('regions', '.tsv', {'stat': 'perturbation'}, spatial=False),
    'concepts': Product('concepts', '.tsv', {'stat': 'alignment'}, spatial=False),
    'confusion': Product('confusion', '.tsv', spatial=False),
    'dissimilarity': Product('dissimilarity', '.tsv', {'stat': 'crossnobis'}, spatial=False),
    'region_scores': Product('regions', '.tsv', {'stat': 'accuracy'}, spatial=False),
    'curves': Product('curves', '.tsv', folder='models', spatial=False),
    'metrics': Product('metrics', '.tsv', spatial=False),
    'predictions': Product('predictions', '.tsv', spatial=False),
    'model': Product('model', '.safetensors', folder='models', spatial=False),
    'model_config': Product('model', '.toml', folder='models', spatial=False),
    'model_card': Product('model', '.md', folder='models', spatial=False),
    'figure': Product('figure', '.svg', folder='figures', spatial=False),
    'sheet': Product('sheet', '.png', folder='figures', spatial=False),
}

BIDSIGNORE = (
    '*.dlabel.nii',
    '*.dscalar.nii',
    '*.dtseries.nii',
    '*.pscalar.nii',
    '*.ptseries.nii',
    '*_atlas-*_bold.*',
    '*_atlas-*_mask.*',
    '*_seg-*',
    '*_den-*',
    '*_hemi-*',
    '*.html',
    'figures',
    'group',
    'log',
    'logs',
    'models',
    'studies',
    '*_statmap.*',
    '*_boldmap.*',
    '*_timeseries.*',
    '*_metrics.*',
    '*_predictions.*',
    '*_regions.*',
    '*_concepts.*',
    '*_confusion.*',
    '*_dissimilarity.*',
    # two stars around a word miss some names in the validator (task-nsdcore)
    '*desc-singletrial_events.*',
    '*desc-predicted_events.*',
)
"""Names that the merged specification does not know yet."""


def clean_label(text: str) -> str:
    """Drop what a BIDS label may not hold.

    Examples
    --------
    >>> clean_label('Schaefer 2018-100')
    'Schaefer2018100'
    """
    return ''.join(c for c in text if (c.isascii() and c.isalnum()) or c == '+')


def unique_labels(names: Sequence[str]) -> dict[str, str]:
    """Return a label for each of some files, of which no two are alike.

    Parameters
    ----------
    names
        Of the files, relative to their folder; the extension is left out of the label.

    Returns
    -------
    dict
        Name to label. Names of which nothing is left, or the same as of others (file systems may
        ignore case), get eight digits of the SHA-256 of the whole name.

    Examples
    --------
    >>> unique_labels(['clips/a b.mp4', 'run_1-1.mp4', 'run_11.mp4'])
    {'clips/a b.mp4': 'clipsab', 'run_1-1.mp4': 'run11+ae5c433c', 'run_11.mp4': 'run11+3aa8a248'}
    """
    return told_apart(
        {name: clean_label(name.removesuffix(PurePosixPath(name).suffix)) for name in names}
    )


def told_apart(labels: Mapping[str, str]) -> dict[str, str]:
    """Tell labels apart that are alike, empty or very long, by digits of the names' SHA-256.

    Files whose names are made of several labels must still have names that a disk takes.

    Examples
    --------
    >>> told_apart({'a b': 'ab', 'a-b': 'ab', 'c': 'c'})
    {'a b': 'ab+c8687a08', 'a-b': 'ab+d44362d6', 'c': 'c'}
    >>> len(told_apart({'a' * 300: 'a' * 300})['a' * 300])
    100
    """
    labels = dict(labels)
    for digits in (8, 64):
        count = Counter(label.casefold() for label in labels.values())
        labels = {
            name: label
            if 0 < len(label) <= LONGEST_LABEL and count[label.casefold()] == 1
            else _told(name, label[: LONGEST_LABEL - 9], digits)
            for name, label in labels.items()
        }
    return labels


def _told(name: str, label: str, digits: int) -> str:
    return f'{label}+{hashlib.sha256(name.encode()).hexdigest()[:digits]}'


def build_name(entities: Mapping[str, str], suffix: str, extension: str) -> str:
    """Write a file name: entities in the schema's order, suffix, extension.

    Parameters
    ----------
    entities
        Labels by entity, letters and digits alone.
    suffix
        Such as ``bold``.
    extension
        With its dot.

    Raises
    ------
    DataError
        For an entity that the schema does not have, or a label with other characters.

    Examples
    --------
    >>> build_name({'stat': 'tsnr', 'sub': '01'}, 'boldmap', '.nii.gz')
    'sub-01_stat-tsnr_boldmap.nii.gz'
    """
    for name, value in entities.items():
        if name not in ENTITY_ORDER:
            raise DataError(UNKNOWN_ENTITY.format(name=name, known=', '.join(ENTITY_ORDER)))
        if not value or clean_label(value) != value:
            raise DataError(BAD_VALUE.format(name=name, value=value))
    parts = [f'{name}-{entities[name]}' for name in ENTITY_ORDER if name in entities]
    return '_'.join([*parts, suffix]) + extension


def product_of(key: str) -> Product:
    """Return the declaration of a product, which may be that of an installed system.

    Raises
    ------
    KeyError
        If there is none.
    """
    own: Product | None = PRODUCTS.get(key) or declared('products', key)
    if own is None:
        raise KeyError(key)
    return own


def product_path(
    key: str,
    entities: Mapping[str, str],
    *,
    space: str | None = None,
    resolution: str | None = None,
    density: str | None = None,
    form: Form | None = None,
    extension: str | None = None,
    **more: str,
) -> Path:
    """Return the path of a product, relative to the output folder.

    Parameters
    ----------
    key
        Key of :data:`PRODUCTS`.
    entities
        Entities of the participant or run; ``sub`` is needed.
    space, resolution
        Of the grid, where the product is spatial and they are known.
    density, form
        Of a surface, CIFTI or parcels, and in which files they are kept; of a pair of surfaces it
        is the left one's path.
    extension
        Another extension than the product's (``.json`` for its sidecar).
    **more
        Further entities (``desc``, ``atlas``, ...); they win over the product's own.
    """
    product = product_of(key)
    named = {**entities, **product.entities, **more}
    if product.spatial and space is not None:
        named['space'] = space
    if product.spatial and resolution is not None:
        named['res'] = resolution
    if product.spatial and density is not None:
        named['den'] = density
    if product.spatial and form is not None and product.extension == '.nii.gz':
        if form == 'gifti':
            named['hemi'] = 'L'
        extension = extension or EXTENSIONS[form][product.content]
    if 'sub' not in named:
        raise DataError(NEEDS_SUBJECT.format(key=key))
    name = build_name(named, product.suffix, extension or product.extension)
    folder = Path(f'sub-{named["sub"]}')
    if 'ses' in named and product.folder == 'func':
        folder /= f'ses-{named["ses"]}'
    return folder / product.folder / name


def stimulus_path(
    entities: Mapping[str, str], label: str, suffix: Literal['image', 'video'], desc: str
) -> Path:
    """Return the path of something made for one stimulus, relative to the output folder.

    Parameters
    ----------
    entities
        ``sub`` and ``task``.
    label
        Of the stimulus, as :func:`unique_labels` gives it.
    suffix, desc
        What was made.

    Examples
    --------
    >>> stimulus_path({'sub': '01', 'task': 'film'}, 'clipsab', 'video', 'recon').as_posix()
    'stimuli/sub-01/task-film/clipsab_desc-recon_video.mp4'
    """
    extension = {'image': '.png', 'video': '.mp4'}[suffix]
    folder = Path('stimuli') / f'sub-{entities["sub"]}' / f'task-{entities["task"]}'
    if not label or clean_label(label) != label:
        raise DataError(BAD_VALUE.format(name='stimulus', value=label))
    return folder / f'{label}_desc-{clean_label(desc)}_{suffix}{extension}'
