"""Encoding of images: a model of each voxel's response, ridge regression beside every other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.models.storage import joined, load_arrays, load_description, save_arrays
from bids_neurodecode.report.results import VoxelResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.steps.features import add_bands
from bids_neurodecode.systems.encoding.steps.outputs import EncodingFacts, publish_encoding
from bids_neurodecode.systems.steps.own_features import with_own_features
from bids_neurodecode.systems.steps.records import BetaFacts
from bids_neurodecode.systems.steps.responses import (
    Trials,
    add_atlas,
    add_responses,
    reliability,
    reliable_voxels,
)
from bids_neurodecode.systems.steps.scores import headline_value, score_table, write_scores
from bids_neurodecode.systems.steps.seen import (
    Seen,
    compare_runs,
    in_sample,
    merged_pictures,
    pictures_state,
    runs_on_card,
    seen_pictures,
)
from bids_neurodecode.workflow.files import load_map, save_map
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import Apart, step

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.partition import VariancePartition
    from bids_neurodecode.systems.encoding.recipe import PictureEncoding
    from bids_neurodecode.systems.encoding.scores import VoxelMaps
    from bids_neurodecode.workflow.resources import DataSize

WHAT = 'training of the encoding network'
REMEDY = 'choose encoding.voxels = "mask", regions of an atlas, or a smaller network'
LINEAR = frozenset({'ridge', 'banded'})
"""Models that need no networks."""
REGRESSIONS = LINEAR | {'shared'}
"""Models that are fitted in the process of the node."""
ALPHA = 0.05
SEEN = (
    '{n} of {total} images were shown to the participants that the shared head was trained on: '
    'held-out ones among them are new to the layer of this participant, not to the head.'
)
LOGGER = logging.getLogger('bids_neurodecode')


def add_picture_encoding(ladder: Ladder) -> None:
    """Add the steps of image encoding; ridge regression stands beside every other model."""
    ladder.run = replace(
        ladder.run, config=with_own_features(ladder.run.config, ladder.participant)
    )
    add_responses(ladder, add_bands)
    ladder.add(reliability)
    add_atlas(ladder)
    ladder.add(reliable_voxels)
    main = ladder.run.config.encoding.model
    ladder.add(encode, apart=main not in REGRESSIONS, model=main)
    if main != 'ridge':
        ladder.add(encode, 'ridge', made={'encoded': 'ridge'}, model='ridge')
    ladder.add(publish_encoding)


@dataclass(frozen=True)
class Case:
    """What a model was fitted to.

    Parameters
    ----------
    trials
        Whose responses to what, in which voxels.
    model
        Name of the encoding model.
    beta_info
        How the betas were estimated.
    hrfindex
        Map of the response shape of each voxel; None of precomputed betas.
    """

    trials: Trials
    model: str
    beta_info: BetaFacts
    hrfindex: Path | None

    @property
    def head(self) -> Path | None:
        """The head that participants share, where it is used."""
        return self.trials.config.encoding.shared_head if self.model == 'shared' else None

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The images, in order of their names."""
        return tuple(sorted(set(self.trials.plan.table['stimulus'].astype(str))))


def memory_of_ridge(size: DataSize) -> float:
    """Return GB that regressions hold where responses lie in files.

    That is ten copies of the columns that are scored together, three of the maps of permutations,
    parts of folds that are too small to be mapped, and similarities of five kinds.
    """
    parts = min(6 * size.betas_gb, 0.5)
    return 0.2 + 10 * size.block_gb + 3 * size.null_gb + parts + 5 * size.similarities_gb


