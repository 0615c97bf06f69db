"""The page of one participant: reads the files of its results and puts the sections together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bids_neurodecode.extensions import said_by, system_named
from bids_neurodecode.models.generators import shown_name
from bids_neurodecode.report import pagehead, provisos, scores, verdicts
from bids_neurodecode.report.boilerplate import cited, in_words, methods_of
from bids_neurodecode.report.build import (
    Block,
    Bullets,
    Code,
    Fold,
    Heading,
    Page,
    References,
    Section,
    Table,
    Text,
    Verdict,
    Verdicts,
    pages_beside,
    write_page,
)
from bids_neurodecode.report.facts import drawn_of, held_out_of, shows_clips, without_counts
from bids_neurodecode.report.reader import Reader, reading
from bids_neurodecode.report.results import ParticipantResults, StageResults
from bids_neurodecode.report.section_data import data_section
from bids_neurodecode.report.section_gallery import images_at_the_head
from bids_neurodecode.report.section_quality import quality_section
from bids_neurodecode.report.section_scores import READING, scores_section
from bids_neurodecode.report.section_signal import (
    brain_section,
    ceiling_text,
    reliability_text,
    where_text,
)
from bids_neurodecode.report.style import collecting_later

HOW_TO_READ = 'What scores, baselines, intervals, p values and claims say'
INTRO = (
    'This text is of this participant and may be used in a paper as it is; that of all '
    'participants is in logs/CITATION.md.'
)
INTRO_GROUP = (
    'This text is of all participants (numbers that differ between them are given as spans) and '
    'may be used in a paper as it is; the same is in logs/CITATION.md.'
)


def write_participant_report(results: ParticipantResults, html: Path, figures_dir: Path) -> None:
    """Write the page of one participant, and its figures as SVG.

    Parameters
    ----------
    results
        What the workflow found and made.
    html
        The page, such as ``OUT/sub-01.html``.
    figures_dir
        Folder of the figures, such as ``OUT/sub-01/figures``.

    Raises
    ------
    ReportError
        If a file of the results is gone or broken.
    """
    with reading(f'sub-{results.participant}'), collecting_later():
        own = {f'sub-{results.participant}', f'sub-{results.participant} task-{results.task}'}
        links = tuple(link for link in pages_beside(html) if link[0] not in own)
        write_page(_page(Reader(results), links), html, figures_dir, results.form)


def _page(reader: Reader, links: tuple[tuple[str, Path], ...] = ()) -> Page:
    results = reader.results
    sections = [
        Section('summary', 'Summary', _summary(reader)),
        Section('scores', 'Scores', scores_section(reader)),
        *_of_system(results, reader),
        Section('brain', 'Brain', brain_section(reader)),
        Section('quality', 'Quality', quality_section(reader)),
        Section('data', 'Data and design', data_section(reader)),
        Section('reading', 'How to read this page', (how_to_read(),)),
        Section('warnings', 'Warnings and errors', _warnings(reader)),
        Section('methods', 'Methods', methods_blocks(reader)),
        Section('provenance', 'Provenance', _provenance(reader)),
    ]
    subtitle = ' · '.join(
        [results.bids_name, f'task {results.task}', results.space or 'native space']
    )
    title = f'Participant {results.participant}: {results.system}'
    if results.members:
        title = f'Mean of {len(results.members)} participants: {results.system}'
    return Page(
        title,
        subtitle,
        tuple(section for section in sections if section.blocks),
        f'bids_neurodecode {results.version}, run {results.run_id}',
        links,
    )


def _of_system(results: ParticipantResults, reader: Reader) -> tuple[Section, ...]:
    """Return the sections of the system."""
    # responses alone are no system that can be asked for
    sections = system_named(results.system).sections if results.fits_models else None
    return () if sections is None else tuple(sections(reader))


def _summary(reader: Reader) -> tuple[Block, ...]:
    results = reader.results
    blocks: list[Block] = []
    lines: list[Any] = []
    guides = reader.guides
    row = None if reader.metrics is None else scores.page_headline(reader.metrics, guides)
    if row is None or reader.metrics is None:
        ceilings = ceiling_text(results)
        blocks.append(Text((ceilings or 'No score was computed.',)))
    else:
        confidence = 0.95 if reader.config is None else reader.config.evaluation.confidence
        n_folds = None if results.split is None else results.split.n_folds
        sure = not results.leaks
        head = pagehead.make_headline(row, confidence, n_folds, sure=sure, metrics=reader.metrics)
        blocks.append(head)
        told = verdicts.verdicts_of_page(reader.metrics, confidence, guides)
        lines = [*pagehead.beside_headline(told, row, confidence)]
    reliability = reliability_text(results)
    lines += [
        provisos.split_verdict(results),
        provisos.series_verdict(results),
        provisos.betas_verdict(results),
        provisos.tuning_verdict(results),
        provisos.voxel_verdict(results),
        *(Verdict('info', text) for text in (where_text(results), reliability) if text),
        provisos.motion_verdict(reader.motion),
        provisos.warning_verdict(results),
    ]
    found, n_leaks = provisos.with_leaks(results, lines), len(results.leaks)
    parts = (found[:n_leaks], found[n_leaks:])
    above, below = ((Verdicts(part),) if part else () for part in parts)
    intro = Text((_what_was_done(reader),))
    return (*above, intro, *images_at_the_head(reader), *blocks, *below)


def _what_was_done(reader: Reader) -> str:
    results = reader.results
    shown = {
        'movie': 'saw films',
        'conditions': f'was in {_n_conditions(results)} conditions',
    }.get(results.paradigm, 'saw short films' if shows_clips(results) else 'saw single images')
    aim = {
        'betas': 'estimates the brain response to each trial',
        'responses': 'cleans the series, puts them on the clock of the film, and measures how '
        'well they agree',
    }.get(results.system) or system_named(results.system).aim
    n_trials = sum(run.n_trials for run in results.runs)
    minutes = sum(run.n_volumes * run.repetition_time for run in results.runs) / 60
    # a film is no trial, though its row in the events is counted as one
    counted = n_trials and not results.of_films
    trials = f' with {n_trials} trials' if counted else ''
    text = (
        f'Participant {results.participant} {shown} in {len(results.runs)} '
        f'run{"s" * (len(results.runs) != 1)}{trials} ({minutes:.0f} minutes of fMRI). The '
        f'program {aim}.'
    )
    if results.members:
        text = (
            f'The mean of {len(results.members)} participants who saw {len(results.runs)} '
            f'film{"s" * (len(results.runs) != 1)} ({minutes:.0f} minutes). The program relates '
            'the films to the mean response; it says nothing of any one of them.'
        )
    if results.split is not None:
        by = results.split.by
        how = {
            'given': 'as the dataset gives it',
            'imagery': 'as imagined',
            'imagery-unseen': 'as imagined',
        }.get(by, f'by {by}')
        voxels = results.voxels
        chosen = voxels is None or voxels.n_scored or voxels.n_selected < voxels.n_mask
        fitted = 'Voxels were selected and models fitted' if chosen else 'Models were fitted'
        text += (
            f' {fitted} on training samples, and judged on samples held out {how} '
            f'({results.split.protocol}).'
        )
        held_out = held_out_of([results.split])
        text += f' {held_out[:1].upper()}{held_out[1:]}.' if held_out else ''
        drawn = drawn_of([results.split])
        text += f' {drawn}' if drawn else ''
    return text


def _n_conditions(results: ParticipantResults) -> int:
    return 0 if results.conditions is None else len(results.conditions.names)


def how_to_read() -> Fold:
    """Return the lines that every page carries."""
    file = resources.files('bids_neurodecode') / 'data' / 'report' / 'reading.txt'
    lines = Bullets(tuple(file.read_text('utf-8').splitlines()))
    return Fold(HOW_TO_READ, (lines,), READING)


def _warnings(reader: Reader) -> tuple[Block, ...]:
    warnings, crashes = reader.results.warnings, _crashes(reader.results)
    return (
        Heading('Warnings'),
        Verdicts(tuple(Verdict('caution', line) for line in warnings))
        if warnings
        else Text(('None.',)),
        Heading('Errors'),
        Bullets(crashes) if crashes else Text(('No errors in this run.',)),
    )


def _crashes(results: ParticipantResults) -> tuple[str, ...]:
    """Return, of each crash file in the log of the run, its name and what it ends with."""
    if results.config is None:
        return ()
    told = []
    for file in sorted(results.config.parent.glob('crash-*.txt')):
        lines = [x.strip() for x in file.read_text('utf-8', errors='replace').splitlines()]
        last = next((line for line in reversed(lines) if line), '')
        told.append(f'{last} ({file.parent.name}/{file.name})')
    return tuple(told)


def methods_blocks(reader: Reader) -> tuple[Block, ...]:
    """Return the methods text of a participant, and the works that it cites."""
    return methods_of_all([reader])


def methods_of_all(readers: Sequence[Reader]) -> tuple[Block, ...]:
    """Return one methods text for participants, and the works that it cites."""
    config = readers[0].config if readers else None
    if config is None:
        return ()
    paragraphs = methods_of([reader.results for reader in readers], config)
    entries = tuple((work.text, work.address) for work in cited(paragraphs))
    intro = INTRO if len(readers) == 1 else INTRO_GROUP
    text = Text(tuple(in_words(paragraph) for paragraph in paragraphs))
    return (Text((intro,)), Fold('Methods and references', (text, References(entries))))


def _provenance(reader: Reader) -> tuple[Block, ...]:
    results = reader.results
    lines = [f'Program: bids_neurodecode {results.version}.', f'Run: {results.run_id}.']
    lines += [f'Command: {reader.command}'] if reader.command else []
    blocks: list[Block] = [Bullets(tuple(lines))]
    if chosen := what_auto_became(reader):
        caption = 'What settings that are "auto" became'
        blocks.append(Table(('setting', 'in this run'), chosen, caption, folded=True))
    if results.stages:
        blocks.append(_stage_table(results.stages))
    if results.versions:
        rows = tuple((name, version) for name, version in results.versions.items())
        blocks.append(Table(('software', 'version'), rows, 'Versions', folded=True))
    if results.config is not None:
        text = results.config.read_text('utf-8')
        blocks.append(Code('All settings of this run (TOML)', text))
    return tuple(blocks)


def what_auto_became(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Return each setting that is ``auto``, and what it became by the record of the run."""
    config, found = reader.config, reader.results
    if config is None:
        return ()
    betas, split, voxels, made = found.betas, found.split, found.voxels, found.generation
    rows = [('system', config.system, found.system)]
    if betas is not None:
        scored = ', '.join(f'{m} in {n}' for m, n in Counter(betas.fold_models).items())
        each = f'; of the betas that are scored, by fold: {scored}' if scored else ''
        rows.append(('betas.model', config.betas.model, f'{betas.model}, as written{each}'))
    if split is not None:
        rows.append(('split.by', config.split.by, f'{split.by} ({split.protocol})'))
    if voxels is not None:
        rule = without_counts(voxels.rule)
        rows.append(('selection.measure', config.selection.measure, rule))
    if made is not None:
        generator = config.reconstruction.generator
        rows.append(('reconstruction.generator', generator, shown_name(made.generator)))
    if (became := said_by(found.system).became) is not None:
        rows += became(config)
    return tuple((name, became) for name, setting, became in rows if setting == 'auto')


def _stage_table(stages: tuple[StageResults, ...]) -> Table:
    def memory(value: float | None) -> str:
        return 'n/a' if value is None else f'{value:.2f}'

    rows = [(stage.name, f'{stage.seconds:.1f}', memory(stage.memory_gb)) for stage in stages]
    known = [stage.memory_gb for stage in stages if stage.memory_gb is not None]
    total = f'{sum(stage.seconds for stage in stages):.1f}'
    rows.append(('sum of times, peak of memory', total, memory(max(known, default=None))))
    caption = 'Time and peak memory of each stage; stages that ran side by side overlap.'
    return Table(('stage', 'seconds', 'memory (GB)'), tuple(rows), caption, frozenset({1, 2}))
