"""Which confounds are regressed out of a run: nilearn's strategies, and columns by name.

The strategies name groups of fMRIPrep's confounds as
:func:`nilearn.interfaces.fmriprep.load_confounds` does.
"""

from __future__ import annotations

import difflib
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.tables import read_table, to_numbers
from bids_neurodecode.text import did_you_mean, one_line

STRATEGIES = (
    'motion', 'wm_csf', 'global_signal', 'compcor', 'ica_aroma', 'scrub', 'high_pass',
)  # fmt: skip
"""Names of :func:`nilearn.interfaces.fmriprep.load_confounds` that can be asked for."""

MISSING_COLUMNS = (
    'The confounds in {source} have no column(s) {columns}{near}. '
    'Choose among: {available} (clean.columns).'
)
BAD_COLUMNS = (
    'The confound(s) {columns} in {source} are missing (n/a), not numbers, or too large for '
    'single precision in {n} volume(s) beyond the first. Leave these columns out (clean.columns).'
)
UNKNOWN_STRATEGY = 'There is no confound strategy {name!r}.{near} Choose among: {known}.'
STRATEGY_UNAVAILABLE = (
    'The confounds in {source} do not allow the strategy(ies) {strategies} ({reason}). '
    'They allow: {available}. Or name columns (clean.columns).'
)
NO_CONFOUNDS = 'No confounds table was found for {source}. Ask for no confounds, or add the table.'
WRONG_LENGTH = (
    'The confounds in {source} have {rows} rows for a series of {volumes} volumes. '
    'Regenerate the derivatives.'
)


@dataclass(frozen=True, eq=False)
class Confounds:
    """What is regressed out of one run.

    Attributes
    ----------
    values
        Shape (n_volumes, n_confounds), in the units of the table, without gaps.
    names
        Names of the columns.
    kept
        Shape (n_volumes,): false for volumes that scrubbing or non-steady state censors.
    """

    values: npt.NDArray[np.float64]
    names: tuple[str, ...]
    kept: npt.NDArray[np.bool_]

    def with_spikes(self) -> npt.NDArray[np.float64]:
        """Return the values beside one indicator a censored volume, for a linear model.

        A model with these regressors fits as if the censored volumes had been cut out.
        """
        return np.hstack([self.values, np.eye(len(self.kept))[:, ~self.kept]])


def available_strategies(columns: Sequence[str]) -> list[str]:
    """Return the strategies that a confounds table with these columns allows."""
    return [name for name in STRATEGIES if not _lacking(name, columns)]


def _lacking(strategy: str, columns: Sequence[str]) -> list[str]:
    """Return the columns that a strategy misses."""
    if strategy in {'compcor', 'ica_aroma', 'high_pass'}:
        stem = {'compcor': 'a_comp_cor_', 'ica_aroma': 'aroma', 'high_pass': 'cosine'}[strategy]
        return [] if any(stem in column for column in columns) else [f'{stem}*']
    return [name for name in _needed(strategy) if name not in columns]


def _needed(strategy: str) -> list[str]:
    """Return the columns that a strategy needs by name."""
    return {
        'motion': [
            f'{kind}_{axis}{suffix}'
            for kind in ('trans', 'rot')
            for axis in 'xyz'
            for suffix in ('', '_derivative1', '_power2', '_derivative1_power2')
        ],
        'wm_csf': ['csf', 'white_matter'],
        'global_signal': ['global_signal'],
        'scrub': ['framewise_displacement', 'std_dvars'],
    }.get(strategy, [])


