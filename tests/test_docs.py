"""The pages that are made from the code say what the code says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / 'docs'


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    spec = importlib.util.spec_from_file_location('generate', DOCS / 'generate.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_current(generate):
    assert (DOCS / 'settings.md').read_text() == generate.settings()


def test_options_are_current(generate):
    assert (DOCS / 'options.md').read_text() == generate.options()


def test_every_setting_says_what_it_means(generate):
    for line in generate.settings().splitlines():
        if line.startswith('| `'):
            assert len(line.split('|')[3].strip()) > 5, line


def test_links_between_pages_lead_somewhere():
    import re

    for page in [*DOCS.glob('*.md'), DOCS.parent / 'README.md']:
        for target in re.findall(r'\]\((?!https?:|#)([^)#]+)', page.read_text()):
            assert (page.parent / target).exists(), f'{page.name}: {target}'
