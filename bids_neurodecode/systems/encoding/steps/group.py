"""The shared head at group level: trained on what the participants left in the output folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.sink import atomic, write_json, write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError
from bids_neurodecode.models.storage import load_arrays, load_description, save_arrays
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.spaces import load_image, one_each
from bids_neurodecode.stimuli.features import (
    WEIGHTS,
    extract_features,
    get_extractor,
    image_size_of,
)
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.shared import SharedHead
from bids_neurodecode.systems.encoding.steps.features import CAPTIONED, band_options
from bids_neurodecode.systems.steps.records import read_results
from bids_neurodecode.systems.steps.seen import pictures_state, runs_on_card
from bids_neurodecode.tables import column_texts
from bids_neurodecode.workflow.files import read_table
from bids_neurodecode.workflow.nodes import Call, Ladder
from bids_neurodecode.workflow.step import ALL, step

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults
    from bids_neurodecode.systems.encoding.newcomers import Newcomers

GROUP_FOLDER = 'group'
KIND = 'shared-head'
NOT_A_HEAD = (
    '{file} is no shared head (it is {kind!r}). Name the model that the group level wrote '
    '(group/models/*_desc-shared_model.safetensors) with encoding.shared_head.'
)
NO_BETAS = (
    'sub-{label} left no single-trial betas of task {task} in {folder} (found: {found}). '
    'Run the participant level for it again.'
)
CAPTIONS = (
    'A shared head takes features of images alone: leave {band!r} out of encoding.bands at '
    'group level.'
)
FILMS = (
    'A shared head (encoding.model = "shared") is for images, and sub-{label} saw films. '
    'Choose another --task-id.'
)
TOO_FEW = (
    'A shared head is judged on participants who had no part in it, which needs {least} or more; '
    'there are results of {n} in {folder}. Run the participant level for more of them.'
)
MIN_PEOPLE = 3


@step(
    'shared',
    makes=('shared_metrics', 'shared_model'),
    settings=ALL,
    threads=8,
    always=True,
    memory=lambda _: 3.4,
)
def share_head(
    config: Config,
    call: Call,
    records: list[Path],
    weights: dict[str, str],
    device: str,
    cache: str,
) -> Mapping[str, object]:
    """Judge a shared head on each participant in turn, train it on all, save it.

    Parameters
    ----------
    config, call
        How heads are trained, and where they are written.
    records
        Of the results of the participants.
    weights, device
        Folder of the weights of each extractor, and where they are run.
    cache
        Where features are kept by content.
    """
    from bids_neurodecode.systems.encoding.newcomers import study_newcomers

    people = [read_results(file) for file in records]
    samples = {person.participant: load_betas(person, call.output_dir) for person in people}
    stimuli = sorted({str(x) for s in samples.values() for x in s.table['stimulus']})
    files = _files(people, stimuli)
    bands: tuple[str, ...] = config.encoding.bands
    features = {
        band: features_of(
            band,
            files,
            stimuli,
            image_size_of(band, config.features.image_size),
            band_options(band, weights.get(band, ''), device),
            Path(cache),
        )
        for band in bands
    }
    found = study_newcomers(
        samples,
        features,
        ridge=config.ridge,
        threshold=config.encoding.threshold,
        rng=np.random.default_rng(config.seed),
    )
    return save_head(found, people, config, call.output_dir, files)


def features_of(
    band: str,
    files: Sequence[Path],
    stimuli: Sequence[str],
    size: int,
    options: Mapping[str, str],
    cache: Path,
) -> PerStimulus:
    """Return one feature space of images, read at ``size`` pixels a side.

    Parameters
    ----------
    band
        Name of the feature space.
    files
        In the order of the rows.
    stimuli
        Names of the rows.
    size
        Pixels a side.
    options
        Of the extractor.
    cache
        Where features are kept by content.
    """
    from bids_neurodecode.stimuli.images import load_images

    images, extractor = load_images(files, size=size), get_extractor(band, **options)
    return PerStimulus(tuple(stimuli), extract_features(images, extractor, cache_dir=cache))


def _files(records: Sequence[ParticipantResults], stimuli: Sequence[str]) -> list[Path]:
    folders = [r.stimuli_dir for r in records if r.stimuli_dir is not None]
    return [next(x / name for x in folders if (x / name).exists()) for name in stimuli]


def load_betas(record: ParticipantResults, output_dir: Path) -> Samples:
    """Read the single-trial betas that a participant left, with their trials.

    Parameters
    ----------
    record
        Of a participant.
    output_dir
        Of the run.

    Returns
    -------
    Samples
        Shape (n_trials, n_voxels): the voxels that are finite and vary.

    Raises
    ------
    InputError
        If there are none, or several.
    """
    folder = output_dir / f'sub-{record.participant}' / 'func'
    place = f'_space-{record.space}' if record.space else ''
    pattern = (
        f'sub-{record.participant}_task-{record.task}{place}*_stat-effect_desc-singletrial_'
        'statmap.*'
    )
    files = one_each(folder.glob(pattern))
    if len(files) != 1 or record.trials is None:
        found = ', '.join(file.name for file in files) or 'none'
        raise InputError(
            NO_BETAS.format(label=record.participant, task=record.task, folder=folder, found=found)
        )
    image = load_image(files[0])
    volumes = np.moveaxis(np.asanyarray(image.dataobj, dtype=np.float32), -1, 0)
    inside = np.isfinite(volumes).all(axis=0) & (volumes.std(axis=0) > 0)
    mask = VoxelMask.of(image, inside)
    return Samples(Responses(volumes[:, inside], mask), read_table(record.trials))


def load_head(file: Path) -> SharedHead:
    """Read a head that the group level wrote.

    Raises
    ------
    InputError
        If the file is none.
    """
    arrays, description = load_arrays(file)
    if description.get('kind') != KIND:
        raise InputError(NOT_A_HEAD.format(file=file, kind=description.get('kind')))
    return SharedHead.from_state(arrays, description)


def save_head(
    found: Newcomers,
    records: Sequence[ParticipantResults],
    config: Config,
    output_dir: Path,
    files: Sequence[Path],
) -> dict[str, Any]:
    """Write the scores, the head, its settings and its card below ``group``.

    Parameters
    ----------
    found
        The head and the scores of newcomers.
    records
        Of the participants.
    config
        The settings.
    output_dir
        Of the run.
    files
        Records of the participants.
    """
    stem = f'task-{records[0].task}_desc-shared'
    metrics = output_dir / GROUP_FOLDER / f'{stem}_metrics.tsv'
    write_tsv(metrics, found.scores)
    write_json(metrics.with_suffix('.json'), column_texts('shared_head'))
    model = output_dir / GROUP_FOLDER / 'models' / f'{stem}_model.safetensors'
    model.parent.mkdir(parents=True, exist_ok=True)
    runs = trained_runs(records, output_dir)
    description = {'kind': KIND, 'version': __version__, **found.head.describe(), 'runs': runs}
    with atomic(model) as temporary:
        save_arrays(temporary, found.head.state() | pictures_state(files), description)
    write_text(model.with_suffix('.toml'), config.to_toml(model.parent))
    write_text(model.with_suffix('.md'), card(found, config, runs))
    return {'shared_metrics': metrics, 'shared_model': model}


def trained_runs(records: Sequence[ParticipantResults], output_dir: Path) -> dict[str, str]:
    """Return what the runs of the participants are known by, as their own models say.

    Parameters
    ----------
    records
        Of the participants.
    output_dir
        Of the run.
    """
    runs: dict[str, str] = {}
    for record in records:
        folder = output_dir / f'sub-{record.participant}' / 'models'
        for file in sorted(folder.glob(f'*_task-{record.task}_*_model.safetensors')):
            own = load_description(file).get('runs', {})
            runs |= {f'sub-{record.participant} {name}': mark for name, mark in own.items()}
    return runs


def card(found: Newcomers, config: Config, runs: Mapping[str, str]) -> str:
    """Return the card of a shared head.

    Parameters
    ----------
    found
        The head and the scores of newcomers.
    config
        The settings.
    runs
        What the runs are known by.
    """
    head = found.head
    n_in, _, n_latent = head.sizes
    rows = '\n'.join(
        f'| sub-{r.participant} | {r.model} | {r.n_pictures} | {r.voxel_r_median:.3f} | '
        f'{r.ceiling:.3f} | {r.identification_2way:.3f} | {r.n_test} |'
        for r in found.scores.itertuples()
    )
    return f"""# Shared encoding head of {len(head.participants)} participants

