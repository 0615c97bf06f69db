"""Predict mode: images of new responses, by a model that lies beside the linear decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import GenerationFacts
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.seen import model_columns
from bids_neurodecode.typing import Float32Array, FloatArray, Uint8Array
from bids_neurodecode.workflow.step import ALL, Apart, step

if TYPE_CHECKING:
    from bids_neurodecode.systems.reconstruction.generation.data import Applied

WHAT = 'making of images'
REMEDY = 'give the run more memory'
RETRIEVAL_ONLY = (
    'No model that makes images lies beside {file}: images were retrieved, not made. Train '
    'with another reconstruction.generator than "none" to have them made.'
)
NOT_FINITE = 'The responses hold values that are not finite in {n} of the voxels of {file}.'
APPLIED = 'Images are made by the trained model {file}.'
FEWEST = 2
"""Images that can be scored."""
FEWEST_PIXELS = 64
SPACES = {True: 'repeat-average', False: 'single-trial'}


@step(
    'generate',
    seconds=300,
    records={'generated': GenerationFacts},
    settings=ALL,
    threads=8,
    memory=lambda size: 4 * size.series_gb + 2,
    apart=Apart(WHAT, REMEDY),
)
def apply_generation(
    participant: ParticipantInput,
    config: Config,
    plan: Plan,
    mask: VoxelMask,
    betas: Float32Array,
    generation_model: str,
    weights: dict[str, str],
    device: str,
    folder: Path,
) -> Mapping[str, object]:
    """Make images of new responses and compare them with what was shown.

    Parameters
    ----------
    participant, config, plan
        Whose responses, with which settings, to what.
    mask, betas
        Voxels, and betas of shape (n_trials, n_voxels).
    generation_model, weights
        File of the model, and of the weights of a published generator by name.
    device, folder
        Where it computes, and where it writes.

    Raises
    ------
    DataError
        If responses of the model's voxels are not finite.
    """
    from bids_neurodecode.models.storage import load_description
    from bids_neurodecode.systems.reconstruction.generation import run as generation
    from bids_neurodecode.systems.reconstruction.generation.steps.model import load_model

    file = Path(generation_model)
    model, voxels = load_model(file, weights, config, device)
    columns = model_columns(VoxelMask.from_state(voxels), mask, file)
    table = plan.table.assign(sample=np.arange(len(plan.table)))
    samples = Samples(Responses(betas, mask), table).voxels(columns)
    bad = int((~np.isfinite(samples.values)).any(axis=0).sum())
    if bad:
        raise DataError(NOT_FINITE.format(n=bad, file=file))
    average = bool(table['stimulus'].duplicated().any())
    shown = samples.averaged() if average else samples
    names = [Path(str(name)).with_suffix('').as_posix() for name in shown.table['stimulus']]
    made = generation.apply_generation(model, shown.values, names, config)
    for stage in ('initial', 'final'):
        np.save(folder / f'{stage}.npy', getattr(made, stage))
    pictures = table_of(shown.table, names, SPACES[average])
    size = max(FEWEST_PIXELS, made.final.shape[1])
    protocol = config.reconstruction.protocol
    compared = compare(participant, pictures, made, size, folder, protocol)
    write_tsv(folder / 'pictures.tsv', compared)
    guides = load_description(file).get('guided_by')
    told = GenerationFacts(
        generator=model.generator,
        why=APPLIED.format(file=file.name),
        regressor=model.latents.describe()['regressor'],
        facts=(),
        guided_by=None if guides is None else tuple(guides),
    )
    return {'generated': told}


def table_of(shown: pd.DataFrame, names: list[str], space: str) -> pd.DataFrame:
    """Return one row per image: what it was made from.

    Parameters
    ----------
    shown
        One row per response.
    names
        Of the files, one per image.
    space
        Single trials, or averages of repeats.
    """
    table = shown.reset_index(drop=True)
    repeats = table['n_repeats'] if 'n_repeats' in table.columns else 1
    made = table[['stimulus', 'sample']]
    made = made.assign(picture=names, space=space, fold=0, n_repeats=repeats)
    return made[['picture', 'space', 'fold', 'sample', 'stimulus', 'n_repeats']]


def compare(
    participant: ParticipantInput,
    table: pd.DataFrame,
    made: Applied,
    size: int,
    folder: Path,
    protocol: str,
) -> pd.DataFrame:
    """Load what was shown, keep it beside the images, and add scores to their table.

    Parameters
    ----------
    participant
        Whose data.
    table
        One row per image.
    made
        Reconstructions.
    size
        Pixels a side.
    folder
        That is written into.
    protocol
        Its name.
    """
    from bids_neurodecode.stimuli.images import load_images

    files = [participant.stimuli_dir / str(name) for name in table['stimulus']]
    truth = load_images(files, size=size)
    np.save(folder / 'truth.npy', truth)
    if len(truth) < FEWEST:
        return table
    return table.assign(**pair_scores(truth, made.initial, made.final, protocol))


def pair_scores(
    truth: Uint8Array, initial: Uint8Array, final: Uint8Array, protocol: str = 'bd-982'
) -> dict[str, FloatArray]:
    """Compare both stages with the truth, image by image.

    Parameters
    ----------
    truth, initial, final
        Shape (n, h, w, 3), uint8, n at least 2; sizes may differ.
    protocol
        Whose sizes and interpolation are used.

    Returns
    -------
    dict
        ``pixcorr_initial``, ``ssim_initial`` (2-D), ``pixcorr_final`` and ``ssim_final``, (n,).
    """
    from bids_neurodecode.evaluation.networks import pixel_scores
    from bids_neurodecode.evaluation.protocols import get_protocol

    how = get_protocol(protocol)
    columns: dict[str, Any] = {}
    for stage, pictures in (('initial', initial), ('final', final)):
        values = {s.metric: s.values for s in pixel_scores(truth, pictures, how)}
        columns[f'pixcorr_{stage}'] = values['pixcorr']
        columns[f'ssim_{stage}'] = values['ssim_2d']
    return columns
