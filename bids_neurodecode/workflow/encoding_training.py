"""Encoding of pictures: load, fit and judge, save; ``python -m ...encoding_training FOLDER``.

The folder holds ``job.json``; the results are written beside it, ``result.json`` last. Networks
run in a process of their own, which gives the memory back and leaves checkpoints.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json, write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.workflow.files import (
    load_map,
    read_json,
    read_split,
    read_table,
    save_json,
    save_map,
)
from bids_neurodecode.workflow.process import RESULT, serve
from bids_neurodecode.workflow.seen import (
    Seen,
    compare_runs,
    in_sample,
    merged_pictures,
    pictures_state,
    runs_of,
    runs_on_card,
    seen_pictures,
)

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.evaluation.partition import VariancePartition
    from bids_neurodecode.systems.base import PerStimulus
    from bids_neurodecode.systems.encoding import PictureEncoding
    from bids_neurodecode.systems.encoding_scores import VoxelMaps

ALPHA = 0.05
SEEN = (
    '{n} of {total} pictures were shown to the participants that the shared head was trained on: '
    'held-out ones among them are new to the layer of this participant, not to the head.'
)
LOGGER = logging.getLogger('bids_neurodecode')
BoolArray = npt.NDArray[np.bool_]


def run_job(job: Mapping[str, Any], folder: Path) -> None:
    """Load, fit and judge, save."""
    from bids_neurodecode.systems.encoders import EncoderSettings
    from bids_neurodecode.systems.encoding import encode_pictures
    from bids_neurodecode.workflow.encoding_group import load_head

    config = Config.model_validate_json(job['settings'])
    participant = ParticipantInput.from_json(job['participant'])
    mask = VoxelMask.load(Path(job['mask']))
    table = read_table(Path(job['trials']))
    tuned = [load_samples(file, mask, table) for file in job['tuned']]
    own = job['model'] == config.encoding.model
    changes: dict[str, Any] = {} if own else {'model': job['model'], 'partition': False}
    if job['model'] == 'shared' and config.encoding.shared_head is not None:
        changes['head'] = load_head(config.encoding.shared_head)
    result = encode_pictures(
        load_samples(job['betas'], mask, table),
        tuned,
        read_split(Path(job['parts']), Path(job['plan']), table),
        load_bands(job['features'], participant, config),
        config,
        settings=EncoderSettings.of(config, job['device'], **changes),
        regions=load_regions(job, mask),
        within=np.load(job['within']) if job['within'] else None,
        device=job['device'],
        checkpoint_dir=Path(job['checkpoints']) if job['checkpoints'] else None,
        progress=_say(f'sub-{participant.label} {job["model"]}'),
    )
    save_result(result, job, folder)


def load_samples(file: str, mask: VoxelMask, table: pd.DataFrame) -> Samples:
    """Pair betas on disk with their trials."""
    return Samples(Responses(np.load(file, mmap_mode='r'), mask), table)


def load_bands(
    files: list[str], participant: ParticipantInput, config: Config
) -> dict[str, PerStimulus]:
    """Read the feature spaces, by name."""
    from bids_neurodecode.systems.base import PerStimulus

    return {
        band: PerStimulus(participant.stimuli, np.load(file))
        for band, file in zip(config.encoding.bands, files, strict=True)
    }


def load_regions(job: Mapping[str, Any], mask: VoxelMask) -> dict[str, BoolArray]:
    """Return the voxels of each region of the atlas, where there is one."""
    if not job['labels']:
        return {}
    names = read_table(Path(job['regions'])).set_index('index')['name']
    labels = np.rint(load_map(Path(job['labels']), mask)).astype(int)
    return {
        str(name): labels == int(str(index))
        for index, name in names.items()
        if (labels == int(str(index))).any()
    }


def save_result(result: PictureEncoding, job: Mapping[str, Any], folder: Path) -> None:
    """Write everything that came of it; ``result.json`` comes last."""
    import pandas as pd

    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.systems.comparison import save_kept

    config = Config.model_validate_json(job['settings'])
    evaluation, maps = result.evaluation, result.maps
    mask = VoxelMask.load(Path(job['mask'])).restrict(result.keep)
    seen = _runs_of_the_head(job, config)
    own = [score for score in result.scores if seen.leaks and score.model == job['model']]
    others = [score for score in result.scores if score not in own]
    scores = (*in_sample(own), *others)
    write_tsv(folder / 'metrics.tsv', scores_table(scores))
    write_json(folder / 'metrics.json', describe(scores))
    write_tsv(folder / 'predictions.tsv', evaluation.samples)
    save_kept(folder / 'kept.npz', result.kept)
    headline, null = next(
        (name, null)
        for name, null in evaluation.nulls.items()
        if name.endswith('/identification_top1')
    )
    examples, volumes = result.examples
    write_tsv(folder / 'examples.tsv', examples)
    arrays: dict[str, npt.NDArray[Any]] = {
        'confusion': evaluation.confusion,
        'null': null,
        'null_r': maps.null,
        'predicted': result.predictions,
        'rows': result.rows,
        'examples': volumes,
    }
    for name, values in arrays.items():
        np.save(folder / f'{name}.npy', values)
    if result.curves:
        write_tsv(folder / 'curves.tsv', pd.DataFrame(list(result.curves)))
    mask.save(folder / 'voxels.nii.gz')
    save_model(folder / 'model.safetensors', result, mask, job)
    info = {
        'model': job['model'],
        'space': maps.space,
        'n_mask': len(result.keep),
        'n_selected': int(result.keep.sum()),
        'rule': _rule(config.atlas.regions),
        'labels': list(evaluation.labels),
        'maps': save_maps(maps, result.partition, mask, folder, tested=not seen.leaks),
        'n_significant': int((maps.p_fdr < ALPHA).sum()),
        'n_significant_fwer': int((maps.p_fwer < ALPHA).sum()),
        'observed': _value_of(result, job['model'], headline),
        'null_metric': headline.split('/')[-1],
        'n_parameters': _n_parameters(result),
        'leaks': list(seen.leaks),
        'warnings': [*seen.warnings, *result.warnings, *_seen_by_others(result, job)],
    }
    write_text(folder / 'model.md', card(result, job, info))
    save_json(folder / RESULT, info)


def save_maps(
    maps: VoxelMaps,
    partition: VariancePartition | None,
    mask: VoxelMask,
    folder: Path,
    *,
    tested: bool = True,
) -> list[str]:
    """Write the maps of the scores; return their names. What is not known is 0.

    Without a test (``tested``) there is no map of significance.
    """
    named: dict[str, npt.NDArray[Any]] = {'pearsonr': maps.r}
    if tested:
        named['significant'] = maps.p_fdr < ALPHA
    if np.isfinite(maps.noise_ceiling).any():
        named |= {'noisenormalized': maps.noise_normalized, 'noiseceiling': maps.noise_ceiling}
    if partition is not None:
        named |= {'fullvariance': partition.full, 'sharedvariance': partition.shared}
        for band, values in partition.unique.items():
            named[f'uniquevariance-{band}'] = values
            named[f'unique-{band}'] = partition.p_unique_fdr[band] < ALPHA
    for name, values in named.items():
        save_map(folder / f'{name}.nii.gz', mask, np.nan_to_num(values))
    return list(named)


def save_model(
    path: Path, result: PictureEncoding, mask: VoxelMask, job: Mapping[str, Any]
) -> None:
    """Write the final encoder with all that predict mode needs, the response shapes among it."""
    from bids_neurodecode.models.storage import save_arrays

    config = Config.model_validate_json(job['settings'])
    participant = ParticipantInput.from_json(job['participant'])
    run = participant.runs[0]
    encoder = result.encoder.describe()
    # what changes from run to run is no part of the model
    encoder['training'] = {
        name: value
        for name, value in encoder.get('training', {}).items()
        if name not in {'seconds', 'wait_share'}
    }
    arrays = {f'encoder.{name}': values for name, values in result.encoder.state().items()}
    arrays |= mask.state()
    arrays |= _pictures(result, job, config)
    if job['hrfindex']:
        arrays['hrfindex'] = np.rint(load_map(Path(job['hrfindex']), mask)).astype(np.uint8)
    description = {
        'kind': 'picture-encoder',
        'version': __version__,
        'model': job['model'],
        'encoder': encoder,
        'bands': list(config.encoding.bands),
        'image_size': config.features.image_size,
        'task': participant.task,
        'space': run.space,
        'resolution': run.resolution,
        'repetition_time': run.repetition_time,
        'units': read_json(Path(job['beta_info']))['units'],
        'beta_repetition_time': read_json(Path(job['beta_info'])).get('repetition_time'),
        'stimulus_duration': read_json(Path(job['plan']))['stimulus_duration'],
        'stimuli': sorted(set(read_table(Path(job['trials']))['stimulus'])),
        'runs': trained_runs(job),
    }
    save_arrays(path, arrays, description)


def _pictures(
    result: PictureEncoding, job: Mapping[str, Any], config: Config
) -> dict[str, npt.NDArray[Any]]:
    """Return by what the training pictures are known, those of a shared head among them."""
    participant = ParticipantInput.from_json(job['participant'])
    names = sorted(set(read_table(Path(job['trials']))['stimulus']))
    own = pictures_state([participant.stimuli_dir / name for name in names])
    head = config.encoding.shared_head
    if job['model'] != 'shared' or head is None:
        return own
    from bids_neurodecode.models.storage import load_arrays

    return merged_pictures(own, load_arrays(head)[0])


def trained_runs(job: Mapping[str, Any]) -> dict[str, str]:
    """Return what the runs of a job are known by, by their labels."""
    participant = ParticipantInput.from_json(job['participant'])
    return runs_of(job['mask'], participant, job['betas'], read_table(Path(job['trials'])))


def _runs_of_the_head(job: Mapping[str, Any], config: Config) -> Seen:
    """Say whether runs of this participant, held-out trials among them, trained the head."""
    from bids_neurodecode.models.storage import load_description

    if job['model'] != 'shared' or config.encoding.shared_head is None:
        return Seen()
    file = config.encoding.shared_head
    return compare_runs(trained_runs(job), load_description(file), file)


def _seen_by_others(result: PictureEncoding, job: Mapping[str, Any]) -> list[str]:
    """Say which pictures are not new to the head that participants share."""
    from bids_neurodecode.systems.encoding_shared import SharedEncoder

    if not isinstance(result.encoder, SharedEncoder):
        return []
    from bids_neurodecode.models.storage import load_arrays

    participant = ParticipantInput.from_json(job['participant'])
    head = Config.model_validate_json(job['settings']).encoding.shared_head
    arrays = {} if head is None else load_arrays(head)[0]
    own = sorted(set(read_table(Path(job['trials']))['stimulus'].astype(str)))
    trained = result.encoder.head.stimuli
    seen, _ = seen_pictures(participant.stimuli_dir, own, arrays, trained)
    return [SEEN.format(n=len(seen), total=len(own))] if seen else []


def _rule(regions: Sequence[str]) -> str:
    if not regions:
        return 'all voxels of the brain mask'
    return f'voxels of the regions {", ".join(regions)}'


def _value_of(result: PictureEncoding, model: str, name: str) -> float:
    space, metric = name.split('/')
    return next(
        score.value
        for score in result.scores
        if (score.model, score.space, score.metric) == (model, space, metric)
    )


def _n_parameters(result: PictureEncoding) -> int | None:
    from bids_neurodecode.systems.encoding_network import NetworkEncoder

    if not isinstance(result.encoder, NetworkEncoder):
        return None
    from bids_neurodecode.models.heads import count_parameters

    return count_parameters(result.encoder.head)


def card(result: PictureEncoding, job: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Return the card that goes with the model: what it is, what it saw, what it scored."""
    config = Config.model_validate_json(job['settings'])
    participant = ParticipantInput.from_json(job['participant'])
    size = '' if info['n_parameters'] is None else f' ({info["n_parameters"]:,} parameters)'
    n_stimuli = len(set(read_table(Path(job['trials']))['stimulus']))
    drawn = config.encoding.n_training
    which = (
        f'{n_stimuli} pictures' if drawn is None else f'at most {drawn} of {n_stimuli} pictures'
    )
    rows = '\n'.join(
        f'| {s.model} | {s.space} | {s.metric} | {s.value:.3f} | {_cell(s.chance)} | '
        f'{_cell(s.ceiling)} | {_cell(s.p, 4)} | {s.n} | {s.protocol} |'
        for s in result.scores
        if '/' not in s.space
    )
    units = read_json(Path(job['beta_info']))['units']
    return f"""# Encoding model of sub-{participant.label}, task {participant.task}

- **What it does**: predicts the response (single-trial beta,
  {units}) of
  {info['n_selected']:,} voxels to a picture, from its features
  ({', '.join(config.encoding.bands)}). Model: {job['model']}{size}.
- **Trained on**: {len(participant.runs)} run(s) of this participant, {which}. The scores below
  are not of this model but of models fitted in the same way without the held-out trials.
- **Runs** (hash of their content): {runs_on_card(trained_runs(job))}
- **Pictures**: the file holds a thumbnail of each (32 x 32 pixels), by which copies are known.
- **Use**: only for this participant, on the same grid, for pictures like those of the training;
  a predicted response is no measurement, and no diagnosis of anything.
- **Made by**: bids_neurodecode {__version__}, seed {config.seed}; its settings are beside it.

| model | space | metric | value | chance | ceiling | p | n | protocol |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def _cell(value: float | None, digits: int = 3) -> str:
    return 'n/a' if value is None else f'{value:.{digits}f}'


def _say(who: str) -> Callable[[int, int], None]:
    """Return a listener that logs each fit."""

    def listen(done: int, total: int) -> None:
        LOGGER.info('%s: fit %d of %d', who, done, total)

    return listen


if __name__ == '__main__':
    sys.exit(serve(run_job))
