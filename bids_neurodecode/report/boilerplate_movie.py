"""Methods text of the models of films that stand beside ridge regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_neurodecode.settings_encoding import TABLE

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
        paragraphs += tuple(text for text in (_explained(config),) if text)
    return paragraphs


def _banded(config: Config) -> str:
    if config.features.extractor == TABLE:
        return (
            'Banded ridge regression [@dupre2022banded] used the same features, with the same '
            'delays and a penalty of its own for each of their spaces (bands) and voxel. The '
            'difference of the mean correlation over voxels between banded and plain ridge is '
            'over blocks of 30 s of held-out time, by a t test that counts what neighbouring '
            'blocks share.'
        )
    motion, about = (
        'the mean absolute change of each from frame to frame within a volume',
        'These changes stand in for motion energy; they are no motion-energy model.',
    )
    if config.movie.motion == 'energy':
        motion, about = (
            'motion energy [@nishimoto2011movies]',
            (
                'Motion energy is that of the default pyramid of pymoten at 12 frames a second '
                'and 64 x 96 pixels, averaged over each volume.'
            ),
        )
    return (
        'Banded ridge regression [@dupre2022banded] used the same features and, as a second '
        f'space, {motion}, with the same delays and a penalty of its own for each space and '
        f'voxel. {about}'
    )


def film_voxels(config: Config, rule: str | None) -> str:
    """Write which voxels of films were used.

    Parameters
    ----------
    config
        Settings of ``atlas`` and ``selection``.
    rule
        By which voxels were selected, as the selection describes itself; None: all.
    """
    regions = ', '.join(config.atlas.regions)
    if rule is not None and ' isc' in rule:
        among = f', among those of the regions {regions}' if regions else ''
        return (
            'Voxels were selected by the agreement between participants (isc: correlation of a '
            f'participant with the mean of the others [@hasson2004isc]){among}: {rule}.'
        )
    if rule is not None and ' snr' in rule:
        among = f', among those of the regions {regions}' if regions else ''
        return (
            'Voxels were selected as in arXiv 2507.12009, by the variance over time of the mean '
            'over participants against the variance over participants of the mean over time, '
            f'over all volumes, the held-out ones too{among}: {rule}.'
        )
    if not regions:
        return 'All voxels that the brain masks of all runs share were used.'
    return f'Voxels of the regions {regions} were used.'


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
        'chance is the similarity to frames decoded from surrogates of the responses (phases '
        'drawn anew, the same for all voxels).'
    )


def _explained(config: Config) -> str:
    """Write how the network was asked what it relies on."""
    movie, texts = config.movie, []
    atlas = config.atlas.given
    scaled = ', times the deviation of that' if movie.saliency == 'scaled' else ''
    if movie.mode != 'encoder' and 'saliency' in movie.explain:
        texts.append(
            'The saliency of a voxel is the sum over held-out volumes of the absolute slope of '
            f'the structural similarity of decoded and true frame by its response{scaled}; the '
            'share of a '
            'region among the fifth of voxels with most is given relative to its size.'
        )
    if movie.mode != 'encoder' and 'perturbation' in movie.explain and atlas:
        kinds = {
            'zero': 'set to their mean',
            'noise': 'replaced by noise of the same mean and deviation',
            'gain': f'amplified by {movie.explain_gain:g}',
        }
        done = ' or '.join(kinds[kind] for kind in movie.explain_kinds)
        texts.append(
            f'The measured responses of one region after the other (the {movie.explain_regions} '
            f'largest) were {done}, and the change of the reconstruction was compared with that '
            f'by at most {movie.explain_random} other sets of as many voxels: the region moved '
            'and mirrored at random over the voxels of the network, where it was as compact, as '
            'smooth and as accurate on held-out volumes (calipers [@cochran1973matching]). '
            'Without 20 such sets beside each other no p value is given.'
        )
    if movie.mode != 'decoder' and 'concepts' in movie.explain:
        own = ' and for folders of images' if movie.concepts is not None else ''
        texts.append(
            'Concept activation vectors [@kim2018tcav] were fitted (logistic regression, 20 '
            "random splits) to the activations of the encoder's last layer before the readout, "
            'for the fifth of training volumes with most brightness, contrast, edges and motion, '
            f'for random fifths as controls{own}. The alignment of the slopes of a mean predicted '
            f'response with them was tested against {movie.concept_permutations} random concepts, '
            'the same pattern of volumes at other times (images: permuted).'
        )
    if texts:
        texts.append('These tests were adjusted for the false discovery rate [@benjamini1995fdr].')
    return ' '.join(texts)


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
