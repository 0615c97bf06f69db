"""The section on what went in: runs, and what was shown when."""

from __future__ import annotations

from bids_neurodecode.report import design
from bids_neurodecode.report.build import Block, Bullets, Fold, Table, Text
from bids_neurodecode.report.reader import Reader, read_table

_LONG = 4
"""Runs from which their table is closed until it is clicked."""


def data_section(reader: Reader) -> tuple[Block, ...]:
    """List the runs and where they come from, and show the design."""
    return (*_used(reader), *_design(reader))


def _used(reader: Reader) -> tuple[Block, ...]:
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
        folded=len(rows) > _LONG,
    )
    sources = ', '.join(results.derivatives) or 'none'
    facts = [
        f'Dataset: {results.bids_name}; derivatives: {sources}.',
        f'Space: {results.space or "native (no space entity in the names)"}.',
        *results.notes,
    ]
    return (Bullets(tuple(facts)), table)


def _design(reader: Reader) -> tuple[Block, ...]:
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
    when = reader.plot(
        'design',
        design.plot_events(trials),
        'When each trial was shown. One row per run, time from its first volume in seconds; bars '
        'run from onset to end. Look for orders that repeat over runs (what comes before a trial '
        'could then be decoded instead of it) and for long gaps.',
        f'Raster of {len(trials)} trials over {len(design.run_order(trials))} runs.',
    )
    often = reader.plot(
        'repeats',
        design.plot_repeats(trials),
        f'How often each of the {kind} was shown over all runs. Repeats are what noise ceilings '
        'and the choice of noise components rest on.',
        f'Presentations of {len(counts)} {kind}: each shown {times}.',
    )
    return (Text((text,)), Fold('When each trial was shown, and how often', (when, often)))


def _times(low: int, high: int) -> str:
    if low == high:
        return 'once' if low == 1 else f'{low} times'
    return f'{low} to {high} times'
