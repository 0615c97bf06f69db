"""What was made in two stages, under its names: images, sheets, tables, model, record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.names import stimulus_path, unique_labels
from bids_neurodecode.bids.sink import copy_file, write_tsv
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.video import write_picture
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.metrics import (
    METRICS,
    sample_column,
)
from bids_neurodecode.extensions import find_generator
from bids_neurodecode.report.results import GenerationResults
from bids_neurodecode.report.scores import page_headline, ranked_by
from bids_neurodecode.systems.examples import draw_examples, pick_examples
from bids_neurodecode.systems.steps.records import Facts
from bids_neurodecode.tables import column_texts
from bids_neurodecode.typing import FloatArray, IndexArray, Uint8Array
from bids_neurodecode.workflow.files import read_record, read_table

DESC = 'generated'
EXAMPLES = 4
"""Images of each kind (best, median, worst) that the report shows."""
SHEET_ROWS = 40
"""Images on one contact sheet."""
TILE = 96
"""Pixels along a side of an image on a contact sheet and in the report."""
OF_FINAL = 'Of the final image. '
"""Before what a metric means, in the descriptions of columns."""
STAGES = ('initial', 'final')
KINDS = ('truth', 'initial', 'final', 'nearest')
"""Arrays of images that the job leaves, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class GenerationFacts(Facts):
    """What is said of images that were made."""

    generator: str
    why: str
    regressor: str
    facts: tuple[str, ...]
    """Of the model, one line each."""
    guided_by: tuple[str, ...] | None
    """Networks that had a part in images; None: an older model, which does not say."""


def write_generation(
    writer: ProductWriter, config: Config, result: Path, linear: pd.DataFrame, trials: pd.DataFrame
) -> tuple[GenerationResults, Path]:
    """Write everything that was made.

    Parameters
    ----------
    result
        What the job left, its files beside it.
    linear
        Metrics of the linear decoder, which stand first in the one table.
    trials
        All trials, in the order of the single-trial betas.

    Returns
    -------
    GenerationResults
        For the report.
    pathlib.Path
        The table of metrics.
    """
    folder = result.parent
    scored = pd.read_csv(folder / 'metrics.tsv', sep='\t')
    made = write_made(writer, result, trials, config, scored)
    curves = pd.read_csv(folder / 'curves.tsv', sep='\t')
    if len(curves):
        made = replace(
            made,
            curves=writer.table('curves', curves, columns='generation_curves', more=_DESC),
        )
    writer.model(folder / 'model.safetensors', config, DESC, folder / 'model.md')
    both = pd.concat([linear, scored], ignore_index=True)
    judges = judges_of(both['metric'], config.reconstruction.protocol)
    return replace(made, judges=judges), writer.scores(both, DESC)


def judges_of(metrics: Iterable[str], protocol: str) -> tuple[str, ...]:
    """Return the networks that compared images, by the metrics that were computed.

    Parameters
    ----------
    metrics
        Their names.
    protocol
        Under which images were compared.
    """
    from bids_neurodecode.evaluation.networks import STAND_IN
    from bids_neurodecode.evaluation.protocols import get_protocol

    computed = set(metrics)
    judges = [each.network for each in get_protocol(protocol).metrics if each.metric in computed]
    stand_in = [STAND_IN] if any(name.startswith(STAND_IN) for name in computed) else []
    return tuple(dict.fromkeys([*judges, *stand_in]))


def tells_images_apart(scored: pd.DataFrame, guides: Sequence[str] = ()) -> bool:
    """Tell whether the score by which images are ranked is better than chance.

    Parameters
    ----------
    scored
        The metrics of images that were made.
    guides
        Networks that had a part in the images.
    """
    from bids_neurodecode.report.verdicts import BETTER, score_verdict

    row = page_headline(scored, guides)
    return row is not None and score_verdict(row).short == BETTER


