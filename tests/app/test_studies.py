"""Studies through the program: a planted delay is found, shared steps are run once."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bids_neurodecode.cli.holding import hold_results
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.studies import HAS_SEEDS, OTHER_SYSTEM
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.levels.gathering import OTHER_SETTINGS
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from tests.running import HERE, without_pages

pytestmark = pytest.mark.slow
PLANTED = 5.2
DELAYS = (2.6, 5.2, 7.8)
HEAD = """
title = "Delay of the responses"
question = "By how many seconds do responses lag behind the film?"
system = "movie"
metrics = ["voxel_r_median", "voxel_r_mean"]
reference = "2.6"
[settings.evaluation]
n_permutations = 20
n_bootstrap = 20
[settings.features]
image_size = 32
n_components = 20
[settings.split]
test_fraction = 0.3
gap = 6.0
[[published]]
label = "somebody"
metric = "voxel_r_median"
value = 0.5
source = "a paper"
variant = "5.2"
[[axes]]
name = "delay (s)"
"""
VARIANT = """
[[axes.variants]]
label = "{seconds}"
at = {seconds}
settings.delay = {{ seconds = {seconds}, fir_seconds = [{seconds}] }}
"""
STUDY = HEAD + ''.join(VARIANT.format(seconds=seconds) for seconds in DELAYS)


def call(folder: Path, text: str, *options: str, level='participant', where=HERE) -> int:
    (folder / 'delays.toml').write_text(text)
    with without_pages():  # of participants: that of the study is looked at
        return main(
            [
                *(str(folder / 'data'), str(folder / 'out'), level, '-w', str(folder / 'work')),
                *('--skip-bids-validation', *where, '--device', 'cpu'),
                *('--study', str(folder / 'delays.toml'), *options),
            ]
        )


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / 'out' / 'studies' / 'delays' / f'delays_{name}.tsv', sep='\t')


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
    """One participant whose responses follow two films by a planted delay."""
    folder = tmp_path_factory.mktemp('studies')
    spec = build_spec(
        paradigm='movie', n_subjects=1, n_runs=2, film_duration=160.0, voxel_size=14.0, snr=3.0,
        response_delay=PLANTED, repetition_time=1.3,
    )  # fmt: skip
    simulate_dataset(folder / 'data', spec)
    assert call(folder, STUDY) == 0
    # what was run the first time: other tests add to it, and may come first
    files = (folder / 'work').rglob('sub_01_wf/*/stage.json')
    steps = [file.parent.name.rsplit('_', 1)[0] for file in files]
    (folder / 'steps.json').write_text(json.dumps(steps))
    (stages,) = (folder / 'out' / 'studies' / 'delays' / 'log').rglob('sub-01_stages.tsv')
    shutil.copy(stages, folder / 'stages.tsv')
    return folder


def test_a_dry_run_says_what_is_shared_and_writes_nothing(swept, capsys):
    before = {file: file.stat().st_mtime_ns for file in swept.rglob('*') if file.is_file()}
    del before[swept / 'delays.toml']
    assert call(swept, STUDY, '--dry-run') == 0
    said = capsys.readouterr().out
    assert all(f'variant delay-{seconds}: {seconds}' in said for seconds in DELAYS)
    (n_steps, n_before) = map(int, re.search(r'(\d+) steps instead of (\d+)', said).groups())
    shared = re.findall(r'once for all variants: (\w+)', said)
    assert {'plan', 'quality', 'features'} <= set(shared)
    assert n_before - n_steps == 2 * len(shared)
    assert before.items() <= {f: f.stat().st_mtime_ns for f in before}.items()


def test_a_variant_that_another_run_writes_is_refused(swept, capsys):
    folder = swept / 'out' / 'studies' / 'delays' / f'delay-{DELAYS[0]}'
    with hold_results([folder], [('01', 'movie')], swept):
        assert call(swept, STUDY) == 2
    assert 'results of sub-01, task movie' in capsys.readouterr().err


def test_the_planted_delay_is_the_best(swept):
    summary = table(swept, 'summary')
    mine = summary[summary['published'].isna()]
    # most voxels are silent: their median says little
    rows = mine[mine['metric'] == 'voxel_r_mean'].astype({'variant': float})
    assert rows.loc[rows['mean'].idxmax(), 'variant'] == PLANTED
    published = summary[summary['published'].notna()]
    assert published['published'].tolist() == ['somebody (a paper)']


def test_the_summary_is_that_of_the_variants_own_tables(swept):
    summary = table(swept, 'summary')
    folder = swept / 'out' / 'studies' / 'delays'
    own = {}
    for seconds in DELAYS:
        (file,) = (folder / f'delay-{seconds}').glob('sub-01/func/*_desc-linear_metrics.tsv')
        rows = pd.read_csv(file, sep='\t')
        rows = rows[(rows['metric'] == 'voxel_r_median') & (rows['model'] == 'ridge')]
        own[seconds] = rows['value'].iloc[0]
    rows = summary[(summary['metric'] == 'voxel_r_median') & summary['published'].isna()]
    for _, row in rows.iterrows():
        assert row['mean'] == pytest.approx(own[float(row['variant'])])
        expected = own[float(row['variant'])] - own[2.6]
        if float(row['variant']) != 2.6:
            assert row['difference'] == pytest.approx(expected, abs=1e-7)
    # one participant: no interval, and no test
    assert rows['difference_p'].isna().all()
    all_rows = table(swept, 'metrics')
    assert set(all_rows['axis_delay_s']) == set(DELAYS)
    assert any(all_rows['model'].str.startswith('baseline'))
    about = json.loads((folder / 'delays_metrics.json').read_text())
    assert set(all_rows.columns) <= set(about)


def test_shared_steps_were_run_once(swept):
    steps = json.loads((swept / 'steps.json').read_text())
    assert steps.count('quality') == steps.count('features') == steps.count('plan') == 1
    assert steps.count('encode') == len(DELAYS)
    rows = pd.read_csv(swept / 'stages.tsv', sep='\t')
    assert rows[rows['stage'] == 'quality']['variants'].tolist() == [
        'delay-2.6, delay-5.2, delay-7.8'
    ]


def test_every_dataset_is_valid(swept, check_pybids):
    out = swept / 'out'
    assert validate_dataset(out / 'studies' / 'delays' / 'delay-5.2') == {}
    check_pybids(out / 'studies' / 'delays' / 'delay-5.2', swept / 'data')
    assert 'studies' in (out / '.bidsignore').read_text().split()
    assert validate_dataset(out) == {}
    page = (out / 'studies' / 'delays' / 'delays.html').read_text()
    assert 'published: somebody (a paper)' in page
    assert 'href="delay-5.2/sub-01.html"' in page
    assert (out / 'studies' / 'delays' / 'figures' / 'delays_scores.svg').stat().st_size > 5000


def test_a_failing_variant_is_added(swept, capfd):
    """The others are reused and stay, one line names it, the table lacks it; then it is gone."""
    folder = swept / 'out' / 'studies' / 'delays'
    (folder / 'delay-9.1' / 'sub-01').mkdir(parents=True)
    (folder / 'delay-9.1' / 'sub-01' / 'func').write_text('a file where the folder should be')
    # of nodes in this process no log says that they are reused
    assert call(swept, STUDY + VARIANT.format(seconds=9.1), where=('--nprocs', '1')) == 1
    said = capfd.readouterr().err
    assert not re.search(r'(quality|plan|features) .*: finished', said)
    assert len(re.findall(r'encode \(delay-[\d.]+\): reused', said)) == len(DELAYS)
    lines = [line for line in said.splitlines() if 'delay-9.1' in line and 'details' in line]
    assert len(lines) == 1
    page = (folder / 'delays.html').read_text()
    assert 'sub-01, delay-9.1: outputs: ' in page
    assert set(table(swept, 'metrics')['variant']) == {f'delay-{seconds}' for seconds in DELAYS}
    # gathering alone, at group level, forgets it with the study
    assert call(swept, STUDY, level='group') == 0
    page = (swept / 'out' / 'studies' / 'delays' / 'delays.html').read_text()
    assert 'delay-9.1' not in page
    assert len(table(swept, 'metrics')) > 0


def test_results_of_other_settings_are_not_gathered(swept):
    text = STUDY.replace('n_components = 20', 'n_components = 19')
    assert call(swept, text, level='group') == 0
    page = (swept / 'out' / 'studies' / 'delays' / 'delays.html').read_text()
    assert page.count(OTHER_SETTINGS) == len(DELAYS)
    assert len(table(swept, 'metrics')) == 0
    assert call(swept, STUDY, level='group') == 0


def test_what_contradicts_the_study_is_refused(swept, capsys):
    assert call(swept, STUDY, '--system', 'encoding') == 2
    expected = OTHER_SYSTEM.format(study='delays', right='movie', asked='encoding')
    assert expected in capsys.readouterr().err
    assert call(swept, 'seeds = [1, 2]\n' + STUDY, '--random-seed', '3') == 2
    assert HAS_SEEDS.format(study='delays') in capsys.readouterr().err
    assert call(swept, STUDY.replace('"voxel_r_mean"', '"voxel_r"')) == 2
    assert "the metric 'voxel_r', which there is not" in capsys.readouterr().err
    assert call(swept, STUDY.replace('fir_seconds = [7.8]', 'fir = [7.8]')) == 2
    said = capsys.readouterr().err
    assert "the variant '7.8' of the study delays: delay.fir: unknown key" in said
