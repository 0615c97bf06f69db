"""Images made in two stages: one step after the linear decoder, in a process of its own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.bids.captions import captions_of
from bids_neurodecode.bids.sink import write_text, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.networks import FeatureNetwork, Remembering
from bids_neurodecode.extras import PACKAGED, has_packaged
from bids_neurodecode.stimuli.features import (
    FeatureExtractor,
    extract_features,
    get_extractor,
    image_size_of,
)
from bids_neurodecode.stimuli.images import load_image, load_images
from bids_neurodecode.stimuli.packaged import CaptionEmbedding, ConvNetFeatures, read_convnet
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import MANY_STIMULI
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    Choice,
    further_pictures,
    metric_weights,
)
from bids_neurodecode.systems.reconstruction.generation.steps.model import (
    describe_parts,
    guided_by,
    make_generator,
    model_card,
    save_model,
)
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import GenerationFacts
from bids_neurodecode.systems.steps.progress import log_progress
from bids_neurodecode.systems.steps.responses import Trials
from bids_neurodecode.systems.steps.scores import write_scores
from bids_neurodecode.typing import Float32Array, Uint8Array
from bids_neurodecode.workflow.files import load_map
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.resources import GB, DataSize
from bids_neurodecode.workflow.step import Apart, step

if TYPE_CHECKING:
    from bids_neurodecode.systems.reconstruction.generation.data import (
        ExtraPictures,
        Generation,
        Inputs,
    )
    from bids_neurodecode.systems.reconstruction.generation.generators import (
        FittedGenerator,
        Generator,
        TrainingPictures,
    )

STIMULI = 'stimuli.npy'
VIEWERS = ('mobilenetv2', 'efficientnet-lite0', 'efficientnet-lite2')
VIEW_LAYERS = ('stage5', 'avgpool')
VIEW_SIZE = 112
"""Pixels a side that images are seen with for brain correlation: half of a network's own, at a
quarter of the time."""
WHAT = 'making of images'
REMEDY = (
    'give the run more memory, fewer voxels (selection.rule = "top"), or '
    'reconstruction.generator = "none"'
)
LOGGER = logging.getLogger('bids_neurodecode')


def add_generation(ladder: Ladder, choice: Choice) -> None:
    """Add the step that makes images.

    Priors and refiners depend on images alone: they lie in a folder that all participants share.

    Parameters
    ----------
    ladder
        That steps are added to.
    choice
        The generator.
    """
    run = ladder.run
    weights = [Path(each) for each in choice.weights.values()]
    files = [file for each in weights for file in ([each] if each.is_file() else each.rglob('*'))]
    read = sum(file.stat().st_size for file in files if file.is_file()) / GB
    ladder.size = replace(ladder.size, networks_gb=read)
    ladder.add(
        generate,
        apart=True,
        generator=choice.name,
        why=choice.why,
        weights=dict(choice.weights),
        networks=dict(metric_weights(run.weights_dir, run.config.reconstruction.protocol)),
        generators=str(run.work_dir / 'generators'),
        cache=str(run.work_dir / 'features'),
    )


def _memory(size: DataSize) -> float:
    """Return GB from the size of the data: what lies in files is not in it.

    What grows: the kernel of the images' mean responses (of trials where images are few) or, when
    it is gone, patterns of held-out trials for the brain correlation; and similarities of some
    held-out samples to the images of a fold or its library. Weights of networks are held twice
    while they are read, and conditions of theirs of some images.
    """
    n_rows = size.n_stimuli if size.n_stimuli >= MANY_STIMULI else size.n_trials
    held_out = size.patterns_gb(size.n_trials // 5, 2) + size.patterns_gb(size.n_stimuli // 5, 4)
    grows = max(size.factor_of(n_rows), held_out) + 4 * size.block_gb + 2 * size.similarities_gb
    conditions = min(size.n_stimuli, 1_360) * 2.6e-3 if size.networks_gb else 0.0  # then on disk
    return 0.25 + grows + conditions + 2 * size.networks_gb


@step(
    'generate',
    seconds=300,
    records={'generated': GenerationFacts},
    settings=(
        *('reconstruction', 'encoding', 'selection', 'ridge', 'features', 'split', 'betas'),
        *('evaluation', 'seed'),
    ),
    threads=8,
    memory=_memory,
    apart=Apart(WHAT, REMEDY),
)
def generate(
    trials: Trials,
    features: Float32Array,
    tsnr_runs: Float32Array,
    generator: str,
    why: str,
    weights: dict[str, str],
    networks: dict[str, str],
    generators: str,
    cache: str,
    device: str,
    checkpoints: Path,
) -> Mapping[str, object]:
    """Make images of held-out responses, and judge them.

    Parameters
    ----------
    trials
        What is decoded.
    features
        Of the images, (n_stimuli, n_features).
    tsnr_runs
        Temporal signal-to-noise ratio, (n_runs, n_voxels).
    generator, why
        ``small`` or ``published``, and why it was chosen.
    weights, networks
        Files of weights by name: of the generator, and of the networks of metrics.
    generators, cache
        Folders of trained priors and refiners, and of features by content.
    device, checkpoints
        Where it computes, and goes on from.
    """
    from bids_neurodecode.systems.reconstruction.generation.run import generate_pictures

    config, participant, folder = trials.config, trials.participant, trials.folder
    recipe = Kept(make_generator(generator, weights, config, device), Path(generators))
    inputs = _inputs(trials, features, recipe.picture_size, networks, Path(cache), device)
    estimates = trials.estimates(tsnr_runs)
    made = generate_pictures(
        estimates,
        inputs,
        recipe,
        config,
        device=device,
        checkpoint_dir=checkpoints,
        progress=log_progress(f'sub-{participant.label} images'),
    )
    (folder / STIMULI).unlink()
    arrays = save_model(folder / 'model.safetensors', made, trials.mask, trials.runs)
    facts = describe_parts(made, arrays, config)
    write_text(folder / 'model.md', model_card(made, trials, why, facts))
    save(made, folder)
    told = GenerationFacts(
        generator=generator,
        why=why,
        regressor=config.reconstruction.regressor,
        facts=tuple(facts),
        guided_by=tuple(guided_by(made, generator)),
        warnings=(*estimates.notes, *made.warnings),
    )
    return {'generated': told}


def _inputs(
    trials: Trials,
    features: Float32Array,
    size: int,
    networks: Mapping[str, str],
    cache: Path,
    device: str,
) -> Inputs:
    """Read what images are made from, and judged with, beside the responses."""
    from bids_neurodecode.systems.reconstruction.generation.data import Inputs

    config, participant = trials.config, trials.participant
    names, regions = participant.stimuli, None
    files = [participant.stimuli_dir / name for name in names]
    if trials.atlas_labels is not None:
        regions = np.rint(load_map(trials.atlas_labels, trials.mask)).astype(np.int64)
    return Inputs(
        features=PerStimulus(names, features),
        pictures=PerStimulus(names, load_pictures(files, size, trials.folder / STIMULI)),
        extractor=get_extractor(config.features.extractor),
        captions=captions_of(participant),
        extra=load_extra(config, size, cache),
        regions=regions,
        networks=load_networks(networks, device),
        embed=load_embedding(),
        viewers=load_viewers(device),
    )


@dataclass(frozen=True)
class Kept:
    """A generator that keeps what it trains in one folder, each training done by one process.

    Participants (and studies) with the same training images then share prior and refiner; who
    comes second waits and reads them, or trains the other one meanwhile (the small generator).
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
        """Train, go on with, or read prior and refiner.

        Parameters
        ----------
        training
            Images of training samples, and extra ones.
        seed
            Of weights, batches and noise.
        checkpoint_dir
            Not used: trainings lie in the folder of this object.
        progress
            Called with (steps done, all steps).
        """
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(f'{self.name} {seed} {training.pictures.shape}'.encode())
        digest.update(np.ascontiguousarray(training.pictures).tobytes())
        whole = FileLock(self.folder / f'{digest.hexdigest()[:16]}.lock')
        by_network = getattr(self.generator, 'locks_each_network', False)
        with nullcontext() if by_network else whole:
            return self.generator.fit(
                training, seed=seed, checkpoint_dir=self.folder, progress=progress
            )


