"""Pictures made in a process of its own: ``python -m ...workflow.generation_job FOLDER``.

The folder holds ``job.json``; the results are written beside it. A process of its own gives the
memory back, may use its own device, and leaves checkpoints that the next one goes on from.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.captions import captions_file, read_captions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json, write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.workflow.files import load_map, read_split, read_table, save_json
from bids_neurodecode.workflow.generation_choice import further_pictures
from bids_neurodecode.workflow.generation_model import (
    describe_parts,
    make_generator,
    model_card,
    save_model,
)
from bids_neurodecode.workflow.process import serve
from bids_neurodecode.workflow.seen import runs_of

if TYPE_CHECKING:
    from bids_neurodecode.evaluation.networks import FeatureNetwork
    from bids_neurodecode.systems.generation import ExtraPictures, Generation, Inputs
    from bids_neurodecode.systems.generation_generators import (
        FittedGenerator,
        Generator,
        TrainingPictures,
    )

SAY_EVERY = 15.0
"""Seconds between two lines of progress."""
STIMULI = 'stimuli.npy'
LOGGER = logging.getLogger('bids_neurodecode')


def run_job(job: Mapping[str, Any], folder: Path) -> None:
    """Load, make pictures and judge them, save."""
    from bids_neurodecode.systems.generation import generate_pictures

    config = Config.model_validate_json(job['settings'])
    participant = ParticipantInput.from_json(job['participant'])
    mask = VoxelMask.load(Path(job['mask']))
    table = read_table(Path(job['trials']))
    samples = [
        Samples(Responses(np.load(file, mmap_mode='r'), mask), table)
        for file in [job['betas'], *job['tuned']]
    ]
    generator = Kept(
        make_generator(job['generator'], job['weights'], config, job['device']),
        Path(job['generators']),
    )
    made = generate_pictures(
        samples[0],
        samples[1:],
        read_split(Path(job['parts']), Path(job['plan']), table),
        load_inputs(job, participant, config, mask, generator.picture_size, folder),
        generator,
        config,
        tsnr_runs=tsnr_of(job, participant, table),
        within=np.load(job['within']) if job['within'] else None,
        device=job['device'],
        checkpoint_dir=Path(job['checkpoints']),
        progress=say(f'sub-{participant.label} pictures'),
    )
    save(made, mask, job, config, folder)
    (folder / STIMULI).unlink()


def tsnr_of(
    job: Mapping[str, Any], participant: ParticipantInput, table: Any
) -> npt.NDArray[np.float32]:
    """Return the temporal signal-to-noise ratio of each run, (n_runs, n_voxels)."""
    runs = np.load(job['tsnr_runs'])
    if participant.betas is not None:
        # the runs of precomputed betas need not be the runs of the series
        runs = np.tile(runs.mean(axis=0), (int(table['run'].max()) + 1, 1))
    return np.asarray(runs, dtype=np.float32)


@dataclass(frozen=True)
class Kept:
    """A generator that keeps what it trains in one folder, each training done by one process.

    Participants (and studies) with the same training pictures then share prior and refiner; who
    comes second waits and reads them.
    """

    generator: Generator
    folder: Path

    @property
    def name(self) -> str:
        """That of the generator."""
        return self.generator.name

    @property
    def picture_size(self) -> int:
        """That of the generator."""
        return self.generator.picture_size

    def fit(
        self,
        training: TrainingPictures,
        *,
        seed: int,
        checkpoint_dir: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FittedGenerator:
        """Train, go on with, or read prior and refiner."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(f'{self.name} {seed} {training.pictures.shape}'.encode())
        digest.update(np.ascontiguousarray(training.pictures).tobytes())
        with FileLock(self.folder / f'{digest.hexdigest()[:16]}.lock'):
            return self.generator.fit(
                training, seed=seed, checkpoint_dir=self.folder, progress=progress
            )


def load_inputs(
    job: Mapping[str, Any],
    participant: ParticipantInput,
    config: Config,
    mask: VoxelMask,
    picture_size: int,
    folder: Path,
) -> Inputs:
    """Load pictures, features and what else pictures are made from and compared with."""
    from bids_neurodecode.stimuli.features import get_extractor
    from bids_neurodecode.systems.generation import Inputs

    names = participant.stimuli
    pictures = load_pictures(
        [participant.stimuli_dir / name for name in names], picture_size, folder / STIMULI
    )
    regions = None
    if job['labels']:
        regions = np.rint(load_map(Path(job['labels']), mask)).astype(np.int64)
    return Inputs(
        features=PerStimulus(names, np.load(job['features'])),
        pictures=PerStimulus(names, pictures),
        extractor=get_extractor(config.features.extractor),
        captions=captions_of(participant),
        extra=load_extra(job, config, picture_size),
        regions=regions,
        networks=load_networks(job['networks'], job['device']),
    )


