"""Make the figures of the front page and the tutorials from runs of the program.

``python docs/figures.py PICTURES FILM HAXBY``: the output folders of ``make demo``, of the film
tutorial and of the Haxby tutorial. Figures of reports are cropped, not made anew; Chromium draws
the one that holds pictures.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageChops, ImageOps

STATIC = Path(__file__).parent / '_static'
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
    """Draw an SVG figure that holds many pictures as PNG, in as few colours as do."""
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / 'drawn.png'
        options = ['--headless', '--no-sandbox', '--disable-gpu', '--window-size=1000,1000']
        page = source.resolve().as_uri()
        subprocess.run(['chromium', *options, f'--screenshot={drawn}', page], check=True)
        with Image.open(drawn) as picture:
            whole = picture.convert('RGB')
        edge = ImageChops.difference(whole, Image.new('RGB', whole.size, 'white')).getbbox()
        ImageOps.expand(whole.crop(edge), 8, 'white').quantize(224).save(target, optimize=True)


def main() -> None:
    """Copy and crop."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('pictures', 'film', 'haxby'):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
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
