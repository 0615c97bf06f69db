"""The movie network and what it stands beside: film stores, banded ridge, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings.movie import DESIGNS
from bids_neurodecode.stimuli.filmstore import (
    FilmChunks,
    FilmRecipe,
    FilmStore,
    build_store,
    open_store,
)
from bids_neurodecode.systems.movie.setup import Chunks, FilmData, rows_on_voxels
from bids_neurodecode.systems.movie.steps.encoding import ALPHA, BandedFacts, Films, tests_of
from bids_neurodecode.systems.movie.steps.explain import explain_study
from bids_neurodecode.systems.movie.steps.network_outputs import (
    FilmStores,
    NetworkAbout,
    NetworkFacts,
)
from bids_neurodecode.systems.movie.study import NetworkStudy, study_network
from bids_neurodecode.systems.steps.progress import log_progress
from bids_neurodecode.systems.steps.scores import write_scores
from bids_neurodecode.systems.steps.seen import runs_on_card
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray
from bids_neurodecode.workflow.files import load_map, save_map
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.resources import threads_here
from bids_neurodecode.workflow.step import Apart, step

if TYPE_CHECKING:
    from torch import Tensor

    from bids_neurodecode.systems.movie.explain import Explained
    from bids_neurodecode.systems.movie.judging import Judged
    from bids_neurodecode.systems.movie.parts import Pool

WHAT = 'training of the movie network'
REMEDY = 'choose movie.design = "small" or fewer voxels (movie.max_voxels)'

PUBLISHED_GB = 3.0
"""What the network of the published design holds while it is trained, beside responses."""


def add_network(ladder: Ladder) -> None:
    """Add banded ridge and the network, where the settings ask for them."""
    from bids_neurodecode.models.weights import weights_path

    run, movie = ladder.run, ladder.run.config.movie
    if movie.with_banded:
        ladder.add(encode_banded)
    if movie.model != 'network':
        return
    vgg16 = ''
    if movie.perceptual == 'vgg16' and movie.mode != 'encoder':
        vgg16 = str(weights_path('vgg16', run.weights_dir))
    ladder.add(store_films, films=str(run.work_dir / 'films'))
    is_small = all(size <= DESIGNS['small'][name] for name, size in movie.sizes.items())
    ladder.size = replace(ladder.size, networks_gb=0.0 if is_small else PUBLISHED_GB)
    ladder.add(train_network, apart=True, vgg16=vgg16)


@step(
    'filmstore',
    makes=('pairs',),
    records={'film_stores': FilmStores},
    settings=('movie',),
    threads=8,
)
def store_films(
    participant: ParticipantInput, config: Config, trials: pd.DataFrame, films: str
) -> Mapping[str, object]:
    """Keep the frames of each film as a memory map, made once and used by all participants.

    Parameters
    ----------
    participant, config, trials
        Whose films, how they are cut, and one row per volume of a film.
    films
        Folder of the memory maps.
    """
    period = participant.runs[0].repetition_time
    stores, pairs = stores_of(
        trials, participant.stimuli_dir, Path(films), period, config, threads_here()
    )
    facts = FilmStores(
        tuple(store.path for store in stores.values()),
        tuple(note for store in stores.values() for note in store.notes),
    )
    return {'film_stores': facts, 'pairs': pairs}


def stores_of(
    table: pd.DataFrame,
    stimuli_dir: Path,
    films: Path,
    period: float,
    config: Config,
    threads: int = 1,
) -> tuple[dict[str, FilmStore], IndexArray]:
    """Return the store of each film, and film and volume of each sample, (n_samples, 2).

    Parameters
    ----------
    table
        One row per sample.
    stimuli_dir, films
        Folders of the films, and of their stores.
    period
        Seconds of a volume.
    config
        Settings of the network, whose frames they are.
    threads
        That decode: films side by side, and frames of a film where there are fewer films.
    """
    movie = config.movie
    volumes = np.rint(table['onset'].to_numpy(dtype=float) / period).astype(np.intp)
    shown = table['film'].astype(str).to_numpy()
    names = list(dict.fromkeys(shown))
    at_once = min(threads, len(names))

    def build(name: str) -> FilmStore:
        recipe = FilmRecipe(
            int(volumes[shown == name].max()) + 1,
            period,
            chunk=movie.sizes['chunk'],
            size=movie.sizes['frame_size'],
            timing=movie.timing,
            borders=movie.borders,
        )
        return build_store(stimuli_dir / name, films, recipe, threads // at_once)

    # decoding and resizing release the interpreter lock
    with ThreadPoolExecutor(at_once) as pool:
        stores = dict(zip(names, pool.map(build, names), strict=True))
    return stores, np.stack([[names.index(film) for film in shown], volumes], axis=1)


@step(
    'banded',
    seconds=60,
    makes=('banded_metrics', 'banded_by_fold'),
    records={'banded_info': BandedFacts},
    settings=('delay', 'features', 'ridge', 'evaluation', 'seed'),
    threads=8,
    memory=lambda size: 3 * size.series_gb,
)
def encode_banded(
    films: Films,
    bands: list[Path],
    predictions: Float32Array,
    rows: IndexArray,
) -> Mapping[str, object]:
    """Fit and judge banded ridge on the feature spaces of films; compare it with ridge.

    Parameters
    ----------
    films
        What the model is fitted to.
    bands
        Feature spaces, (n_samples, n_features) each, under their names.
    predictions, rows
        What ridge predicts of held-out samples, and which these are.
    """
    from bids_neurodecode.evaluation.metrics import scores_table
    from bids_neurodecode.systems.movie import banded as movie_banded
    from bids_neurodecode.systems.movie.comparison import compare_models
    from bids_neurodecode.systems.movie.recipe import FilmRidge

    config, split, period = films.config, films.plan.split, films.period
    samples, _, chosen = films.usable()
    judged, warnings = movie_banded.encode_banded(
        samples,
        split,
        {file.stem: np.load(file) for file in bands},
        FilmRidge.of(config, period, device=films.device),
        evaluation=config.evaluation,
        rng=np.random.default_rng(config.seed),
        chosen=chosen,
    )
    compared = compare_models(
        samples,
        split,
        rows,
        judged.predictions,
        predictions,
        repetition_time=period,
        confidence=config.evaluation.confidence,
    )
    # the null is that of the main model
    scores = [score for score in judged.scores if not score.model.startswith('baseline')]
    by_fold = films.folder / 'by_fold.nii.gz'
    return {
        'banded_metrics': scores_table(scores),
        'banded_by_fold': save_map(by_fold, samples.responses.mask, judged.by_fold, fill=np.nan),
        'banded_info': BandedFacts(difference=compared, warnings=tuple(warnings)),
    }


@dataclass(frozen=True)
class NetworkCase:
    """What a network was trained on and stands beside.

    Parameters
    ----------
    films
        Whose responses, with which settings.
    baselines
        Maps of the correlation of each fold of the linear models, by name.
    atlas
        The parcellation, and the names of its regions by their labels.
    """

    films: Films
    baselines: Mapping[str, Path]
    atlas: tuple[Path, Mapping[int, str]] | None


@step(
    'network',
    seconds=60,
    records={'network': NetworkFacts},
    settings=('movie', 'delay', 'split', 'features', 'ridge', 'evaluation', 'seed'),
    threads=8,
    memory=lambda size: 5 * size.series_gb + size.null_gb + size.networks_gb,
    apart=Apart(WHAT, REMEDY),
)
def train_network(
    films: Films,
    aligned: list[Float32Array],
    valid: BoolArray,
    features: Float32Array,
    film_stores: FilmStores,
    pairs: IndexArray,
    by_fold: Path,
    vgg16: str,
    checkpoints: Path,
    banded_by_fold: Path | None = None,
    atlas_labels: Path | None = None,
    atlas_table: pd.DataFrame | None = None,
) -> Mapping[str, object]:
    """Train and judge the movie network.

    Parameters
    ----------
    films
        What the network is trained on.
    aligned, valid
        The same with the delay taken out, an array a presentation, and which samples these hold.
    features
        Of the frames of each volume, (n_samples, n_features).
    film_stores, pairs
        The store of each film; film and volume of each sample, (n_samples, 2).
    by_fold, banded_by_fold
        Maps of the correlation of each fold, of ridge and of banded ridge.
    vgg16
        File of its weights, where they are used.
    checkpoints
        What it goes on from.
    atlas_labels, atlas_table
        The parcellation, and the names of its regions.
    """
    config, split, who = films.config, films.plan.split, f'sub-{films.participant.label}'
    data, keep = load_data(films, aligned, valid, features, film_stores.files, pairs)
    study = study_network(
        data,
        split,
        config,
        rng=np.random.default_rng(config.seed),
        device=films.device,
        vgg16=load_vgg16(vgg16) if vgg16 else None,
        checkpoint_dir=checkpoints,
        progress=lambda fold: log_progress(f'{who} network, fold {fold + 1} of {len(split)}'),
    )
    atlas = _named(atlas_labels, atlas_table)
    explained = explain_study(
        study,
        data,
        split,
        atlas,
        config,
        lambda what: log_progress(f'{who} {what}'),
        [run.bold.parent for run in films.participant.runs],
    )
    baselines = {'ridge': by_fold, 'banded-ridge': banded_by_fold}
    known = {name: file for name, file in baselines.items() if file is not None}
    case = NetworkCase(films, known, atlas)
    return {'network': save_study(study, films.mask.restrict(keep), case, explained)}


def _named(labels: Path | None, table: pd.DataFrame | None) -> tuple[Path, dict[int, str]] | None:
    """Return the parcellation with the names of its parcels, where there is one."""
    if labels is None or table is None:
        return None
    names = table.set_index('index')['name']
    return labels, {int(str(index)): str(name) for index, name in names.items()}


def load_data(
    films: Films,
    aligned: Sequence[Float32Array],
    valid: BoolArray,
    features: Float32Array,
    stores: Sequence[Path],
    pairs: IndexArray,
) -> tuple[FilmData, BoolArray]:
    """Put together what the network is trained on; leave out voxels that are not finite.

    Parameters
    ----------
    films
        Responses without a delay taken out.
    aligned
        The same with the delay taken out, one array per presentation.
    valid
        Which samples were measured, (n_samples,).
    features
        Shape (n_samples, n_features).
    stores
        Frames of each film.
    pairs
        Film and volume of each sample, (n_samples, 2).
    """
    table = films.plan.table
    samples, keep, chosen = films.usable()
    delayed = np.full((len(table), int(keep.sum())), np.nan, dtype=np.float32)
    delayed[valid] = np.concatenate([each[:, keep] for each in aligned])
    frames = [open_store(file) for file in stores]

    def chunks(rows: IndexArray) -> Chunks:
        return cast('Chunks', FilmChunks(frames, pairs[rows]))

    data = FilmData(
        Samples(Responses(delayed, films.mask.restrict(keep)), table),
        samples,
        np.asarray(features),
        chunks,
        films.period,
        chosen,
    )
    return data, keep


def load_vgg16(file: str) -> dict[str, Tensor]:
    """Read the weights as torchvision publishes them."""
    import torch

    weights: dict[str, Tensor] = torch.load(file, map_location='cpu', weights_only=True)
    return weights


def save_study(
    study: NetworkStudy,
    mask: VoxelMask,
    case: NetworkCase,
    explained: Mapping[str, Explained],
) -> NetworkFacts:
    """Write everything that came of it; return what is said of it.

    Parameters
    ----------
    study
        Networks, scores and reconstructions.
    mask
        Voxels of the analysis.
    case
        What the model was fitted to and how.
    explained
        What the network relies on, by the names of tables.
    """
    folder = case.films.folder
    judged_mask = mask.restrict(study.keep)
    baselines = {
        name: np.atleast_2d(load_map(file, judged_mask).astype(np.float64))
        for name, file in case.baselines.items()
    }
    scores = study.scores
    if not study.pool.used.all() or not study.keep.all():
        scores = (*scores, *rows_on_voxels(baselines, case.films.plan.split.protocol, study.pool))
    write_scores(folder, scores)
    write_tsv(folder / 'curves.tsv', pd.DataFrame(list(study.curves)))
    network_mask = np.zeros(mask.n_voxels, dtype=bool)
    network_mask[study.columns] = True
    extra = mask.restrict(network_mask).state()
    if study.mean_frame is not None:
        extra['mean_frame'] = study.mean_frame
    study.network.save(folder / 'model', extra)
    save_map(folder / 'voxels.nii.gz', mask, network_mask)
    about = NetworkAbout(
        case.films.config.movie.mode,
        study.network.settings.perceptual,
        int(study.keep.sum()),
        study.network.n_parameters,
    )
    write_text(folder / 'model.md', card(case, about))
    tables = {name: each.table for name, each in explained.items()}
    judged, reconstruction = study.judged, study.reconstruction
    if judged is not None:
        _save_judged(judged, study.pool, judged_mask, folder)
    if reconstruction is not None:
        reconstruction.save(folder)
        tables = {'regions': _regions(study, judged_mask, case), **tables}
    written = {name: table for name, table in tables.items() if table is not None}
    for name, table in written.items():
        write_tsv(folder / f'{name}.tsv', table)
    return NetworkFacts(
        about=about,
        maps=save_maps(study, judged_mask, folder),
        tables=tuple(written),
        encoder=judged is not None,
        decoder=reconstruction is not None,
        tests=None if judged is None else tests_of('network', judged),
        observed=None if judged is None else judged.scores[0].value,
        null_metric='' if judged is None else judged.scores[0].metric,
        warnings=(*study.notes, *(note for each in explained.values() for note in each.notes)),
    )


def save_maps(study: NetworkStudy, mask: VoxelMask, folder: Path) -> tuple[str, ...]:
    """Write the maps that pages show; return their names.

    Parameters
    ----------
    study
        What was trained, judged and explained.
    mask
        Voxels that have a value.
    folder
        That is written into.
    """
    r = None if study.judged is None else np.nan_to_num(study.judged.r)
    named = {'network_r': r, 'saliency': study.saliency}
    maps = {name: values for name, values in named.items() if values is not None}
    for name, values in maps.items():
        save_map(folder / f'{name}.nii.gz', mask, values)
    return tuple(maps)


def _save_judged(judged: Judged, pool: Pool, mask: VoxelMask, folder: Path) -> None:
    """Write the maps and predictions of the encoder."""
    save_map(folder / 'significant.nii.gz', mask, judged.p_fdr < ALPHA)
    for name in ('predictions', 'rows', 'null'):
        np.save(folder / f'{name}.npy', getattr(judged, name))
    save_map(folder / 'judged.nii.gz', mask, np.ones(mask.n_voxels))
    save_map(
        folder / 'by_fold.nii.gz',
        mask,
        np.where(pool.used, judged.by_fold, np.nan),
        fill=np.nan,
    )


def _regions(study: NetworkStudy, mask: VoxelMask, case: NetworkCase) -> pd.DataFrame | None:
    """Return the share of the saliency by region, where there is an atlas."""
    from bids_neurodecode.explain.saliency import saliency_by_region

    saliency = study.saliency
    if saliency is None or case.atlas is None or not saliency.max() > 0:
        return None
    codes, named = case.atlas
    labels = np.rint(load_map(codes, mask)).astype(int)
    return saliency_by_region(saliency, labels, named)


def card(case: NetworkCase, about: NetworkAbout) -> str:
    """Write the model card.

    Parameters
    ----------
    case
        What the model was fitted to and how.
    about
        The network.
    """
    participant, config = case.films.participant, case.films.config
    movie = config.movie
    sizes = ', '.join(f'{name} {size}' for name, size in movie.sizes.items())
    switches = ', '.join(
        f'{name} {getattr(movie, name)}'
        for name in ('paper_bn', 'paper_mse', 'min_max', 'timing', 'standardize')
    )
    return f"""# Movie network of sub-{participant.label}, task {participant.task}

The encoder (film to responses) and decoder (responses to a frame) of arXiv 2507.12009.

- Mode: {movie.mode}; design {movie.design}: {sizes}
- Parameters: {about.n_parameters:,}; voxels: {about.n_voxels:,}
- Perceptual loss: {about.perceptual}
- Haemodynamic delay taken off the responses: {config.delay.seconds:g} s
- Switches: {switches}
- Runs (hash of their content): {runs_on_card(case.films.runs)}
- Trained on the training samples of the first fold: the scores are about this very network (with
  several folds, about it and its like, each on the voxels that its own training samples chose).
- Made for this participant, this grid and this task alone. Reconstructions are coarse: look at
  the baselines before reading anything into them.
- No consent to reconstruct what was seen follows from consent to be scanned.
"""
