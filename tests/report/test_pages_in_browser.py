"""Pages as a browser lays them out: nothing is cut off, images grow, nothing is fetched."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.levels.group_page import write_group_report
from bids_neurodecode.levels.participant_page import write_participant_report
from bids_neurodecode.report.build import Plot, _Drawing
from bids_neurodecode.report.results import ConditionResults, NetworkResults, ParticipantResults
from bids_neurodecode.report.section_scores import READING
from bids_neurodecode.report.study import write_study_report
from bids_neurodecode.study import plan_study
from tests.browser import Browser, chromium, find_browser
from tests.figures import complaints
from tests.report.test_generation_report import make_generation
from tests.report.test_study_report import results_of

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason='no Chromium on this machine (apt-get install chromium, or $CHROMIUM)'
)
OPEN = 'document.querySelectorAll("details").forEach(d => { d.open = true })'
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(e => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect()
  if (e.closest('.skip') || e.closest('svg') || style.display.startsWith('inline') || !box.width)
    return false
  return e.scrollWidth > e.clientWidth + 1 || box.right > innerWidth + 1 || box.left < -1
}).map(e => `${e.tagName}.${e.className} ${e.scrollWidth} > ${e.clientWidth}: `
       + e.textContent.trim().slice(0, 60))
"""
FETCHED = (
    'performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length'
)
SCREEN = 720
"""Pixels of a screen of 1280 x 720, the smallest that is common."""


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with chromium(PROGRAM, tmp_path_factory.mktemp('profile')) as tab:
        yield tab


@pytest.fixture(scope='module')
def said() -> list[str]:
    """What is wrong with figures of the pages."""
    return []


