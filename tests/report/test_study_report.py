"""The page of a study: which rows are shown, what is compared with what, and what is said."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.levels.gathering import summary_table
from bids_neurodecode.report.study import (
    StudyResults,
    score_table,
    seed_table,
    study_headline,
    write_study_report,
)
from bids_neurodecode.report.study_scores import matching, shown_rows
from bids_neurodecode.study import plan_study

NOISE = """
title = "Noise"
question = "What does noise do?"
system = "reconstruction"
metrics = ["pixcorr", "identification_top1"]
reference = "0"
seeds = [{seeds}]
[[axes]]
name = "noise (grey levels)"
key = "reconstruction.noise"
values = [0, 8, 64, 256]
[[published]]
label = "paper"
metric = "pixcorr"
value = 0.197
source = "a paper"
variant = "8"
"""
HEADS = """
title = "Heads"
question = "Which head?"
system = "encoding"
metrics = ["voxel_r_median"]
reference = "ridge"
[[axes]]
name = "head"
[[axes.variants]]
label = "ridge"
settings.encoding.model = "ridge"
[[axes.variants]]
label = "mlp"
settings.encoding.model = "mlp"
"""
SUBJECTS = """
title = "People"
question = "Do people differ?"
system = "encoding"
metrics = ["voxel_r_median"]
"""


def plan_of(tmp_path, text, name='study'):
    (tmp_path / f'{name}.toml').write_text(text)
    return plan_study(tmp_path / f'{name}.toml')


def results_of(plan, people, value, *, samples=None, missing=()):
    """Every participant and variant, ``value(participant, variant)`` being the main score."""
    rows = []
    for variant in plan.variants:
        for person in people:
            for metric in plan.settings.metrics:
                common = {
                    'system': plan.settings.system, 'protocol': 'p', 'split': 'test',
                    'metric': metric, 'ceiling': np.nan, 'participant': person,
                    'variant': variant.name, 'label': variant.label, 'seed': variant.seed,
                    'chance': 0.05, 'n': 10,
                }  # fmt: skip
                score = value(person, variant)
                for model, space, shift in (
                    ('baseline-mean-image', 'a', -0.1),
                    ('main', 'a', 0.0),
                    ('main', 'b', 0.3),
                    ('ridge', 'a', 0.2),
                ):
                    rows.append({**common, 'model': model, 'space': space, 'value': score + shift})
    if samples is None:
        columns = ['metric', 'stimulus', 'value', 'participant', 'label', 'seed']
        samples = pd.DataFrame({name: [] for name in columns})
    pages = [(p, v.name, f'{v.name}/sub-{p}.html') for v in plan.variants for p in people]
    return StudyResults(plan, pd.DataFrame(rows), samples, missing, pages, '1.0')


def effect(person, variant):
    place = {'0': 0.0, '8': 0.02, '64': 0.1, '256': 0.2}.get(variant.label, 0.0)
    return 0.4 + 0.01 * int(person) - place


def test_the_main_model_is_shown_and_another_where_it_is_asked_for(tmp_path):
    plan = plan_of(tmp_path, NOISE.format(seeds='1'))
    results = results_of(plan, ['01', '02'], effect)
    rows = results.rows
    assert set(rows['model']) == {'main'}
    assert set(rows['space']) == {'a'}
    assert len(rows) == 2 * 4 * 2
    asked = plan.settings.model_copy(update={'model': 'ridge', 'space': 'a'})
    assert set(shown_rows(results.table, asked)['model']) == {'ridge'}


def test_final_pictures_are_shown_where_they_are_made(tmp_path):
    """Not the linear decoder, nor the first stage, which stand before them under the same name."""
    plan = plan_of(tmp_path, NOISE.format(seeds='1'))
    table = results_of(plan, ['01', '02'], effect).table
    made = table.replace({'space': {'b': 'final'}})
    rows = shown_rows(made, plan.settings)
    assert set(rows['space']) == {'final'}
    assert set(rows['model']) == {'main'}
    assert len(rows) == 2 * 4 * 2
    metric = plan.settings.metrics[0]
    latents = made[made['metric'] != metric]  # a metric that final images do not have
    rest = made[(made['metric'] == metric) & (made['space'] != 'final')]
    rows = shown_rows(pd.concat([rest, latents]), plan.settings)
    assert set(rows[rows['metric'] == metric]['space']) == {'a'}


def test_participants_are_compared_where_there_are_enough(tmp_path):
    plan = plan_of(tmp_path, NOISE.format(seeds='1, 2'))
    results = results_of(plan, [f'0{k}' for k in range(1, 8)], effect)
    by_label = {s.label: s for s in results.of_metric('pixcorr')}
    assert by_label['0'].difference is None
    found = by_label['64']
    assert found.unit == 'participants'
    assert found.difference.n == 7
    assert found.difference.mean == pytest.approx(-0.1)
    assert found.difference.p == pytest.approx(2 / 2**7)
    assert found.mean == pytest.approx(0.4 + 0.04 - 0.1)
    assert found.spread == pytest.approx(np.std(0.01 * np.arange(7), ddof=1))
    assert (found.n_participants, found.n_seeds) == (7, 2)
    assert found.seed_spread == pytest.approx(0)  # seeds score the same here


def test_seeds_of_one_participant_are_compared_as_seeds(tmp_path):
    plan = plan_of(tmp_path, NOISE.format(seeds='1, 2, 3, 4, 5, 6'))
    results = results_of(plan, ['01'], effect)
    (found,) = (s for s in results.of_metric('pixcorr') if s.label == '8')
    assert (found.unit, found.difference.n, found.spread_over) == ('seeds', 6, 'seeds')


def test_the_spread_over_seeds_is_within_participants(tmp_path):
    plan = plan_of(tmp_path, f'{SUBJECTS}seeds = [1, 2, 3]\n')

    def score(person, variant):
        return 0.1 * int(person) + (0.02 * variant.seed if person == '01' else 0)

    results = results_of(plan, ['01', '02'], score)
    (found,) = results.summaries
    assert found.seed_spread == pytest.approx(0.02 / np.sqrt(2))
    assert found.spread == pytest.approx(np.std([0.14, 0.2], ddof=1))
    assert summary_table(results)['sd_seeds'].tolist() == [found.seed_spread]
    assert study_headline(results).endswith('all: 0.170 (SD over 3 seeds 0.014).')
    row = seed_table(results).rows[0]
    assert row == (
        'all',
        'Voxel-wise correlation (median)',
        '0.170',
        '0.014',
        '0.160',
        '0.180',
        '0.050',
        '3',
        '2',
    )
    write_study_report(results, tmp_path / 'study.html', tmp_path / 'figures')
    assert 'Reliability over seeds' in (tmp_path / 'study.html').read_text()
    one = results_of(plan_of(tmp_path, SUBJECTS), ['01', '02'], effect)
    write_study_report(one, tmp_path / 'study.html', tmp_path / 'figures')
    assert 'Reliability over seeds' not in (tmp_path / 'study.html').read_text()


def test_few_of_everything_has_no_interval(tmp_path):
    plan = plan_of(tmp_path, NOISE.format(seeds='1'))
    results = results_of(plan, ['01', '02'], effect)
    assert all(s.difference is None or np.isnan(s.difference.p) for s in results.summaries)
    said = study_headline(results)
    assert said.startswith('Pixel correlation, mean over 2 participants (chance ')
    for summary in results.of_metric('pixcorr'):
        assert f'{summary.label}: {summary.mean:.3f}' in said
    table = score_table(results, 'pixcorr')
    assert 'p' not in table.columns
    assert 'difference from 0' in table.columns


def samples_for(plan, people, shift=0.0):
    rows = []
    for variant in plan.variants:
        for person in people:
            noise = np.linspace(-0.2, 0.2, 9)
            for k, step in enumerate(noise):
                value = effect(person, variant) + shift + step
                key = {'participant': person, 'label': variant.label, 'seed': variant.seed}
                rows.append({'metric': 'pixcorr', 'stimulus': f's{k}', 'value': value, **key})
    return pd.DataFrame(rows)


def test_pictures_are_compared_where_people_are_few(tmp_path):
    plan = plan_of(tmp_path, NOISE.format(seeds='1'))
    results = results_of(plan, ['01', '02'], effect, samples=samples_for(plan, ['01', '02']))
    (found,) = (s for s in results.of_metric('pixcorr') if s.label == '256')
    assert (found.unit, found.difference.n) == ('stimuli', 9)
    assert found.difference.mean == pytest.approx(-0.2)
    # samples of another model than the one shown are not taken
    others = samples_for(plan, ['01', '02'], shift=0.2)
    assert matching(others, results.rows).empty


@pytest.mark.slow
@pytest.mark.parametrize('text', [NOISE.format(seeds='1'), HEADS, SUBJECTS])
def test_pages_hold_what_was_found_and_what_is_missing(tmp_path, text):
    plan = plan_of(tmp_path, text)
    people = [f'0{k}' for k in range(1, 8)]
    missing = [('08', plan.variants[0].name, 'betas: <no> data')]
    results = results_of(plan, people, effect, missing=missing)
    page = tmp_path / 'study.html'
    write_study_report(results, page, tmp_path / 'figures')
    html = page.read_text()
    assert 'betas: &lt;no&gt; data' in html
    assert plan.settings.question in html
    assert f'href="{plan.variants[0].name}/sub-01.html"' in html
    assert 'baseline-mean-image' in html
    first = html
    write_study_report(results_of(plan, people, effect, missing=missing), page, tmp_path / 'f')
    assert page.read_text().replace('f/study', 'figures/study') == first


def test_different_participants_in_different_variants_are_said(tmp_path):
    plan = plan_of(tmp_path, HEADS)
    results = results_of(plan, ['01', '02'], effect)
    gone = (results.table['participant'] == '02') & (results.table['label'] == 'mlp')
    thinner = StudyResults(plan, results.table[~gone], results.samples, (), (), '1.0')
    write_study_report(thinner, tmp_path / 'study.html', tmp_path / 'figures')
    assert 'over different participants' in (tmp_path / 'study.html').read_text()
