"""Predict mode of encoding: a trained model on new images, with or without their BOLD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.report.results import VoxelResults
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.encoding.steps.features import add_bands
from bids_neurodecode.systems.encoding.steps.outputs import VOXELS
from bids_neurodecode.systems.encoding.steps.predicted import (
    AppliedFacts,
    Trained,
    publish_predicted,
)
from bids_neurodecode.systems.encoding.steps.training import load_bands, save_maps
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import RULE
from bids_neurodecode.systems.steps.responses import add_betas
from bids_neurodecode.systems.steps.scores import write_scores
from bids_neurodecode.systems.steps.seen import (
    compare_runs,
    in_sample,
    known_runs,
    model_columns,
    pictures_note,
)
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.systems.encoding.applying import AppliedEncoding

NO_ENCODER = (
    'The model {file} is of the kind {kind!r}, and an encoding model of images is needed. Give '
    'the output folder of a training run with --system encoding.'
)
NOT_SCORED = 'Fewer than three images were shown: predictions were not scored.'


def add_encoding_prediction(ladder: Ladder, model: Path) -> None:
    """Add the steps that apply an encoding model; responses are measured where there is BOLD.

    Parameters
    ----------
    ladder
        That steps are added to.
    model
        File of the trained model.
    """
    add_bands(ladder)
    if ladder.participant.runs:
        add_betas(ladder, hold_out=False)
    ladder.add(apply_encoding, model=str(model))
    ladder.add(publish_predicted, model=str(model))


@step(
    'apply',
    records={'applied': AppliedFacts},
    settings=('encoding', 'evaluation', 'seed'),
    memory=lambda size: 0.5 + 3 * size.predicted_gb,
)
def apply_encoding(
    participant: ParticipantInput,
    config: Config,
    model: str,
    features: list[Float32Array],
    folder: Path,
    plan: Plan | None = None,
    mask: VoxelMask | None = None,
    betas: Float32Array | None = None,
    run_marks: Mapping[str, Any] | None = None,
) -> Mapping[str, object]:
    """Predict the responses to all images, and judge them where BOLD is there.

    Parameters
    ----------
    participant, config
        Whose images, and how predictions are scored.
    model
        File of the model.
    features
        Feature spaces of the images, (n_stimuli, n_features) each.
    folder
        Where everything is written.
    plan, mask, betas, run_marks
        Trials, voxels, measured betas (n_trials, n_voxels), and what the runs are known by: None
        without BOLD.

    Raises
    ------
    DataError
        If the file is a model of another kind, or of another grid.
    """
    from bids_neurodecode.models.storage import load_arrays, under
    from bids_neurodecode.systems.encoding.applying import apply_encoder
    from bids_neurodecode.systems.encoding.encoders import load_encoder, predict

    arrays, about = load_arrays(Path(model))
    if about.get('kind') != 'picture-encoder':
        raise DataError(NO_ENCODER.format(file=model, kind=about.get('kind')))
    voxels = VoxelMask.from_state(arrays)
    encoder = load_encoder(under(arrays, 'encoder'), about['encoder'])
    bands = load_bands(features, participant, config)
    voxels.save(folder / VOXELS)
    np.save(folder / 'predicted.npy', predict(encoder, bands, participant.stimuli))
    if 'hrfindex' in arrays:
        np.save(folder / 'hrfindex.npy', arrays['hrfindex'].astype(np.intp))
    facts = AppliedFacts(
        trained=Trained(**{x.name: about[x.name] for x in fields(Trained) if x.name in about}),
        voxels=VoxelResults(voxels.n_voxels, voxels.n_voxels, RULE),
        warnings=pictures_note(participant, arrays, about['stimuli'], model),
    )
    if plan is not None and mask is not None and betas is not None:
        runs = known_runs(run_marks or {}, participant, betas, plan.table)
        seen = compare_runs(runs, about, model)
        facts = replace(
            facts,
            leaks=seen.leaks,
            voxels=replace(facts.voxels, n_mask=mask.n_voxels),
            warnings=(*seen.warnings, *facts.warnings),
        )
        columns = model_columns(voxels, mask, model)
        found = apply_encoder(
            encoder,
            Samples(Responses(betas, mask), plan.table).voxels(columns),
            bands,
            config.evaluation,
            model=about['model'],
            threshold=config.encoding.threshold,
            rng=np.random.default_rng(config.seed),
        )
        if found is None:
            facts = replace(facts, warnings=(*facts.warnings, NOT_SCORED))
        else:
            facts = save_scores(found, voxels, facts, folder)
    return {'applied': facts}


def save_scores(
    found: AppliedEncoding, mask: VoxelMask, facts: AppliedFacts, folder: Path
) -> AppliedFacts:
    """Write what predictions scored; add it to the facts.

    Parameters
    ----------
    found
        Predictions and scores.
    mask
        Voxels of the analysis.
    facts
        What is said of the result.
    folder
        That is written into.
    """
    scores = in_sample(found.scores) if facts.leaks else found.scores
    write_scores(folder, scores)
    write_tsv(folder / 'predictions.tsv', found.samples)
    examples, volumes = found.examples
    write_tsv(folder / 'examples.tsv', examples)
    np.save(folder / 'examples.npy', volumes)
    np.save(folder / 'null.npy', found.null)
    np.save(folder / 'null_r.npy', found.maps.null)
    headline = next(s for s in scores if s.metric == 'identification_top1')
    return replace(
        facts,
        space=found.maps.space,
        maps=save_maps(found.maps, None, mask, folder, tested=not facts.leaks),
        observed=headline.value,
        null_metric=headline.metric,
        warnings=(*facts.warnings, *found.notes),
    )
