"""The clock of films that nobody was scanned with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TOO_SHORT = 'The film {name} lasts {duration:g} s, less than one volume of {tr:g} s. Leave it out.'


def clock_of_films(durations: Mapping[str, float], repetition_time: float) -> pd.DataFrame:
    """Lay volumes over films: one row per volume that a film fills.

    Parameters
    ----------
    durations
        Seconds, by name of the film.
    repetition_time
        Seconds a volume.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`~bids_neurodecode.bids.trials.film_table`; each film is a run of its
        own that begins with it.

    Raises
    ------
    DataError
        If a film is shorter than a volume.
    """
    import pandas as pd

    parts = []
    for number, (name, duration) in enumerate(durations.items()):
        n_volumes = int(np.floor(duration / repetition_time + 1e-6))
        if n_volumes < 1:
            raise DataError(TOO_SHORT.format(name=name, duration=duration, tr=repetition_time))
        onset = (np.arange(n_volumes) * repetition_time).round(6)
        parts.append(
            pd.DataFrame(
                {
                    'stimulus': [f'{name}#{row:05d}' for row in range(n_volumes)],
                    'film': name,
                    'onset': onset,
                    'run': number,
                    'run_label': name,
                    'session': '1',
                    'showing': number,
                    'run_onset': onset,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
