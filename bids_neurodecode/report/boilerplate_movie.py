"""Methods text of the models of films that stand beside ridge regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.settings_movie import MovieSettings


def film_models(config: Config) -> tuple[str, ...]:
    """Write the paragraphs of banded ridge and of the network, where they are used."""
    movie = config.movie
    paragraphs: tuple[str, ...] = ()
    if movie.with_banded:
        paragraphs += (_banded(config),)
    if movie.model == 'network':
        paragraphs += (_network(config), _training(movie, config.split.gap))
    return paragraphs


def _banded(config: Config) -> str:
    return (
        'Banded ridge regression [@dupre2022banded] used the same features and, as a second '
        'space, the mean absolute change of each from frame to frame within a volume, with the '
        'same delays and a penalty of its own for each space and voxel. These changes stand in '
        'for motion energy; they are no motion-energy model.'
    )


def _network(config: Config) -> str:
    movie, sizes = config.movie, config.movie.sizes
    parts = {
        'joint': 'An encoder from film to responses and a decoder from responses to frames were '
        'trained together, the decoder on what the encoder predicted',
        'encoder': 'An encoder from film to responses was trained',
        'decoder': 'A decoder from measured responses to frames was trained',
    }
    voxels = ''
    if movie.max_voxels is not None:
        voxels = (
            f' At most {movie.max_voxels} voxels were used: those that ridge regression predicted '
            'best in folds within the training samples.'
        )
    text = (
        f'{parts[movie.mode]}, after arXiv 2507.12009 (design "{movie.design}": '
        f'{sizes["chunk"]} frames a volume of {sizes["frame_size"]} pixels a side). Responses '
        f'were read {config.delay.seconds:g} s after the film.{voxels}'
    )
    if movie.mode == 'encoder':
        return text
    return text + (
        ' Frames were reconstructed from measured responses of held-out volumes and compared with '
        'the film by structural similarity, beside the mean training frame and a blurred film; '
        'chance is the similarity to frames decoded at other times of the same film.'
    )


def _training(movie: MovieSettings, gap: float) -> str:
    losses = []
    if movie.mode != 'decoder':
        losses.append('squared error and cosine distance of responses')
    if movie.mode != 'encoder':
        perceptual = {
            'gabor': 'a perceptual distance of Gabor energies (no pretrained network), ',
            'vgg16': 'a perceptual distance of VGG16 features, ',
            'none': '',
        }
        losses.append(
            f'{perceptual[movie.perceptual]}structural dissimilarity and total variation of frames'
        )
    stop = (
        f'for {movie.n_epochs} epochs'
        if movie.patience is None
        else f'for at most {movie.n_epochs} epochs, until the loss of the last '
        f'{100 * movie.validation_fraction:g} % of the training part of each film (after a gap of '
        f'{gap:g} s) had not improved for {movie.patience}'
    )
    return (
        f'The loss was the weighted sum of {", and of ".join(losses)}; Adam (learning rate '
        f'{movie.learning_rate:g}, {movie.batch_size} volumes a step) ran {stop}.'
    )
