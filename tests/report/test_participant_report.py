"""The page of a participant: whole, inert, right, and the same every time."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.errors import ReportError
from bids_neurodecode.levels.participant_page import what_auto_became, write_participant_report
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import (
    BROKEN,
    ParticipantResults,
    RunResults,
    SplitResults,
    VoxelTestResults,
)
from bids_neurodecode.systems.steps.records import read_results
from bids_neurodecode.text import COMMAND

EVIL = '<script>alert(1)</script>'
LOADING = {'src', 'srcset', 'data', 'poster', 'action', 'background', 'code', 'codebase'}


class Page(HTMLParser):
    """Collects what a browser would load, follow, and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.loads += [str(found[key]) for key in LOADING & set(found)]
        self.handlers += [key for key in found if key.startswith('on')]
        if tag == 'link':
            self.loads.append(str(found.get('href')))
        if tag == 'a':
            self.links.append(str(found['href']))
        if tag == 'img':
            self.alts.append(found.get('alt') or '')
        if 'id' in found:
            self.ids.append(str(found['id']))
        if tag == 'tr':
            self.rows.append([])
        if tag == 'td':
            self.rows[-1].append('')

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and self.rows[-1] and self.tags[-1] == 'td':
            self.rows[-1][-1] += data.strip()

    @property
    def text(self) -> str:
        return ' '.join(' '.join(self.texts).split())


def write(results: ParticipantResults, folder: Path) -> tuple[str, Page]:
    html = folder / f'sub-{results.participant[:2]}.html'
    write_participant_report(results, html, folder / 'sub-01' / 'figures')
    text = html.read_text('utf-8')
    return text, Page(text)


@pytest.fixture(scope='module')
def whole(
    results: ParticipantResults, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Page, Path]:
    folder = tmp_path_factory.mktemp('page')
    return *write(results, folder), folder


def test_nothing_is_loaded_from_anywhere(whole: tuple[str, Page, Path]) -> None:
    text, page, _ = whole
    assert page.loads
    assert all(load.startswith('data:image/') for load in page.loads)
    assert 'script' not in page.tags
    assert not page.handlers
    style = re.search('<style>(.*?)</style>', text, re.DOTALL)
    assert style is not None
    assert 'url(' not in style[1]
    assert '@import' not in style[1]
    assert "default-src 'none'" in text


def test_links_lead_to_sections_figures_and_references_only(
    whole: tuple[str, Page, Path],
) -> None:
    _, page, folder = whole
    inside = [link for link in page.links if link.startswith('#')]
    outside = [link for link in page.links if '://' in link]
    files = [link for link in page.links if link not in inside + outside]
    assert {link[1:] for link in inside} <= set(page.ids)
    assert all(
        link.startswith(('https://doi.org/10.', 'https://www.jmlr.org/')) for link in outside
    )
    assert files
    assert all((folder / link).is_file() for link in files)


def test_figures_hold_nothing_foreign_and_are_described(
    whole: tuple[str, Page, Path],
) -> None:
    text, page, folder = whole
    assert all(len(alt) > 10 for alt in page.alts)
    figures = sorted((folder / 'sub-01' / 'figures').glob('*.svg'))
    assert all(
        re.fullmatch(r'sub-01_task-img_desc-[a-zA-Z0-9]+_[a-z]+\.svg', path.name)
        for path in figures
    )
    inline = [base64.b64decode(m) for m in re.findall(r'image/svg\+xml;base64,([^"]+)', text)]
    files = {path.read_bytes() for path in figures}
    assert set(inline) <= files
    assert len(inline) == len(files) - 1, 'the gallery alone is linked and not shown twice'
    for svg in inline:
        assert not re.search(rb'(?:href|src)="(?!#|data:)', svg)
        assert b'<script' not in svg
    assert len(text) < 5_000_000


@pytest.mark.slow
def test_every_section_is_there(whole: tuple[str, Page, Path]) -> None:
    _, page, _ = whole
    wanted = [
        'summary', 'scores', 'brain', 'quality', 'data', 'reading', 'warnings', 'methods',
        'provenance',
    ]  # fmt: skip
    assert [name for name in page.ids if name in wanted] == wanted
    assert page.tags.count('h1') == 1
    assert 'nav' in page.tags
    assert 'main' in page.tags