def load_pictures(files: Sequence[Path], size: int, target: Path) -> Uint8Array:
    """Bring images to one size, on disk: ten thousand of 512 pixels take 8 GB.

    Parameters
    ----------
    files
        In the order of the rows.
    size
        Pixels a side.
    target
        The array on disk (``.npy``).
    """
    shape = (len(files), size, size, 3)
    pictures = np.lib.format.open_memmap(target, 'w+', dtype=np.uint8, shape=shape)
    for row, file in enumerate(files):
        pictures[row] = load_image(file, size=size)
    pictures.flush()
    return np.load(target, mmap_mode='r')  # type: ignore[no-any-return]


def load_extra(config: Config, size: int, cache: Path) -> ExtraPictures | None:
    """Load the further images, where the settings name a folder of them.

    Parameters
    ----------
    config
        The settings.
    size
        Pixels a side.
    cache
        Where features are kept by content.
    """
    from bids_neurodecode.systems.reconstruction.generation.data import ExtraPictures

    folder, name = config.reconstruction.prior_pictures, config.features.extractor
    if folder is None:
        return None
    files = further_pictures(Path(folder))
    features = extract_features(
        load_images(files, size=image_size_of(name, config.features.image_size)),
        get_extractor(name),
        cache_dir=cache,
    )
    return ExtraPictures(load_images(files, size=size), features)


