"""The section on an encoding model: how well it predicts each voxel, where, and what it misses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np

from bids_neurodecode.bids.description import read_json
from bids_neurodecode.bids.maps import MapSpec
from bids_neurodecode.report import brain, film, pictures
from bids_neurodecode.report.build import Block, Bullets, Fold, Plot, Text
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import EncodingResults
from bids_neurodecode.report.scores import write_p
from bids_neurodecode.report.section_signal import load_map, sheet_of
from bids_neurodecode.report.slices import canonical
from bids_neurodecode.report.style import shorten
from bids_neurodecode.report.verdicts import ALPHA
from bids_neurodecode.signals.clean import PERCENT, short_units
from bids_neurodecode.spaces import like, load_image, sidecar_of
from bids_neurodecode.systems.encoding.report import figures as encoding
from bids_neurodecode.typing import BoolArray, FloatArray, RealArray

NAMES = {
    'ridge': 'ridge regression',
    'banded': 'banded ridge regression (a penalty for each feature space)',
    'linear': 'a linear network',
    'mlp': 'a multilayer perceptron that is the same for each query',
    'siren': 'a network of sines (SIREN)',
    'shared': 'a head that participants share, under a linear layer of the participant',
    'cnn': 'a convolutional network whose maps become the volume',
}
SPACES = {'single-trial': 'single trials', 'repeat-average': 'averages of repeats'}
DETAILS = ('unique', 'curves', 'measuredglass', 'predictedglass')
FOLDED = 'Glass brains, maps of single feature spaces, learning curves'
COARSE = (
    ' With {n_permutations:,} permutations the smallest possible p is {least}: {found}. Raise '
    'evaluation.n_permutations.'
)
MANY_AT_ONCE = 0.1
"""Share of the voxels: where more of them have to be found at once, it is said."""
NEGATIVE = (
    'The correlation is negative in {n:,} of {total:,} voxels ({share:.1f} %). In '
    'noise-normalised accuracy, which squares it, these count as 0: its sign is lost, and its '
    'chance level is above 0.'
)
FEW_PICTURES = 5
"""With fewer, predictions are not shown as differences from their mean."""
SLICES = ' Slices: those with most well predicted voxels.'
N_PREDICTED = 3
"""Images that are shown where nothing but predictions is there."""
RESPONSE = MapSpec('Response', 'response', '', 'RdBu_r', symmetric=True, glass=True)
UNIQUE = MapSpec(
    'Unique variance',
    'variance explained (%)',
    'Variance of held-out responses that is explained with this feature space and not without '
    'it. Values about 0 in noise spread to both sides.',
    'magma',
    scale=100.0,
)


def encoding_section(reader: Reader) -> tuple[Block, ...]:
    """Show the encoding model, where there is one."""
    found = reader.results.encoding
    if found is None:
        return ()
    shown = (
        *_accuracy(reader, found),
        *_regions(reader, found),
        *_against(reader, found),
        *_partition(reader, found),
        *_examples(reader, found),
        *_predicted(reader, found),
        *_curves(reader, found),
    )
    folded = tuple(block for block in shown if _is_detail(block))
    main = tuple(block for block in shown if block not in folded)
    more = (Fold(FOLDED, folded),) if folded else ()
    null = reader.results.null
    draws = 0 if null is None else np.load(null.values, mmap_mode='r', allow_pickle=False).size
    return (Bullets(_facts(found, draws)), *main, *more)


def _is_detail(block: Block) -> bool:
    """Tell the figures that are folded: glass brains, maps of single spaces, learning curves."""
    return isinstance(block, Plot) and any(f'desc-{name}' in block.name for name in DETAILS)


def _facts(found: EncodingResults, n_permutations: int) -> tuple[str, ...]:
    size = '' if found.n_parameters is None else f', {found.n_parameters:,} parameters'
    inside = int(_mask(found).sum())
    bands = ', '.join(found.bands)
    facts = [f'Model: {NAMES[found.model]}{size}; features: {bands}; {inside:,} voxels.']
    if found.space in SPACES:
        facts.append(f'Maps and figures below are of {SPACES[found.space]}.')
    if 'significant' in found.maps:
        n = int(_values(found, 'significant').sum())
        facts.append(
            f'{n:,} voxels ({100 * n / inside:.1f} %) are predicted better than chance '
            '(permutation p, false discovery rate below .05).'
            + _resolution(n, inside, n_permutations)
        )
    if 'noisenormalized' in found.maps:
        n = int((_values(found, 'pearsonr') < 0).sum())
        facts.append(NEGATIVE.format(n=n, total=inside, share=100 * n / inside))
    facts.append(
        f'Predicted responses of {found.n_pictures} images: {found.betas.name}, one volume per '
        f'row of {found.betas_table.name}.'
    )
    return tuple(facts)


def _resolution(n_found: int, n_voxels: int, n_permutations: int) -> str:
    """Say how many voxels must reach the smallest p for any to be found, if these are many."""
    least = 1 / (n_permutations + 1)
    # Benjamini and Hochberg: k voxels at the smallest p pass if p n_voxels / k is below the rate
    needed = n_voxels * round(1 / ALPHA) // (n_permutations + 1) + 1
    if n_permutations == 0 or needed == 1 or (n_found and needed <= MANY_AT_ONCE * n_voxels):
        return ''
    says = f'a voxel can be found only if {needed:,} of {n_voxels:,} reach it at once'
    return COARSE.format(
        n_permutations=n_permutations,
        least=write_p(least),
        found=says if needed <= n_voxels else 'no voxel can be found',
    )


def _accuracy(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    if 'pearsonr' not in found.maps:
        return
    r = _values(found, 'pearsonr')
    ceiling = _values(found, 'noiseceiling') if 'noiseceiling' in found.maps else None
    null = None if found.null_r is None else np.load(found.null_r, allow_pickle=False)
    text = ''
    if ceiling is not None:
        text = (
            'Left: correlation of predicted and measured responses against the highest that the '
            'noise of the responses allows, over voxels; on the solid line, all that can be '
            'explained is explained. Right: '
        )
    significant = np.zeros(r.shape, dtype=bool)
    if 'significant' in found.maps:
        significant = _values(found, 'significant') > 0
    yield reader.plot(
        'accuracy',
        encoding.plot_accuracy(r, ceiling, significant, null),
        f'{text}Correlations of all voxels (outline; median {np.median(r):.3f}, best '
        f'{r.max():.3f}), of those that are above chance (FDR < .05, where there are any), and of '
        'permuted pairings of predictions and responses. By chance half of the voxels lie below '
        '0.',
        f'Correlations of {r.size} voxels, median {np.median(r):.3f}.',
    )


def _regions(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    if reader.metrics is None:
        return
    metrics = reader.metrics
    prefix = f'{found.space}/'
    rows = metrics[
        (metrics['metric'] == 'voxel_r_median')
        & (metrics['model'] == found.model)
        & metrics['space'].str.startswith(prefix)
    ]
    if rows.empty:
        return
    rows = rows.assign(region=rows['space'].str.removeprefix(prefix))
    shown = min(len(rows), encoding.MOST_REGIONS)
    which = f'The best {shown} of {len(rows)} regions' if shown < len(rows) else 'Regions'
    yield reader.plot(
        'regions',
        encoding.plot_regions(rows),
        f'{which} of the atlas by the median correlation of their voxels (number in brackets). '
        'Lines: confidence intervals over held-out samples (medians were not tested where the '
        'table of metrics has no p); diamonds: median of the highest possible correlation, where '
        'that is above 0; dashed: chance. All scores of regions are in the table of metrics.',
        f'Median correlation of {len(rows)} regions.',
    )


def _against(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    if 'ridge' not in found.maps or 'pearsonr' not in found.maps:
        return
    ours, linear = _values(found, 'pearsonr'), _values(found, 'ridge')
    better = float((ours > linear).mean())
    yield reader.plot(
        'againstridge',
        film.plot_against(ours, linear, found.model),
        f'Correlation of each voxel by {NAMES[found.model]} and by ridge regression on the same '
        f'features, folds and trials: better in {100 * better:.0f} % of the voxels (median '
        f'{np.median(ours):.3f} against {np.median(linear):.3f}).',
        f'{found.model} against ridge in {ours.size} voxels.',
    )


def _partition(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    if 'sharedvariance' not in found.maps:
        return
    unique = {band: _values(found, f'uniquevariance-{band}') for band in found.bands}
    sure = {band: _values(found, f'unique-{band}') > 0 for band in found.bands}
    yield reader.plot(
        'partition',
        encoding.plot_partition(unique, _values(found, 'sharedvariance'), sure),
        'Left: variance of held-out single trials that one feature space explains and the others '
        'do not (unique), and that several can explain (shared), over voxels; lines: medians; the '
        'outermost 0.5 % are cut. Right: share of voxels with a unique part above chance '
        '(predictions with and without the space exchanged, FDR .05 over voxels).',
        f'Variance partition of {len(unique)} feature spaces.',
    )
    image = _image(found, 'voxels')
    background = None if reader.results.mean_bold is None else load_map(reader.results.mean_bold)
    for band in found.bands:
        figure = brain.plot_map(
            _image(found, f'uniquevariance-{band}'), UNIQUE, mask=image, background=background
        )
        yield reader.plot(
            f'unique{"".join(c for c in band if c.isalnum())}',
            figure,
            f'Unique variance of {band}. {UNIQUE.how_to_read}',
            f'Unique variance of {band} on slices.',
            'map',
        )


def _curves(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    curves = read_table(found.curves)
    if curves is None or curves.empty:
        return
    last = int(curves['epoch'].max())
    yield reader.plot(
        'curves',
        film.plot_curves(curves),
        f'Loss over {last} epochs, one line per fold (responses are in standard deviations of the '
        'training trials: a loss of squares of 1 is that of predicting the mean). Grey dashed: '
        'training samples; blue: training images that are left out to choose the epoch. A blue '
        'line that turns up while the grey one falls is overfitting; lines that still fall at the '
        'end ask for more epochs.',
        f'Loss of training and validation samples over {last} epochs.',
    )


def _examples(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    """Show measured beside predicted volumes: best, median, worst."""
    table = read_table(found.examples)
    if table is None or found.examples is None:
        return
    values = np.load(found.examples.with_suffix('.npy'), allow_pickle=False)
    drawing = _Drawing(reader, found)
    if drawing.cannot:
        yield Text((drawing.cannot,))
        return
    titles = [
        f'{row["kind"]}: {shorten(str(row["stimulus"]), 14)}\nr = {row["similarity"]:.2f}, '
        f'rank {row["rank"]:g} of {row["n_candidates"]}'
        for _, row in table.iterrows()
    ]
    figure = drawing.plot(values, titles, list(table['stimulus']), ('measured', 'predicted'))
    yield reader.plot(
        'volumes',
        figure,
        'Measured beside predicted responses to held-out images: the best, the middle and the '
        'worst by the correlation of the two over the voxels that were predicted best in '
        'training (r). Rank: place of the true image among the candidates. Values are the '
        'difference from the mean response of the voxel to the held-out images, each column '
        f'with its own scale.{SLICES if drawing.sheet is None else ""}',
        f'Measured and predicted volumes of {len(table)} images.',
    )
    if reader.results.in_mni:
        for place, what in enumerate(('measured', 'predicted')):
            yield drawing.glass(values[0, place], what, str(table['stimulus'].iloc[0]))


def _predicted(reader: Reader, found: EncodingResults) -> Iterable[Block]:
    """Show predicted volumes where there is no response to hold them against."""
    table = read_table(found.betas_table)
    if found.examples is not None or table is None or not len(table):
        return
    volumes = np.asanyarray(load_image(found.betas).dataobj, dtype=np.float32)
    values = volumes[np.asarray(load_map(found.voxels).dataobj) > 0].T
    differ = len(table) >= FEW_PICTURES
    if differ:
        values = values - values.mean(axis=0)
    what = 'the difference from the mean over all of them' if differ else 'as they are'
    rows = list(range(min(N_PREDICTED, len(table))))
    names = [str(name) for name in table['stim_file'].iloc[rows]]
    drawing = _Drawing(reader, found)
    if drawing.cannot:
        yield Text((drawing.cannot,))
        return
    figure = drawing.plot(
        values[rows][:, None], [shorten(name, 22) for name in names], names, ('predicted',)
    )
    yield reader.plot(
        'volumes',
        figure,
        f'Predicted responses to the first {len(rows)} of {len(table)} images ({what}). They '
        'were not measured, so nothing here says how right they are; see the scores of the '
        'training run.',
        f'Predicted volumes of {len(rows)} images.',
    )
    if reader.results.in_mni and values[0].any():
        yield drawing.glass(values[0], 'predicted', names[0])


NOT_DRAWN = (
    'Measured and predicted responses are not drawn beside each other: no surface mesh of {label} '
    'was found. Predicted responses are in the files of the derivatives.'
)


class _Drawing:
    """Draws rows of voxels as volumes on the grid of the data."""

    def __init__(self, reader: Reader, found: EncodingResults) -> None:
        self.reader, self.found = reader, found
        self.image = load_map(found.voxels)
        self.sheet = sheet_of(reader.results, self.image)
        self.cannot = ''
        if self.sheet is not None and not self.sheet.meshes:
            self.cannot = NOT_DRAWN.format(label=reader.results.space or 'the data')
        inside, self.affine = canonical(self.image)
        self.mask: BoolArray = inside > 0
        score = self.mask.astype(float)
        if 'pearsonr' in found.maps:
            score, _ = canonical(load_map(found.maps['pearsonr']))
        self.slices = encoding.best_slices(score, self.mask)
        file = sidecar_of(found.betas)
        about = read_json(file) if file.is_file() else {}
        self.units = short_units(str(about.get('Units', PERCENT)))

    def volume(self, row: RealArray) -> nib.Nifti1Image:
        """Put a row of voxels back on the grid."""
        inside = np.asarray(self.image.dataobj) > 0
        volume = np.zeros(inside.shape, dtype=np.float32)
        volume[inside] = row
        return like(self.image, volume)

    def plot(
        self,
        values: RealArray,
        titles: list[str],
        names: list[str],
        columns: tuple[str, ...],
    ) -> Any:
        """Draw rows (n, n_columns, n_voxels) beside their images."""
        folder, background = self.reader.results.stimuli_dir, None
        thumbnails = [None if folder is None else pictures.thumbnail(folder / x) for x in names]
        if self.sheet is not None:
            inside = np.asarray(self.image.dataobj).ravel() > 0
            full = np.full((*values.shape[:2], inside.size), np.nan)
            full[..., inside] = values
            return encoding.plot_sheets(
                full, titles, thumbnails, columns=columns, sheet=self.sheet, units=self.units
            )
        if self.reader.results.mean_bold is not None:
            background, _ = canonical(load_map(self.reader.results.mean_bold))
        return encoding.plot_volumes(
            [[canonical(self.volume(row))[0] for row in each] for each in values],
            titles,
            thumbnails,
            columns=columns,
            mask=self.mask,
            affine=self.affine,
            slices=self.slices,
            units=self.units,
            background=background,
        )

    def glass(self, row: RealArray, what: str, name: str) -> Plot:
        """Show a row through a glass brain."""
        spec = replace(RESPONSE, label=f'response ({self.units})')
        figure = brain.plot_glass(self.volume(row), spec, mask=self.image)
        return self.reader.plot(
            f'{what}glass',
            figure,
            f'The {what} response to {shorten(name, 40)}, in the units of the figure above, '
            'through a glass brain in MNI space: for each line of sight the strongest voxel, and '
            'only the strongest tenth of all.',
            f'{what} response, glass brain.',
            'map',
        )


def _mask(found: EncodingResults) -> BoolArray:
    return np.asarray(np.asarray(load_map(found.voxels).dataobj) > 0)


def _values(found: EncodingResults, name: str) -> FloatArray:
    """Return the predicted voxels of a map."""
    values = np.asarray(load_map(found.maps[name]).dataobj, dtype=np.float64)[_mask(found)]
    return np.asarray(np.nan_to_num(values))


def _image(found: EncodingResults, name: str) -> nib.Nifti1Image:
    return load_map(found.voxels if name == 'voxels' else found.maps[name])