def load_pictures(files: Sequence[Path], size: int, target: Path) -> npt.NDArray[np.uint8]:
    """Bring pictures to one size, on disk: ten thousand of 512 pixels take 8 GB."""
    from bids_neurodecode.stimuli.images import load_image

    shape = (len(files), size, size, 3)
    pictures = np.lib.format.open_memmap(target, 'w+', dtype=np.uint8, shape=shape)
    for row, file in enumerate(files):
        pictures[row] = load_image(file, size=size)
    pictures.flush()
    return np.asarray(np.load(target, mmap_mode='r'))


def captions_of(participant: ParticipantInput) -> dict[str, tuple[str, ...]]:
    """Return the captions of each picture; none where there are none."""
    file = captions_file(participant)
    return read_captions(file) if file.is_file() else {}


def load_extra(job: Mapping[str, Any], config: Config, size: int) -> ExtraPictures | None:
    """Load the further pictures, where the settings name a folder of them."""
    from bids_neurodecode.stimuli.features import extract_features, get_extractor
    from bids_neurodecode.stimuli.images import load_images
    from bids_neurodecode.systems.generation import ExtraPictures

    folder = config.reconstruction.prior_pictures
    if folder is None:
        return None
    files = further_pictures(Path(folder))
    features = extract_features(
        load_images(files, size=config.features.image_size),
        get_extractor(config.features.extractor),
        cache_dir=Path(job['cache']),
    )
    return ExtraPictures(load_images(files, size=size), features)


def load_networks(files: Mapping[str, str], device: str) -> dict[str, FeatureNetwork]:
    """Read the networks of metrics whose weights are there."""
    import torch

    from bids_neurodecode.models.visionnets import ClipEmbedding, MetricNetwork, metric_network

    where: Any = 'cuda' if device == 'cuda' else 'cpu'
    networks: dict[str, FeatureNetwork] = {}
    for name, file in files.items():
        if name == 'clip-vit-l14':
            from transformers import CLIPVisionModelWithProjection

            vision = CLIPVisionModelWithProjection.from_pretrained(file, local_files_only=True)
            networks[name] = MetricNetwork(ClipEmbedding(vision), where)
        else:
            weights = torch.load(file, map_location='cpu', weights_only=True)
            networks[name] = metric_network(name, weights, device=where)
    return networks


def save(
    made: Generation, mask: VoxelMask, job: Mapping[str, Any], config: Config, folder: Path
) -> None:
    """Write everything that came of it; ``result.json`` comes last."""
    from bids_neurodecode.evaluation.metrics import describe, scores_table

    pictures = made.pictures
    write_tsv(folder / 'pictures.tsv', pictures.table)
    for name in ('initial', 'final', 'prior', 'truth', 'nearest'):
        np.save(folder / f'{name}.npy', getattr(pictures, name))
    write_tsv(folder / 'metrics.tsv', scores_table(made.scores))
    write_json(folder / 'metrics.json', describe(made.scores))
    write_tsv(folder / 'curves.tsv', made.curves)
    participant = ParticipantInput.from_json(job['participant'])
    runs = runs_of(job['mask'], participant, job['betas'], read_table(Path(job['trials'])))
    arrays = save_model(folder / 'model.safetensors', made, mask, runs)
    facts = describe_parts(made, arrays, config)
    write_text(folder / 'model.md', model_card(made, job, config, facts, runs))
    info = {
        'generator': job['generator'],
        'why': job['why'],
        'regressor': config.reconstruction.regressor,
        'facts': facts,
        'warnings': list(made.warnings),
    }
    save_json(folder / 'result.json', info)


def say(who: str) -> Callable[[int, int], None]:
    """Return a listener that logs a line of progress now and then."""
    started = time.monotonic()
    said = [started]

    def listen(done: int, total: int) -> None:
        now = time.monotonic()
        if now - said[0] < SAY_EVERY:
            return
        said[0] = now
        minutes = (total - done) * (now - started) / max(done, 1) / 60
        left = f', about {minutes:.0f} min left' if done else ''
        LOGGER.info('%s: step %d of %d%s', who, done, total, left)

    return listen


if __name__ == '__main__':
    sys.exit(serve(run_job))
