"""Precomputed single-trial betas of a derived dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.bids.series import Grid, check_grid, open_image, read_header
from bids_neurodecode.bids.timing import read_table, read_texts, stimulus_names
from bids_neurodecode.bids.trials import shown_column
from bids_neurodecode.errors import InputError
from bids_neurodecode.spaces import EXTENSIONS, files_of, form_of

NO_BETAS = (
    'No single-trial betas of {who} in {folder}: no file {expected}. '
    'Add it, or let the betas be estimated.'
)
SEVERAL_BETAS = 'Several single-trial betas of {who}: {files}. Keep one, or choose one --space.'
NO_TABLE = 'No table for {betas}: no {expected} beside it. Add it: one row per volume.'
ROWS = '{table} has {rows} rows, but {betas} has {volumes} volumes. They must be one to one.'


def find_betas(
    maps: Sequence[Path], tables: Sequence[Path], runs: Sequence[RunInput], folder: Path
) -> tuple[Path, Path]:
    """Find the betas of the participant, task and space of some runs, and their table.

    Parameters
    ----------
    maps
        Files ``*_desc-singletrial_statmap``, of any participant.
    tables
        Files ``*_desc-singletrial_events.tsv``.
    runs
        Runs of one participant.
    folder
        The derived dataset, named in errors.

    Raises
    ------
    InputError
        If they are missing, there twice, on another grid than the runs, or not one row per volume.
    """
    run = runs[0]
    wanted = {'sub': run.entities['sub'], 'task': run.entities['task']}
    place = {'space': run.space, 'res': run.resolution, 'den': run.density}
    fits = [
        path
        for path in maps
        if form_of(path) == form_of(run.bold)
        and not path.name.endswith('.json')
        and path == files_of(path)[0]
        and parse_entities(path).get('stat') == 'effect'
        and _has(path, {**wanted, **place})
    ]
    who = f'sub-{wanted["sub"]} task-{wanted["task"]}'
    if not fits:
        stem = '_'.join(f'{k}-{v}' for k, v in {**wanted, **place}.items() if v is not None)
        form = form_of(run.bold)
        extension = '.nii.gz' if form is None else EXTENSIONS[form]['series']
        expected = f'{stem}_stat-effect_desc-singletrial_statmap{extension}'
        raise InputError(NO_BETAS.format(who=who, folder=folder, expected=expected))
    if len(fits) > 1:
        raise InputError(SEVERAL_BETAS.format(who=who, files=', '.join(map(str, fits))))
    betas = fits[0]
    able = [path for path in tables if _has(path, wanted) and path.parent == betas.parent]
    if len(able) != 1:
        expected = f'sub-{wanted["sub"]}_task-{wanted["task"]}_desc-singletrial_events.tsv'
        raise InputError(NO_TABLE.format(betas=betas, expected=expected))
    _check(betas, able[0], run)
    return betas, able[0]


def _has(path: Path, wanted: dict[str, str] | dict[str, str | None]) -> bool:
    own = parse_entities(path)
    return all(own.get(key) == value for key, value in wanted.items())


def _check(betas: Path, table_file: Path, run: RunInput) -> None:
    header = read_header(betas)
    check_grid(header.grid, betas, Grid.of(open_image(run.bold)), run.bold)
    table = read_table(table_file)
    if (
        shown_column(read_texts(run.events).columns) == 'stim_file'
        or 'trial_type' not in table.columns
    ):
        stimulus_names(table, table_file)
    if len(table) != header.n_volumes:
        raise InputError(
            ROWS.format(table=table_file, rows=len(table), betas=betas, volumes=header.n_volumes)
        )
