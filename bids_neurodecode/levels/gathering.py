"""What the variants of a study left in the output folder, put together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import locked
from bids_neurodecode.bids.sink import write_json, write_text, write_tsv
from bids_neurodecode.errors import InputError
from bids_neurodecode.report.results import ParticipantResults, common_form
from bids_neurodecode.report.study import StudyResults, write_study_report
from bids_neurodecode.study import StudyPlan, Variant
from bids_neurodecode.systems.steps.records import config_of, find_results, read_results
from bids_neurodecode.tables import column_texts
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import step

STUDIES = 'studies'
NO_RESULTS = 'no results; run it'
OTHER_SETTINGS = 'its results are of other settings; run it again'


@step('report', seconds=25, makes=('page',), always=True, memory=lambda _: 0.9)
def gather_study(
    call: Call, plan_json: str, task: str, asked: str, reasons: dict[str, str]
) -> Mapping[str, object]:
    """Put together what all variants left in the output folder: tables, figure, page.

    Under a lock, as the tasks of a job array may end at the same time: each reads what all have
    written so far, so that the last one reads everything.

    Parameters
    ----------
    call
        Where the study lies.
    plan_json
        The study and its variants, as JSON.
    task, asked
        Whose results ought to be there: the task, and labels of participants (between spaces).
    reasons
        Why some have none.
    """
    plan = StudyPlan.from_json(plan_json)
    target = study_folder(call.output_dir, plan)
    file = target / '.study.lock'
    with locked(file):
        return {'page': write_study(collect(plan, target, task, asked.split(), reasons), target)}


def study_folder(output_dir: Path, plan: StudyPlan) -> Path:
    """Return the folder of a study.

    Parameters
    ----------
    output_dir
        Of the run.
    plan
        The study.
    """
    return output_dir / STUDIES / plan.name


def collect(
    plan: StudyPlan,
    folder: Path,
    task: str,
    asked: Sequence[str],
    reasons: Mapping[str, str],
) -> StudyResults:
    """Read the scores of every participant and variant.

    Parameters
    ----------
    plan, folder
        The study, and where its variants lie.
    task
        Whose results are read.
    asked
        Labels of participants who ought to have results, beside those who have some.
    reasons
        Why there are none, by ``participant/variant``.
    """
    from bids_neurodecode.report.reader import Reader
    from bids_neurodecode.report.study_scores import sample_scores

    found = {variant.name: results_of(folder / variant.name, task) for variant in plan.variants}
    people = sorted({*asked, *(label for files in found.values() for label in files)})
    tables, samples, records = [], [], []
    missing, pages = [], []
    for variant in plan.variants:
        keys: dict[str, Any] = {
            'variant': variant.name, 'label': variant.label, 'seed': variant.seed,
        }  # fmt: skip
        for label in people:
            file = found[variant.name].get(label)
            record = None if file is None else read_results(file)
            failure = reasons.get(f'{label}/{variant.name}')
            if record is None or failure is not None or not same_settings(record, variant):
                why = failure or (NO_RESULTS if record is None else OTHER_SETTINGS)
                missing.append((label, variant.name, why))
                continue
            records.append(record)
            metrics = Reader(record).metrics
            if metrics is not None:
                tables.append(metrics.assign(participant=label, **keys))
            single = sample_scores(record, plan.settings.metrics)
            samples.append(single.assign(participant=label, **keys))
            pages += [(label, variant.name, page) for page in _pages(folder, variant, record)]
    table = pd.concat(tables, ignore_index=True) if tables else _empty()
    parts = [part for part in samples if len(part)]
    kept = pd.concat(parts, ignore_index=True) if parts else _empty('stimulus')
    return StudyResults(plan, table, kept, missing, pages, __version__, common_form(records))


def results_of(folder: Path, task: str) -> dict[str, Path]:
    """Return the records in the folder of a variant by participant; none where there is none.

    Parameters
    ----------
    folder
        Of the variant.
    task
        Label of the task.
    """
    try:
        files = find_results(folder, task=task)
    except InputError:
        return {}
    return {file.parent.parent.name.removeprefix('sub-'): file for file in files}


def same_settings(record: ParticipantResults, variant: Variant) -> bool:
    """Return whether results are of the settings of a variant.

    What is ``auto`` there, or left open, may have become anything in the results.

    Parameters
    ----------
    record
        Of a participant.
    variant
        Of the study.
    """
    found, wanted = config_of(record).model_dump(), variant.config.model_dump()
    return _agree(found, wanted)


def _agree(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            if not _agree(found[key], value):
                return False
        elif value not in {'auto', None} and found[key] != value:
            return False
    return True


def _pages(folder: Path, variant: Variant, record: ParticipantResults) -> list[str]:
    stem = f'{variant.name}/sub-{record.participant}'
    names = (f'{stem}.html', f'{stem}_task-{record.task}.html')
    return [name for name in names if (folder / name).exists()][:1]


def _empty(*more: str) -> pd.DataFrame:
    names = ('system', 'model', 'protocol', 'split', 'space', 'metric', 'value', 'chance')
    keys = ('ceiling', 'participant', 'variant', 'label', 'seed', *more)
    return pd.DataFrame({name: [] for name in (*names, *keys)})


def write_study(results: StudyResults, folder: Path) -> Path:
    """Write the tables, the figure and the page of a study; return the page.

    Parameters
    ----------
    results
        Of all variants.
    folder
        That is written into.

    Raises
    ------
    ReportError
        If the page cannot be made; the tables are there then.
    """
    from bids_neurodecode.evaluation.metrics import METRICS, describe_columns

    plan = results.plan
    write_text(folder / 'study.toml', plan.text)
    names = {axis.name: f'axis_{_word(axis.name)}' for axis in plan.settings.axes}
    table = results.table.drop(columns='label')
    keys = ['participant', 'variant', 'seed']
    for axis, name in names.items():
        values = {variant.name: variant.values[axis] for variant in plan.variants}
        table[name] = table['variant'].map(values)
    rest = [column for column in table if column not in {*keys, *names.values()}]
    write_tsv(folder / f'{plan.name}_metrics.tsv', table[[*keys, *names.values(), *rest]])
    about = {
        'participant': 'Label of the participant.',
        'variant': 'Folder of the variant.',
        'seed': 'Seed of the run.',
        **{name: f'{axis}, of the variant.' for axis, name in names.items()},
    }
    used = sorted(set(table['metric']) & set(METRICS))
    content = {name: {'Description': text} for name, text in about.items()}
    content |= describe_columns(used)
    write_json(folder / f'{plan.name}_metrics.json', content)
    write_tsv(folder / f'{plan.name}_summary.tsv', summary_table(results))
    write_json(folder / f'{plan.name}_summary.json', column_texts('study_scores'))
    page = folder / f'{plan.name}.html'
    write_study_report(results, page, folder / 'figures')
    return page


def summary_table(results: StudyResults) -> pd.DataFrame:
    """Return one row per metric and variant, and one a published value."""
    rows: list[dict[str, Any]] = []
    for summary in results.summaries:
        found = summary.difference
        rows.append(
            {
                'metric': summary.metric,
                'variant': summary.label,
                'mean': summary.mean,
                'sd': summary.spread,
                'sd_seeds': summary.seed_spread,
                'n_participants': summary.n_participants,
                'n_seeds': summary.n_seeds,
                'chance': summary.chance,
                'ceiling': summary.ceiling,
            }
        )
        if found is not None:
            rows[-1] |= {
                'difference': found.mean,
                'difference_low': found.low,
                'difference_high': found.high,
                'difference_p': found.p,
                'n_pairs': found.n,
                'pairs': summary.unit,
            }
    for row in results.plan.settings.published:
        name = f'{row.label} ({row.source})'
        value = {'metric': row.metric, 'variant': row.variant, 'published': name}
        rows.append({**value, 'mean': row.value})
    table = pd.DataFrame(rows, columns=list(column_texts('study_scores')))
    counts = dict.fromkeys(('n_participants', 'n_seeds', 'n_pairs'), 'Int64')
    return table.astype(counts)


def _word(name: str) -> str:
    return re.sub(r'\W+', '_', name).strip('_').lower()