def write_made(
    writer: ProductWriter,
    result: Path,
    trials: pd.DataFrame,
    config: Config | None = None,
    scored: pd.DataFrame | None = None,
) -> GenerationResults:
    """Write images, their sheets and their table; return the record for the report.

    Images are put in order by the score that heads the page. Where that is not better than
    chance, examples are drawn at random.

    Parameters
    ----------
    writer
        Of the participant's products.
    result
        File of what the step made.
    trials
        One row per trial.
    config
        Settings, which say what guided the images.
    scored
        The metrics of images that were made; None: nothing was scored, and examples are ranked.
    """
    from bids_neurodecode.report.facts import parts_in_images

    folder, facts = result.parent, read_record(GenerationFacts, result)
    foreign = find_generator(facts.generator)
    table = read_table(folder / 'pictures.tsv')
    # averages of repeats where there are any: single trials are scored, not kept
    rows = np.flatnonzero((table['space'] == table['space'].iloc[0]).to_numpy())
    table = table.iloc[rows].reset_index(drop=True)
    table['picture'] = picture_labels(table)
    named = with_trials(table, trials)
    texts = column_texts('reconstructions')
    for metric, declared in METRICS.items():
        texts.setdefault(sample_column(metric), {'Description': OF_FINAL + declared.meaning})
    made = GenerationResults(
        generator=facts.generator,
        why=facts.why,
        regressor=facts.regressor,
        facts=facts.facts,
        caution='' if foreign is None else foreign.caution,
        guided_by=facts.guided_by,
        n_pictures=len(table),
        table=writer.table(
            'predictions',
            named,
            columns={name: text for name, text in texts.items() if name in named},
            more=_DESC,
        ),
        folder=write_pictures(writer, folder, table, rows),
    )
    guides, _ = parts_in_images(made, config)
    ranked = scored is None or tells_images_apart(scored, guides)
    order = score_of(table, ranked_by(table, scored, guides))
    return replace(
        made,
        sheets=write_sheets(writer, folder, order, rows),
        examples=write_examples(writer, folder, table, rows, order if ranked else None),
    )


_DESC = {'desc': DESC}


def picture_labels(table: pd.DataFrame) -> list[str]:
    """Return a label for the files of each image: that of its stimulus, where one is enough.

    Parameters
    ----------
    table
        Columns ``stimulus``, ``fold`` and, where known, ``sample``.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [('a/cat 1.png', 0, 3), ('dog.png', 0, 5), ('dog.png', 1, 7), ('dog.png', 1, 8)]
    >>> picture_labels(pd.DataFrame(rows, columns=['stimulus', 'fold', 'sample']))
    ['acat1', 'dogfold00', 'dogfold01trial7', 'dogfold01trial8']
    """
    stimuli = table['stimulus'].astype(str)
    label = unique_labels(stimuli.unique().tolist())
    names = [label[name] for name in stimuli]
    names = _told_apart(names, [f'fold{int(fold):02d}' for fold in table['fold']])
    if 'sample' in table:
        names = _told_apart(names, [f'trial{int(sample)}' for sample in table['sample']])
    return _told_apart(names, [f'picture{row}' for row in range(len(names))])


def _told_apart(names: list[str], by: list[str]) -> list[str]:
    """Lengthen the names that occur more than once (file systems may ignore case)."""
    count = Counter(name.casefold() for name in names)
    return [n if count[n.casefold()] == 1 else n + more for n, more in zip(names, by, strict=True)]


def write_pictures(
    writer: ProductWriter, folder: Path, table: pd.DataFrame, rows: IndexArray
) -> Path:
    """Write initial and final images as PNG; return their folder.

    Parameters
    ----------
    table
        One row per image that is written.
    rows
        Where each lies in the arrays.
    """
    places = []
    for stage in STAGES:
        pictures = np.load(folder / f'{stage}.npy', mmap_mode='r')
        for name, row in zip(table['picture'], rows, strict=True):
            path = writer.output_dir / stimulus_path(writer.entities, name, 'image', stage)
            write_picture(path, np.asarray(pictures[row]))
            places.append(path)
    writer.written.extend(places)
    return places[0].parent


def score_of(table: pd.DataFrame, metric: str) -> FloatArray:
    """Return what images are put in order by: their score, ties by pixel correlation.

    Parameters
    ----------
    table
        One row per image.
    metric
        Which score.
    """
    score = np.zeros(len(table))
    for column, weight in ((sample_column(metric), 1.0), ('pixcorr_final', 1e-3)):
        if column in table:
            score += weight * np.nan_to_num(table[column].to_numpy(dtype=float))
    return score


