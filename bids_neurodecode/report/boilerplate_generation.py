"""Methods text of images that are made in two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_neurodecode.extensions import find_generator
from bids_neurodecode.models.generators import read_recipe
from bids_neurodecode.report.boilerplate_encoding import FEATURES

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.settings_reconstruction import ReconstructionSettings

REGRESSORS = {
    'ridge': 'ridge regression',
    'gru': 'a recurrent network over a single step (a gated perceptron)',
    'conv': 'a recurrent and convolutional network',
    'transformer': 'a recurrent network with an attention block over a single step',
    'regions-gru': 'a recurrent network over brain regions',
    'regions-transformer': 'an attention network over brain regions',
}
RENORMS = {
    'inductive': 'by those of cross-validated training predictions',
    'transductive': 'by those of the test predictions themselves, as published',
}
RECIPES = {'published': 'versatile-diffusion'}
SMALL = {'n_steps': 50, 'guidance': 2.0, 'strength': 0.04}
"""What the settings of the small refiner stand for where they are left out."""


def generated_pictures(config: Config, generator: str | None) -> tuple[str, ...]:
    """Write the paragraphs on images that were made, if any were.

    Parameters
    ----------
    generator
        What made them; None where it is not known yet.
    """
    settings = config.reconstruction
    name = generator or ('small' if settings.generator == 'auto' else settings.generator)
    if name == 'none':
        return ()
    if (foreign := find_generator(name)) is not None:
        return (foreign.methods(config), _judged(settings))
    return (_first_stage(settings, name), _second_stage(settings, name), _judged(settings))


def _first_stage(settings: ReconstructionSettings, name: str) -> str:
    count = 'all latents' if settings.latents is None else f'the first {settings.latents} latents'
    if name != 'small':
        count = f'the first {settings.latents or 31} of the 75 latents'
    prior = (
        'a very deep variational autoencoder [@child2020vdvae] (images of '
        f'{settings.prior_size} x {settings.prior_size} pixels, {settings.prior_steps} steps of '
        'training on the training images of each fold)'
        if name == 'small'
        else 'a very deep variational autoencoder trained on ImageNet [@child2020vdvae]'
    )
    work = 'ozcelik2023braindiffuser'
    if settings.regressor != 'ridge':
        work += '; @veronese2024twostage'
    renorm = ''
    if settings.renorm != 'none':
        renorm = (
            ' Predicted latents got the mean and deviation of the training targets back, '
            f'{RENORMS[settings.renorm]}.'
        )
    regressor = REGRESSORS[settings.regressor]
    return (
        f'Images were made in two stages, after Brain-Diffuser [@{work}]. In the first, {count} '
        f'of {prior} were predicted from voxels by {regressor}, fitted on training samples, and '
        f'decoded to an initial image; targets were posterior means.{renorm}'
    )


def _second_stage(settings: ReconstructionSettings, name: str) -> str:
    recipe = None if name == 'small' else read_recipe(RECIPES.get(name, name))
    first = SMALL if recipe is None else recipe.stages[0].model_dump()
    steps = settings.n_steps or first['n_steps']
    guidance = first['guidance'] if settings.guidance is None else settings.guidance
    strength = (first['strength'] or 1.0) if settings.strength is None else settings.strength
    used = max(1, int(strength * steps))
    if name == 'small':
        model = (
            f'a small diffusion model of pixels, trained for {settings.refiner_steps} steps on '
            'the same training images and conditioned on principal components of their Gabor '
            f'energies at {settings.prior_size} pixels,'
        )
        what = 'components predicted from the same responses'
    elif recipe is not None and recipe.loop == 'pipeline':
        model = f'{recipe.title} ({recipe.source})'
        what = 'an image embedding that was predicted from the same responses'
    else:
        model = 'Versatile Diffusion [@xu2022versatile]'
        what = (
            'CLIP features of images and captions that were predicted from the same responses '
            f'(weight of the text {settings.text_weight:g})'
        )
    started = (
        f'the initial image (noised for {used} of {steps} steps, strength {strength:g})'
        if settings.start == 'decoded' and settings.noise < 256 and (not recipe or recipe.starts)
        else 'noise alone'
    )
    guided = f', guided (classifier-free [@ho2022guidance], weight {guidance:g}) by {what}'
    if settings.conditions == 'none':
        guided = ', without guidance'
    elif settings.conditions != 'both':
        guided += f', the {settings.conditions} condition alone'
    matched = ''
    if name == 'small' and settings.match and settings.conditions in {'both', 'vision'}:
        moved = 'What each step took for the clean image was'
        if started != 'noise alone':
            moved = 'The initial image, and what each step took for the clean image, were'
        matched = (
            f' {moved} moved '
            f'towards the predicted components{_matched(settings)}, weighed against how far '
            'Gaussian images of the same power spectra would vary (as in DiffPIR '
            '[@zhu2023diffpir]).'
        )
    own = recipe is not None and recipe.loop == 'pipeline'
    sampler = (
        "the pipeline's own sampler" if own else 'deterministic DDIM sampling [@song2020ddim]'
    )
    return (
        f'In the second stage {model} started from {started} and took the noise off '
        f'({sampler}){guided}.{matched} The noise of an image '
        'depends on the seed and its name alone.'
    )


def _matched(settings: ReconstructionSettings) -> str:
    said = ''
    if settings.match_network != 'none':
        said = f' and those of {FEATURES[settings.match_network]}, by its gradient'
    return said + (
        ', each as far as it was predicted in cross-validation on training samples'
        if settings.match_weighted
        else ''
    )


def _judged(settings: ReconstructionSettings) -> str:
    brain = (
        ' Where held-out images were shown in several runs, and a network was installed that had '
        'no part in the images, the response to the reconstruction of each single held-out trial '
        'was predicted by ridge regression from features of that network, fitted on training '
        'trials, and its pattern over voxels was correlated with the mean response to the same '
        'image in other held-out runs.'
    )
    return (
        'Initial and final images of held-out samples, averaged over repeats where there were '
        'any, were compared with the images shown by pixel correlation, structural similarity '
        'and identification among the candidates by image features, beside the mean training '
        'image, the blurred image that ridge regression retrieves, models fitted on shuffled '
        'pairs, and what prior and refiner make of the true latents and features.'
    ) + (brain if settings.brain_correlation else '')