- **What it does**: turns {n_in} principal components of the features {', '.join(head.bands)} into
  {n_latent} latents, from which a linear layer predicts the responses of one participant.
- **Trained on**: all trials of sub-{', sub-'.join(head.participants)}.
- **Runs** (hash of their content): {runs_on_card(runs)}
- **Images**: the file holds a thumbnail of each (32 x 32 pixels), by which copies are known.
- **Use**: `encoding.model = "shared"` with `encoding.shared_head`, for a participant of any grid
  who saw images; the participant's own layer is fitted on their training trials.
- **Scores** (below): of heads that were trained in the same way without the participant and
  without the test images. Betas were tuned on all trials of each participant. Chance is 0 for
  correlations and .5 for identification.
- **Made by**: bids_neurodecode {__version__}, seed {config.seed}.

| newcomer | model | images | median voxel r | ceiling (r) | 2-way | test images |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def add_shared_head(
    ladder: Ladder, records: Sequence[ParticipantResults], files: Sequence[str]
) -> None:
    """Add the step that judges and trains the shared head; the page shows its scores.

    Parameters
    ----------
    ladder
        That steps are added to.
    records
        Of the participants.
    files
        Of the records.

    Raises
    ------
    InputError
        If a participant saw films, there are fewer than three, a feature space needs captions, or
        weights are missing.
    """
    from bids_neurodecode.models.weights import weights_path

    run = ladder.run
    films = [record.participant for record in records if record.paradigm != 'images']
    if films:
        raise InputError(FILMS.format(label=films[0]))
    if len(records) < MIN_PEOPLE:
        raise InputError(TOO_FEW.format(n=len(records), folder=run.output_dir, least=MIN_PEOPLE))
    for band in run.config.encoding.bands:
        if band in CAPTIONED or band.partition(':')[0] == TABLE:
            raise InputError(CAPTIONS.format(band=band))
    needed = {band: WEIGHTS[band] for band in run.config.encoding.bands if band in WEIGHTS}
    ladder.add(
        share_head,
        records=list(files),
        weights={band: str(weights_path(name, run.weights_dir)) for band, name in needed.items()},
        cache=str(run.work_dir / 'features'),
    )
