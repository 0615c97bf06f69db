"""The section on what went in: runs, and what was shown when."""

from __future__ import annotations

from bids_neurodecode.bids.records import OF_RESPONSES
from bids_neurodecode.report import design
from bids_neurodecode.report.build import Block, Bullets, Fold, Table, Text
from bids_neurodecode.report.reader import Reader, read_table
from bids_neurodecode.report.results import RunResults

_LONG = 4
"""Runs from which their table is closed until it is clicked."""


def data_section(reader: Reader) -> tuple[Block, ...]:
    """List the runs and where they come from, and show the design."""
    return (*_used(reader), *_design(reader))


def _used(reader: Reader) -> tuple[Block, ...]:
    results = reader.results
    regressed = _regressed(reader)
    rows = tuple(
        (
            run.label,
            str(run.n_volumes),
            f'{run.repetition_time:g}',
            str(run.n_trials),
            _confounds(run, regressed),
            run.bold.name,
        )
        for run in results.runs
    )
    table = Table(
        ('run', 'volumes', 'TR (s)', 'trials', 'confounds regressed out', 'series'),
        rows,
        f'Runs of task {results.task}, in the order in which they were used.',
        frozenset({1, 2, 3}),
        folded=len(rows) > _LONG,
    )
    sources = ', '.join(results.derivatives) or 'none'
    space = results.space or 'native (no space entity in the names)'
    space = f'{space}, {results.resolution}' if results.resolution else space
    facts = [
        f'Dataset: {results.bids_name}; derivatives: {sources}.',
        f'Space: {space}.',
        # why a generator was taken is said where its images are
        *(x for x in results.notes if results.generation is None or x != results.generation.why),
    ]
    return (Bullets(tuple(facts)), table)


def _regressed(reader: Reader) -> str:
    """Say which confounds were regressed out; empty where it is not known."""
    results, config = reader.results, reader.config
    if config is None or results.layout in OF_RESPONSES or config.betas.precomputed is not None:
        return ''
    return ', '.join([*config.clean.strategy, *config.clean.columns]) or 'none'


def _confounds(run: RunResults, regressed: str) -> str:
    """Say what was regressed out of a run, and what could have been."""
    if run.confounds is None:
        return f'{regressed or "not known"} (no table of them)'
    n = '' if run.n_confounds is None else f'{run.n_confounds} '
    return f'{regressed or "not known"} ({n}available)'


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
