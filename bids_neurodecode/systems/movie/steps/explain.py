"""What a trained movie network relies on: load, ask, save (in the process of the training)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.bids.stimuli import check_image
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.signals.meshes import bridged, neighbours
from bids_neurodecode.systems.movie.explain import LEAST_EXAMPLES, Explained, explain_perturbation
from bids_neurodecode.typing import FloatArray, IndexArray, Uint8Array
from bids_neurodecode.workflow.files import load_map

if TYPE_CHECKING:
    from bids_neurodecode.samples import Split, VoxelMask
    from bids_neurodecode.settings.movie import MovieSettings
    from bids_neurodecode.systems.movie.setup import FilmData
    from bids_neurodecode.systems.movie.study import NetworkStudy

NO_FOLDER = 'movie.concepts: there is no folder {folder}. Give one with one folder per concept.'
NO_CONCEPTS = (
    'movie.concepts: {folder} holds no folder of images. Put the images of each concept into '
    'a folder of its own.'
)
FEW_PICTURES = (
    'movie.concepts: {folder} has {n} images; at least {least} are needed. Add some, or move '
    'the folder away.'
)
NOT_ASKED = 'movie.concepts names a folder, but movie.explain does not ask for concepts. Add them.'

PICTURE_TYPES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')


def concept_files(folder: Path) -> dict[str, list[Path]]:
    """Find the images of each concept, by the name of its folder.

    Raises
    ------
    InputError
        If the folder is not there, holds no concept, or a concept has too few images or one
        that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(NO_FOLDER.format(folder=folder))
    found = {
        path.name: sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURE_TYPES)
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith('.')
    }
    if not found:
        raise InputError(NO_CONCEPTS.format(folder=folder))
    for name, files in found.items():
        if len(files) < LEAST_EXAMPLES:
            where, n = folder / name, len(files)
            raise InputError(FEW_PICTURES.format(folder=where, n=n, least=LEAST_EXAMPLES))
        for file in files:
            check_image(file, folder / name)
    return found


def check_explain(config: Config) -> None:
    """Refuse concepts that cannot be read, before work starts.

    Raises
    ------
    InputError
        See :func:`concept_files`; also for a folder that is not asked for.
    """
    movie = config.movie
    if movie.concepts is None or movie.model != 'network':
        return
    if 'concepts' not in movie.explain:
        raise InputError(NOT_ASKED)
    concept_files(movie.concepts)


def explain_study(
    study: NetworkStudy,
    data: FilmData,
    split: Split,
    atlas: tuple[Path, Mapping[int, str]] | None,
    config: Config,
    listen: Callable[[str], Callable[[int, int], None]],
    meshes: Iterable[Path] = (),
) -> dict[str, Explained]:
    """Disturb regions and test concepts, as the settings ask.

    Parameters
    ----------
    listen
        Gives the listener of the progress of what it is told.
    meshes
        Folders where surfaces are looked for.

    Returns
    -------
    dict
        ``perturbation`` and ``concepts``, of these what was asked for and can be done.
    """
    movie, rng = config.movie, np.random.default_rng(config.seed)
    labels, names = regions_of_voxels(atlas, data.aligned.responses.mask, study.columns)
    measured = np.asarray(np.isfinite(data.aligned.values).all(axis=1))
    train, test = (part[measured[part]] for part in (split.folds[0].train, split.folds[0].test))
    found: dict[str, Explained] = {}
    with_decoder = study.network.decoder is not None
    if 'perturbation' in movie.explain and labels is not None and with_decoder:
        regions = labels, names
        disturbed = _disturb(study, data, test, regions, movie, meshes, rng, listen)
        found['perturbation'] = disturbed
    if 'concepts' in movie.explain:
        from bids_neurodecode.systems.movie.explain import explain_concepts
        from bids_neurodecode.systems.movie.parts import showings_of

        found['concepts'] = explain_concepts(
            study.network,
            data.chunks(train),
            data.chunks(test),
            labels,
            names,
            movie,
            pictures=_pictures(config),
            films=showings_of(data.aligned.table)[train],
            rng=rng,
            progress=listen('concepts'),
        )
    return found


def _disturb(
    study: NetworkStudy,
    data: FilmData,
    test: IndexArray,
    regions: tuple[IndexArray, Mapping[int, str]],
    settings: MovieSettings,
    meshes: Iterable[Path],
    rng: np.random.Generator,
    listen: Callable[[str], Callable[[int, int], None]],
) -> Explained:
    """Disturb regions; where voxels have no neighbours, say so instead."""
    from bids_neurodecode.systems.movie.scores import target_frames

    try:
        mask = data.aligned.responses.mask
        edges = neighbours(mask, meshes, what='The perturbation of regions')
    except DataError as error:
        return Explained(None, (str(error),))
    return explain_perturbation(
        study.network,
        np.asarray(data.aligned.values[test][:, study.columns]),
        target_frames(data.chunks(test), min_max=settings.min_max),
        *regions,
        settings,
        neighbours=bridged(edges, study.columns),
        accuracy=held_out_accuracy(study),
        rng=rng,
        progress=listen('perturbation'),
    )


def held_out_accuracy(study: NetworkStudy) -> FloatArray | None:
    """Return the held-out correlation of each voxel of the network; None without an encoder.

    Voxels that other folds do not use were not judged and are NaN.
    """
    if study.judged is None:
        return None
    r = np.full(len(study.keep), np.nan)
    r[study.keep] = study.judged.r
    return np.asarray(r[study.columns])


def regions_of_voxels(
    atlas: tuple[Path, Mapping[int, str]] | None,
    mask: VoxelMask,
    columns: IndexArray,
) -> tuple[IndexArray | None, Mapping[int, str]]:
    """Return the region of each voxel of the network, and the names; None without an atlas.

    Parameters
    ----------
    atlas
        Parcellation on the grid of the mask, and names by index.
    mask
        Voxels of the analysis.
    columns
        Voxels of the network, column numbers.
    """
    if atlas is None:
        return None, {}
    file, names = atlas
    labels = np.rint(load_map(file, mask)).astype(np.intp)
    return labels[columns], names


def _pictures(config: Config) -> dict[str, Uint8Array] | None:
    """Read the images of each concept, as large as the network's frames."""
    from bids_neurodecode.stimuli.images import load_images

    if config.movie.concepts is None:
        return None
    size = config.movie.sizes['frame_size']
    return {
        name: load_images(files, size=size, fit='crop')
        for name, files in concept_files(config.movie.concepts).items()
    }
