"""The movie network in a process of its own: ``python -m ...workflow.film_training FOLDER``.

The folder holds ``job.json``; the results are written beside it. A process of its own gives the
memory back, may use its own device, and leaves checkpoints that the next one goes on from.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json, write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.workflow.files import (
    fold_voxels,
    load_map,
    read_split,
    read_table,
    save_json,
    save_map,
)
from bids_neurodecode.workflow.process import serve
from bids_neurodecode.workflow.seen import runs_of, runs_on_card

if TYPE_CHECKING:
    from torch import Tensor

    from bids_neurodecode.systems.movie_setup import Chunks, FilmData
    from bids_neurodecode.systems.movie_study import NetworkStudy

ALPHA = 0.05
SAY_EVERY = 15.0
"""Seconds between two lines of progress."""
LOGGER = logging.getLogger('bids_neurodecode')


def run_job(job: Mapping[str, Any], folder: Path) -> None:
    """Load, train and judge, save."""
    from bids_neurodecode.systems.movie_study import study_network
    from bids_neurodecode.workflow.film_explain import explain_study

    config = Config.model_validate_json(job['settings'])
    participant = ParticipantInput.from_json(job['participant'])
    mask = VoxelMask.load(Path(job['mask']))
    table = read_table(Path(job['trials']))
    split = read_split(Path(job['parts']), Path(job['plan']), table)
    data, keep = load_data(job, participant, mask, table, len(split))
    study = study_network(
        data,
        split,
        config,
        rng=np.random.default_rng(config.seed),
        device=job['device'],
        vgg16=load_vgg16(job['vgg16']) if job['vgg16'] else None,
        checkpoint_dir=Path(job['checkpoints']),
        progress=lambda fold: _say(f'sub-{participant.label} network', fold, len(split)),
    )
    who = f'sub-{participant.label}'
    explained = explain_study(
        study, data, split, job, config, folder, lambda what: _say(f'{who} {what}', 0, 1)
    )
    save_study(study, mask.restrict(keep), job, config, split.protocol, explained, folder)


def load_data(
    job: Mapping[str, Any],
    participant: ParticipantInput,
    mask: VoxelMask,
    table: Any,
    n_folds: int,
) -> tuple[FilmData, npt.NDArray[np.bool_]]:
    """Load responses, features and film stores; leave out voxels that are not finite."""
    from bids_neurodecode.stimuli.filmstore import FilmChunks, open_store
    from bids_neurodecode.systems.movie_setup import FilmData

    responses = np.load(job['responses'], mmap_mode='r')
    measured = np.isfinite(responses).any(axis=1)
    keep = np.asarray(np.isfinite(responses[measured]).all(axis=0))
    chosen = None
    if job['within']:
        inside, chosen = fold_voxels(np.load(job['within']), n_folds)
        keep &= inside
        chosen = chosen[:, keep]
    valid = np.load(job['valid'])
    aligned = np.full((len(table), int(keep.sum())), np.nan, dtype=np.float32)
    aligned[valid] = np.concatenate([np.load(file)[:, keep] for file in job['aligned']])
    kept = mask.restrict(keep)
    stores = [open_store(Path(file)) for file in job['stores']]
    pairs = np.load(job['pairs'])

    def chunks(rows: npt.NDArray[np.intp]) -> Chunks:
        return cast('Chunks', FilmChunks(stores, pairs[rows], raw=True))

    data = FilmData(
        Samples(Responses(aligned, kept), table),
        Samples(Responses(np.ascontiguousarray(responses[:, keep]), kept), table),
        np.load(job['features']),
        chunks,
        participant.runs[0].repetition_time,
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
    job: Mapping[str, Any],
    config: Config,
    protocol: str,
    explained: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write everything that came of it; ``result.json`` comes last."""
    import pandas as pd

    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.systems.movie_setup import rows_on_voxels

    judged_mask = mask.restrict(study.keep)
    rivals = {
        name: np.atleast_2d(load_map(Path(file), judged_mask).astype(np.float64))
        for name, file in job['rivals'].items()
    }
    scores = study.scores
    if not study.pool.used.all() or not study.keep.all():
        scores = (*scores, *rows_on_voxels(rivals, protocol, study.pool))
    write_tsv(folder / 'metrics.tsv', scores_table(scores))
    write_json(folder / 'metrics.json', describe(scores))
    write_tsv(folder / 'curves.tsv', pd.DataFrame(list(study.curves)))
    network_mask = np.zeros(mask.n_voxels, dtype=bool)
    network_mask[study.columns] = True
    extra = mask.restrict(network_mask).state()
    if study.mean_frame is not None:
        extra['mean_frame'] = study.mean_frame
    study.network.save(folder / 'model', extra)
    save_map(folder / 'voxels.nii.gz', mask, network_mask)
    info: dict[str, Any] = {
        'mode': config.movie.mode,
        'design': config.movie.sizes,
        'perceptual': study.network.settings.perceptual,
        'n_voxels': int(study.keep.sum()),
        'warnings': [*study.notes, *explained['warnings']],
        'saliency': study.saliency is not None,
        'perturbation': explained['perturbation'],
        'concepts': explained['concepts'],
        'parameters': _n_parameters(study),
        'encoder': study.judged is not None,
        'decoder': study.reconstruction is not None,
    }
    if study.judged is not None:
        judged = study.judged
        save_map(folder / 'pearsonr.nii.gz', judged_mask, np.nan_to_num(judged.r))
        save_map(folder / 'significant.nii.gz', judged_mask, judged.p_fdr < ALPHA)
        for name in ('predictions', 'rows', 'null'):
            np.save(folder / f'{name}.npy', getattr(judged, name))
        save_map(folder / 'judged.nii.gz', judged_mask, np.ones(judged_mask.n_voxels))
        info |= {'observed': judged.scores[0].value, 'null_metric': judged.scores[0].metric}
        info['tested'] = bool(np.isfinite(judged.p_fdr).any())
        save_map(
            folder / 'by_fold.nii.gz',
            judged_mask,
            np.where(study.pool.used, judged.by_fold, np.nan),
            fill=np.nan,
        )
        info['tests'] = {
            'n_tested': int(np.isfinite(judged.r).sum()),
            'n_fdr': int((judged.p_fdr < ALPHA).sum()),
            'n_fwer': int((judged.p_fwer < ALPHA).sum()),
            'r_fwer': judged.r_fwer if np.isfinite(judged.r_fwer) else None,
        }
    if study.reconstruction is not None:
        for name in ('rows', 'truth', 'decoded', 'similarity'):
            np.save(folder / f'frames-{name}.npy', getattr(study.reconstruction, name))
        info['regions'] = _save_saliency(study, judged_mask, job, folder)
    write_text(folder / 'model.md', card(job, config, info))
    save_json(folder / 'result.json', info)