@step(
    'encode',
    seconds=10,
    records={'encoded': EncodingFacts},
    settings=('betas', 'encoding', 'features', 'ridge', 'split', 'atlas', 'evaluation', 'seed'),
    threads=8,
    memory=memory_of_ridge,
    apart=Apart(WHAT, REMEDY, ('evaluation', 'atlas'), lambda size: 1 + 13 * size.betas_gb),
)
def encode(
    trials: Trials,
    model: str,
    beta_info: BetaFacts,
    features: list[npt.NDArray[np.float32]],
    device: str,
    checkpoints: Path,
    beta_maps: list[Path] | None = None,
) -> Mapping[str, object]:
    """Fit and judge an encoding model fold by fold, then fit it once on everything.

    Parameters
    ----------
    trials
        What the model is fitted to.
    model
        Name of the encoding model.
    beta_info
        How betas were estimated.
    features
        Feature spaces, (n_stimuli, n_features) each.
    device, checkpoints
        Where it computes, and goes on from.
    beta_maps
        Maps of the model of the betas, that of the response shapes among them.
    """
    from bids_neurodecode.systems.encoding.encoders import EncoderSettings
    from bids_neurodecode.systems.encoding.recipe import encode_pictures
    from bids_neurodecode.systems.encoding.steps.group import load_head

    config, participant = trials.config, trials.participant
    own = model == config.encoding.model
    changes: dict[str, Any] = {} if own else {'model': model, 'partition': False}
    if model == 'shared' and config.encoding.shared_head is not None:
        changes['head'] = load_head(config.encoding.shared_head)
    estimates = trials.estimates()
    result = encode_pictures(
        estimates,
        load_bands(features, participant, config),
        config,
        settings=EncoderSettings.of(config, device, **changes),
        regions=trials.regions,
        device=device,
        checkpoint_dir=None if model in REGRESSIONS else checkpoints,
        progress=_say(f'sub-{participant.label} {model}'),
    )
    shapes = [file for file in beta_maps or () if file.name.startswith('hrfindex')]
    case = Case(trials, model, beta_info, shapes[0] if shapes else None)
    return {'encoded': save_result(result, case, trials.folder, estimates.notes)}


def load_bands(
    arrays: Sequence[npt.NDArray[np.float32]], participant: ParticipantInput, config: Config
) -> dict[str, PerStimulus]:
    """Return the feature spaces, (n_stimuli, n_features) each, by name.

    Parameters
    ----------
    arrays
        Of each feature space, (n_stimuli, n_features).
    participant
        Whose data.
    config
        The settings.
    """
    return {
        band: PerStimulus(participant.stimuli, values)
        for band, values in zip(config.encoding.bands, arrays, strict=True)
    }


def save_result(
    result: PictureEncoding, case: Case, folder: Path, said: Sequence[str]
) -> EncodingFacts:
    """Write everything that came of it; return what is said of it.

    Parameters
    ----------
    result
        Scores, maps and the final encoder.
    case
        What the model was fitted to and how.
    folder
        That is written into.
    said
        What a reader should know.
    """
    from bids_neurodecode.systems.comparison import save_kept

    config, model = case.trials.config, case.model
    evaluation, maps = result.evaluation, result.maps
    mask = case.trials.mask.restrict(result.keep)
    seen = _runs_of_the_head(case)
    own = [score for score in result.scores if seen.leaks and score.model == model]
    others = [score for score in result.scores if score not in own]
    scores = (*in_sample(own), *others)
    write_scores(folder, scores)
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
    save_model(folder / 'model.safetensors', result, mask, case)
    facts = EncodingFacts(
        model=model,
        space=maps.space,
        voxels=VoxelResults(
            len(result.keep),
            int(result.keep.sum()),
            _rule(config.atlas.regions),
            scored_ceiling=result.scored_ceiling,
        ),
        labels=evaluation.labels,
        maps=save_maps(maps, result.partition, mask, folder, tested=not seen.leaks),
        observed=headline_value(result.scores, model, headline),
        null_metric=headline.split('/')[-1],
        n_parameters=_n_parameters(result),
        leaks=seen.leaks,
        warnings=(*said, *seen.warnings, *result.warnings, *_seen_by_others(result, case)),
    )
    write_text(folder / 'model.md', card(result, case, facts))
    return facts


