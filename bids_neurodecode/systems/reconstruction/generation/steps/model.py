"""The model that makes images, on disk: arrays, description, card; and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from bids_neurodecode._version import __version__
from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.metrics import BASELINE, REFERENCE
from bids_neurodecode.extensions import find_generator
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.models.generators import guides_of, shown_name
from bids_neurodecode.models.storage import load_arrays, load_description, save_arrays, under
from bids_neurodecode.samples import MASK_ARRAYS, VoxelMask
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import DESC
from bids_neurodecode.systems.steps.responses import Trials
from bids_neurodecode.systems.steps.scores import score_table
from bids_neurodecode.systems.steps.seen import runs_on_card

if TYPE_CHECKING:
    from bids_neurodecode.systems.reconstruction.generation.data import Generation
    from bids_neurodecode.systems.reconstruction.generation.generators import Generator
    from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel

LINEAR = 'desc-linear_model'
KIND = 'two-stage-decoder'
PARTS = {
    'latents': 'first stage, from responses to latents',
    'conditions': 'second stage, from responses to what guides it',
    'generator.prior': 'prior (very deep VAE)',
    'generator.refiner': 'refiner (diffusion model)',
    'generator.space': 'components of the features that guide the refiner',
}
"""Beginnings of the names of arrays, and what they belong to."""
SMALL = (
    'Generator small: prior and refiner were trained on {images}, know what these look like and '
    'nothing else.'
)
PUBLISHED = (
    'Generator {name}: {networks}, read and not changed. What they add may be plausible without '
    'having been read from the brain.'
)
NOT_SAID = (
    'Generator {name} of another package, which does not say what it knows beside responses.'
)

Arrays = Mapping[str, npt.NDArray[Any]]


def make_generator(
    name: str, weights: Mapping[str, str], config: Config, device: str
) -> Generator:
    """Return the recipe of prior and refiner that was chosen.

    Parameters
    ----------
    name
        ``small``, ``published``, another second stage of published networks, or the generator of
        another package.
    weights
        Where those of published networks lie, by name.
    config, device
        The settings, and where it computes.
    """
    if (foreign := find_generator(name)) is not None:
        made: Generator = foreign.make(config, device)
        return made
    if name != 'small':
        from bids_neurodecode.systems.reconstruction.generation.published import (
            published_generator,
        )

        return published_generator(
            config,
            name=name,
            weights={entry: Path(path) for entry, path in weights.items()},
            device=device,
        )
    from bids_neurodecode.systems.reconstruction.generation.small import small_generator

    return small_generator(config, device)


def save_model(
    path: Path, made: Generation, mask: VoxelMask, runs: Mapping[str, str]
) -> dict[str, npt.NDArray[Any]]:
    """Write the final model with its voxels, all that predict mode needs; return its arrays.

    Parameters
    ----------
    path
        That is written.
    made
        Reconstructions, scores and the final model.
    mask
        Voxels of the analysis.
    runs
        What the runs are known by.
    """
    final = mask.restrict(made.selection.keep)
    arrays, model = made.model.state(), made.model
    description = {
        'kind': KIND,
        'version': __version__,
        'model': model.describe(),
        'runs': dict(runs),
        'guided_by': guided_by(made, model.generator),
    }
    save_arrays(path, {**arrays, **final.state()}, description)
    return arrays


def guided_by(made: Generation, generator: str) -> list[str]:
    """Return the networks that had a part in images: described them, guided, or chose.

    Parameters
    ----------
    made
        Reconstructions, scores and the final model.
    generator
        Its name.
    """
    return sorted({*made.used, *guides_of(generator)})


def load_model(
    path: Path, weights: Mapping[str, str], config: Config, device: str
) -> tuple[GenerationModel, dict[str, npt.NDArray[Any]]]:
    """Read what :func:`save_model` wrote.

    Parameters
    ----------
    path
        The model.
    weights
        Folders of pretrained weights, by entry.
    config
        The settings.
    device
        ``cpu`` or ``cuda``.

    Returns
    -------
    GenerationModel
        Ready to be applied.
    dict
        By which it knows its voxels (:meth:`VoxelMask.state`).

    Raises
    ------
    InputError
        If the file is another, or weights are missing.
    """
    from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel

    arrays, description = load_arrays(path)
    voxels = {name: arrays.pop(name) for name in MASK_ARRAYS if name in arrays}
    told = description['model']
    fitted: Any = None
    name = told['generator']['generator']
    if (foreign := find_generator(name)) is not None:
        fitted = foreign.restore(under(arrays, 'generator'), told['generator'], device)
    elif name != 'small':
        fitted = make_generator(name, weights, config, device)
    return GenerationModel.from_state(arrays, told, fitted=fitted), voxels


def generation_model_of(linear: Path) -> Path | None:
    """Return the model that makes images, beside a linear one; None where there is none."""
    if LINEAR not in linear.name:
        return None
    file = linear.with_name(linear.name.replace(LINEAR, f'desc-{DESC}_model'))
    check_fetched(file)
    return file if file.is_file() else None


def generator_of(path: Path) -> str:
    """Return the name of the generator that a model was fitted with.

    Raises
    ------
    InputError
        If the file is another.
    """
    return str(load_description(path)['model']['generator']['generator'])


def describe_parts(made: Generation, arrays: Arrays, config: Config) -> list[str]:
    """Say what the parts of the model are and how large, one line each.

    Parameters
    ----------
    made
        Reconstructions, scores and the final model.
    arrays
        Of the model, by name.
    config
        The settings.
    """
    sizes = {
        part: sum(v.size for name, v in arrays.items() if name.startswith(f'{part}.'))
        for part in PARTS
    }
    n_voxels, n_latents = int(made.selection.keep.sum()), made.model.fitted.n_latents
    length = arrays['latents.target_std'].size if 'latents.target_std' in arrays else 0
    of = f'the {length:,} numbers of {n_latents} latents' if length else f'{n_latents} latents'
    regressor = config.reconstruction.regressor
    lines = [f'Regressor of the final model: {regressor}, from {n_voxels:,} voxels to {of}.']
    stored = [f'{PARTS[part]} {size:,}' for part, size in sizes.items() if size]
    if stored:
        lines.append(f'Numbers stored in the model file, by part: {"; ".join(stored)}.')
    name = made.model.generator
    if find_generator(name) is not None:
        size = sum(v.size for part, v in arrays.items() if part.startswith('generator.'))
        lines.append(f'Generator {name} of another package: {size:,} parameters.')
    elif not sizes['generator.prior']:
        lines.append('Prior and refiner: published weights, read and not changed.')
    return lines


def known_by(generator: str, config: Config) -> str:
    """Say what a generator knows beside responses, for the card.

    Parameters
    ----------
    generator
        Its name.
    config
        The settings.
    """
    from bids_neurodecode.systems.reconstruction.methods import networks_of

    if (foreign := find_generator(generator)) is not None:
        return foreign.caution or NOT_SAID.format(name=generator)
    if generator == 'small':
        alone = config.reconstruction.prior_pictures is None
        more = 'alone' if alone else 'and of reconstruction.prior_pictures'
        return SMALL.format(images=f'images of this dataset {more}')
    return PUBLISHED.format(name=shown_name(generator), networks=networks_of(generator))


def model_card(made: Generation, trials: Trials, why: str, facts: Sequence[str]) -> str:
    """Return the card that goes with the model: what it is, what it saw, what it scored.

    Parameters
    ----------
    made
        Reconstructions, scores and the final model.
    trials
        That it was fitted to.
    why
        Why this generator.
    facts
        Of the model, one line each.
    """
    from bids_neurodecode.systems.voxels import counted

    parts = '\n'.join(f'- {fact}' for fact in facts)
    own = [s for s in made.scores if not s.model.startswith((BASELINE, REFERENCE))]
    columns = ('model', 'space', 'metric', 'value', 'chance', 'p', 'protocol')
    participant, config = trials.participant, trials.config
    return f"""# Two-stage decoder of sub-{participant.label}, task {participant.task}

Images from responses: latents of a very deep VAE are predicted and decoded to an initial
image, which a diffusion model refines under the guidance of predicted features (after
Brain-Diffuser, doi 10.1038/s41598-023-42891-8).

- {why}
{parts}
- Voxels: {made.selection.description}. Those of the scores below, chosen without the held-out
  trials: {counted(made.fold_selections)}
- Trained on all trials of {len(participant.runs)} run(s) of this participant,
  {len(made.model.library)} different images. The scores below are not of this model but of
  models fitted in the same way without the held-out trials.
- Runs (hash of their content): {runs_on_card(trials.runs)}
- {known_by(made.model.generator, config)}
- Use: only for this participant, on the same grid. It is not a diagnosis of anything, and no
  consent to reconstruct what was seen follows from consent to be scanned.
- Made by bids_neurodecode {__version__}, seed {config.seed}; its settings are beside it.

{score_table(own, *columns)}
"""
