"""The section on the movie network: how it learned, what it gains, what it reconstructs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.report import film
from bids_neurodecode.report.build import Block, Bullets, Table
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import NetworkResults
from bids_neurodecode.spaces import load_image
from bids_neurodecode.systems.movie.report import explained as film_explain
from bids_neurodecode.typing import FloatArray

MODES = {
    'joint': 'an encoder (film to responses) and a decoder (responses to frames), trained as one',
    'encoder': 'an encoder (film to responses)',
    'decoder': 'a decoder (responses to frames), trained on measured responses',
}
PERCEPTUAL = {
    'gabor': 'a bank of Gabor wavelets (no pretrained network)',
    'vgg16': 'VGG16, trained on ImageNet',
    'none': 'no perceptual loss was used',
}


def film_section(reader: Reader) -> tuple[Block, ...]:
    """Show the network, where there is one."""
    network = reader.results.network
    if network is None:
        return ()
    return (
        Bullets(_facts(network)),
        *_curves(reader, network),
        *_against(reader, network),
        *_regions(network),
        *_perturbation(reader, network),
        *_concepts(reader, network),
    )


def _facts(network: NetworkResults) -> tuple[str, ...]:
    size = f'{network.n_parameters:,} parameters, {network.n_voxels:,} voxels'
    loss = f'Perceptual loss of frames: {PERCEPTUAL[network.perceptual]}.'
    if network.mode == 'encoder':
        loss = 'No loss of frames: the encoder was trained alone.'
    return (f'Model: {MODES[network.mode]}; design "{network.design}", {size}.', loss)


def _curves(reader: Reader, network: NetworkResults) -> Iterable[Block]:
    curves = read_table(network.curves)
    if curves is None or curves.empty:
        return
    last = int(curves['epoch'].max())
    yield reader.plot(
        'curves',
        film.plot_curves(curves),
        f'Learning curves over {last} epochs, one panel per term of the loss (structural '
        'dissimilarity: 1 - SSIM), all of them minimised, one line per fold. '
        'Grey dashed: training samples, with dropout; blue: validation samples, which lie in the '
        'training part of each film and decide when to stop. A blue line that turns up while the '
        'grey one falls is overfitting; lines that still fall at the end ask for more epochs.',
        f'Loss of training and validation samples over {last} epochs.',
    )


def _against(reader: Reader, network: NetworkResults) -> Iterable[Block]:
    maps = reader.results.maps
    if 'network_r' not in maps or 'pearsonr' not in maps:
        return
    ours, linear = (_values(maps[name], network.voxels) for name in ('network_r', 'pearsonr'))
    better = float((ours > linear).mean())
    yield reader.plot(
        'network',
        film.plot_against(ours, linear),
        'Correlation of predicted and measured responses, one dot per voxel of the network: by '
        f'the network and by ridge regression on frame features. The network is better in '
        f'{100 * better:.0f} % of the voxels (median {np.median(ours):.3f} against '
        f'{np.median(linear):.3f}). The network reads the film at one delay, ridge at several.',
        f'Network against ridge in {ours.size} voxels.',
    )


def _regions(network: NetworkResults) -> Iterable[Block]:
    table = read_table(network.regions)
    if table is None:
        return
    rows = tuple(
        (
            str(row['region']),
            str(row['n_voxels']),
            f'{100 * row["share"]:.1f}',
            f'{100 * row["size"]:.1f}',
            f'{row["relative"]:.2f}',
        )
        for _, row in table.iterrows()
    )
    yield Table(
        ('region', 'voxels', 'share of most salient (%)', 'share of voxels (%)', 'relative'),
        rows,
        'Where the fifth of the voxels lies on which reconstructions depend most. Relative: the '
        'first share over the second; 1 is what chance gives, as large regions win by count.',
        frozenset({1, 2, 3, 4}),
        folded=len(rows) > 12,
    )


def _perturbation(reader: Reader, network: NetworkResults) -> Iterable[Block]:
    table = read_table(network.perturbation)
    if table is None:
        return
    n_sure = int((table['p_fdr'] < film_explain.ALPHA).sum())
    n_tested = int(table['p'].notna().sum())
    tested = f' Filled: p < .05, FDR over all {n_tested} tests ({n_sure} of them).'
    tested = tested if n_tested else ' Nothing could be tested.'
    untested = (
        ''
        if n_tested == len(table)
        else f' {len(table) - n_tested} rows have no p value and no grey: too few such sets fit '
        'into the voxels of the network.'
    )
    yield reader.plot(
        'perturbation',
        film_explain.plot_perturbation(table),
        'What reconstructions from measured, held-out responses lose when the voxels of a region '
        'are set to their mean (zero), replaced by noise, or amplified (gain). Grey: mean and two '
        'standard deviations of the change when other sets of as many voxels are disturbed, as '
        f'compact, as smooth and as accurate as the region.{tested} A region matters where its '
        f'change lies outside of the grey, not where it is large.{untested}',
        f'Change of reconstructions by disturbed regions; {n_sure} of {n_tested} significant.',
    )
    yield Table(
        ('region', 'kind', 'metric', 'voxels', 'sets', 'change', 'random', 'z', 'p', 'p (FDR)'),
        tuple(
            (
                *(str(row[name]) for name in ('region', 'kind', 'metric', 'n_voxels')),
                str(row['n_disjoint']),
                f'{row["change"]:+.4f}',
                *_given(row, random_mean='+.4f', z='+.1f', p='.3f', p_fdr='.3f'),
            )
            for _, row in table.sort_values('p_fdr', kind='stable').iterrows()
        ),
        'Perturbation of regions, the surest first. Sets: how many sets of voxels like the region '
        'fit beside each other; the smallest p value is 1 / (sets + 1).',
        frozenset(range(3, 10)),
        folded=True,
    )


def _concepts(reader: Reader, network: NetworkResults) -> Iterable[Block]:
    table = read_table(network.concepts)
    if table is None:
        return
    control = table['kind'] == 'random'
    sure = table['p_fdr'] < film_explain.ALPHA
    yield reader.plot(
        'concepts',
        film_explain.plot_concepts(table),
        'Whether predicted responses rise (red) or fall (blue) along the direction of a concept '
        "in the encoder's last layer before the readout: the mean cosine of derivative and "
        'concept vector. A star: p < .05 against random concepts (of film: the same pattern '
        'of volumes at other times; of images: permuted), FDR over all tests '
        f'({int((sure & ~control).sum())} of {int((~control).sum())} of concepts; '
        f'{int((sure & control).sum())} of {int(control.sum())} of the random controls, which '
        'should have none). Properties of film go together: a star does not say which of them '
        'is the cause.',
        f'Concepts: {int((sure & ~control).sum())} of {int((~control).sum())} significant.',
    )
    yield Table(
        (
            'output',
            'concept',
            'examples',
            'classified',
            'random',
            'sensitivity',
            'alignment',
            'p',
            'p (FDR)',
        ),
        tuple(
            (
                *(str(row[name]) for name in ('output', 'concept', 'n_examples')),
                f'{100 * row["accuracy"]:.0f} %',
                *_given(row, accuracy_random='.0%'),
                f'{100 * row["sensitivity"]:.0f} %',
                f'{row["alignment"]:+.3f}',
                *_given(row, p='.3f', p_fdr='.3f'),
            )
            for _, row in table.sort_values('p_fdr', kind='stable').iterrows()
        ),
        'Concepts, the surest first. Classified: how often examples that were left out are told '
        'from others. Random: the same of random concepts, which are as contiguous in time '
        '(volumes that are near in time are told from others whatever they show).',
        frozenset(range(2, 9)),
        folded=True,
    )


def _given(row: pd.Series[Any], **formats: str) -> Iterable[str]:
    """Write the values of a row that are there."""
    for name, form in formats.items():
        yield 'n/a' if np.isnan(row[name]) else format(row[name], form)


def _values(path: Path, mask: Path) -> FloatArray:
    inside = np.asarray(load_image(mask).dataobj) > 0
    values = np.asarray(load_image(path).dataobj, dtype=np.float64)[inside]
    return values[np.isfinite(values)]