def test_numbers_on_the_page_are_those_of_the_table(
    results: ParticipantResults, whole: tuple[str, Page, Path]
) -> None:
    _, page, _ = whole
    metrics = pd.read_csv(results.metrics, sep='\t')
    rows = {(row[0], row[1]): row for row in page.rows if len(row) == 9}
    titles = {
        'identification_top1': 'Identification by decoded features, among all candidates',
        'pixcorr': 'Pixel correlation',
    }
    for _, score in metrics.iterrows():
        row = rows[score['model'], titles[score['metric']]]
        share = score['metric'] == 'identification_top1'
        for place, key in ((2, 'value'), (3, 'chance'), (4, 'ceiling')):
            if pd.isna(score[key]):
                assert row[place] == 'n/a'
            elif share:
                assert row[place] == f'{100 * score[key]:.1f} %'
            else:
                assert row[place] == f'{score[key]:.3f}'
        assert row[7] == str(score['n'])
    assert rows['ridge', titles['identification_top1']][5] == '50.0 % to 81.2 %'
    assert rows['ridge', titles['identification_top1']][6] == '0.010'


def test_headline_in_plain_words(whole: tuple[str, Page, Path]) -> None:
    _, page, _ = whole
    assert '68.8 % Identification by decoded features, among all candidates' in page.text
    assert '50.0 % to 81.2 %' in page.text
    assert 'better than chance' in page.text
    # what the box at the head says is not said again below it
    assert 'against a chance level of 25.0 %' not in page.text
    assert 'The baseline "nearest" scores 31.2 %; it was not compared unit by unit.' in page.text
    assert 'not how well new ones can be decoded' in page.text
    assert 'Two trials start less than 8 s' in page.text
    assert '15.8' in [row[1] for row in page.rows if row and row[0].startswith('sum of times')]