@pytest.fixture(scope='module')
def small_page(
    build: Callable[..., ParticipantResults], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Write the page of one participant with one map, its figures not drawn."""
    folder = tmp_path_factory.mktemp('page')
    results = build(folder / 'in')
    maps = {'noiseceiling': results.maps['noiseceiling']}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('bids_neurodecode.report.build.to_svg', lambda _: b'<svg/>')
        write_participant_report(
            replace(results, maps=maps), folder / 'sub-01.html', folder / 'sub-01' / 'figures'
        )
    return folder


@pytest.fixture(scope='module')
def pages(
    build: Callable[..., ParticipantResults],
    tmp_path_factory: pytest.TempPathFactory,
    said: list[str],
) -> Path:
    """Write pages of two participants with long names, and of the group."""
    folder = tmp_path_factory.mktemp('pages')
    stimuli = [f'{"a_very_long_category_name/" * k}image_{"0123456789" * 5}.png' for k in (0, 0)]
    stimuli = [f'{i}_{name}' for i, name in enumerate(stimuli)] + ['cat.png', 'tree.png']
    results = build(folder / 'in', stimuli=stimuli)
    assert results.metrics is not None
    results = replace(results, **make_generation(folder / 'in', results.metrics))
    runs = tuple(
        replace(run, label=f'ses-movieday02 task-naturalscenes acq-multiband3 {run.label}')
        for run in results.runs
    )
    table = pd.read_csv(results.metrics, sep='\t', keep_default_na=False)
    more = [
        table.assign(model=f'baseline-{name}', space='single-trial-of-the-test-session')
        for name in ('nearest-blurred', 'training-mean', 'shuffled', 'word-embedding-of-captions')
    ]
    wide = folder / 'in' / 'wide.tsv'
    pd.concat([table, *more]).to_csv(wide, sep='\t', index=False)
    results = replace(results, runs=runs, metrics=wide, warnings=('w' * 300, 'Two words.'))
    people = [replace(results, participant=label) for label in ('01', '02')]
    out = folder / 'out'
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for person in people:
            label = f'sub-{person.participant}'
            write_participant_report(person, out / f'{label}.html', out / label / 'figures')
            patch.setattr(_Drawing, 'save', looked_at(said))
        write_group_report(people, out / 'group.html', out / 'group' / 'figures')
    return out


def looked_at(said: list[str]) -> Callable[[_Drawing, Plot], tuple[bytes, Path]]:
    """Return what saves a figure of a page and takes note of what is wrong with it."""
    save = _Drawing.save

    def save_and_look(drawing: _Drawing, plot: Plot) -> tuple[bytes, Path]:
        saved = save(drawing, plot)
        said.extend(f'{plot.name}: {each}' for each in complaints(plot.figure))
        return saved

    return save_and_look


@pytest.mark.slow
def test_letters_of_figures_are_whole_and_apart(pages: Path, said: list[str]) -> None:
    """Of one participant, and of the group; names are very long."""
    assert list((pages / 'sub-02' / 'figures').glob('*.svg'))
    assert said == []


@pytest.mark.slow
@pytest.mark.parametrize('page', ['sub-01.html', 'group.html'])
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [500, 1280, 1920])
def test_no_element_is_wider_than_its_box(
    browser: Browser, pages: Path, page: str, width: int, dark: bool
) -> None:
    browser.open(pages / page, width=width, dark=dark)
    assert browser.evaluate(FETCHED) == 0
    browser.evaluate(OPEN)
    assert browser.evaluate(TOO_WIDE) == []
    background = browser.evaluate('getComputedStyle(document.body).backgroundColor')
    assert background == ('rgb(20, 24, 31)' if dark else 'rgb(255, 255, 255)')


@pytest.mark.slow
def test_the_page_of_a_participant_is_short(browser: Browser, pages: Path) -> None:
    browser.open(pages / 'sub-01.html', width=1280)
    height = browser.evaluate('document.documentElement.scrollHeight')
    assert height < 12 * SCREEN
    first = browser.evaluate(
        'Math.min(...[...document.querySelectorAll("main img")].map('
        'e => e.getBoundingClientRect().top))'
    )
    assert first < SCREEN / 2, 'images come first'


def test_a_link_to_folded_lines_opens_them(browser: Browser, small_page: Path) -> None:
    browser.open(small_page / 'sub-01.html', width=1280)
    is_open = f'document.getElementById("{READING}").closest("details").open'
    assert not browser.evaluate(is_open)
    browser.evaluate(f'document.querySelector("a[href=\'#{READING}\']").click()')
    browser.evaluate('new Promise(done => setTimeout(done, 50))')
    assert browser.evaluate(is_open)


def test_an_image_fills_the_screen_when_it_is_clicked(browser: Browser, small_page: Path) -> None:
    browser.open(small_page / 'sub-01.html', width=1280)
    size = (
        '(() => { const box = document.querySelector(".images img").getBoundingClientRect();'
        ' return [box.width, box.height] })()'
    )
    small = browser.evaluate(size)
    browser.evaluate('document.querySelector(".images .zoom").click()')
    assert browser.evaluate(size) == [1280, 900]
    browser.evaluate('document.querySelector(".images .zoom img").click()')
    assert browser.evaluate(size) == small


def test_the_viewer_opens_without_a_network(browser: Browser, small_page: Path) -> None:
    viewer = sorted((small_page / 'sub-01' / 'figures').glob('*_viewer.html'))[0]
    browser.open(viewer, width=500)
    assert browser.evaluate(FETCHED) == 0
    assert browser.evaluate('document.querySelector("canvas").width') > 100
    heading = browser.evaluate('document.querySelector("h1").innerText')
    assert heading == browser.evaluate('document.title')
    assert browser.evaluate(TOO_WIDE) == []


EVIL = '<img src=x onerror="document.title=1">&lt;\'\u202eabc'
"""A tag, both quotes, what looks escaped already, and a mark that turns what follows around."""
SCRIPT = '<script>document.title = 1</script>'
ATTRIBUTE = '"><svg onload=document.title=1>&amp;'
STUDY = """
title = {evil}
question = {script}
system = "encoding"
metrics = ["voxel_r_median"]
reference = {evil}
notes = [{attribute}]
[[axes]]
name = {attribute}
[[axes.variants]]
label = {evil}
settings.encoding.model = "ridge"
[[axes.variants]]
label = {script}
settings.encoding.model = "mlp"
[[published]]
label = {attribute}
metric = "voxel_r_median"
value = 0.2
source = {script}
variant = {evil}
"""
INJECTED = '[...document.querySelectorAll(\'[src="x"], [onerror], [onload], script\')].length'


@pytest.mark.slow
def test_names_and_captions_of_others_are_text(
    build: Callable[..., ParticipantResults], browser: Browser, tmp_path: Path
) -> None:
    """Dataset, participant, task, run, stimulus, caption: shown as they are, and run nowhere."""
    stimuli = [f'{EVIL}{number}.png' for number in range(3)] + ['"><svg onload=alert(1)>.png']
    results = build(tmp_path / 'in', stimuli=stimuli)
    assert results.metrics is not None
    assert results.confusion is not None
    results = replace(results, **make_generation(tmp_path / 'in', results.metrics))
    results = replace(
        results,
        bids_name=EVIL + SCRIPT,
        participant=EVIL,
        task=EVIL,
        notes=(EVIL, SCRIPT),
        warnings=(EVIL, '{{ 7 * 7 }}'),
        confusion=replace(results.confusion, labels=(EVIL, SCRIPT, '&', '"')),
        derivatives=(EVIL,),
        runs=tuple(replace(run, label=EVIL) for run in results.runs),
    )
    write_participant_report(results, tmp_path / 'sub.html', tmp_path / 'sub' / 'figures')
    others = [results, replace(results, participant=f'{EVIL}2')]
    write_group_report(others, tmp_path / 'group.html', tmp_path / 'group' / 'figures')
    for page in ('sub.html', 'group.html'):
        assert_text(browser, tmp_path / page, EVIL, SCRIPT)


def assert_text(browser: Browser, page: Path, *texts: str) -> None:
    """Check that texts are shown as they are, and that nothing of them is an element or runs."""
    browser.open(page, width=1280)
    browser.evaluate(OPEN)
    assert browser.evaluate(INJECTED) == 0
    assert browser.evaluate('document.title') != '1'
    shown = browser.evaluate('document.body.innerText')
    assert [text for text in texts if text not in shown] == []
    assert browser.evaluate(FETCHED) == 0


@pytest.mark.slow
def test_names_of_films_conditions_and_regions_are_text(
    build: Callable[..., ParticipantResults], browser: Browser, tmp_path: Path
) -> None:
    """Of the sections that only films and conditions have."""
    results = build(tmp_path / 'in')
    names = (EVIL, SCRIPT, ATTRIBUTE, '$x^{_}$ & "')
    chances = {'p': 0.1, 'p_fdr': 0.2}
    network = NetworkResults(
        'joint', 'small', 'gabor', 10, 100, None, results.runs[0].mask,
        frames=write(tmp_path / 'frames.tsv', {
            'kind': ['best', 'median', 'worst'], 'film': names[:3], 'onset': 1.0,
            'similarity': [0.9, 0.5, 0.1],
        }),
        regions=write(tmp_path / 'regions.tsv', {
            'region': names, 'n_voxels': 9, 'share': 0.2, 'size': 0.1, 'relative': 2.0,
        }),
        perturbation=write(tmp_path / 'perturbation.tsv', {
            'region': names, 'kind': 'zero', 'metric': 'pixcorr', 'n_voxels': 9, 'n_disjoint': 20,
            'change': -0.1, 'random_mean': 0.0, 'random_sd': 0.1, 'z': -1.0, **chances,
        }),
        concepts=write(tmp_path / 'concepts.tsv', {
            'output': names, 'concept': names[::-1], 'kind': 'images', 'n_examples': 9,
            'accuracy': 0.7, 'accuracy_random': 0.5, 'sensitivity': 0.6, 'alignment': 0.1,
            **chances,
        }),
    )  # fmt: skip
    np.save(tmp_path / 'frames.npy', np.zeros((3, 2, 24, 24, 3), dtype=np.uint8))
    pairs = list(itertools.combinations(names, 2))
    tested = {'ci_low': 0.1, 'ci_high': 0.3, 'p': 0.01, 'p_fdr': 0.02}
    conditions = ConditionResults(
        names,
        write(tmp_path / 'pairs.tsv', {
            'condition_a': [a for a, _ in pairs], 'condition_b': [b for _, b in pairs],
            'distance': 0.2, **tested,
        }),
        10, 5,
        regions=write(tmp_path / 'decoded.tsv', {
            'name': names, 'n_voxels': 9, 'balanced_accuracy': 0.6, 'chance': 0.25, **tested,
        }),
    )  # fmt: skip
    films = replace(results, system='movie', network=network)
    write_participant_report(films, tmp_path / 'films.html', tmp_path / 'films')
    assert_text(browser, tmp_path / 'films.html', *names)
    trials = replace(results, system='conditions', conditions=conditions)
    write_participant_report(trials, tmp_path / 'trials.html', tmp_path / 'trials')
    assert_text(browser, tmp_path / 'trials.html', *names, f'{names[0]}, {names[1]}')


def write(file: Path, columns: dict[str, object]) -> Path:
    pd.DataFrame(columns).to_csv(file, sep='\t', index=False)
    return file


def test_texts_of_a_study_are_text(browser: Browser, tmp_path: Path) -> None:
    """What its file says, labels of participants, and reasons why results are missing."""
    text = {name: json.dumps(value) for name, value in
            {'evil': EVIL, 'script': SCRIPT, 'attribute': ATTRIBUTE}.items()}  # fmt: skip
    file = tmp_path / 'study.toml'
    file.write_text(STUDY.format(**text))
    plan = plan_study(file)
    first = plan.variants[0].name
    results = results_of(
        plan, [EVIL, '02'], lambda *_: 0.4, missing=[(ATTRIBUTE, first, f'{SCRIPT} failed')]
    )
    write_study_report(results, tmp_path / 'study.html', tmp_path / 'figures')
    assert_text(browser, tmp_path / 'study.html', EVIL, SCRIPT, ATTRIBUTE, f'{SCRIPT} failed')
