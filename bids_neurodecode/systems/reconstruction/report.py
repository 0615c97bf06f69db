"""The section on reconstructions: how they were made, and what they score in each stage."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bids_neurodecode.models.generators import is_pipeline, shown_name
from bids_neurodecode.report import generation, scores
from bids_neurodecode.report.build import (
    Block,
    Bullets,
    Fold,
    Heading,
    Plot,
    Text,
)
from bids_neurodecode.report.facts import parts_in_images
from bids_neurodecode.report.reader import Reader, confidence_of, read_table
from bids_neurodecode.report.results import GenerationResults
from bids_neurodecode.report.section_gallery import retrieved
from bids_neurodecode.report.section_scores import (
    MODELS,
    comparison_table,
    metrics_table,
    score_table,
)
from bids_neurodecode.systems.reconstruction.methods import networks_of, recipe_of

HOW = 'How the images were made: from voxels to the final image, and sizes of the parts'
CHAIN = (
    'Tables call the whole chain "{name} + generator": {regressor} predicts latents of {prior} '
    'from voxels, which are decoded to the initial image (first stage); {refiner} turns it into '
    'the final image{guide} (second stage).'
)
GUIDED = ', guided by {features} that ridge regression predicts from the same voxels'
DESCRIBERS = (
    'Features of {names} are used by the linear decoder alone (identification and retrieval): '
    'they neither guide nor judge images.'
)
SMALL = (
    'Prior and refiner of the small generator learned from the training images of this dataset '
    'alone (and, where given, from a folder of further ones). What they make therefore looks like '
    'a training image, whatever was seen, and shows nothing that training images do not. They '
    'stand in for networks trained on millions of images; scores cannot be compared with those. '
    'Gabor energies guide the second stage: where images are also judged by them, read the '
    'scores by pixels beside these.'
)
PUBLISHED = (
    'The networks of the generator {name}, {networks}, know much that is not in these data: '
    'details of an image can be plausible without having been read from the brain. Look at '
    'the baselines.'
)
JUDGES = (
    'Final images were compared with those shown by {judges}, {part}. The summary and Scores have '
    'the main results, the fold below has all.'
)
SAME_IMAGES = (
    'Like {guides}, which had a part in the images, {judges} learned from the photographs of '
    'ImageNet: judge and guide are other networks, but see alike.'
)
ON_IMAGENET = ('alexnet', 'efficientnet', 'inception', 'mobilenet', 'swav', 'vgg')
"""Beginnings of the names of networks that learned from ImageNet."""
NOT_SAID = (
    'Images were made by the generator {name} of another package; what it knows beside the '
    'training images is not in the record of this run. Look at the baselines.'
)
BRAIN = (
    'Brain correlation judges images by responses, not by a network trained on labels. An '
    'encoding model, fitted on training trials with features of a network that had no part in the '
    'images, predicts the response to the reconstruction of each held-out trial. The predicted '
    'pattern, over the voxels that the decoder reads, is correlated with the mean response to the '
    'image in other held-out runs. Chance: reconstructions of other images. "true image": the '
    'image shown, by the same model. "nearest": the training image that ridge regression '
    'retrieves, a baseline that is hard to beat, as the encoding model was fitted on it.'
)
STAND_IN = (
    'Metrics named "stand-in" take the place of networks whose weights are not there '
    '(bids_neurodecode-tools weights list); they compare with no published number.'
)


def generation_section(reader: Reader) -> tuple[Block, ...]:
    """Say how images were reconstructed and how well, where any were."""
    made = reader.results.generation
    if made is None:
        return ()
    return (
        *_judged(reader, made),
        *_about(reader, made),
        Fold(HOW, (Text(_chain(reader, made)), Bullets((made.why, *made.facts)))),
        *_brain(reader),
        _files(made),
        Fold(
            'Scores of both stages, learning curves, and what is retrieved', _details(reader, made)
        ),
    )


def _judged(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    """Say what final images score in the eyes of networks and by pixels, and which networks."""
    # new responses alone have no scores
    if reader.metrics is None or not made.judges:
        return
    guides, describers = parts_in_images(made, reader.config)
    both = [name for name in made.judges if name in guides]
    part = 'none of which had a part in making them'
    if both:
        part = f'of which {", ".join(both)} had a part in making them, as in published tables'
    told = [JUDGES.format(judges=', '.join(made.judges), part=part)]
    seen = [name for name in guides if name.startswith(ON_IMAGENET)]
    apart = [name for name in made.judges if name.startswith(ON_IMAGENET) and name not in both]
    if seen and apart:
        told.append(SAME_IMAGES.format(judges=', '.join(apart), guides=', '.join(seen)))
    if others := [name for name in describers if name != 'gabor']:
        told.append(DESCRIBERS.format(names=', '.join(others)))
    yield Text((' '.join(told),))


def _about(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    lines = []
    if made.generator == 'small':
        lines.append(SMALL)
    elif recipe_of(made.generator) is not None:
        networks = networks_of(made.generator)
        lines.append(PUBLISHED.format(name=shown_name(made.generator), networks=networks))
    elif made.generator != 'none':
        lines.append(made.caution or NOT_SAID.format(name=shown_name(made.generator)))
    if reader.metrics is not None and reader.metrics['metric'].str.contains('standin').any():
        lines.append(STAND_IN)
    if lines:
        yield Text(tuple(lines))


def _chain(reader: Reader, made: GenerationResults) -> tuple[str, ...]:
    """Say what the model is, from voxels to the final image."""
    small = made.generator == 'small'
    if not small and not is_pipeline(made.generator):
        return ()
    prior = 'a small variational autoencoder (VDVAE)' if small else 'the VDVAE'
    refiner = (
        'a small diffusion model'
        if small
        else f'the diffusion model of {shown_name(made.generator)}'
    )
    told = None if reader.config is None else reader.config.reconstruction
    guided = told is None or told.conditions != 'none'
    features = 'Gabor energies' if small else 'image features'
    if small and told is not None and told.match_network != 'none':
        features += f' and features of {told.match_network}'
    regressor = MODELS.get(made.regressor, f'the regressor {made.regressor}')
    chain = CHAIN.format(
        name=made.regressor,
        regressor=regressor,
        prior=prior,
        refiner=refiner,
        guide=GUIDED.format(features=features) if guided else '',
    )
    return (chain,)


def _brain(reader: Reader) -> Iterable[Block]:
    """Show the correlation of expected with measured responses, where it was computed."""
    metrics = reader.metrics
    if metrics is None:
        return
    rows = metrics[(metrics['metric'] == 'brain_correlation') & metrics['value'].notna()]
    own = rows[~rows['model'].map(scores.is_baseline)]
    if own.empty:
        return
    confidence, sure = confidence_of(reader), not reader.results.leaks
    yield score_table(metrics, rows, confidence, 'Brain correlation', sure=sure)
    yield Fold('What brain correlation is', (Text((BRAIN,)),))


def _files(made: GenerationResults) -> Text:
    folder = '/'.join(made.folder.parts[-3:])
    sheets = ', '.join(sheet.name for sheet in made.sheets)
    files = f'All {made.n_pictures} reconstructions are in {folder} (PNG, initial and final)'
    return Text((f'{files}; beside each other: {sheets}.' if sheets else f'{files}.',))


def _details(reader: Reader, made: GenerationResults) -> tuple[Block, ...]:
    found = retrieved(reader)
    return (
        *_scores(reader),
        *_curves(reader, made),
        *(() if found is None else (Heading('Retrieved by ridge regression'), found)),
    )


def _scores(reader: Reader) -> Iterable[Block]:
    metrics = reader.metrics
    if metrics is None:
        return
    rows = metrics[scores.of_pictures(metrics) & metrics['value'].notna()]
    if rows.empty:
        return
    stages = rows[rows['space'].isin(['initial', 'final'])]
    shown = stages[scores.is_main(stages)]
    confidence, sure = confidence_of(reader), not reader.results.leaks
    yield metrics_table(rows, 'All scores of reconstructions and latents', confidence, sure=sure)
    if rows['difference'].notna().any():
        yield comparison_table(metrics, rows, confidence)
    left = stages['metric'].nunique() - shown['metric'].nunique() if len(shown) else 0
    yield _plot(reader, shown if len(shown) else rows, left)


def _plot(reader: Reader, rows: pd.DataFrame, left: int) -> Plot:
    confidence = confidence_of(reader)
    what = f'of {rows["metric"].nunique()} metrics' + (
        f' (the table has {left} more: distances of features, first places)' if left else ''
    )
    return reader.plot(
        'picturescores',
        scores.plot_scores(rows),
        f'Scores of both stages {what}, a panel each. Filled dots: the model; open dots: '
        f'baselines and references; lines: {100 * confidence:g} % confidence intervals; upright '
        'strokes: chance. Pixel correlation and SSIM reward blur: compare them with those of the '
        'mean image and of the blurred retrieved one.',
        'Dot plot of the scores in the table above.',
    )


def _curves(reader: Reader, made: GenerationResults) -> Iterable[Block]:
    curves = read_table(made.curves)
    if curves is None or curves.empty:
        return
    networks = ', '.join(dict.fromkeys(curves['network'].astype(str)))
    n_folds = curves['fold'].nunique()
    read = 'Lines that still fall at the end ask for longer training.'
    if (curves['part'] == 'validation').any():
        read = (
            'Grey dashed: training samples; blue: validation samples, taken from the training '
            f'samples; blue lines that turn up are overfitting. {read}'
        )
    if n_folds > 1:
        read = (
            f'One line per training ({n_folds} of them: folds with the same training images share '
            f'prior and refiner; one is of the final model). {read}'
        )
    if (curves['network'] == 'refiner').any():
        read += (
            ' The loss of the refiner jumps, as each epoch draws noise of other strengths: look '
            'at its trend.'
        )
    yield reader.plot(
        'learning',
        generation.plot_learning(curves),
        f'Learning curves, one panel per network. {read}',
        f'Loss by step or epoch of {networks}.',
    )