@pytest.mark.slow
def test_same_results_give_the_same_bytes(
    results: ParticipantResults, whole: tuple[str, Page, Path], tmp_path: Path
) -> None:
    text, _, folder = whole
    again, _ = write(results, tmp_path)
    assert again == text
    for path in (folder / 'sub-01' / 'figures').glob('*.svg'):
        assert (tmp_path / 'sub-01' / 'figures' / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_settings_of_matplotlib_and_its_figures_are_left_alone(
    results: ParticipantResults, tmp_path: Path
) -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context({'font.size': 17, 'svg.hashsalt': 'mine', 'axes.facecolor': 'red'}):
        write(replace(results, maps={}, metrics=None, predictions=None), tmp_path)
        assert mpl.rcParams['font.size'] == 17
        assert mpl.rcParams['svg.hashsalt'] == 'mine'
    assert not plt.get_fignums()


@pytest.mark.slow
def test_names_from_the_data_stay_text(
    build: Callable[..., ParticipantResults], tmp_path: Path
) -> None:
    stimuli = ['a&b.png', '"onerror=alert(1) x.png', f'{EVIL}.png', '$x^{_}$.png']
    results = build(
        tmp_path / 'in',
        stimuli=stimuli,
        bids_name=EVIL,
        participant=EVIL,
        task='img',
        notes=(EVIL,),
        warnings=(f'{EVIL} & co', '{{ 7 * 7 }}'),
        maps={},
    )
    results = replace(results, runs=tuple(replace(run, label=EVIL) for run in results.runs))
    html = tmp_path / 'page.html'
    write_participant_report(results, html, tmp_path / 'figures')
    text = html.read_text('utf-8')
    page = Page(text)
    assert EVIL not in text
    assert 'script' not in page.tags
    assert not page.handlers
    assert f'{EVIL} & co' in page.text
    assert '{{ 7 * 7 }}' in page.text
    assert all('/' not in path.name for path in (tmp_path / 'figures').iterdir())


MINIMAL: dict[str, Any] = {
    'split': None, 'betas': None, 'voxels': None, 'trials': None, 'maps': {}, 'mean_bold': None,
    'metrics': None, 'predictions': None, 'confusion': None, 'null': None, 'stimuli_dir': None,
    'stages': (), 'config': None, 'versions': {}, 'notes': (), 'warnings': (), 'derivatives': (),
    'space': None,
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures as ever, but do not draw them."""
    monkeypatch.setattr('bids_neurodecode.report.build.to_svg', lambda _: b'<svg/>')
    monkeypatch.setattr('bids_neurodecode.report.brain.viewer', lambda *_, **__: '<html>')


@pytest.mark.usefixtures('quick')
def test_scores_that_were_not_tested_have_no_null(
    results: ParticipantResults, tmp_path: Path
) -> None:
    assert results.null is not None
    file = tmp_path / 'null.npy'
    np.save(file, np.empty(0))
    untested = replace(results, null=replace(results.null, values=file))
    _, page = write(replace(untested, maps={}), tmp_path)
    assert 'p counts the observed score' not in page.text


@pytest.mark.slow
@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('key', list(MINIMAL))
def test_any_one_part_may_be_missing(
    key: str, results: ParticipantResults, tmp_path: Path
) -> None:
    # maps take most of the time, and two of them meet all other parts
    maps = {name: results.maps[name] for name in ('hrfindex', 'reliable')}
    _, page = write(replace(results, **{'maps': maps, key: MINIMAL[key]}), tmp_path)
    assert 'summary' in page.ids


@pytest.mark.slow
@pytest.mark.usefixtures('quick')
def test_models_that_were_compared_are_shown(results: ParticipantResults, tmp_path: Path) -> None:
    assert results.betas is not None
    scores = ({'B': 0.9, 'C': 0.8, 'D': 0.85}, {'B': 0.7, 'C': 0.8, 'D': 0.912})
    betas = replace(results.betas, model='B', fold_models=('D',), model_scores=scores)
    text, _ = write(replace(results, betas=betas), tmp_path)
    assert 'How the model of the betas was chosen. Among the trials of each row, runs' in text
    assert '91.2' in text
    assert (
        'for scores, on the training trials of each fold; for the betas that are written' in text
    )
    everywhere, _ = write(replace(results, betas=replace(betas, tuning='all')), tmp_path)
    assert 'on all trials, held-out trials included' in everywhere


@pytest.mark.usefixtures('quick')
def test_with_nothing_but_runs_that_are_gone(results: ParticipantResults, tmp_path: Path) -> None:
    gone = tmp_path / 'gone.nii.gz'
    runs = tuple(replace(run, bold=gone, mask=gone, confounds=None) for run in results.runs)
    _, page = write(replace(results, runs=runs, **MINIMAL), tmp_path)
    assert 'No score was computed.' in page.text
    assert 'No confounds table with motion parameters was found.' in page.text
    assert 'No map was made.' in page.text


@pytest.mark.usefixtures('quick')
def test_film(results: ParticipantResults, tmp_path: Path) -> None:
    parcels = tmp_path / 'parcels.tsv'
    pd.DataFrame({'name': ['7Networks_LH_Vis_1'], 'r': [0.25]}).to_csv(
        parcels, sep='\t', index=False
    )
    metrics = tmp_path / 'metrics.tsv'
    pd.DataFrame(
        {
            'model': ['gru'], 'metric': ['voxel_r_median'], 'value': [0.2], 'chance': [0.0],
            'system': ['movie'], 'n': [500],
        }
    ).to_csv(metrics, sep='\t', index=False)  # fmt: skip
    film = replace(
        results, paradigm='movie', system='movie', betas=None, trials=None, predictions=None,
        confusion=None, null=None, parcels=parcels, metrics=metrics,
        maps={'pearsonr': results.maps['pearsonr'], 'isc': results.maps['pearsonr']},
    )  # fmt: skip
    _, page = write(film, tmp_path)
    assert 'saw films' in page.text
    assert 'There are no single trials in this design.' in page.text
    assert ['7Networks_LH_Vis_1', '0.250'] in page.rows
    assert 'Intersubject correlation' in page.text
    assert 'it was not tested against chance' in page.text
    tests = (VoxelTestResults('ridge', 90, 0, 18, 0.773),)
    _, page = write(replace(film, voxel_tests=tests), tmp_path)
    assert 'Tests of voxels' in page.text
    assert 'their ceiling' not in page.text


def test_samples_of_the_main_score_are_shown(results: ParticipantResults, tmp_path: Path) -> None:
    from bids_neurodecode.report.reader import Reader

    predictions = pd.read_csv(results.predictions, sep='\t').assign(space='x')
    both = pd.concat([predictions.assign(space='average'), predictions])
    path = tmp_path / 'both.tsv'
    both.to_csv(path, sep='\t', index=False)
    shown = Reader(replace(results, predictions=path)).predictions
    assert shown is not None
    assert len(shown) == len(predictions)
    assert set(shown['space']) == {'x'}


def test_record_survives_json(results: ParticipantResults) -> None:
    assert ParticipantResults.from_json(results.to_json()) == results
    bare = replace(results, runs=(), **MINIMAL)
    assert ParticipantResults.from_json(bare.to_json()) == bare


def test_a_record_names_no_machine_and_moves_with_its_data(tmp_path: Path) -> None:
    """Kept paths are relative; what stays behind is named, and what to do about it."""
    study = tmp_path / 'study'
    (study / 'raw').mkdir(parents=True)
    log = study / 'out' / 'sub-01' / 'log'
    log.mkdir(parents=True)
    table = study / 'out' / 'sub-01' / 'func' / 'metrics.tsv'
    split = SplitResults('stimulus', 'x', 1, repeats_cross=False, shares_runs=True)
    record = replace(
        ParticipantResults('01', '1', 'r', 'reconstruction', 'images', 't', 'n', ()),
        metrics=table,
        stimuli_dir=study / 'raw',
        split=split,
    )
    file = log / 'sub-01_task-t_results.json'
    file.write_text(record.to_json(log))
    assert str(tmp_path) not in file.read_text()
    assert read_results(file) == record
    moved = tmp_path / 'moved'
    study.rename(moved)
    again = read_results(moved / 'out' / 'sub-01' / 'log' / file.name)
    assert again.metrics == moved / 'out' / 'sub-01' / 'func' / 'metrics.tsv'
    assert again.stimuli_dir == moved / 'raw'
    link = tmp_path / 'link'
    link.symlink_to(moved / 'out')
    assert read_results(link / 'sub-01' / 'log' / file.name).stimuli_dir == moved / 'raw'
    with pytest.raises(ReportError, match=r'there is no .*metrics\.tsv\. Were the output'):
        write_participant_report(again, tmp_path / 'sub-01.html', tmp_path)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"runs": [{"label": 1}]}', '{"x": 1'])
def test_a_broken_record_is_refused(text: str) -> None:
    with pytest.raises(ReportError, match=re.escape(BROKEN.split('{', maxsplit=1)[0])) as caught:
        ParticipantResults.from_json(text, source='sub-01_results.json')
    assert 'sub-01_results.json' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_file_that_is_gone_is_one_line(results: ParticipantResults, tmp_path: Path) -> None:
    broken = replace(results, metrics=tmp_path / 'gone.tsv')
    with pytest.raises(
        ReportError,
        match=r'sub-01: there is no .*gone\.tsv\. Were the output folder',
    ):
        write(broken, tmp_path)
    assert not list(tmp_path.glob('*.html'))


@pytest.mark.usefixtures('quick')
def test_run_without_motion_columns(results: ParticipantResults, tmp_path: Path) -> None:
    table = tmp_path / 'confounds.tsv'
    pd.DataFrame({'csf': [1.0, 2.0]}).to_csv(table, sep='\t', index=False)
    runs: tuple[RunResults, ...] = tuple(replace(r, confounds=table) for r in results.runs)
    _, page = write(replace(results, runs=runs, maps={}), tmp_path)
    assert 'No confounds table with motion parameters was found.' in page.text


@pytest.mark.slow
def test_a_null_without_permutations_has_no_figure(
    results: ParticipantResults, tmp_path: Path
) -> None:
    """Too few independent units: nothing is exchanged, there is no p, and the page is made."""
    empty = tmp_path / 'null.npy'
    np.save(empty, np.empty(0))
    assert results.null is not None
    told = replace(results, null=replace(results.null, values=empty))
    write_participant_report(told, tmp_path / 'sub-01.html', tmp_path / 'figures')
    assert not list((tmp_path / 'figures').glob('*desc-null*'))


def test_provenance_has_the_command_and_what_auto_became(
    results: ParticipantResults, tmp_path: Path
) -> None:
    assert results.config is not None
    folder = tmp_path / 'sub-01' / 'log' / results.run_id
    folder.mkdir(parents=True)
    config = folder / 'config.toml'
    config.write_text(results.config.read_text())
    moved = replace(results, config=config)
    assert Reader(moved).command == '', 'the log may be gone'
    (tmp_path / 'logs').mkdir()
    said = 'bids_neurodecode BIDS_DIR OUTPUT_DIR participant --seed 1'
    log = tmp_path / 'logs' / f'{results.run_id}.log'
    log.write_text(f'2026 DEBUG Command: /else\n2026 DEBUG {COMMAND}{said}\n')
    assert Reader(moved).command == said
    became = dict(what_auto_became(Reader(moved)))
    assert results.split is not None
    assert became['split.by'] == f'{results.split.by} ({results.split.protocol})'
    assert became['system'] == 'reconstruction'
