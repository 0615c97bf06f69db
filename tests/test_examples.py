"""The examples of the documentation and the code of the README run, and find what was planted."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bids_neurodecode.cli.parser import build_parser
from bids_neurodecode.config import preset_names
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / 'docs' / 'examples'


@pytest.fixture(autouse=True)
def _no_windows():
    plt.switch_backend('Agg')
    yield
    plt.close('all')


def run(name: str) -> tuple[dict, str]:
    """Run an example; return its names, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(EXAMPLES / f'plot_{name}.py'))
    return names, printed.getvalue()


def test_every_example_is_run():
    found = {file.stem.removeprefix('plot_') for file in EXAMPLES.glob('*.py')}
    assert found == {'betas', 'ceilings', 'decoding', 'encoding', 'reconstructions'}


@pytest.mark.slow
def test_ceilings():
    names, _ = run('ceilings')
    assert np.median(names['single'][500:]) == pytest.approx(0.5, abs=0.03)
    assert np.median(names['mean'][500:]) == pytest.approx(0.75, abs=0.03)
    assert names['false'] < 0.08
    assert names['true'] > 0.95


@pytest.mark.slow
def test_reconstructions():
    names, printed = run('reconstructions')
    own, other = (names[key].set_index('metric').loc['pixel_2way'] for key in ('table', 'nothing'))
    assert own['value'] > 0.9
    assert other['p'] > 0.05
    assert 'stands in for networks' in printed


@pytest.mark.slow
def test_betas():
    names, _ = run('betas')
    assert names['betas'].values.shape[0] == 120
    assert 0 < names['difference'] < 0.5


@pytest.mark.slow
def test_decoding():
    names, _ = run('decoding')
    assert names['scores'].mean() > max(*names['null'], 0.6)
    assert np.mean(names['null']) == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_encoding():
    names, _ = run('encoding')
    assert names['together'] > 0.25
    assert np.nanquantile(names['r'], 0.9) > 0.3


@pytest.mark.slow
def test_code_of_the_readme(tmp_path, monkeypatch):
    (code,) = re.findall(
        r'```python\n(.*?)```', (ROOT / 'README.md').read_text('utf-8'), re.DOTALL
    )
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    spec = build_spec(n_subjects=1, n_runs=3, n_images=40, n_repeats=3, voxel_size=16.0, snr=3)
    simulate_dataset(tmp_path / 'demo' / 'data', spec)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {'__name__': 'readme'})
    value = float(re.search(r'held-out images: (\d\.\d\d) \(chance 0.50\)', printed.getvalue())[1])
    assert value > 0.55


def test_commands_of_the_pages_are_understood():
    """Options of every call of the program on the pages for users, by the parser's own list."""
    known = set(build_parser()._option_string_actions)
    pages = ['README.md', *(f'docs/{x}.md' for x in ('own-scans', 'from-download', 'glmsingle'))]
    calls = [
        line
        for page in pages
        for line in (ROOT / page).read_text('utf-8').replace('\\\n', ' ').splitlines()
        if re.match(r'(\$ )?bids_neurodecode [/A-Za-z]', line)
    ]
    assert len(calls) > 12
    for call in calls:
        assert set(re.findall(r' (--[a-z-]+)', call)) <= known, call
        for preset in re.findall(r'--preset (\S+)', call):
            assert preset in preset_names(), call
