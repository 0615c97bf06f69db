"""Make the figures of the front page and the tutorials from runs of the program.

``python docs/figures.py pages PICTURES FILM HAXBY``: the output folders of ``make demo``, of the
film tutorial and of the Haxby tutorial. Figures of reports are cropped, not regenerated; Chromium
draws the one that holds images.

``python docs/figures.py front PICTURES ENCODING``: the image of the README, from the output
folders of ``make demo`` and of the same dataset with ``--system encoding``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageOps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from bids_neurodecode.samples import VoxelMask

STATIC = Path(__file__).parent / '_static'
LEAST_CEILING = 0.4
"""Voxels below this noise ceiling are left out of the image of the README."""
SUB = 'sub-01/figures/sub-01_task-'


def crop_svg(source: Path, target: Path, height: float = 1.0) -> None:
    """Keep the upper part of an SVG figure, a share of its height."""
    text = source.read_text('utf-8')
    _, _, width, full = map(float, re.search(r'viewBox="([\d. -]+)"', text)[1].split())
    kept = full * height
    text = re.sub(r'viewBox="[^"]+"', f'viewBox="0 0 {width:g} {kept:g}"', text, count=1)
    text = re.sub(r' height="([\d.]+)pt"', f' height="{kept:g}pt"', text, count=1)
    target.write_text(text, encoding='utf-8')


def draw_png(source: Path, target: Path) -> None:
    """Draw an SVG figure that holds many images as PNG, in as few colours as do."""
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / 'drawn.png'
        options = ['--headless', '--no-sandbox', '--disable-gpu', '--window-size=1000,1000']
        page = source.resolve().as_uri()
        subprocess.run(['chromium', *options, f'--screenshot={drawn}', page], check=True)
        with Image.open(drawn) as picture:
            whole = picture.convert('RGB')
        edge = ImageChops.difference(whole, Image.new('RGB', whole.size, 'white')).getbbox()
        ImageOps.expand(whole.crop(edge), 8, 'white').quantize(224).save(target, optimize=True)


def draw_front(pictures: Path, encoding: Path, target: Path) -> None:
    """Draw images as shown and as reconstructed, and a response as measured and as predicted.

    Two images each are the best, the median and the worst reconstructed ones; the response is the
    median one of those that the report shows.
    """
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn import plotting

    import bids_neurodecode as nd
    from bids_neurodecode.samples import VoxelMask

    made, encoded = nd.load_results(pictures), nd.load_results(encoding)
    generation, model = made.records[0].generation, encoded.records[0].encoding
    kinds = pd.read_csv(generation.examples, sep='\t')['kind']
    rows = [
        row for kind in ('best', 'median', 'worst') for row in np.flatnonzero(kinds == kind)[:2]
    ]
    examples = np.load(generation.examples.with_suffix('.npy'))[rows]
    table = pd.read_csv(model.examples, sep='\t')
    chosen = int(np.flatnonzero(table['kind'] == 'median')[0])
    responses = np.load(model.examples.with_suffix('.npy'))[chosen]
    mask = VoxelMask.load(model.voxels)
    ceiling = mask.extract(np.asarray(encoded.map('noiseceiling').dataobj))
    responses = np.where(ceiling > LEAST_CEILING, responses, 0)

    figure = plt.figure(figsize=(13, 3.8))
    grid = figure.add_gridspec(
        2, 6, left=0.03, right=0.55, top=0.84, bottom=0.01, wspace=0.05, hspace=0.02
    )
    for column, (example, kind) in enumerate(zip(examples, kinds[rows], strict=True)):
        for row, (name, image) in enumerate(
            (('shown', example[0]), ('reconstructed', example[2]))
        ):
            ax = figure.add_subplot(grid[row, column])
            ax.imshow(image)
            ax.set(xticks=[], yticks=[])
            if column == 0:
                ax.set_ylabel(name, fontsize=12)
            if row == 0:
                ax.set_title(kind, fontsize=11)
    two_way = _score(made.metrics, space='final', metric='pixel_2way')
    figure.text(0.28, 0.92, f'Held-out images; two-way by pixels {two_way}', ha='center', size=13)

    cuts = _best_slices(mask, responses[0])
    limits = [float(np.quantile(np.abs(values[values != 0]), 0.95)) for values in responses]
    for row, (name, values) in enumerate(zip(('measured', 'predicted'), responses, strict=True)):
        bottom = 0.42 - 0.4 * row
        plotting.plot_stat_map(
            mask.image(values),
            figure=figure,
            axes=(0.585, bottom, 0.36, 0.4),
            display_mode='z',
            cut_coords=cuts,
            annotate=False,
            colorbar=False,
            vmax=limits[row],
            threshold=1e-6,
            cmap='RdBu_r',
            black_bg=False,
        )
        figure.text(0.565, bottom + 0.19, name, rotation=90, va='center', size=12)
        # each on a scale of its own: predictions are shrunk by ridge regression
        scale = ScalarMappable(Normalize(-limits[row], limits[row]), 'RdBu_r')
        bar = figure.colorbar(scale, cax=figure.add_axes((0.951, bottom + 0.06, 0.006, 0.28)))
        bar.set_label('response (% signal)', size=8)
        bar.ax.tick_params(labelsize=8)
    two_way = _score(encoded.metrics, space='single-trial', metric='identification_2way')
    r = float(table['similarity'][chosen])
    title = f'Responses; two-way {two_way}; here r = {r:.2f}'
    figure.text(0.79, 0.92, title, ha='center', size=13)
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / 'front.png'
        figure.savefig(drawn, dpi=120, facecolor='white')
        with Image.open(drawn) as picture:
            picture.convert('RGB').quantize(224).save(target, optimize=True)


def _score(metrics: pd.DataFrame, *, space: str, metric: str) -> str:
    """Write a score of the ridge model beside its chance level."""
    wanted = (metrics['model'] == 'ridge') & (metrics['space'] == space)
    row = metrics[wanted & (metrics['metric'] == metric)].iloc[0]
    return f'{row["value"]:.2f} (chance {row["chance"]:.2f})'


def _best_slices(mask: VoxelMask, values: npt.NDArray[np.floating[Any]]) -> list[float]:
    """Return the heights (mm) of four slices with the strongest responses."""
    import numpy as np

    size = np.abs(mask.volume(values)).sum(axis=(0, 1))
    strongest = np.sort(np.argsort(-size)[:4])
    return [float(mask.affine[2, 2] * k + mask.affine[2, 3]) for k in strongest]


def main() -> None:
    """Copy, crop and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    pages = commands.add_parser('pages')
    for name in ('pictures', 'film', 'haxby'):
        pages.add_argument(name, type=Path)
    front = commands.add_parser('front')
    for name in ('pictures', 'encoding'):
        front.add_argument(name, type=Path)
    options = parser.parse_args()
    if options.command == 'front':
        draw_front(options.pictures, options.encoding, STATIC / 'front.png')
    else:
        draw_pages(options)


def draw_pages(options: argparse.Namespace) -> None:
    """Crop the figures of reports."""
    pictures = options.pictures / f'{SUB}images'
    crop_svg(Path(f'{pictures}_desc-noiseceiling_map.svg'), STATIC / 'noiseceiling.svg')
    crop_svg(Path(f'{pictures}_desc-scores_figure.svg'), STATIC / 'scores.svg', height=0.588)
    draw_png(Path(f'{pictures}_desc-examples_figure.svg'), STATIC / 'pictures.png')
    film = options.film / f'{SUB}movie_desc-pearsonr_map.svg'
    crop_svg(film, STATIC / 'film-r.svg')
    haxby = options.haxby / f'{SUB}objectviewing_desc-confusion_figure.svg'
    crop_svg(haxby, STATIC / 'haxby-confusion.svg')


if __name__ == '__main__':
    main()
