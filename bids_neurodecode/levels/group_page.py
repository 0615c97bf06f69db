"""The page of the group: scores over participants, quality beside them, mean maps."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.maps import MAPS, MapSpec, maps_of
from bids_neurodecode.evaluation.metrics import BASELINE
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.levels.group_scores import (
    averaged,
    compare_over_participants,
    gather_metrics,
    group_verdict,
    guides_of,
    keys_of,
    mean_metrics,
    mean_score,
    same_score,
    verdicts_of_group_images,
)
from bids_neurodecode.levels.participant_page import how_to_read, methods_of_all
from bids_neurodecode.report import brain, scores
from bids_neurodecode.report.boilerplate import cited, in_words
from bids_neurodecode.report.build import (
    Block,
    Bullets,
    Code,
    Fold,
    Heading,
    Headline,
    Page,
    Plot,
    References,
    Section,
    Table,
    Text,
    Verdict,
    Verdicts,
    write_page,
)
from bids_neurodecode.report.cortex import HOW, plot_cortex
from bids_neurodecode.report.facts import Facts, drawn_of
from bids_neurodecode.report.groupmaps import BY_REGION, choose_held_out, mean_map
from bids_neurodecode.report.pagehead import recovered
from bids_neurodecode.report.reader import Reader, reading
from bids_neurodecode.report.results import AboveZero, ParticipantResults, common_form
from bids_neurodecode.report.section_group import (
    above_zero,
    group_gallery,
    page_of,
    plot_all_metrics,
    region_blocks,
    shown_metrics,
)
from bids_neurodecode.report.section_scores import (
    READ,
    comparison_table,
    score_table,
    sizes_of,
    tables_guide,
)
from bids_neurodecode.report.section_signal import (
    CEILINGS,
    analysis_mask,
    ceiling_of,
    load_map,
    sheet_of,
)
from bids_neurodecode.report.style import collecting_later, percent
from bids_neurodecode.report.verdicts import (
    DECODED,
    differences,
    score_verdict,
    test_of,
    worse_verdicts,
)
from bids_neurodecode.spaces import like
from bids_neurodecode.systems.encoding.report.shared import shared_section
from bids_neurodecode.text import span_of

COUNTS = MapSpec(
    'Participants in whom the voxel was selected',
    'number of participants',
    'Voxels that pass the selection in many participants carry the analysis; those of one alone '
    'may be chance.',
    'viridis',
    whole=True,
)
MADE = 'Final reconstructions (second stage): means over participants'
FOLDED = 12
"""Participants from which the table of runs is closed until it is clicked."""

CAVEAT = (
    'A mean above chance says that at least some participants carry the information, not that '
    'most of them do [@allefeld2016prevalence]; the count of participants above chance on their '
    'own says more.'
)


def write_group_report(
    participants: Sequence[ParticipantResults],
    html: Path,
    figures_dir: Path,
    *,
    failures: Mapping[str, str] | None = None,
    shared: Path | None = None,
    regions: Path | None = None,
    tested: Mapping[str, AboveZero] | None = None,
) -> None:
    """Write the page of the group, and its figures as SVG.

    Parameters
    ----------
    participants
        Their results, in the order in which they are shown.
    html
        The page, such as ``OUT/group.html``.
    figures_dir
        Folder of the figures.
    failures
        Participants without results: label, and the one line that says why.
    shared
        Scores of a head that participants share, where there is one.
    regions
        Table of means by region (:func:`~bids_neurodecode.report.groupmaps.region_table`).
    tested
        By map, in how many columns the mean over participants was tested and is above 0.

    Raises
    ------
    ReportError
        If a file of the results is gone or broken.
    """
    with reading('the group'), collecting_later():
        readers = [Reader(results) for results in participants]
        brains = (*_maps(readers, tested or {}), *region_blocks(regions, _seen(readers)))
        page = _page(readers, failures or {}, shared, brains, html.parent)
        write_page(page, html, figures_dir, common_form(participants))


def _page(
    readers: Sequence[Reader],
    failures: Mapping[str, str],
    shared: Path | None,
    brains: tuple[Block, ...],
    folder: Path,
) -> Page:
    methods = methods_of_all(readers)
    metrics = gather_metrics(readers)
    compared = compare_over_participants(metrics) if len(metrics) else metrics
    sections = [
        Section('summary', 'Summary', _summary(readers, failures, metrics, compared)),
        Section('scores', 'Scores', _scores(readers, metrics, compared)),
        Section('shared', 'New participants', shared_section(shared)),
        Section('maps', 'Brain', brains),
        Section('quality', 'Participants and quality', _quality(readers, folder)),
        Section('reading', 'How to read this page', (how_to_read(),) if readers else ()),
        Section('warnings', 'Warnings and errors', _warnings(readers, failures)),
        Section('methods', 'Methods', methods),
        Section('provenance', 'Provenance', _provenance(readers)),
    ]
    tasks = ', '.join(dict.fromkeys(r.results.task for r in readers)) or 'none'
    names = ', '.join(dict.fromkeys(r.results.bids_name for r in readers))
    versions = ', '.join(dict.fromkeys(r.results.version for r in readers))
    links = [(str(cell), cell.link) for cell in (page_of(r, folder) for r in readers)]
    return Page(
        'Group report',
        ' · '.join(part for part in (names, f'task {tasks}') if part),
        tuple(section for section in sections if section.blocks),
        f'bids_neurodecode {versions}'.strip(),
        tuple((name, page) for name, page in links if page is not None),
    )


def _warnings(readers: Sequence[Reader], failures: Mapping[str, str]) -> tuple[Block, ...]:
    """List warnings, each once with those who have it, and participants without results."""
    by: dict[str, list[str]] = {}
    for reader in readers:
        for line in (*reader.results.leaks, *reader.results.warnings):
            by.setdefault(line, []).append(f'sub-{reader.results.participant}')
    lines = tuple(f'{line} ({", ".join(who)})' for line, who in by.items())
    failed = tuple(f'sub-{label}: {reason}' for label, reason in failures.items())
    return (
        Heading('Warnings'),
        Verdicts(tuple(Verdict('caution', line) for line in lines)) if lines else Text(('None.',)),
        Heading('Participants without results'),
        Bullets(failed) if failed else Text(('None.',)),
    )


def _provenance(readers: Sequence[Reader]) -> tuple[Block, ...]:
    """List runs and versions of software; differences between participants stand out."""
    if not readers:
        return ()
    rows = tuple(
        (f'sub-{r.results.participant}', r.results.version, r.results.run_id) for r in readers
    )
    blocks: list[Block] = [
        Table(('participant', 'bids_neurodecode', 'run'), rows, 'Runs', folded=len(rows) > FOLDED)
    ]
    commands = {reader.command: reader.results.run_id for reader in readers if reader.command}
    if commands:
        blocks.append(Bullets(tuple(f'Run {run}: {line}' for line, run in commands.items())))
    found: dict[str, dict[str, None]] = {}
    for reader in readers:
        for name, version in reader.results.versions.items():
            found.setdefault(name, {})[version] = None
    software = tuple((name, ', '.join(several)) for name, several in found.items())
    if software:
        blocks.append(Table(('software', 'version'), software, 'Versions', folded=True))
    return (*blocks, *_settings(readers))


def _settings(readers: Sequence[Reader]) -> Iterable[Block]:
    """Show the settings of all participants: each text once, with whose it is."""
    whose: dict[str, list[str]] = {}
    for reader in readers:
        file = reader.results.config
        if file is not None:
            text = file.read_text('utf-8')
            whose.setdefault(text, []).append(f'sub-{reader.results.participant}')
    for text, who in whose.items():
        of = 'all participants' if len(whose) == 1 else ', '.join(who)
        yield Code(f'All settings of {of} (TOML)', text)


def _summary(
    readers: Sequence[Reader],
    failures: Mapping[str, str],
    metrics: pd.DataFrame,
    compared: pd.DataFrame,
) -> tuple[Block, ...]:
    n = len(readers)
    text = f'{n} participant{"s" * (n != 1)} with results'
    text += f', {len(failures)} without.' if failures else '.'
    facts = Facts.of([reader.results for reader in readers]) if readers else None
    if facts is not None and facts.held_out:
        each = ' in each participant' if n > 1 else ''
        how = f' ({facts.protocol})' if facts.protocol else ''
        text += f' {facts.held_out[:1].upper()}{facts.held_out[1:]}{each}{how}.'
        drawn = drawn_of([r.results.split for r in readers if r.results.split is not None])
        text += f' {drawn}' if drawn else ''
    guides = guides_of(readers)
    lines = _verdicts(metrics, compared, guides) if len(metrics) else []
    if n < MIN_GROUPS:
        # said once, above
        why = f'; not tested: {n} participants, {MIN_GROUPS} are needed'
        lines = [replace(line, text=line.text.replace(why, '')) for line in lines]
    if failures:
        lines.append(Verdict('bad', f'No results for {len(failures)}: see "Warnings and errors".'))
    verdicts = (Verdicts(tuple(lines)),) if lines else ()
    sure = not any(reader.results.leaks for reader in readers)
    head = group_headline(metrics, guides, sure=sure) if len(metrics) else None
    heads = () if head is None else (head,)
    return (Text((text,)), *group_gallery(readers), *heads, *verdicts)


def group_headline(
    metrics: pd.DataFrame, guides: Sequence[str] = (), *, sure: bool = True
) -> Headline | None:
    """Return what heads the page: the mean of the score that heads those of participants.

    Parameters
    ----------
    metrics
        The metrics tables of all participants.
    guides
        Networks that had a part in the images.
    sure
        Whether it may be called good: not where tests were seen in training.
    """
    head = scores.page_headline(metrics, guides)
    if head is None:
        return None
    rows, found = same_score(metrics, head), mean_score(same_score(metrics, head))
    rows = rows[rows['value'].notna()]
    mean = pd.Series(averaged(rows))
    metric, write = scores.metric_of(str(head['metric'])), scores.write_score
    label = f'{scores.title_of(head)}. {metric.meaning}'
    if head['space'] == 'final':
        each = scores.of_final_images(metrics, guides)
        several = [
            same_score(each, row) for _, row in each.drop_duplicates(keys_of(each)).iterrows()
        ]
        label = recovered(pd.DataFrame(map(averaged, several)), mean, sure=sure)
        if sure:
            label += f' {_alone(several)}'
    label += f' Mean over {found.n} participant{"s" * (found.n != 1)}.'
    facts = [('chance', write(head['metric'], found.chance))]
    if mean['ceiling'] > 0:
        facts.append(('noise ceiling (mean)', write(head['metric'], float(mean['ceiling']))))
    few = f'none with {found.n} participants ({MIN_GROUPS} are needed)'
    span = ' to '.join(write(head['metric'], value) for value in (found.low, found.high))
    facts.append(('95 % confidence interval', span if math.isfinite(found.low) else few))
    if math.isfinite(mean['p']):
        facts.append((f'p ({test_of(mean)})', scores.write_p(float(mean['p']))))
    if sure:
        facts.append(('shows', score_verdict(mean).short))
    if found.n_tested and sure and head['space'] != 'final':
        facts.append(
            (
                'participants better than chance on their own (not corrected for their number)',
                f'{found.n_significant} of {found.n_tested}',
            )
        )
    ordered = rows.sort_values('value', ascending=not metric.higher_is_better, kind='stable')
    for name, row in (('best', ordered.iloc[0]), ('worst', ordered.iloc[-1])):
        value = write(head['metric'], float(row['value']))
        facts.append((name, f'{value} (sub-{row["participant"]})'))
    return Headline(write(head['metric'], found.mean), label, tuple(facts))


def _alone(several: Sequence[pd.DataFrame]) -> str:
    """Say by what images are better than chance in how many participants on their own."""
    told = []
    for rows in several:
        found = mean_score(rows)
        if found.n_tested:
            by = scores.judge_of(rows.iloc[0])
            told.append(f'{found.n_significant} of {found.n_tested} by {by}')
    return f'Participants better than chance on their own: {", ".join(told)}.' if told else ''


def _verdicts(
    metrics: pd.DataFrame, compared: pd.DataFrame, guides: Sequence[str]
) -> list[Verdict]:
    """Say what scores show over participants: first of what heads the page."""
    head, row = scores.page_headline(metrics, guides), scores.headline(metrics)
    if head is None or row is None:
        return []
    images = verdicts_of_group_images(metrics, guides)
    lines = images[1:]  # the headline is the first
    told = scores.identified(metrics) if head['metric'] == scores.ENCODED else None
    lines += [] if told is None else [group_verdict(same_score(metrics, told))]
    if images and row['space'] != 'final':
        decoded = group_verdict(same_score(metrics, row))
        lines.append(replace(decoded, text=DECODED.format(text=decoded.text)))
    shown = [head, row] if images else [head]
    for each in shown:
        same = compared['difference'].notna() & (compared['metric'] == each['metric'])
        same &= compared['compared_space'] == each['space']
        lines += differences(compared, compared[same])
    return [*lines, *worse_verdicts(compared, shown=shown)]


def _scores(
    readers: Sequence[Reader], metrics: pd.DataFrame, compared: pd.DataFrame
) -> tuple[Block, ...]:
    if metrics.empty or metrics['value'].isna().all():
        return (Text(('No score was computed.',)),)
    # regions and feature spaces are many: a table for those who look for one
    parts = scores.of_parts(metrics)
    whole = metrics[~parts]
    means = mean_metrics(whole, compared)
    blocks: list[Block] = []
    guides = guides_of(readers)
    figure = _figure(whole, guides)
    if figure is not None:
        blocks.append(figure)
    shown = shown_metrics(means, guides)
    blocks += [tables_guide(shown), READ]
    sets = ((shown[scores.of_pictures(shown)], MADE), (shown[~scores.of_pictures(shown)], None))
    for rows, title in sets:
        if len(rows):
            about = title or 'Means over participants'
            if title:
                blocks += sizes_of(readers, rows)
            blocks.append(score_table(means, rows, title=about))
    blocks.append(Text((in_words(CAVEAT),)))
    folded: list[Block] = [_mean_table(whole)]
    if len(compared):
        folded.append(comparison_table(compared, compared))
    if parts.any():
        caption = 'Scores of regions and feature spaces, over participants.'
        folded.append(replace(_mean_table(metrics[parts]), caption=caption))
    row = scores.page_headline(metrics, guides)
    if row is not None:
        folded.append(_participant_table(same_score(metrics, row)))
    blocks.append(Fold('Every score and comparison, and each participant', tuple(folded)))
    works = tuple((work.text, work.address) for work in cited((CAVEAT,)))
    return (*blocks, References(works))


def _figure(metrics: pd.DataFrame, guides: Sequence[str]) -> Plot | None:
    """Draw all main metrics of all participants in one figure."""
    rows = shown_metrics(metrics, guides)
    models = rows[~rows['model'].map(scores.is_baseline)]
    if models.empty:
        return None
    panels = []
    several = models['model'].nunique() > 1
    for _, own in models.groupby(keys_of(models), sort=False, dropna=False):
        others = rows[rows['model'].str.startswith(BASELINE)]
        for key in keys_of(models):
            if key != 'model':
                others = others[others[key] == own[key].iloc[0]]
        names = (own['model'].iloc[0], own['space'].iloc[0])
        of = ', '.join(str(name) for name in (names if several else names[1:]))
        row = own.iloc[0]
        title = textwrap.fill(f'{scores.title_of(row)} ({of})', 40, break_on_hyphens=False)
        panels.append((title, own, others, mean_score(own)))
    labels = list(dict.fromkeys(metrics['participant']))
    n = len(panels)
    ceiling = 'noise ceilings (orange diamonds), ' if models['ceiling'].notna().any() else ''
    return Plot(
        'group_desc-scores_figure.svg',
        plot_all_metrics(panels, labels),
        f'{n} score{"s" * (n > 1)} of all participants: the model (blue) with its own interval, '
        f'baselines (open), {ceiling}chance (upright strokes), and below the mean over '
        f'participants (black square; with its interval from {MIN_GROUPS} participants on).',
        f'{n} metrics of {len(labels)} participants.',
    )


def _mean_table(metrics: pd.DataFrame) -> Table:
    rows = []
    people = list(dict.fromkeys(metrics['participant']))
    few = len(people) < MIN_GROUPS
    for _, same in metrics.groupby(keys_of(metrics), sort=False, dropna=False):
        name = str(same['metric'].iloc[0])
        found = mean_score(same)
        low, high = (scores.write_score(name, v) for v in (found.low, found.high))
        spread: tuple[str, ...] = ('n/a' if 'n/a' in (low, high) else f'{low} to {high}',)
        if few:
            own = dict(zip(same['participant'], same['value'], strict=True))
            spread = tuple(scores.write_score(name, own.get(label, math.nan)) for label in people)
        rows.append(
            (
                str(same['model'].iloc[0]),
                str(same['space'].iloc[0]),
                scores.title_of(same.iloc[0], size=True),
                scores.write_score(name, found.mean),
                *spread,
                scores.write_score(name, found.chance),
                f'{found.n_significant} of {found.n_tested}' if found.n_tested else 'n/a',
                str(found.n),
            )
        )
    shown = [f'sub-{label}' for label in people] if few else ['95 % interval']
    columns = ('model', 'of', 'metric', 'mean', *shown, 'chance', 'better than chance', 'n')
    caption = (
        'Scores over participants. Better than chance: participants who are on their own, by p '
        'and interval, of those who were tested; n: '
        'participants with this score. Of: what was scored (trials, averages of repeats, voxels; '
        'initial and final are images that were made).'
    )
    return Table(columns, tuple(rows), caption, frozenset(range(3, len(columns))))


def _participant_table(rows: pd.DataFrame) -> Table:
    name = str(rows['metric'].iloc[0])
    cells = tuple(
        (
            f'sub-{row["participant"]}',
            *(scores.write_score(name, float(row[k])) for k in ('value', 'ci_low', 'ci_high')),
            scores.write_p(float(row['p'])),
            f'{row["n"]:.0f}' if math.isfinite(row['n']) else 'n/a',
            score_verdict(row).short,
        )
        for _, row in rows.iterrows()
    )
    columns = ('participant', 'value', 'low', 'high', 'p', 'n', 'shows')
    caption = f'{scores.title_of(rows.iloc[0])} by participant, with its confidence interval.'
    return Table(columns, cells, caption, frozenset(range(1, 6)))


def _quality(readers: Sequence[Reader], folder: Path) -> tuple[Block, ...]:
    rows = []
    for reader in readers:
        results = reader.results
        motion = reader.motion
        mean = f'{np.mean([run.mean for run in motion]):.3f}' if motion else 'n/a'
        moved = percent(float(np.mean([r.share_moved for r in motion]))) if motion else 'n/a'
        voxels = results.voxels
        rows.append(
            (
                page_of(reader, folder),
                str(len(results.runs)),
                str(sum(run.n_trials for run in results.runs)),
                mean,
                moved,
                _median(results, 'tsnr'),
                'n/a' if voxels is None else span_of(voxels.n_scored or (voxels.n_selected,)),
                'n/a' if voxels is None else f'{voxels.n_selected} of {voxels.n_mask}',
                str(len(results.warnings)),
            )
        )
    columns = (
        'participant',
        'runs',
        'trials',
        'mean FD (mm)',
        'FD > 0.5 mm',
        'median tSNR',
        'voxels of scores',
        'of final models',
        'warnings',
    )
    caption = (
        'Data and quality by participant, each linked to the page (means over runs; tSNR: median '
        'over the mask). Voxels: those that scores are of were chosen on the training samples of '
        'each fold, those of maps and final models on all samples.'
    )
    return (Table(columns, tuple(rows), caption, frozenset(range(1, 9))),) if rows else ()


def _median(results: ParticipantResults, key: str) -> str:
    path = results.maps.get(key)
    mask = analysis_mask(results)
    if path is None or not path.exists() or mask is None:
        return 'n/a'
    volume = np.asarray(load_map(path).dataobj, dtype=np.float64)
    values = volume[(np.asarray(mask.dataobj) > 0) & np.isfinite(volume)]
    return f'{np.median(values):.1f}' if values.size else 'n/a'


def _count(readers: Sequence[Reader]) -> Iterable[Plot]:
    """Show in how many participants each voxel was used."""
    having = [
        reader.results
        for reader in readers
        if 'reliable' in reader.results.maps and reader.results.maps['reliable'].exists()
    ]
    found = mean_map(having, 'reliable') if len(having) > 1 else None
    if found is None:
        return
    image, mask = found
    n = len(having)
    counted = like(image, np.rint(n * np.asarray(image.dataobj)).astype(np.float32))
    spec = replace(COUNTS, high=float(n))
    yield Plot(
        'group_desc-count_map.svg',
        brain.plot_map(counted, spec, mask=mask, sheet=sheet_of(having[0], image)),
        f'{COUNTS.title}: of {n}, in the voxels that all of them have. {COUNTS.how_to_read}',
        f'Number of participants by voxel, of {n}.',
    )


def _maps(readers: Sequence[Reader], tested: Mapping[str, AboveZero]) -> tuple[Block, ...]:
    blocks: list[Block] = [*_count(readers)]
    folded: list[Block] = []
    main = [key for key in maps_of() if MAPS[key].mean == 'shown']
    for key in (*main, *(key for key in maps_of() if MAPS[key].mean == 'folded')):
        having = [
            reader.results
            for reader in readers
            if key in reader.results.maps and reader.results.maps[key].exists()
        ]
        if len(having) < 2:
            continue
        spec = MAPS[key]
        chosen = choose_held_out(having, key)
        having, mean = chosen.participants, mean_map(chosen.participants, key)
        if mean is None:
            note = f'{spec.title}: the participants have no grid or no voxels in common'
            blocks.append(Text((f'{note}; an atlas (--atlas) compares them by region.',)))
            continue
        image, mask = mean
        caption = (
            f'{spec.title}, mean of {len(having)} participants in the voxels that all of them '
            f'have. {spec.how_to_read}{_whose(key, having)}{above_zero(tested.get(key))}'
            f'{chosen.note}'
        )
        figure = brain.plot_map(image, spec, mask=mask, sheet=sheet_of(having[0], image))
        alt = f'Mean {spec.title} on slices.'
        (blocks if key in main else folded).append(
            Plot(f'group_desc-{key}_map.svg', figure, caption, alt)
        )
        if spec.glass and all(results.in_mni for results in having):
            whole = plot_cortex(image, spec, mask=mask)
            text = f'{spec.title}, mean of {len(having)} participants, on the cortex. {HOW}'
            if whole is not None:
                folded.append(Plot(f'group_desc-{key}cortex_map.svg', whole, text, alt))
    return (*blocks, *((Fold('More mean maps', tuple(folded)),) if folded else ()))


def _whose(key: str, participants: Sequence[ParticipantResults]) -> str:
    """Say which betas a noise ceiling belongs to, where that is the same in all."""
    said = {ceiling_of(each) for each in participants}
    return said.pop() if key in CEILINGS and len(said) == 1 else ''


def _seen(readers: Sequence[Reader]) -> dict[str, str]:
    """Say of each map who of those who have it was scored on what trained the model."""
    people = [reader.results for reader in readers]
    return {
        key: choose_held_out([each for each in people if key in each.maps], key).note
        for key in BY_REGION
    }
