"""The pages that are made from the code say what the code says, and the code on pages runs."""

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path

import pytest
import yaml

from bids_neurodecode import __version__
from bids_neurodecode.cli import exits
from bids_neurodecode.report.boilerplate import AUTHORS, TITLE

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
PAGES = ('settings.md', 'presets.md', 'options.md', 'products.md', 'errors.md')
CITATION_KEYS = {
    'cff-version', 'message', 'title', 'authors', 'type', 'version', 'license', 'keywords',
    'abstract', 'doi', 'date-released', 'url', 'repository-code', 'identifiers', 'references',
    'preferred-citation', 'contact', 'commit', 'license-url', 'repository',
    'repository-artifact',
}  # fmt: skip
"""What the schema of CITATION.cff 1.2.0 knows at the top."""


@pytest.fixture(scope='module')
def generate():
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location('generate', DOCS / 'generate.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


@pytest.mark.parametrize('page', PAGES)
def test_generated_pages_are_current(generate, page):
    """Otherwise: ``python docs/generate.py``."""
    assert (DOCS / page).read_text('utf-8') == generate.PAGES[page]()


def test_every_generated_page_is_tested(generate):
    assert set(PAGES) == set(generate.PAGES)


def test_every_setting_says_what_it_means(generate):
    rows = [line for line in generate.settings().splitlines() if line.startswith('| `')]
    assert len(rows) > 50
    for line in rows:
        assert len(re.split(r'(?<!\\)\|', line)[4].strip()) > 5, line


def test_every_preset_says_what_it_is_for(generate):
    parts = generate.presets().split('\n## ')[1:]
    assert parts
    for part in parts:
        assert len(part.split('\n')[2]) > 20, part.split('\n')[0]


def test_every_exit_code_is_told(generate):
    codes = {value for name, value in vars(exits).items() if name.isupper()}
    told = {int(code) for code in re.findall(r'^\| (\d+) \|', generate.errors(), re.MULTILINE)}
    assert told == codes


def test_messages_are_found_with_their_exit_codes(generate):
    found = {(m.module, m.name): m for m in generate.find_messages()}
    # raised in the same function, by a helper, as argparse's, through a variable; a note
    assert found['config', 'UNKNOWN_PRESET'].code == '2'
    assert found['cli.parser', 'UNKNOWN_OPTION'].code == '2'
    assert found['cli.values', 'BAD_MEMORY'].code == '2'
    assert found['cli.checks_places', 'OUTPUT_IN_INPUT'].code == '2'
    assert found['samples', 'LEAK'].code == '1'
    assert not found['stimuli.filmstore', 'VARIABLE'].error


def test_fields_of_messages_are_shown_as_such(generate):
    message = sys.modules['messages'].Message('x', 'Y', 'No {a!r} in {b:.0%}. Use a|b_c.', ())
    assert message.wrong == 'No *a* in *b*.'
    assert message.way_out == r'Use a\|b\_c.'


def test_links_between_pages_lead_somewhere():
    pages = [*DOCS.glob('*.md'), *(DOCS / 'tutorials').glob('*.md'), ROOT / 'README.md']
    for page in pages:
        for target in re.findall(r'\]\((?!https?:|#)([^)#]+)', page.read_text('utf-8')):
            if target.startswith(('api/', 'gallery/')):
                continue  # written when the site is built
            assert (page.parent / target).exists(), f'{page.name}: {target}'


def test_links_within_pages_lead_to_headings():
    for page in DOCS.glob('*.md'):
        for target, anchor in re.findall(r'\]\(([\w.-]*)#([\w-]+)\)', page.read_text('utf-8')):
            text = (DOCS / target if target else page).read_text('utf-8')
            headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
            slugs = {re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in headings}
            assert anchor in slugs, f'{page.name}: {target}#{anchor}'


@pytest.mark.parametrize(('page', 'least'), [('extending.md', 3), ('glmsingle.md', 1)])
def test_code_of_pages_runs(page, least):
    text = (DOCS / page).read_text('utf-8')
    pairs = re.findall(r'```\{testcode\}\n(.*?)```\s*```\{testoutput\}\n(.*?)```', text, re.DOTALL)
    assert len(pairs) == text.count('{testcode}') >= least
    names = {'__name__': page}
    for code, expected in pairs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == expected


def test_the_page_on_python_has_all_public_names_and_no_others():
    import bids_neurodecode as nd

    text = (DOCS / 'python.md').read_text('utf-8')
    documented = re.findall(
        r'auto(?:function|class|exception):: bids_neurodecode\.(\w+)$', text, re.M
    )
    assert sorted(documented) == sorted(nd._HOMES)


def test_options_of_the_page_on_glmsingle_are_arguments():
    import inspect

    import bids_neurodecode as nd

    text = (DOCS / 'glmsingle.md').read_text('utf-8')
    table = text.split('## Options side by side')[1].split('## Results')[0]
    cells = [line.split('|')[2] for line in table.splitlines() if line.startswith('| `')]
    named = set(re.findall(r'`(\w+)[`=]', ' '.join(cells)))
    assert len(named) > 8
    assert named <= {*inspect.signature(nd.fit_betas).parameters, 'to_image'}


def test_figures_are_small_and_used():
    folders = (DOCS, DOCS / 'tutorials', DOCS / 'evidence')
    pages = [ROOT / 'README.md', *(page for folder in folders for page in folder.glob('*.md'))]
    text = ''.join(page.read_text('utf-8') for page in pages)
    figures = [f for f in (DOCS / '_static').iterdir() if f.suffix in {'.svg', '.png'}]
    assert figures
    for figure in figures:
        assert figure.stat().st_size < 300_000, figure.name
        assert f'_static/{figure.name}' in text, figure.name


def test_changes_are_told_by_release():
    """What is not released stands at the top; a released version has its date."""
    text = (ROOT / 'CHANGELOG.md').read_text('utf-8')
    first, *others = re.findall(r'(?m)^## (.*)$', text)
    released = re.compile(r'\[?(\d+\.\d+\.\d+)\]? - \d{4}-\d{2}-\d{2}')
    if '.dev' in __version__:
        assert first == f'Unreleased ({__version__.split(".dev")[0]})'
    else:
        assert released.fullmatch(first)[1] == __version__
    assert all(released.fullmatch(other) for other in others)
    kinds = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
    assert set(re.findall(r'(?m)^### (.*)$', text)) <= kinds


def test_citation():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
    assert citation['cff-version'] == '1.2.0'
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation) <= CITATION_KEYS
    assert citation['type'] in {'software', 'dataset'}
    assert str(citation['version']) == __version__
    assert ('date-released' in citation) == ('.dev' not in __version__)
    assert citation['license'] == 'Apache-2.0'
    # README and the outputs of a run say the same
    readme = (ROOT / 'README.md').read_text('utf-8')
    assert citation['title'] == TITLE
    assert f'{citation["authors"][0]["name"]}. *{TITLE}*' in readme
    assert citation['authors'][0]['name'] == AUTHORS
    assert citation['authors']
    for author in citation['authors']:
        assert author.get('name') or author.get('family-names')
