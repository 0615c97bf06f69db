"""What a dry run prints: what would be read, run and written."""

from __future__ import annotations

from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.cli.resolved import resolved, steps_of
from bids_neurodecode.config import Config
from bids_neurodecode.extensions import system_named
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.systems.steps.records import system_of

DRY = 'Dry run: nothing is run and nothing is written.'


def describe(arguments: Arguments, config: Config, inputs: DatasetInput) -> str:
    """Write what a call would do.

    Parameters
    ----------
    arguments, config
        The call and its settings.
    inputs
        What :func:`bids_neurodecode.cli.checks.check_all` found.

    Returns
    -------
    str
        Lines of text, for a person.
    """
    lines = [DRY, '', 'Read', f'  raw dataset: {inputs.bids_dir}']
    lines += [f'  derivatives {name}: {path}' for name, path in inputs.derivatives.items()]
    for person in inputs.participants:
        lines += _participant(person, files=arguments.verbose > 0)
    lines += [f'  left out, sub-{label}: {why}' for label, why in inputs.failures.items()]
    lines += ['', 'Run', *(f'  {line}' for line in _steps(arguments, config, inputs))]
    if _trains_or_applies(arguments):
        found = resolved(arguments, config, inputs) or ['nothing is "auto"']
        lines += ['', 'What "auto" becomes', *(f'  {line}' for line in found)]
        if arguments.study is None:
            lines += ['', 'Needs', *(f'  {line}' for line in steps_of(arguments, config, inputs))]
    lines += ['', 'Write', f'  results: {arguments.output_dir}']
    lines += [
        f'    sub-{person.label}.html, sub-{person.label}/ (func, models, figures, log)'
        for person in inputs.participants
        if arguments.study is None
    ]
    if arguments.analysis_level == 'group' and arguments.study is None:
        lines.append('    group.html')
    lines.append(f'  intermediate files: {arguments.work_dir}')
    if any(person.layout != 'bids' for person in inputs.participants):
        lines.append(f'  tables and masks that the layout lacks: made in {arguments.work_dir}')
    if arguments.bids_database_dir is not None:
        lines.append(f'  index: {arguments.bids_database_dir}')
    if inputs.notes:
        lines += ['', 'Found', *(f'  {note}' for note in inputs.notes)]
    return '\n'.join(lines) + '\n'


def _trains_or_applies(arguments: Arguments) -> bool:
    only_texts = arguments.writes_texts_only
    return arguments.analysis_level == 'participant' and not only_texts


def _participant(person: ParticipantInput, *, files: bool) -> list[str]:
    lines = [f'  sub-{person.label}: {len(person.stimuli)} stimuli in {person.stimuli_dir}']
    if person.of_conditions:
        lines = [f'  sub-{person.label}: conditions {", ".join(person.conditions)} (trial_type)']
    volumes = sum(run.n_volumes for run in person.runs)
    if not files:
        some = (
            f'{len(person.runs)} runs, {volumes} volumes (files: -v)' if person.runs else 'no BOLD'
        )
        lines.append(f'    {some}')
    for run in person.runs if files else ():
        lines += [
            f'    {run.label}: {run.n_volumes} volumes, TR {run.repetition_time:g} s',
            f'      series     {run.bold}',
            f'      mask       {run.mask}',
            f'      confounds  {run.confounds or "none"}',
            f'      events     {run.events}',
        ]
    if person.betas is not None:
        lines.append(f'    betas: {person.betas} ({person.betas_events})')
    return lines


def _features(config: Config, inputs: DatasetInput) -> str:
    people = inputs.participants
    if people and all(person.of_conditions for person in people):
        return 'none (conditions)'
    return TABLE if any(person.features for person in people) else config.features.extractor


def _steps(arguments: Arguments, config: Config, inputs: DatasetInput) -> list[str]:
    if arguments.analysis_level == 'group':
        return ['gather the results of all participants']
    if arguments.boilerplate_only:
        return ['write the methods text']
    if arguments.reports_only:
        return ['regenerate the reports']
    steps = _responses(config, inputs)
    confounds = ', '.join([*config.clean.strategy, *config.clean.columns]) or 'none'
    steps.append(f'confounds regressed out: {confounds}')
    if arguments.level != 'full':
        end = f'and no more (--level {arguments.level})'
        return [*steps, f'reliability and a report of the responses, {end}']
    return steps + _analysis(arguments, config, inputs)


def _responses(config: Config, inputs: DatasetInput) -> list[str]:
    """Say what the responses of each paradigm are."""
    steps = []
    people = {person.paradigm: person for person in inputs.participants}
    for paradigm, person in sorted(people.items()):
        if not any(person.runs for person in inputs.participants):
            response = 'no BOLD; responses are predicted'
        elif person.of_films:
            response = f'series aligned with the films by a delay of {config.delay.seconds:g} s'
        elif not inputs.participants[0].has_series:
            response = f'single-trial betas in {inputs.participants[0].betas}'
        elif config.betas.precomputed is not None:
            response = f'single-trial betas of the derivatives {config.betas.precomputed!r}'
        else:
            response = f'single-trial betas, model {config.betas.model} ({config.betas.engine})'
        steps.append(f'{paradigm}: {response}')
    return steps


def _analysis(arguments: Arguments, config: Config, inputs: DatasetInput) -> list[str]:
    """Say what is done with the responses."""
    verb = 'train and evaluate' if arguments.mode == 'train' else 'apply'
    steps = {
        f'{verb} the system': config.system,
        'voxels': f'{config.selection.measure} ({config.selection.rule})',
        'held out': f'by {config.split.by}',
        'features': _features(config, inputs),
    }
    for paradigm in dict.fromkeys(person.paradigm for person in inputs.participants):
        tell = system_named(system_of(config, paradigm)).described
        steps |= tell(config, arguments.mode) if tell else {}
    steps['features'] += f'; seed {config.seed}'
    if config.atlas.given:
        regions = ', '.join(config.atlas.regions) or 'all regions'
        steps['atlas'] = f'{config.atlas.said} ({regions})'
    return [f'{name}: {said}' for name, said in steps.items()]
