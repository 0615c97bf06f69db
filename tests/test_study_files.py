"""Study files: those of the package load, and what no study may say is refused in one line."""

import re
from pathlib import Path

import pytest

from bids_neurodecode import study as studies
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.evaluation.metrics import METRICS
from bids_neurodecode.study import StudyPlan, plan_study, read_study, study_names

GRID = """
title = "T"
question = "Q?"
system = "encoding"
metrics = ["voxel_r_median"]
reference = "ridge, 50"
seeds = [1, 2]
[settings.ridge]
n_folds = 3
[[axes]]
name = "model"
[[axes.variants]]
label = "ridge"
settings.encoding.model = "ridge"
[[axes.variants]]
label = "linear"
settings.encoding.model = "linear"
[[axes]]
name = "pictures"
key = "encoding.n_training"
values = [50, 100]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = 'mine.toml') -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize('name', study_names())
def test_studies_of_the_package_load(name):
    plan = plan_study(name)
    assert plan.name == name
    assert plan.settings.question.endswith('?')
    assert set(plan.settings.metrics) <= set(METRICS)
    assert {row.metric for row in plan.settings.published} <= set(plan.settings.metrics)
    assert all(variant.config.system == plan.settings.system for variant in plan.variants)
    # variants differ in what the study says that they differ in
    configs = [variant.config.model_dump_json() for variant in plan.variants]
    assert len(set(configs)) == len(configs)


def test_published_levels_of_noise_are_those_of_the_paper():
    rows = read_study('reconstruction-noise')[2].published
    found = {(row.variant, row.metric): row.value for row in rows}
    assert found['8', 'clip_2way'] == 0.946
    assert found['256', 'pixcorr'] == 0.090
    # participant 1's own, not the mean of four participants that the paper prints there
    assert found['0', 'pixcorr'] == 0.242


def test_a_grid_with_seeds(write):
    plan = plan_study(write(GRID))
    assert [variant.name for variant in plan.variants] == [
        f'{model}_n_training-{n}_seed-{seed}'
        for model in ('ridge', 'linear')
        for n in (50, 100)
        for seed in (1, 2)
    ]
    assert plan.labels == ('ridge, 50', 'ridge, 100', 'linear, 50', 'linear, 100')
    last = plan.variants[-1]
    assert last.values == {'model': 'linear', 'pictures': '100'}
    assert last.places == {'model': None, 'pictures': 100.0}
    assert (last.config.encoding.model, last.config.encoding.n_training) == ('linear', 100)
    assert (last.config.seed, last.config.ridge.n_folds) == (2, 3)
    assert StudyPlan.from_json(plan.to_json()) == plan


def test_axes_side_by_side(write):
    text = GRID.replace('seeds = [1, 2]', 'combine = "zip"')
    plan = plan_study(write(text.replace('"ridge, 50"', '"linear, 100"')))
    assert plan.labels == ('ridge, 50', 'linear, 100')


def test_a_variant_is_the_strongest_and_a_file_overrides_the_study(write):
    before = {'ridge': {'n_folds': 7}, 'features': {'image_size': 16}}
    after = {'ridge': {'n_folds': 4}, 'encoding': {'model': 'cnn'}}
    plan = plan_study(write(GRID), before=[before], after=[after])
    config = plan.variants[0].config
    assert (config.ridge.n_folds, config.features.image_size) == (4, 16)
    assert config.encoding.model == 'ridge'


REFUSED = {
    'an unknown key of the file': ('title = "T"', 'titel = "T"', 'titel: unknown key|title'),
    'an unknown key of a variant': (
        'encoding.model = "linear"',
        'encoding.modell = "linear"',
        r"the variant 'linear, 50' of the study mine: encoding.modell: unknown key",
    ),
    'a value out of range': (
        'values = [50, 100]',
        'values = [50, 1]',
        r"the variant 'ridge, 1' of the study mine: encoding.n_training: ",
    ),
    'a shared setting': ('n_folds = 3', 'folds = 3', r'ridge.folds: unknown key'),
    'a seed in a variant': (
        'settings.encoding.model = "linear"',
        'settings.seed = 3',
        r"'linear, 50'.*sets seed, .*or list seeds",
    ),
    'precomputed betas in a variant': (
        'settings.encoding.model = "linear"',
        'settings.betas.precomputed = "x"',
        r'sets betas.precomputed, which a variant may not change',
    ),
    'a reference that there is not': ('ridge, 50', 'ridge, 60', 'reference: there is no variant'),
    'two axes of one name': ('"pictures"', '"model"', "the axis 'model' is there twice"),
    'a label twice': ('"linear"\nsett', '"ridge"\nsett', "the variant 'ridge' is there twice"),
    'a key without values': ('values = [50, 100]', '', 'an axis has a key with values'),
    'lengths that differ': (
        'values = [50, 100]',
        'values = [50]\n[[axes]]\nname = "x"\nkey = "encoding.w0"\nvalues = [1.0, 2.0]',
        'are equally long',
    ),
    'labels of one folder': ('label = "linear"', 'label = "rid-ge"', 'come to the same folder'),
    'another version': ('title', 'schema_version = 2\ntitle', 'schema_version'),
    'no TOML': ('title = "T"', 'title = ', 'Cannot read the study'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused_in_one_line(write, case):
    old, new, pattern = REFUSED[case]
    assert old in GRID
    text = GRID.replace(old, new)
    if case == 'lengths that differ':
        text = text.replace('seeds = [1, 2]', 'combine = "zip"')
    with pytest.raises(ArgumentsError, match=pattern) as caught:
        plan_study(write(text))
    assert '\n' not in str(caught.value)


def test_names(write, tmp_path):
    with pytest.raises(ArgumentsError, match=re.escape("'nothing'")) as caught:
        plan_study('nothing')
    assert 'movie-delay' in str(caught.value)
    with pytest.raises(ArgumentsError, match='becomes a folder'):
        plan_study(write(GRID, 'a b.toml'))
    (tmp_path / 'bytes.toml').write_bytes(b'\xff')
    message = studies.UNREADABLE.split('{')[0]
    with pytest.raises(ArgumentsError, match=message):
        plan_study(tmp_path / 'bytes.toml')


def test_the_example_of_the_documentation_is_a_study(write):
    page = Path(__file__).resolve().parents[1] / 'docs' / 'studies.md'
    (text,) = re.findall(r'```toml\n(.*?)```', page.read_text('utf-8'), flags=re.DOTALL)
    plan = plan_study(write(text))
    assert len(plan.variants) == 3 * 2 * 3
    assert plan.variants[-1].config.delay.fir_seconds == (6.5,)
    assert plan.variants[-1].config.clean.strategy == ('motion',)
    # every study of the package is in the table
    assert {f'`{name}`' for name in study_names()} <= set(
        re.findall(r'`[a-z-]+`', page.read_text())
    )
