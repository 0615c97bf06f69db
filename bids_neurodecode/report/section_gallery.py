"""The images at the head of the page: what was shown above what was made of the responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.report import film, generation, pictures, scores, verdicts
from bids_neurodecode.report.build import Block, Gallery, Picture, Plot
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import GenerationResults

if TYPE_CHECKING:
    from PIL.Image import Image

PER_KIND = 2
"""Examples of each kind: they are to be large, and the sheet shows all."""
DRAWN = 6
"""Examples that were drawn at random."""
SIDE = 320
"""Longest side in pixels of an image in the page."""
ROLES = {
    'shown': 'Shown',
    'initial': 'Initial (first stage)',
    'final': 'Final (second stage)',
    'retrieved': 'Retrieved (ridge)',
}
SOURCES = {
    'repeat-average': 'the average of the repeats of each image ({n})',
    'single-trial': 'single trials',
}
HOW_TO_READ = (
    'Shown, the initial reconstruction (first stage), the final one (second stage){retrieved}: '
    '{chosen}. Made from {source}. What all reconstructions share comes from the generator. '
    'Click an image to enlarge it, and again to go back.'
)
RANKED = 'the best, the median and the worst by {score}'
TIES = '; images that score the same are ranked by pixel correlation'
AT_RANDOM = (
    'drawn at random, because the score by which they would be ranked is not shown to be better '
    'than chance, so that best and worst would mean nothing. Below each: {score}'
)
NO_ORDER = (
    ' Over all samples that score is not shown to be better than chance, so that the order says '
    'little.'
)
NOT_TESTED = (
    ' Over all samples that score was not tested against chance, so that the order may say little.'
)
NEVER_SAME = (
    'The image shown was not in training, so that the one retrieved is always another, even at '
    'rank 1. '
)
RETRIEVED = ', and the training image that ridge regression retrieves'
BY = (
    'two-way identification of the final reconstruction by {judge}{head} (below each: its share '
    'of correct choices; 50 % is chance)'
)
HEAD = ', as the score that heads this page'
BY_PIXELS = 'the pixel correlation of the final reconstruction and the image shown (below each)'
"""What examples are ranked by."""


def images_at_the_head(reader: Reader) -> tuple[Block, ...]:
    """Return the images to start with: reconstructions, else frames, else what is retrieved."""
    for make in (reconstructed, frames, retrieved):
        found = make(reader)
        if found is not None:
            return (found,)
    return ()


def source_of(table: pd.DataFrame, *, trained: bool = False) -> str:
    """Say what data images were made from.

    Parameters
    ----------
    table
        Columns ``space`` and ``n_repeats``.
    trained
        Whether a model was applied that had been trained before.
    """
    space = str(table['space'].iloc[0])
    repeats = table['n_repeats'].astype(int)
    low, high = int(repeats.min()), int(repeats.max())
    span = f'{low}' if low == high else f'{low} to {high}'
    what = SOURCES.get(space, space).format(n=f'{span} trial{"s" * (high > 1)}')
    return f'{"new" if trained else "held-out"} data: {what}'


def reconstructed(reader: Reader) -> Gallery | None:
    """Show reconstructions below what was shown, where any were made."""
    made = reader.results.generation
    examples = None if made is None else read_table(made.examples)
    if made is None or made.examples is None or examples is None or examples.empty:
        return None
    tiles = np.load(made.examples.with_suffix('.npy'), allow_pickle=False)
    roles = generation.ROWS[: tiles.shape[1]]
    metric = scores.ranked_by(examples, reader.metrics, reader.guides)
    caption = HOW_TO_READ.format(
        retrieved=RETRIEVED if 'retrieved' in roles else '',
        chosen=_how_chosen(examples, metric, reader),
        source=source_of(examples, trained=reader.results.split is None),
    )
    if not (examples['kind'] == 'random').any():
        caption += _no_order(reader, metric, 'final')
    chosen = _chosen(examples['kind'])
    columns = tuple(
        tuple(
            _made_picture(reader, made, examples.iloc[place], role, tiles[place, row])
            for row, role in enumerate(roles)
        )
        for place in chosen
    )
    plot = reader.plot(
        'pictures',
        generation.plot_pictures(examples, tiles, metric),
        caption,
        f'{len(examples)} images as shown, and as reconstructed in two stages.',
    )
    links = tuple((f'all {made.n_pictures}: {sheet.name}', sheet) for sheet in made.sheets)
    notes = [
        f'{_stem(examples.iloc[i])}: {generation.score_beside(examples.iloc[i], metric)}'
        for i in chosen
    ]
    return _gallery(examples['kind'], chosen, tuple(ROLES[r] for r in roles), columns, notes,
                    caption, plot, links)  # fmt: skip


def _how_chosen(examples: pd.DataFrame, metric: str, reader: Reader) -> str:
    """Say how examples were chosen, and by what they are ranked."""
    head = None if reader.metrics is None else scores.page_headline(reader.metrics, reader.guides)
    score = BY_PIXELS
    if metric != 'pixcorr':
        judge = scores.judge_of(pd.Series({'metric': metric, 'space': 'final'}))
        same = head is not None and (head['metric'], head['space']) == (metric, 'final')
        score = BY.format(judge=judge, head=HEAD if same else '')
    if (examples['kind'] == 'random').any():
        below = 'below each: ' if '%' in score else ' (below each)'
        return AT_RANDOM.format(score=score.replace(below, ''))
    ties = TIES if 'pixcorr_final' in examples and score != BY_PIXELS else ''
    return RANKED.format(score=score) + ties


def _no_order(reader: Reader, metric: str, space: str | None = None) -> str:
    """Say that a ranking means little, where its score is not shown to be better than chance."""
    if reader.metrics is None or reader.metrics.empty:
        return ''
    own = reader.metrics[~reader.metrics['model'].map(scores.is_baseline)]
    own = own[(own['metric'] == metric) & own['value'].notna()]
    own = own if space is None else own[own['space'] == space]
    if own.empty or verdicts.score_verdict(own.iloc[0]).short == verdicts.BETTER:
        return ''
    tested = own.iloc[0][['p', 'ci_low']].notna().any() and np.isfinite(own.iloc[0]['chance'])
    return NO_ORDER if tested else NOT_TESTED


def _made_picture(
    reader: Reader,
    made: GenerationResults,
    row: pd.Series[Any],
    role: str,
    tile: npt.NDArray[np.uint8],
) -> Picture:
    """Take an image from its file where that is larger than the copy kept for the page."""
    folder = reader.results.stimuli_dir
    name = str(row.get('nearest', '') if role == 'retrieved' else row['stimulus'])
    file: Path | None = None if folder is None or not name else folder / name
    if role in {'initial', 'final'}:
        file = made.folder / f'{row.get("picture", "")}_desc-{role}_image.png'
        name = f'{role} reconstruction of {row["stimulus"]}'
    there = file is not None and file.is_file()
    image = pictures.thumbnail(file, SIDE) if there and file is not None else None
    if image is None or max(image.size) < max(tile.shape[:2]):
        image = _from_array(tile)
    linked = file if there and role in {'initial', 'final'} else None
    return Picture(f'{ROLES[role]}: {name}', image, linked)


def frames(reader: Reader) -> Gallery | None:
    """Show frames of films above those that were reconstructed, where any were."""
    network = reader.results.network
    examples = None if network is None else read_table(network.frames)
    if network is None or network.frames is None or examples is None or examples.empty:
        return None
    tiles = np.load(network.frames.with_suffix('.npy'), allow_pickle=False)
    title, baseline = 'structural similarity (SSIM)', ''
    if reader.metrics is not None:
        own = reader.metrics[reader.metrics['metric'] == 'frame_ssim']
        if len(own):
            title = scores.title_of(own.iloc[0])
        mean = own[own['model'] == 'baseline-mean-image']
        if len(mean):
            value = scores.write_score('frame_ssim', float(mean['value'].iloc[0]))
            baseline = f' The mean training frame scores {value} on average.'
    caption = (
        'Held-out frames as shown, above those reconstructed from the measured responses: the '
        f'best, the median and the worst by {title}.{baseline} What all reconstructions '
        'share comes from the network. The films are in the folder stimuli/.'
    ) + _no_order(reader, 'frame_ssim')
    roles = ('Shown', 'Reconstructed')
    chosen = _chosen(examples['kind'])
    where = [f'{examples["film"].iloc[i]}, {examples["onset"].iloc[i]:.0f} s' for i in chosen]
    columns = tuple(
        tuple(
            Picture(f'{role}: {place}', _from_array(tiles[i, row]))
            for row, role in enumerate(roles)
        )
        for i, place in zip(chosen, where, strict=True)
    )
    notes = [
        f'{place}: SSIM {examples["similarity"].iloc[i]:.2f}'
        for i, place in zip(chosen, where, strict=True)
    ]
    plot = reader.plot(
        'frames',
        film.plot_frames(examples, tiles),
        caption,
        f'{len(examples)} frames, shown and reconstructed.',
    )
    return _gallery(examples['kind'], chosen, roles, columns, notes, caption, plot)


def retrieved(reader: Reader) -> Gallery | None:
    """Show stimuli above what was retrieved for them: best, median, worst."""
    folder = reader.results.stimuli_dir
    # an encoding model has a section of its own: nothing was decoded
    if reader.predictions is None or folder is None or reader.results.encoding is not None:
        return None
    examples = pictures.pick_examples(reader.predictions)
    if not examples:
        return None
    images = {
        name: image
        for name in {n for e in examples for n in (e.stimulus, e.retrieved)}
        if (image := pictures.thumbnail(folder / name, SIDE)) is not None
    }
    kinds: list[str] = [example.kind for example in examples]
    chosen = _chosen(kinds)
    roles = ('Shown', 'Retrieved')
    columns = tuple(
        tuple(
            Picture(f'{role}: {name}', images.get(name))
            for role, name in zip(
                roles, (examples[i].stimulus, examples[i].retrieved), strict=True
            )
        )
        for i in chosen
    )
    notes = [f'rank {examples[i].rank:g} of {examples[i].n_candidates}' for i in chosen]
    split = reader.results.split
    new = split is not None and not split.repeats_cross
    row = None if reader.metrics is None else scores.headline(reader.metrics)
    order = '' if row is None else _no_order(reader, str(row['metric']))
    caption = (
        'Images that were shown, each above the training image whose features are most similar '
        'to the decoded ones. Below, and what samples are ordered by: where the image shown comes '
        'among the held-out candidates, 1 being the most similar to the decoded features (ties by '
        f'similarity).{order} {NEVER_SAME if new else ""}'
        'Click an image to enlarge it, and again to go back.'
    )
    small = {name: _at_most(image, pictures.THUMBNAIL) for name, image in images.items()}
    plot = reader.plot(
        'examples',
        pictures.plot_examples(examples, small),
        'The same images as one figure.',
        'The images of the gallery above.',
    )
    return _gallery(kinds, chosen, roles, columns, notes, caption, plot)


def _gallery(
    kinds: Iterable[str],
    chosen: Sequence[int],
    roles: tuple[str, ...],
    columns: tuple[tuple[Picture, ...], ...],
    notes: Sequence[str],
    caption: str,
    plot: Plot,
    links: tuple[tuple[str, Path], ...] = (),
) -> Gallery:
    named = [str(kind) for kind in kinds]
    shown = [named[i] for i in chosen]
    groups = tuple((generation.TITLES[kind], shown.count(kind)) for kind in dict.fromkeys(shown))
    there = tuple((name, path) for name, path in links if path.is_file())
    return Gallery(groups, roles, columns, tuple(notes), caption, there, plot)


def _chosen(kinds: Iterable[str]) -> list[int]:
    """Return the places of the first examples of each kind, which stand for it best."""
    count: dict[str, int] = {}
    chosen = []
    for place, kind in enumerate(kinds):
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= (DRAWN if kind == 'random' else PER_KIND):
            chosen.append(place)
    return chosen


def _stem(row: pd.Series[Any]) -> str:
    return str(row['stimulus']).rsplit('/', 1)[-1]


def _from_array(pixels: npt.NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)


def _at_most(image: Image, side: int) -> Image:
    small = image.copy()
    small.thumbnail((side, side))
    return small
