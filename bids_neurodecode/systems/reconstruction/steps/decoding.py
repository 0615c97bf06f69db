"""The linear decoder of images: fitted and judged fold by fold, then fitted once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.sink import write_json, write_text
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.steps.publish import voxel_results
from bids_neurodecode.systems.steps.records import ModelFacts
from bids_neurodecode.systems.steps.responses import Trials
from bids_neurodecode.systems.steps.scores import headline_value, score_table
from bids_neurodecode.systems.steps.seen import pictures_state, runs_on_card
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.systems.reconstruction.recipe import Decoding

PICTURE_SIZE = 64
"""Pixels along a side at which retrieved images are scored."""


@dataclass(frozen=True, kw_only=True)
class DecoderFacts(ModelFacts):
    """What is said of a decoder of images."""

    rule_name: str


@step(
    'decode',
    seconds=8,
    makes=(
        *('metrics', 'predictions', 'null', 'confusion'),
        *('selected', 'model', 'decoded_regions'),
    ),
    records={'decode_info': DecoderFacts},
    settings=('betas', 'features', 'selection', 'ridge', 'evaluation', 'seed'),
    threads=8,
    memory=lambda size: 0.3 + size.factor_gb + 10 * size.block_gb + 2 * size.similarities_gb,
)
def decode(
    trials: Trials,
    features: Float32Array,
    tsnr_runs: Float32Array,
    device: str,
) -> Mapping[str, object]:
    """Fit and judge the decoder fold by fold, then fit it once on everything.

    Parameters
    ----------
    trials
        What the decoder is fitted to.
    features
        Of the images, (n_stimuli, n_features).
    tsnr_runs
        Temporal signal-to-noise ratio, (n_runs, n_voxels).
    device
        Where ridge is fitted.
    """
    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.stimuli.images import load_images
    from bids_neurodecode.systems.reconstruction.recipe import decode_pictures
    from bids_neurodecode.systems.reconstruction.regions import decode_regions
    from bids_neurodecode.systems.voxels import scored_ceiling, scored_ncsnr

    participant, config, folder = trials.participant, trials.config, trials.folder
    names, mask = participant.stimuli, trials.mask
    files = [participant.stimuli_dir / name for name in names]
    known = PerStimulus(names, features)
    estimates = trials.estimates(tsnr_runs)
    result = decode_pictures(
        estimates,
        known,
        config,
        pictures=PerStimulus(names, load_images(files, size=PICTURE_SIZE)),
        device=device,
    )
    evaluation, plan = result.evaluation, trials.plan
    # voxels that most folds chose by their training trials
    chosen = np.mean([each.keep for each in result.fold_selections], axis=0) > 0.5
    ratio = scored_ncsnr(estimates, chosen)
    headline, null = next(iter(evaluation.nulls.items()))
    final = mask.restrict(result.selection.keep)
    final.save(folder / 'selected.nii.gz')
    save_model(folder / 'model.safetensors', result, final, known, trials)
    write_text(folder / 'model.md', model_card(result, trials))
    write_json(folder / 'metrics.json', describe(evaluation.scores))
    return {
        'metrics': scores_table(evaluation.scores),
        'predictions': evaluation.samples,
        'null': null,
        'confusion': evaluation.confusion,
        'selected': folder / 'selected.nii.gz',
        'model': folder / 'model.safetensors',
        'decoded_regions': decode_regions(estimates, known, config, trials.regions, device=device),
        'decode_info': DecoderFacts(
            voxels=replace(
                voxel_results(mask, result.selection, result.fold_selections),
                scored_ceiling=scored_ceiling(ratio, plan.table, plan.split),
            ),
            rule_name=result.selection.rule,
            labels=evaluation.labels,
            observed=headline_value(evaluation.scores, 'ridge', headline),
            null_metric=headline.rpartition('/')[2],
            warnings=(*estimates.notes, *result.warnings),
        ),
    }


def save_model(
    path: Path,
    result: Decoding,
    mask: VoxelMask,
    features: PerStimulus,
    trials: Trials,
) -> None:
    """Write the final decoder with its voxels, its library and what it saw, for predict mode.

    Parameters
    ----------
    path
        That is written.
    result
        Scores and the final decoder.
    mask
        Voxels of the analysis.
    features
        Of the library.
    trials
        That it was fitted to.
    """
    from bids_neurodecode.models.storage import save_arrays

    decoder, config = result.decoder, trials.config
    arrays = decoder.state() | {
        **mask.state(),
        'library_features': features.of(decoder.library),
    }
    arrays |= pictures_state([trials.participant.stimuli_dir / name for name in decoder.library])
    description = {
        'kind': 'linear-decoder',
        'version': __version__,
        'library': list(decoder.library),
        'measure': decoder.measure,
        'extractor': config.features.extractor,
        'image_size': config.features.image_size,
        'runs': trials.runs,
    }
    save_arrays(path, arrays, description)


def model_card(result: Decoding, trials: Trials) -> str:
    """Return the card that goes with the model: what it is, what it saw, what it scored.

    Parameters
    ----------
    result
        Scores and the final decoder.
    trials
        That it was fitted to.
    """
    from bids_neurodecode.systems.voxels import counted

    participant, config = trials.participant, trials.config
    columns = ('model', 'space', 'metric', 'value', 'chance', 'p', 'protocol')
    return f"""# Linear decoder of sub-{participant.label}, task {participant.task}

- **What it does**: predicts `{config.features.extractor}` features of an image from the
  single-trial betas (`betas.model` in the settings beside it says of which model) of
  {int(result.selection.keep.sum())} voxels, by ridge regression.
- **Trained on**: all trials of {len(participant.runs)} run(s) of this participant,
  {len(result.decoder.library)} different images. The scores below are not of this model but of
  models fitted in the same way without the held-out trials.
- **Runs** (hash of their content): {runs_on_card(trials.runs)}
- **Images**: the file holds a thumbnail of each (32 x 32 pixels), by which copies are known.
- **Voxels**: {result.selection.description}. Those of the scores below, chosen without the
  held-out trials: {counted(result.fold_selections)}
- **Use**: only for this participant, on the same grid. It is not a diagnosis of anything.
- **Made by**: bids_neurodecode {__version__}, seed {config.seed}; its settings are beside it.

{score_table(result.evaluation.scores, *columns)}
"""
