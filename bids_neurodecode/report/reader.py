"""Reads each file of a participant's results once, for the sections of the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bids_neurodecode.bids.names import clean_label
from bids_neurodecode.config import Config, load_config
from bids_neurodecode.errors import ReportError
from bids_neurodecode.report import quality, scores
from bids_neurodecode.report.build import Plot
from bids_neurodecode.report.facts import parts_in_images
from bids_neurodecode.report.results import ParticipantResults
from bids_neurodecode.tables import IDENTIFIERS
from bids_neurodecode.text import COMMAND

if TYPE_CHECKING:
    from matplotlib.figure import Figure


UNREADABLE = (
    'Cannot make the report of {who} from its results: {reason}. Run it again; '
    'finished steps are reused.'
)


MOVED = (
    'Cannot make the report of {who}: there is no {file}. Were the output folder or the data '
    'moved? Results name files by where they lie from the output folder: put both back as they '
    'lay, or run the participant level again (finished steps are reused).'
)


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads each file once and makes the sections from it."""

    results: ParticipantResults

    @cached_property
    def config(self) -> Config | None:
        """The settings of the run."""
        return None if self.results.config is None else load_config(self.results.config)

    @cached_property
    def command(self) -> str:
        """The command of the run, as its log has it for the page; empty where the log is gone."""
        file = self.results.config
        log = None if file is None else file.parents[3] / 'logs' / f'{self.results.run_id}.log'
        if log is None or not log.is_file():
            return ''
        with log.open(encoding='utf-8', errors='replace') as lines:
            return next((x.partition(COMMAND)[2].strip() for x in lines if COMMAND in x), '')

    @cached_property
    def metrics(self) -> pd.DataFrame | None:
        """The metrics table."""
        path = self.results.metrics
        return None if path is None else scores.read_metrics(path)

    @cached_property
    def guides(self) -> tuple[str, ...]:
        """Features that had a part in the images that were made."""
        made = self.results.generation
        return () if made is None else parts_in_images(made, self.config)[0]

    @cached_property
    def image_size(self) -> int | None:
        """Pixels a side of the images that were made."""
        from PIL import Image

        made = self.results.generation
        file = None if made is None else next(made.folder.glob('*_desc-final_image.png'), None)
        if file is None:
            return None
        with Image.open(file) as image:
            return int(max(image.size))

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """The held-out samples that the main score is over."""
        table = read_table(self.results.predictions)
        if table is None or 'space' not in table.columns or table.empty:
            return table
        row = None if self.metrics is None else scores.headline(self.metrics)
        spaces = table['space'].unique()
        space = row['space'] if row is not None and row['space'] in spaces else spaces[0]
        shown: pd.DataFrame = table[table['space'] == space].reset_index(drop=True)
        return shown

    @cached_property
    def motion(self) -> list[quality.RunMotion]:
        """Head motion of the runs whose confounds tables hold it."""
        motions = []
        for run in self.results.runs:
            table = read_table(run.confounds)
            if table is not None:
                found = quality.run_motion(run.label, run.repetition_time, table)
                motions += [] if found is None else [found]
        return motions

    def name(self, desc: str, suffix: str = 'figure') -> str:
        """Return the file name of a figure.

        Parameters
        ----------
        desc, suffix
            Of the figure.
        """
        entities = f'sub-{clean_label(self.results.participant)}'
        task = clean_label(self.results.task)
        return f'{entities}_task-{task}_desc-{desc}_{suffix}.svg'

    def plot(
        self, desc: str, figure: Figure, caption: str, alt: str, suffix: str = 'figure'
    ) -> Plot:
        """Return a figure under its file name.

        Parameters
        ----------
        desc, suffix
            Of the figure's name.
        figure
            Drawn.
        caption
            Below it.
        alt
            What it shows, for those who cannot see it.
        """
        return Plot(self.name(desc, suffix), figure, caption, alt)


@contextmanager
def reading(who: str) -> Iterator[None]:
    """Turn a file that is gone or broken into a one-line error of the report.

    Raises
    ------
    ReportError
        In the place of errors of the system, of parsing and of missing columns.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ReportError(MOVED.format(who=who, file=error.filename or error)) from error
    except (OSError, ValueError, KeyError) as error:
        reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
        raise ReportError(UNREADABLE.format(who=who, reason=reason)) from error


def read_table(path: Path | None) -> pd.DataFrame | None:
    """Read a TSV; names stay text even where they look like numbers or like nothing."""
    if path is None:
        return None
    text = dict.fromkeys((*IDENTIFIERS, 'run'), str)
    return pd.read_csv(path, sep='\t', na_values=['n/a'], keep_default_na=False, dtype=text)


def confidence_of(reader: Reader) -> float:
    """Return the coverage of the intervals of a participant's scores."""
    return 0.95 if reader.config is None else reader.config.evaluation.confidence


def page_file(output_dir: Path, participant: str, task: str) -> Path | None:
    """Return the page of a participant and task; None where there is none.

    The page of the first task is ``sub-<label>.html``; those of further tasks carry theirs.

    Parameters
    ----------
    output_dir
        Of the run.
    participant, task
        Labels.
    """
    names = (f'sub-{participant}_task-{task}.html', f'sub-{participant}.html')
    return next((output_dir / name for name in names if (output_dir / name).is_file()), None)