def select_confounds(
    table: pd.DataFrame, columns: Sequence[str], source: str = 'the table'
) -> npt.NDArray[np.float64]:
    """Take columns of a confounds table.

    Parameters
    ----------
    table
        One row per volume.
    columns
        Names of columns.
    source
        What an error names as the file.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_columns). Derivatives have no value in the first volume; they get
        that of the second, as in nilearn.

    Raises
    ------
    DataError
        For a column that is not there (near names are given), or that has other gaps.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(_missing_columns(missing, list(table.columns), source))
    chosen = table[list(columns)].apply(pd.to_numeric, errors='coerce')
    values = chosen.to_numpy(dtype=np.float64, copy=True)
    if len(values) > 1:
        values[0] = np.where(np.isnan(values[0]), values[1], values[0])
    gaps = ~(np.abs(values) <= np.finfo(np.float32).max)
    if gaps.any():
        bad = [name for name, gap in zip(columns, gaps.any(axis=0), strict=True) if gap]
        raise DataError(
            BAD_COLUMNS.format(columns=', '.join(bad), source=source, n=int(gaps.any(1).sum()))
        )
    return np.asarray(values)


def _missing_columns(missing: list[str], available: list[str], source: str) -> str:
    near = {match for name in missing for match in difflib.get_close_matches(name, available, n=3)}
    return MISSING_COLUMNS.format(
        source=source,
        columns=', '.join(missing),
        near=f' (near: {", ".join(sorted(near))})' if near else '',
        available=', '.join(available[:30]) + (' ...' if len(available) > 30 else ''),
    )


def load_confounds(
    table: Path | None,
    n_volumes: int,
    strategy: Sequence[str] = (),
    columns: Sequence[str] = (),
    source: str = 'this run',
) -> Confounds:
    """Read what is to be regressed out of one run from its confounds file.

    Parameters
    ----------
    table
        fMRIPrep's ``desc-confounds_timeseries.tsv`` (its JSON beside it where there is one), or
        None where the run has no such file.
    n_volumes
        Volumes of the series.
    strategy
        Strategies as nilearn names them, with nilearn's defaults (24 motion parameters; means of
        white matter and CSF; anatomical CompCor of the combined mask with the cosines that it
        was made with; AROMA's noise components; scrubbing above .5 mm or 1.5 standardised DVARS).
        With any strategy, non-steady-state volumes are censored too.
    columns
        Further columns, by name.
    source
        What an error names as the run when there is no table.

    Returns
    -------
    Confounds
        Without columns, and with all volumes kept, if nothing was asked for.

    Raises
    ------
    InputError
        If the file is not there, does not fit the series, or lacks what was asked for.
    DataError
        If a column has gaps.
    """
    kept = np.ones(n_volumes, dtype=bool)
    if not strategy and not columns:
        return Confounds(np.empty((n_volumes, 0)), (), kept)
    if table is not None:
        check_fetched(table)
        check_fetched(table.with_suffix('.json'))
    if table is None or not table.is_file():
        raise InputError(NO_CONFOUNDS.format(source=table or source))

    frame = read_table(table)
    if len(frame) != n_volumes:
        raise InputError(WRONG_LENGTH.format(source=table, rows=len(frame), volumes=n_volumes))
    check_confounds(list(frame.columns), strategy, columns, source=str(table))
    chosen = pd.DataFrame(index=frame.index)
    if strategy:
        chosen, kept = _by_strategy(table, frame, strategy)
    names = [*chosen.columns, *(name for name in columns if name not in chosen.columns)]
    given = {name: to_numbers(frame, name, table) for name in names if name in frame}
    every = pd.DataFrame(given, index=frame.index).assign(**chosen)
    return Confounds(select_confounds(every, names, str(table)), tuple(names), kept)


def check_confounds(
    available: Sequence[str],
    strategy: Sequence[str],
    columns: Sequence[str],
    source: str = 'the table',
) -> None:
    """Check that a confounds table with the columns ``available`` has what is asked for.

    Parameters
    ----------
    available
        Columns of the table.
    strategy
        Names of :data:`STRATEGIES`.
    columns
        Single columns that are asked for by their names.
    source
        What the table is called in a message.

    Raises
    ------
    InputError
        For a strategy or a column that it does not allow, naming what it does.
    """
    for name in strategy:
        if name not in STRATEGIES:
            told = {'near': did_you_mean(name, STRATEGIES), 'known': ', '.join(STRATEGIES)}
            raise InputError(UNKNOWN_STRATEGY.format(name=name, **told))
    lacking = {name: _lacking(name, available) for name in strategy}
    lacking = {name: missing for name, missing in lacking.items() if missing}
    if lacking:
        missing = [column for group in lacking.values() for column in group]
        raise InputError(
            STRATEGY_UNAVAILABLE.format(
                source=source,
                strategies=', '.join(lacking),
                reason='no ' + ', '.join(missing[:4]) + (' ...' if len(missing) > 4 else ''),
                available=', '.join(available_strategies(available)) or 'none',
            )
        )
    absent = [name for name in columns if name not in available]
    if absent:
        raise InputError(_missing_columns(absent, list(available), source))


def _by_strategy(
    table: Path, frame: pd.DataFrame, strategy: Sequence[str]
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Let nilearn choose the columns and the volumes to keep."""
    from nilearn.interfaces import fmriprep

    for name in frame.columns.intersection([x for each in strategy for x in _needed(each)]):
        to_numbers(frame, name, table)
    wanted = list(dict.fromkeys(strategy))
    if 'compcor' in wanted and 'high_pass' not in wanted:
        wanted.append('high_pass')  # the components were made of high-passed series
    with tempfile.TemporaryDirectory() as folder:
        # nilearn finds the table by the name of an image beside it; ours may be named otherwise
        stem = Path(folder) / 'sub-x_task-x_desc-'
        frame.to_csv(f'{stem}confounds_timeseries.tsv', sep='\t', index=False, na_rep='n/a')
        sidecar = table.with_suffix('.json')
        if sidecar.is_file():
            shutil.copyfile(sidecar, f'{stem}confounds_timeseries.json')
        try:
            with warnings.catch_warnings():
                # a run without a volume left is refused with a line of our own
                warnings.filterwarnings('ignore', 'All volumes were marked', RuntimeWarning)
                chosen, kept_rows = fmriprep.load_confounds(
                    f'{stem}preproc_bold.nii.gz',
                    strategy=wanted,
                    ica_aroma='basic',
                    demean=False,
                    # fMRIPrep's; defaults of nilearn differ between its versions
                    fd_threshold=0.5,
                    std_dvars_threshold=1.5,
                )
        except (LookupError, TypeError, ValueError, RecursionError, AttributeError) as error:
            reason = one_line(error).replace(str(folder), str(table.parent))
            raise InputError(
                STRATEGY_UNAVAILABLE.format(
                    source=table,
                    strategies=', '.join(wanted),
                    reason=reason,
                    available='the others',
                )
            ) from error
    kept = np.ones(len(frame), dtype=bool)
    if kept_rows is not None:
        kept[:] = False
        kept[kept_rows] = True
    return chosen, kept