def _save_saliency(
    study: NetworkStudy, mask: VoxelMask, job: Mapping[str, Any], folder: Path
) -> bool:
    """Write the saliency map and, where there is an atlas, its share by region."""
    from bids_neurodecode.explain.saliency import saliency_by_region

    saliency = study.saliency
    if saliency is None:
        return False
    save_map(folder / 'saliency.nii.gz', mask, saliency)
    if not job['labels'] or not saliency.max() > 0:
        return False
    names = read_table(Path(job['regions'])).set_index('index')['name']
    named = {int(str(index)): str(name) for index, name in names.items()}
    labels = np.rint(load_map(Path(job['labels']), mask)).astype(int)
    write_tsv(folder / 'regions.tsv', saliency_by_region(saliency, labels, named))
    return True


def _n_parameters(study: NetworkStudy) -> int:
    from bids_neurodecode.models.movie import n_parameters

    parts = (study.network.encoder, study.network.decoder)
    return sum(n_parameters(part) for part in parts if part is not None)


def card(job: Mapping[str, Any], config: Config, info: Mapping[str, Any]) -> str:
    """Write the model card."""
    participant = ParticipantInput.from_json(job['participant'])
    movie = config.movie
    sizes = ', '.join(f'{name} {size}' for name, size in info['design'].items())
    switches = ', '.join(
        f'{name} {getattr(movie, name)}'
        for name in ('paper_bn', 'paper_mse', 'min_max', 'timing', 'standardize')
    )
    return f"""# Movie network of sub-{participant.label}, task {participant.task}

The encoder (film to responses) and decoder (responses to a frame) of arXiv 2507.12009.

- Mode: {movie.mode}; design {movie.design}: {sizes}
- Parameters: {info['parameters']:,}; voxels: {info['n_voxels']:,}
- Perceptual loss: {info['perceptual']}
- Haemodynamic delay taken off the responses: {config.delay.seconds:g} s
- Switches: {switches}
- Runs (hash of their content): {runs_on_card(runs_of(job['mask'], participant))}
- Trained on the training samples of the first fold: the scores are about this very network (with
  several folds, about it and its like, each on the voxels that its own training samples chose).
- Made for this participant, this grid and this task alone. Reconstructions are coarse: look at
  the baselines before reading anything into them.
- No consent to reconstruct what was seen follows from consent to be scanned.
"""


def _say(who: str, fold: int, n_folds: int) -> Callable[[int, int], None]:
    """Return a listener that logs a line of progress now and then."""
    started = time.monotonic()
    said = [started]
    first: list[int] = []
    where = f', fold {fold + 1} of {n_folds}' if n_folds > 1 else ''

    def listen(done: int, total: int) -> None:
        now = time.monotonic()
        first.append(done) if not first else None
        if now - said[0] < SAY_EVERY and done < total:
            return
        said[0] = now
        speed = (done - first[0]) / max(now - started, 1e-9)
        left = f', about {(total - done) / speed / 60:.0f} min left' if speed > 0 else ''
        LOGGER.info('%s%s: step %d of %d%s', who, where, done, total, left)

    return listen


if __name__ == '__main__':
    sys.exit(serve(run_job))