def load_networks(files: Mapping[str, str], device: str) -> dict[str, FeatureNetwork]:
    """Read the networks of metrics whose weights are there.

    Parameters
    ----------
    files
        Weights by the name of the network.
    device
        ``cpu`` or ``cuda``.
    """
    import torch

    from bids_neurodecode.models.visionnets import ClipEmbedding, MetricNetwork, metric_network

    where: Any = 'cuda' if device == 'cuda' else 'cpu'
    networks: dict[str, FeatureNetwork] = {}
    for name, file in files.items():
        if name == 'clip-vit-l14':
            from transformers import CLIPVisionModelWithProjection

            vision = CLIPVisionModelWithProjection.from_pretrained(file, local_files_only=True)
            networks[name] = MetricNetwork(ClipEmbedding(vision), where)
        elif name in PACKAGED:
            networks[name] = Remembering(MetricNetwork(read_convnet(name), where))
        else:
            weights = torch.load(file, map_location='cpu', weights_only=True)
            networks[name] = metric_network(name, weights, device=where)
    return networks


def load_embedding() -> Callable[[Sequence[str]], Float32Array] | None:
    """Return what turns captions into embeddings, where it is installed."""
    return CaptionEmbedding().embed if has_packaged('wordllama') else None


def load_viewers(device: str) -> dict[str, dict[str, FeatureExtractor]]:
    """Return feature spaces of the small networks that are installed, the cheapest first."""
    return {
        name: {layer: ConvNetFeatures(name, layer, device, VIEW_SIZE) for layer in VIEW_LAYERS}
        for name in VIEWERS
        if has_packaged(name)
    }


def save(made: Generation, folder: Path) -> None:
    """Write images, scores and curves.

    Parameters
    ----------
    made
        Reconstructions, scores and the final model.
    folder
        That is written into.
    """
    pictures = made.pictures
    write_tsv(folder / 'pictures.tsv', pictures.table)
    for name in ('initial', 'final', 'prior', 'truth', 'nearest'):
        np.save(folder / f'{name}.npy', getattr(pictures, name))
    write_scores(folder, made.scores)
    write_tsv(folder / 'curves.tsv', made.curves)
