"""Which generator makes images, and why: decided once, before work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bids_neurodecode.bids.stimuli import check_image
from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.evaluation.protocols import PROTOCOLS, get_protocol, held_out
from bids_neurodecode.extras import PACKAGED, has_networks, has_packaged, packaged_files
from bids_neurodecode.models.generators import (
    BAD_RECIPE,
    ENDING,
    PipelineRecipe,
    is_pipeline,
    read_recipe,
    shown_name,
)
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.features import judges_of
from bids_neurodecode.text import did_you_mean

PRIOR_WEIGHTS = 'vdvae-imagenet64'
PUBLISHED_WEIGHTS = (PRIOR_WEIGHTS, 'versatile-diffusion')
"""Entries of the manifest that the published generator needs."""
REGIONAL = ('regions-gru', 'regions-transformer')
"""Regressors that read voxels by region."""

ASKED = 'Images are made by the {name} generator, as asked for (reconstruction.generator).'
NO_PICTURES_MADE = 'Images are retrieved, not made (reconstruction.generator = "none").'
ALL_THERE = (
    'Images are made by the published generator: its weights are in {folder} and there is a GPU.'
)
FALLEN_BACK = (
    'Images are made by the small generator, trained on the training images: the published '
    'one needs {needs}.'
)
NO_REGIONS = (
    'reconstruction.regressor = "{regressor}" reads voxels by region: give an atlas '
    '(--atlas), or choose another regressor.'
)
NO_OWN_WEIGHTS = (
    'The weights {name!r}, which the recipe {file} names, are neither an entry of the manifest '
    '("bids_neurodecode-tools weights list") nor a folder beside the recipe. Put them there, or '
    'correct the name.'
)
UNKNOWN_GUIDE = 'guided_by names {name!r}, which judges nothing.{near} There are: {names}'
NOT_NAMED = 'it reads {name}, which judges images: name it in guided_by'
NO_FOLDER = (
    'The folder of further images, {folder} (reconstruction.prior_pictures), {reason}. '
    'Give a folder with PNG or JPEG files, or leave the setting out.'
)
OWN_FEATURES = (
    'Images that are made (reconstruction.generator = "{generator}") have no row in a table of '
    'features, by which they would be identified. Set it to "none", or features.extractor to '
    '"gabor".'
)
RETRIEVED_ONLY = (
    'Images are retrieved, not made: the features are those of a table, which has no row of '
    'images that are made.'
)
NO_NETWORKS = (
    'Images are retrieved, not made: making some needs networks, which are not installed (the '
    'extra "networks"; see Installation).'
)
PICTURE_ENDINGS = ('.png', '.jpg', '.jpeg')


@dataclass(frozen=True)
class Choice:
    """The generator of a run.

    Parameters
    ----------
    name
        ``none``, ``small``, ``published``, another second stage of published networks, or the
        generator of another package.
    why
        One line for the log and the report.
    weights
        Where the weights of the published generator lie, by name.
    """

    name: str
    why: str
    weights: Mapping[str, str] = field(default_factory=dict)


def choose_generator(config: Config, device: str, weights_dir: Path | None) -> Choice:
    """Choose the generator: what is asked for, or what weights and device allow.

    Parameters
    ----------
    config
        The settings.
    device
        ``cpu`` or ``cuda``.
    weights_dir
        Pretrained weights; None: the default folder.

    Raises
    ------
    InputError
        If the published generator is asked for and its weights are missing; names the command
        that gets them.
    """
    from bids_neurodecode.models.weights import default_weights_dir

    asked = config.reconstruction.generator
    folder = weights_dir or default_weights_dir()
    own = config.features.extractor == TABLE
    if own and asked not in {'auto', 'none'}:
        raise ArgumentsError(OWN_FEATURES.format(generator=asked))
    retrieved = RETRIEVED_ONLY if own else NO_PICTURES_MADE if asked == 'none' else ''
    if asked == 'auto' and not retrieved and not has_networks():
        retrieved = NO_NETWORKS
    if retrieved:
        return Choice('none', retrieved)
    if asked != 'auto':
        return Choice(asked, ASKED.format(name=shown_name(asked)), find_weights(folder, asked))
    missing = missing_weights(folder)
    needs = [f'the weights {" and ".join(missing)}'] if missing else []
    needs += [] if device == 'cuda' else ['a GPU']
    if needs:
        return Choice('small', FALLEN_BACK.format(needs=' and '.join(needs)))
    return Choice('published', ALL_THERE.format(folder=folder), find_weights(folder))


def weights_of(generator: str) -> tuple[str, ...]:
    """Return the entries of the manifest that a generator needs: published networks do."""
    return (PRIOR_WEIGHTS, *read_recipe(generator).weights) if is_pipeline(generator) else ()


def find_weights(folder: Path, generator: str = 'published') -> dict[str, str]:
    """Return where the weights of a generator lie, by entry; none of one without.

    Parameters
    ----------
    folder
        Of pretrained weights.
    generator
        Its name.

    Raises
    ------
    InputError
        If one is missing or damaged, with the command that gets it.
    """
    from bids_neurodecode.models.weights import load_manifest, weights_path

    found: dict[str, str] = {}
    for name in weights_of(generator):
        beside = Path(generator).parent / name
        if name in load_manifest():
            found[name] = str(weights_path(name, folder))
        elif beside.is_dir():
            found[name] = str(beside)
        else:
            raise InputError(NO_OWN_WEIGHTS.format(name=name, file=generator))
    return found


def missing_weights(folder: Path) -> list[str]:
    """Return the weights of the published generator that are missing or damaged."""
    from bids_neurodecode.models.weights import check_sizes, find_entry

    states = {name: check_sizes(find_entry(name), folder).state for name in PUBLISHED_WEIGHTS}
    return [name for name, state in states.items() if state in {'missing', 'damaged'}]


def metric_weights(folder: Path | None, protocol: str) -> dict[str, str]:
    """Return where the weights of a protocol's networks lie, of those that are there.

    Parameters
    ----------
    folder
        Of pretrained weights; None: the default folder.
    protocol
        Its name.
    """
    from bids_neurodecode.models.weights import check_sizes, default_weights_dir, find_entry

    place = folder or default_weights_dir()
    found = {}
    for name in dict.fromkeys(metric.network for metric in get_protocol(protocol).metrics):
        if name in PACKAGED:
            if has_packaged(name):
                found[name] = str(packaged_files(name)[0])
            continue
        entry = find_entry(name)
        if check_sizes(entry, place).state not in {'missing', 'damaged'}:
            found[name] = str(entry.path_in(place))
    return found


def check_generation(config: Config, device: str, weights_dir: Path | None) -> Choice:
    """Refuse what cannot work, before any work; return the choice.

    Parameters
    ----------
    config
        The settings.
    device
        ``cpu`` or ``cuda``.
    weights_dir
        Pretrained weights; None: the default folder.

    Raises
    ------
    ArgumentsError, InputError
        One line: what is missing, and the way out.
    """
    choice = choose_generator(config, device, weights_dir)
    settings = config.reconstruction
    if choice.name == 'none':
        return choice
    used = {*judges_of(config.features.extractor)}
    if choice.name == 'small' and settings.match_network != 'none':
        used.add(settings.match_network)
    if is_pipeline(choice.name):
        from bids_neurodecode.models.pipelines import check_recipe

        recipe = read_recipe(choice.name)
        check_recipe(recipe)
        _check_guides(choice.name, recipe)
        if choice.name.endswith(ENDING):
            used |= {*recipe.guided_by}
    held_out(get_protocol(settings.protocol), used)
    if settings.regressor in REGIONAL and not config.atlas.given:
        raise ArgumentsError(NO_REGIONS.format(regressor=settings.regressor))
    if settings.prior_pictures is not None:
        further_pictures(Path(settings.prior_pictures))
    return choice


def _check_guides(generator: str, recipe: PipelineRecipe) -> None:
    """Check that a recipe names the networks of protocols that guide it, and nothing else."""
    judges = {metric.network for protocol in PROTOCOLS.values() for metric in protocol.metrics}
    named = {*recipe.guided_by}
    reasons = [NOT_NAMED.format(name=name) for name in sorted(judges & {*recipe.weights} - named)]
    reasons += [
        UNKNOWN_GUIDE.format(
            name=name, near=did_you_mean(name, judges), names=', '.join(sorted(judges))
        )
        for name in sorted(named - judges)
    ]
    if reasons:
        raise ArgumentsError(BAD_RECIPE.format(file=generator, reason=reasons[0]))


def further_pictures(folder: Path) -> list[Path]:
    """Return the images of a folder (and of those in it), in order of their names.

    Raises
    ------
    InputError
        If it is not there or holds none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(NO_FOLDER.format(folder=folder, reason='is not there'))
    files = picture_files(folder)
    if not files:
        raise InputError(NO_FOLDER.format(folder=folder, reason='holds no image'))
    for file in files:
        check_image(file, folder)
    return files


def picture_files(folder: Path) -> list[Path]:
    """Return the images of a folder and of those in it, in order of their names."""
    return sorted(f for f in folder.rglob('*') if f.suffix.lower() in PICTURE_ENDINGS)
