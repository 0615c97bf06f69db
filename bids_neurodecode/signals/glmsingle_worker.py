"""Runs the ``glmsingle`` package in a process and folder of its own (see ``glmsingle.py``).

The package empties its output folder, writes into the working folder, prints, and changes its
inputs; none of that matters where nothing else lives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode.processes import die_with

WANTED = {
    'typea': ('onoffR2', 'meanvol'),
    'typeb': ('HRFindex', 'R2', 'betasmd'),
    'typec': ('R2', 'betasmd', 'pcnum', 'noisepool', 'xvaltrend', 'glmbadness'),
    'typed': (
        *('R2', 'betasmd', 'pcnum', 'noisepool', 'xvaltrend', 'glmbadness'),
        *('FRACvalue', 'rrbadness'),
    ),
}


def main(folder: Path) -> None:
    """Read what :mod:`~bids_neurodecode.signals.glmsingle` wrote, run, write ``results.npz``."""
    from glmsingle.glmsingle import GLM_single

    job = json.loads((folder / 'job.json').read_text('utf-8'))
    runs = range(job['n_runs'])
    options: dict[str, Any] = dict(job['options'])
    options['fracs'] = np.asarray(options['fracs'])
    options['sessionindicator'] = np.asarray(options['sessionindicator'])
    if job['has_extra']:
        options['extra_regressors'] = [np.load(folder / f'extra-{run}.npy') for run in runs]
    results = GLM_single(options).fit(
        [np.load(folder / f'design-{run}.npy') for run in runs],
        [np.load(folder / f'data-{run}.npy') for run in runs],
        job['stimulus_duration'],
        job['repetition_time'],
        outputdir=str(folder / 'outputs'),
    )
    found = {
        f'{model}__{name}': np.asarray(results[model][name])
        for model, names in WANTED.items()
        if model in results
        for name in names
        if results[model].get(name) is not None
    }
    np.savez(folder / 'results.npz', allow_pickle=False, **found)


if __name__ == '__main__':
    die_with(int(sys.argv[2]))
    main(Path(sys.argv[1]))
