"""Reads each file of a participant's results once, for the sections of the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.bids.names import clean_label
from bids_neurodecode.report import quality, scores
from bids_neurodecode.report.build import Plot
from bids_neurodecode.report.results import ParticipantResults

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bids_neurodecode.config import Config


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads each file once and makes the sections from it."""

    results: ParticipantResults

    @cached_property
    def config(self) -> Config | None:
        """The settings of the run."""
        from bids_neurodecode.config import load_config

        return None if self.results.config is None else load_config(self.results.config)

    @cached_property
    def metrics(self) -> pd.DataFrame | None:
        """The metrics table."""
        path = self.results.metrics
        return None if path is None else scores.read_metrics(path)

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """The table of held-out samples."""
        return read_table(self.results.predictions)

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
        """Return the file name of a figure."""
        entities = f'sub-{clean_label(self.results.participant)}'
        task = clean_label(self.results.task)
        return f'{entities}_task-{task}_desc-{desc}_{suffix}.svg'

    def plot(
        self, desc: str, figure: Figure, caption: str, alt: str, suffix: str = 'figure'
    ) -> Plot:
        """Return a figure under its file name."""
        return Plot(self.name(desc, suffix), figure, caption, alt)


def read_table(path: Path | None) -> pd.DataFrame | None:
    """Read a TSV; names stay text even where they look like numbers or like nothing."""
    import pandas as pd

    if path is None:
        return None
    names = ('stimulus', 'retrieved', 'identified', 'trial_type', 'run', 'session', 'name')
    return pd.read_csv(
        path, sep='\t', na_values=['n/a'], keep_default_na=False, dtype=dict.fromkeys(names, str)
    )
