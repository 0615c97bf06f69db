"""Methods text of encoding models of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_neurodecode.settings_encoding import TABLE

if TYPE_CHECKING:
    from bids_neurodecode.config import Config
    from bids_neurodecode.settings_encoding import EncodingSettings

FEATURES = {
    'gabor': 'energies of Gabor wavelets (no pretrained network)',
    'clip': 'CLIP ViT-L/14 [@radford2021clip]',
    'dinov2': 'DINOv2 [@oquab2023dinov2]',
    'blip': "BLIP's vision network [@li2022blip]",
    'blip-caption': "BLIP's text encoder that reads a caption of at most 32 tokens and looks at "
    'the image [@li2022blip]',
    'efficientnet-lite0': 'EfficientNet-Lite0 [@tan2019efficientnet]',
    'efficientnet-lite2': 'EfficientNet-Lite2 [@tan2019efficientnet]',
    'mobilenetv2': 'MobileNetV2 [@sandler2018mobilenetv2]',
    'wordllama': 'embeddings of the words of a caption (WordLlama, mean over words)',
}
LOSSES = {'l1': 'absolute error', 'l2': 'squared error', 'huber': "Huber's loss"}


def encoding_model(config: Config) -> tuple[str, ...]:
    """Write the paragraphs of the encoding model: features and fit, network, scores."""
    encoding = config.encoding
    paragraphs = [_linear(config)]
    if encoding.model not in {'ridge', 'banded', 'shared'}:
        paragraphs.append(_network(encoding))
    paragraphs.append(_scores(config))
    return tuple(paragraphs)


def described_by(band: str) -> str:
    """Return what the features of a space are; ``table:NAME`` is a band of the user's table."""
    kind, _, own = band.partition(':')
    if kind == TABLE:
        return f'features that were given as a table ({own or "all columns"})'
    told = FEATURES.get(kind) or f'the extractor {kind} of another package'
    return f'{told}, layer {own}' if own else told


def _linear(config: Config) -> str:
    encoding, ridge = config.encoding, config.ridge
    spaces = ', '.join(described_by(band) for band in encoding.bands)
    count = config.features.n_components
    reduced = (
        f' Each feature space was reduced to at most {count} principal components of the training '
        'images.'
        if count
        else ''
    )
    how = {
        'banded': 'by banded ridge regression [@dupre2022banded], which has a penalty for each '
        'feature space; ridge regression on all of them side by side stands beside it',
        'ridge': 'by ridge regression [@dupre2022banded] on all features side by side',
        'shared': 'by ridge regression [@dupre2022banded] on the latents of a head that was '
        'trained on several participants together; ridge regression on the features stands beside '
        'it',
    }.get(encoding.model, 'by a network, and by ridge regression [@dupre2022banded] beside it')
    trials = (
        'the mean of the training trials of each image'
        if encoding.average_training
        else 'single trials'
    )
    drawn = (
        ''
        if encoding.n_training is None
        else f' Models were fitted on at most {encoding.n_training} training images, drawn at '
        'random.'
    )
    return (
        f'Images were described by {spaces}.{reduced} Responses were predicted from these, '
        f'voxel by voxel, {how}; models were fitted on {trials}. Penalties of ridge were chosen '
        f'by {ridge.n_folds}-fold cross-validation within the training samples.{drawn}'
    )


def _network(encoding: EncodingSettings) -> str:
    kinds = {
        'linear': 'one linear layer',
        'mlp': f'a multilayer perceptron ({encoding.hidden} units) applied to '
        f'{encoding.n_queries} queries, and one linear layer from these to the voxels',
        'siren': f'a network of sines [@sitzmann2020siren] ({encoding.width} units, frequency '
        f'factor {encoding.w0:g})',
        'cnn': 'three convolutions and two transposed ones over maps made from the features, '
        'whose channels, rows and columns are the axes of the volume',
    }
    taken = (
        'all features'
        if encoding.network_components is None
        else f'{encoding.network_components} principal components of all features'
    )
    volume = (
        ' It was trained on the whole volume, with zeros outside of the mask.'
        if encoding.voxels == 'volume'
        else ''
    )
    stop = (
        f'{encoding.n_epochs} epochs'
        if encoding.patience is None
        else f'at most {encoding.n_epochs} epochs, until it had not improved for '
        f'{encoding.patience}'
    )
    return (
        f'The network was {kinds[encoding.model]}, from {taken}.{volume} It was trained with '
        f'AdamW (learning rate {encoding.learning_rate:g}, {encoding.batch_size} samples a step) '
        f'on the {LOSSES[encoding.loss]} of standardised responses for {stop}; the weights of the '
        f'epoch with the smallest loss on {100 * encoding.validation_fraction:g} % of the '
        'training images, left out for this, were kept.'
    )


def _exchanged(config: Config) -> str:
    """Say what was permuted, and whether models were fitted again."""
    if config.evaluation.permutation == 'refit' and config.encoding.model == 'ridge':
        return (
            'exchanging the labels of all samples and fitting ridge regression, its penalty '
            'included, again each time (betas were kept)'
        )
    return 'exchanging the predictions of images within folds, models being fitted once'


def _scores(config: Config) -> str:
    tested = (
        f' Whether it is above 0 was tested by {_exchanged(config)} [@phipson2010permutation], '
        'over voxels with the false discovery rate controlled [@benjamini1995fdr].'
        if config.evaluation.n_permutations
        else ''
    )
    partition = (
        ' The unique part of a feature space is the variance of held-out responses that is '
        'explained with it and not without it, tested by exchanging the two predictions.'
        if config.encoding.partition
        else ''
    )
    return (
        'Accuracy of a voxel is the correlation of predicted and measured responses over '
        f'held-out samples, standardised by fold.{tested} Noise-normalised accuracy is its square '
        'over the noise ceiling as defined for the Natural Scenes Dataset [@allen2022nsd], for '
        f'voxels with a ceiling above {config.encoding.threshold:g}. A held-out sample was '
        'identified as the candidate whose predicted response was the most like the measured one '
        f'[@kay2008identifying].{partition}'
    )