def write_examples(
    writer: ProductWriter,
    folder: Path,
    table: pd.DataFrame,
    rows: IndexArray,
    order: FloatArray | None,
) -> Path:
    """Keep the images that the report shows: a table, and ``.npy`` beside it.

    Parameters
    ----------
    writer
        Of the participant's products.
    folder
        Of reconstructions.
    table
        One row per sample.
    rows
        Row numbers of the images.
    order
        Of :func:`score_of`: the best, the median and the worst are shown. None: they are drawn at
        random.
    """
    names = table['stimulus'].astype(str).tolist()
    if order is not None:
        kinds, picked = pick_examples(order, EXAMPLES, names)
    else:
        kinds, picked = draw_examples(names, 2 * EXAMPLES)
    examples = table.iloc[picked].assign(kind=kinds)
    label, task = writer.entities['sub'], writer.entities['task']
    log = writer.output_dir / f'sub-{label}' / 'log'
    name = f'sub-{label}_task-{task}_pictures'
    np.save(folder / 'examples.npy', tiles(folder, rows[picked]))
    copy_file(folder / 'examples.npy', log / f'{name}.npy')
    write_tsv(log / f'{name}.tsv', examples)
    writer.written.extend([log / f'{name}.npy', log / f'{name}.tsv'])
    return log / f'{name}.tsv'


def tiles(folder: Path, rows: IndexArray) -> Uint8Array:
    """Return truth, initial, final and retrieved images at one size, (n, 4, s, s, 3).

    Where nothing was retrieved there are three.

    Parameters
    ----------
    folder
        Of reconstructions.
    rows
        Row numbers of the images.
    """
    from bids_neurodecode.models.sampling import resize_pictures

    files = [folder / f'{kind}.npy' for kind in KINDS]
    columns = [np.load(file, mmap_mode='r')[rows] for file in files if file.exists()]
    return np.stack([_enlarged(pixels, resize_pictures) for pixels in columns], axis=1)


def _enlarged(pixels: Uint8Array, resize: Any) -> Uint8Array:
    """Bring images to the size of a tile: small ones pixel by pixel, large ones smoothly."""
    side = pixels.shape[1]
    if TILE % side == 0:
        factor = TILE // side
        return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    return np.asarray(resize(np.ascontiguousarray(pixels), TILE))


def write_sheets(
    writer: ProductWriter, folder: Path, score: FloatArray, rows: IndexArray
) -> tuple[Path, ...]:
    """Write all images beside what was shown: one row per image, the best first.

    Parameters
    ----------
    writer
        Of the participant's products.
    folder
        Of reconstructions.
    score
        Of each image (:func:`score_of`).
    rows
        Row numbers of the images.
    """
    order = np.argsort(-score, kind='stable')
    sheets = []
    parts = [order[i : i + SHEET_ROWS] for i in range(0, len(order), SHEET_ROWS)]
    for number, part in enumerate(parts, start=1):
        path = writer.path('sheet', desc=f'pictures{number:02d}' if len(parts) > 1 else 'pictures')
        write_picture(path, sheet_of(tiles(folder, rows[part])))
        sheets.append(path)
    return tuple(sheets)


def sheet_of(pictures: Uint8Array, n_columns: int = 4) -> Uint8Array:
    """Set images on one white sheet.

    Parameters
    ----------
    pictures
        Shape (n, k, s, s, 3): each of n samples as k images, which are set side by side.
    n_columns
        Samples in a row of the sheet.

    Returns
    -------
    numpy.ndarray
        Shape (height, width, 3).
    """
    n, k, side = pictures.shape[:3]
    n_columns = min(n_columns, n)
    n_rows = -(-n // n_columns)
    step, wide = side + 4, k * side + 16
    sheet = np.full((n_rows * step + 4, n_columns * wide, 3), 255, dtype=np.uint8)
    for i in range(n):
        top, left = 4 + (i // n_columns) * step, 8 + (i % n_columns) * wide
        sheet[top : top + side, left : left + k * side] = np.concatenate(pictures[i], axis=1)
    return sheet
