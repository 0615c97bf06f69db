"""Sections on what went in: runs, design, head motion, and how the betas were made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.report import design, quality
from bids_neurodecode.report.build import Block, Bullets, Table, Text
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import BetaResults, RunResults
from bids_neurodecode.report.style import percent
from bids_neurodecode.spaces import load_image

CARPET_VOXELS = 1500
"""The most voxels that the carpet shows, taken evenly over the mask."""


def used_section(reader: Reader) -> tuple[Block, ...]:
    """List the runs and where they come from."""
    results = reader.results
    rows = tuple(
        (
            run.label,
            str(run.n_volumes),
            f'{run.repetition_time:g}',
            str(run.n_trials),
            'yes' if run.confounds else 'none',
            run.bold.name,
        )
        for run in results.runs
    )
    table = Table(
        ('run', 'volumes', 'TR (s)', 'trials', 'confounds', 'series'),
        rows,
        f'Runs of task {results.task}, in the order in which they were used.',
        frozenset({1, 2, 3}),
    )
    sources = ', '.join(results.derivatives) or 'none'
    facts = [
        f'Dataset: {results.bids_name}; derivatives: {sources}.',
        f'Space: {results.space or "native (no space entity in the names)"}.',
        *results.notes,
    ]
    return (Bullets(tuple(facts)), table)


def design_section(reader: Reader) -> tuple[Block, ...]:
    """Show what was shown when, and how often."""
    trials = read_table(reader.results.trials)
    if trials is None or trials.empty:
        return (Text(('There are no single trials in this design.',)),)
    kind = 'stimuli'
    if 'stimulus' not in trials.columns:
        kind, trials = 'conditions', trials.assign(stimulus=trials['trial_type'])
    counts = trials['stimulus'].value_counts()
    lengths = trials['duration'].unique()
    times = _times(int(counts.min()), int(counts.max()))
    text = (
        f'{len(trials)} trials of {len(counts)} {kind}, each shown {times}; '
        f'{lengths.min():g}' + (f' to {lengths.max():g}' if len(lengths) > 1 else '') + ' s long.'
    )
    return (
        Text((text,)),
        reader.plot(
            'design',
            design.plot_events(trials),
            'When each trial was shown. One row a run, time from its first volume in seconds; '
            'bars run from onset to end. Look for orders that repeat over runs (what comes '
            'before a trial could then be decoded instead of it) and for long gaps.',
            f'Raster of {len(trials)} trials over {len(design.run_order(trials))} runs.',
        ),
        reader.plot(
            'repeats',
            design.plot_repeats(trials),
            f'How often each of the {kind} was shown over all runs. Repeats are what noise '
            'ceilings and the choice of noise components rest on.',
            f'Presentations of {len(counts)} {kind}: each shown {times}.',
        ),
    )


def _times(low: int, high: int) -> str:
    if low == high:
        return 'once' if low == 1 else f'{low} times'
    return f'{low} to {high} times'


def motion_section(reader: Reader) -> tuple[Block, ...]:
    """Show head motion by run, and the carpet of the run that has most of it."""
    motion = reader.motion
    if not motion:
        return (Text(('No confounds table with motion parameters was found.',)),)
    rows = tuple(
        (
            str(number),
            run.label,
            f'{run.mean:.3f}',
            f'{run.maximum:.3f}',
            percent(run.share_moved),
            f'{run.drift:.2f}',
        )
        for number, run in enumerate(motion, 1)
    )
    computed = any(run.computed for run in motion)
    origin = 'computed here from the motion parameters' if computed else 'from the confounds'
    table = Table(
        (
            '#',
            'run',
            'mean FD (mm)',
            'largest FD (mm)',
            f'FD > {quality.FD_LIMIT:g} mm',
            'drift (mm)',
        ),
        rows,
        f'Head motion by run. FD: framewise displacement, {origin} (head radius 50 mm); '
        'drift: largest distance from the first volume.',
        frozenset({0, 2, 3, 4, 5}),
    )
    figure = reader.plot(
        'motion',
        quality.plot_motion(motion),
        'Head motion over all runs, end to end (runs are shaded in turn and numbered as in '
        'the table). Top: framewise displacement in mm, dashed line at '
        f'{quality.FD_LIMIT:g} mm. Below: translations (mm) and rotations (degrees) along and '
        'about x (left to right), y (back to front), z (feet to head).',
        f'Motion traces of {len(motion)} runs; largest displacement '
        f'{max(run.maximum for run in motion):.2f} mm.',
    )
    return (table, figure, *_carpet(reader))


def _carpet(reader: Reader) -> Iterable[Block]:
    worst = max(reader.motion, key=lambda run: run.mean)
    run = next(run for run in reader.results.runs if run.label == worst.label)
    series = _read_series(run, CARPET_VOXELS)
    if series is None:
        return
    yield reader.plot(
        'carpet',
        quality.plot_carpet(series, run.repetition_time, worst.displacement),
        f'The run with the most motion ({run.label}), {series.shape[1]} voxels spread evenly '
        'over the mask, in the order of the mask; each row is one voxel over time, detrended '
        'and z-scored, on grey levels from the 2nd to the 98th percentile. Vertical bands '
        'that go through all voxels at peaks of framewise displacement (top) are artefacts '
        'of motion.',
        f'Carpet plot of {run.label}.',
        suffix='carpetplot',
    )


def denoising_section(reader: Reader) -> tuple[Block, ...]:
    """Say how the betas were made and which number of noise components was chosen."""
    betas = reader.results.betas
    if betas is None:
        return ()
    if betas.model == 'precomputed':
        return (Text((f'Betas were there already: {betas.engine}.',)),)
    text = [f'Betas: model {betas.model} ({betas.engine} engine).']
    if betas.n_noise_pool is not None:
        limit = betas.onoff_threshold
        below = '' if limit is None else f' (bright, ON-OFF R² below {limit:.1f} %)'
        text.append(f'{betas.n_noise_pool} voxels{below} made up the noise pool.')
    if betas.tuning == 'training':
        text.append('Choices were made on the training trials of each fold.')
    else:
        text.append('Choices were made on all trials.')
    blocks: list[Block] = [Text((' '.join(text),))]
    if betas.model_scores:
        blocks.append(_compared_models(betas))
    if betas.component_curves and betas.n_components:
        chosen = ', '.join(str(k) for k in betas.n_components)
        blocks.append(
            reader.plot(
                'components',
                quality.plot_components(betas.component_curves, betas.n_components),
                'How much better repeats of a stimulus predict each other when noise '
                'components are regressed out (arbitrary units; 0: no components; higher is '
                'better). The dot marks the number chosen: the smallest that comes within 5 % '
                'of the best. A curve that never rises means that denoising does not help.',
                f'Gain by number of noise components; chosen: {chosen}.',
            )
        )
    return tuple(blocks)


def _compared_models(betas: BetaResults) -> Table:
    fits = ['all trials', *(f'fold {n}' for n, _ in enumerate(betas.fold_models, 1))]
    rows = tuple(
        (fit, *(f'{100 * scores[each]:.1f}' for each in 'BCD'), model)
        for fit, scores, model in zip(
            fits, betas.model_scores, (betas.model, *betas.fold_models), strict=True
        )
    )
    return Table(
        ('training trials of', 'B (%)', 'C (%)', 'D (%)', 'chosen'),
        rows,
        'How the model of the betas was chosen within training trials: share of pairs in which a '
        'presentation in runs held out there is told from another stimulus (chance 50 %), by '
        'ridge regression on the rest. B: response of a library; C: with noise components; D: '
        'with fractional ridge too, both chosen without the runs held out. Test trials took no '
        'part; the betas of all trials serve the final model. These are no scores of the decoder.',
        frozenset({1, 2, 3}),
    )


def _read_series(run: RunResults, n_voxels: int) -> npt.NDArray[Any] | None:
    """Read voxels spread over the mask, (n_volumes, n_voxels); None where files are gone."""
    if not run.bold.exists() or not run.mask.exists():
        return None
    mask = np.asarray(load_image(run.mask).dataobj) > 0
    data = np.asarray(load_image(run.bold).dataobj)
    if data.shape[:3] != mask.shape[:3]:
        return None
    places = np.flatnonzero(mask.reshape(-1))
    if not places.size:
        return None
    places = places[np.linspace(0, places.size - 1, min(n_voxels, places.size)).astype(int)]
    series = np.asarray(data.reshape(-1, data.shape[-1])[places].T, dtype=np.float64)
    return series if np.ptp(series, axis=0).any() else None