def save_maps(
    maps: VoxelMaps,
    partition: VariancePartition | None,
    mask: VoxelMask,
    folder: Path,
    *,
    tested: bool = True,
) -> tuple[str, ...]:
    """Write the maps of the scores; return their names. What is not known is 0.

    Without a test (``tested``) there is no map of significance.

    Parameters
    ----------
    maps
        Scores of each voxel.
    partition
        Of explained variance; None: none.
    mask
        Voxels of the analysis.
    folder
        That is written into.
    tested
        Whether there is a test.
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
    return tuple(named)


def save_model(path: Path, result: PictureEncoding, mask: VoxelMask, case: Case) -> None:
    """Write the final encoder with all that predict mode needs, the response shapes among it.

    Parameters
    ----------
    path
        That is written.
    result
        Scores, maps and the final encoder.
    mask
        Voxels of the analysis.
    case
        What the model was fitted to and how.
    """
    config, participant = case.trials.config, case.trials.participant
    run = participant.runs[0]
    arrays = joined({'encoder': result.encoder.state()})
    arrays |= mask.state()
    arrays |= _pictures(case)
    if case.hrfindex is not None:
        arrays['hrfindex'] = np.rint(load_map(case.hrfindex, mask)).astype(np.uint8)
    description = {
        'kind': 'picture-encoder',
        'version': __version__,
        'model': case.model,
        'encoder': result.encoder.describe(),
        'bands': list(config.encoding.bands),
        'image_size': config.features.image_size,
        'task': participant.task,
        'space': run.space,
        'resolution': run.resolution,
        'repetition_time': run.repetition_time,
        'units': case.beta_info.units,
        'beta_repetition_time': case.beta_info.repetition_time,
        'stimulus_duration': case.trials.plan.stimulus_duration,
        'stimuli': list(case.shown),
        'runs': case.trials.runs,
    }
    save_arrays(path, arrays, description)


def _pictures(case: Case) -> dict[str, npt.NDArray[Any]]:
    """Return by what the training images are known, those of a shared head among them."""
    own = pictures_state([case.trials.participant.stimuli_dir / name for name in case.shown])
    if case.head is None:
        return own

    return merged_pictures(own, load_arrays(case.head)[0])


def _runs_of_the_head(case: Case) -> Seen:
    """Say whether runs of this participant, held-out trials among them, trained the head."""
    if case.head is None:
        return Seen()
    return compare_runs(case.trials.runs, load_description(case.head), case.head)


def _seen_by_others(result: PictureEncoding, case: Case) -> list[str]:
    """Say which images are not new to the head that participants share."""
    from bids_neurodecode.systems.encoding.shared import SharedEncoder

    if not isinstance(result.encoder, SharedEncoder):
        return []

    arrays = {} if case.head is None else load_arrays(case.head)[0]
    trained = result.encoder.head.stimuli
    seen, _ = seen_pictures(case.trials.participant.stimuli_dir, case.shown, arrays, trained)
    return [SEEN.format(n=len(seen), total=len(case.shown))] if seen else []


def _rule(regions: Sequence[str]) -> str:
    if not regions:
        return 'all voxels of the brain mask'
    return f'voxels of the regions {", ".join(regions)}'


def _n_parameters(result: PictureEncoding) -> int | None:
    from bids_neurodecode.systems.encoding.network import NetworkEncoder

    if not isinstance(result.encoder, NetworkEncoder):
        return None
    from bids_neurodecode.models.heads import count_parameters

    return count_parameters(result.encoder.head)


def card(result: PictureEncoding, case: Case, facts: EncodingFacts) -> str:
    """Return the card that goes with the model: what it is, what it saw, what it scored.

    Parameters
    ----------
    result
        Scores, maps and the final encoder.
    case
        What the model was fitted to and how.
    facts
        What is said of the result.
    """
    config, participant = case.trials.config, case.trials.participant
    size = '' if facts.n_parameters is None else f' ({facts.n_parameters:,} parameters)'
    n_stimuli = len(case.shown)
    drawn = config.encoding.n_training
    which = f'{n_stimuli} images' if drawn is None else f'at most {drawn} of {n_stimuli} images'
    columns = ('model', 'space', 'metric', 'value', 'chance', 'ceiling', 'p', 'n', 'protocol')
    shown = [score for score in result.scores if '/' not in score.space]
    units = case.beta_info.units
    return f"""# Encoding model of sub-{participant.label}, task {participant.task}

- **What it does**: predicts the response (single-trial beta,
  {units}) of
  {facts.voxels.n_selected:,} voxels to an image, from its features
  ({', '.join(config.encoding.bands)}). Model: {case.model}{size}.
- **Trained on**: {len(participant.runs)} run(s) of this participant, {which}. The scores below
  are not of this model but of models fitted in the same way without the held-out trials.
- **Runs** (hash of their content): {runs_on_card(case.trials.runs)}
- **Images**: the file holds a thumbnail of each (32 x 32 pixels), by which copies are known.
- **Use**: only for this participant, on the same grid, for images like those of the training;
  a predicted response is no measurement, and no diagnosis of anything.
- **Made by**: bids_neurodecode {__version__}, seed {config.seed}; its settings are beside it.

{score_table(shown, *columns)}
"""


def _say(who: str) -> Callable[[int, int], None]:
    """Return a listener that logs each fit."""

    def listen(done: int, total: int) -> None:
        LOGGER.info('%s: fit %d of %d', who, done, total)

    return listen
