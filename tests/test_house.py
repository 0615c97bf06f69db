"""The house: nothing imports in circles, and nothing takes what is private to another file."""

import ast
import re

import networkx as nx
import pytest

from benchmarks.house import (
    PACKAGE,
    ROOT,
    circles,
    code_lines,
    hops,
    imports,
    longest_function,
    modules,
    private_imports,
    string_keys,
    tree_of,
    undocumented,
    unguarded_json,
    unsafe,
    wording,
)
from bids_neurodecode.extensions import OWN


def test_no_modules_import_each_other():
    assert circles() == []


def test_no_function_has_more_than_60_lines():
    assert longest_function(ROOT)[0] <= 60, longest_function(ROOT)


def test_code_is_counted_without_docstrings_comments_and_blanks():
    text = '''"""Of the module."""

SIZE = 3
"""Of a constant,
over two lines."""
TEXT = """a text that is used
over two lines"""


class Thing:
    """Of a class."""

    field: int = 1
    """Of a field."""

    def method(self):
        """Of a method."""
        # a comment
        return 'a value'  # and one beside it
'''
    assert code_lines(text) == 3 + 1 + 1 + 2


def unknown_imports(text, known):
    """What a script imports of the package that is not there, wherever it is written."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(f'{PACKAGE}.'):
            for name in (alias.name for alias in node.names):
                if f'{node.module}.{name}' in known:
                    continue
                file = known.get(node.module)
                if file is None or not re.search(rf'\b{name}\b', file.read_text('utf-8')):
                    yield f'{node.module}.{name}'


def test_what_scripts_import_is_there():
    scripts = [file for part in ('benchmarks', 'docs') for file in (ROOT / part).rglob('*.py')]
    assert len(scripts) > 20
    known = modules(ROOT)
    assert {
        (file.name, each) for file in scripts for each in unknown_imports(file.read_text(), known)
    } == set()
    moved = 'def run():\n    from bids_neurodecode.spaces import Nowhere'
    assert list(unknown_imports(moved, known)) == ['bids_neurodecode.spaces.Nowhere']


def test_calls_to_an_equation_and_keys_of_text_are_counted(tmp_path):
    texts = {
        'cli/levels.py': f'from {PACKAGE}.cli.table import ALL as made\n'
        f'from {PACKAGE}.extensions import system_named\n'
        'def participant_level(x: made):\n    made["fdr"](); system_named()',
        'extensions.py': 'def system_named(): ...',
        'systems/other/system.py': f'from {PACKAGE}.models.ridge import fit_ridge\n'
        'SYSTEM = {"train": fit_ridge}',
        'models/ridge.py': 'def fit_ridge(): ...',
        'cli/table.py': f'from {PACKAGE}.evaluation import statistics\n'
        'ALL = {"fdr": statistics.fdr}',
        'evaluation/statistics.py': 'def fdr(): p_value()\ndef p_value(): ...',
    }
    for name, text in texts.items():
        file = tmp_path / PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    # main, _run, participant_level, fdr, p_value: a table on the way is none; what a system does
    # is found by its name
    assert hops(tmp_path) == {'fdr': 3, 'fit_ridge': 4, 'p_value': 4}
    assert string_keys(ast.parse('a["x"] + a["x"] + a[0] + a[b]')) == ['x', 'x']


def test_nothing_private_is_imported():
    assert private_imports() == []


def imported_at_once(tree):
    """What a module imports when it is imported: not in functions, and not for types alone."""
    for line in tree.body:
        if isinstance(line, ast.ImportFrom):
            yield line.module
            yield from (f'{line.module}.{alias.name}' for alias in line.names)
        elif isinstance(line, ast.Import):
            yield from (alias.name for alias in line.names)


def test_what_needs_torch_is_networks_alone():
    graph = nx.DiGraph(
        (name, source)
        for name, file in modules(ROOT).items()
        for source in imported_at_once(tree_of(file))
    )
    needing = {x.removeprefix(f'{PACKAGE}.') for x in nx.ancestors(graph, 'torch')}
    assert {'models.loop', 'systems.reconstruction.generation.small'} < needing
    networks = ('models.', 'stimuli.', 'systems.reconstruction.generation.')
    assert {x for x in needing if not x.startswith(networks)} == set()
    assert needing.isdisjoint({'models.ridge', 'models.banded', 'stimuli.features'})


SYSTEMS_NAMED = {
    'bids.conditions': 'events are read as conditions where that system is asked for',
    'bids.newpictures': 'films are refused where images are asked for',
    'bids.query': 'and as images, or not, where one of images is',
    'bids.records': 'what was shown is told from its name there; others ask the record',
    'bids.rows': 'an entity of BIDS is called reconstruction',
    'cli.parser': 'conditions go with --level betas: their events are read otherwise',
    'config': 'a group of settings is called encoding',
    'extensions': 'the table of the systems of this package',
    'report.boilerplate': 'the methods text begins with what was shown, before any system',
    'simulate.spec': 'films are simulated, or images',
    'simulate.writetruth': 'and what is true of them differs',
    'text': 'words that people write in the place of a name',
}
"""Modules outside of systems that name one, and why."""


def systems_named(tree):
    """Lines that name a system; two are called as what they take, and count where it is asked."""
    shared = {name for name, paradigm in OWN.items() if name == paradigm}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in {*OWN} - shared:
            yield node.lineno
        elif isinstance(node, ast.Compare | ast.keyword):
            values = {x.value for x in ast.walk(node) if isinstance(x, ast.Constant)}
            asked = isinstance(node, ast.Compare) and 'paradigm' in ast.unparse(node)
            if shared & values and (asked or 'system' in ast.unparse(node)):
                yield node.lineno


def test_no_module_outside_of_systems_names_one():
    rooms = {x.removeprefix(f'{PACKAGE}.'): file for x, file in modules(ROOT).items()}
    found = {name for name, file in rooms.items() if any(systems_named(tree_of(file)))}
    assert {name for name in found if not name.startswith('systems.')} == {*SYSTEMS_NAMED}
    assert len(found) > len(SYSTEMS_NAMED) + 4


@pytest.mark.parametrize(
    ('text', 'n'),
    [
        ("x = 'encoding'", 1),
        ("x.system == 'movie'", 1),
        ("row['system'] in {'conditions', 'auto'}", 1),
        ("score(system='movie')", 1),
        ("person.paradigm == 'movie'", 1),
        ("if paradigm_of([name], task) in {'movie'}: ...", 1),
        ("ParticipantInput(paradigm='movie')", 0),
        ('config.encoding.bands', 0),
    ],
)
def test_a_system_that_is_named_is_found(text, n):
    assert len(list(systems_named(ast.parse(text)))) == n


def is_step(module):
    """Whether a module of a system is one of its steps, sections or checks, or knows of these."""
    apart = {'steps', 'report', 'workflow', 'bids', 'levels', 'system', 'checks', 'methods'}
    return not apart.isdisjoint(module.split('.')[1:])


def test_the_equations_of_a_system_know_no_steps_files_or_pages():
    of_systems = [x for x in imports(ROOT) if x[0].startswith('bids_neurodecode.systems.')]
    equations = [(user, source) for user, source, _ in of_systems if not is_step(user)]
    assert len({user for user, _ in equations}) > 50
    assert [each for each in equations if is_step(each[1])] == []


def test_files_that_the_docs_name_are_there():
    pages = [*(ROOT / 'docs').glob('*.md'), ROOT / 'CONTRIBUTING.md', ROOT / 'README.md']
    named = {x for page in pages for x in re.findall(r'`((?:\w+/)+\w+\.py)`', page.read_text())}
    assert len(named) > 20
    assert {x for x in named if not any((ROOT / y / x).is_file() for y in ('', PACKAGE))} == set()


def test_nothing_runs_what_a_file_says_or_speaks_to_a_network():
    assert [x for name, file in modules(ROOT).items() for x in unsafe(tree_of(file), name)] == []


@pytest.mark.parametrize(
    'text',
    [
        'import pickle',
        'from joblib import load',
        'import torch\ntorch.load("a")',
        'np.load("a", allow_pickle=True)',
        'yaml.load(text)',
        'subprocess.run("ls", shell=True)',
        'os.system("ls")',
        'eval("1")',
        'def f():\n    import requests',
        'jinja2.Environment()',
    ],
)
def test_what_is_unsafe_is_found(text):
    assert len(list(unsafe(ast.parse(text), 'a'))) == 1


def test_json_of_users_may_be_nested_too_deep():
    found = (
        unguarded_json(tree_of(file), name.removeprefix('bids_neurodecode.'))
        for name, file in modules(ROOT).items()
    )
    assert [place for places in found for place in places] == []


def test_json_that_is_not_guarded_is_found():
    bare = 'try:\n    x = json.loads(text)\nexcept (ValueError, {}):\n    pass'
    assert len(list(unguarded_json(ast.parse(bare.format('KeyError')), 'a'))) == 1
    assert not list(unguarded_json(ast.parse(bare.format('RecursionError')), 'a'))


def test_public_functions_say_what_they_take():
    assert undocumented() == {}


def test_what_people_read_is_in_the_words_of_the_field():
    found = {file: wording(tree_of(file)) for file in modules(ROOT).values()}
    for file in (*(ROOT / 'docs').rglob('*.md'), ROOT / 'README.md'):
        # errors.md shows fields of messages by their names; the site makes api from docstrings
        if file.name != 'errors.md' and file.parent.name != 'api':
            found[file] = wording(file.read_text())
    assert {str(file): words for file, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('"""Return the pictures."""', ['pictures']),
        ('NO = f"{n} pictures in one row a showing"', ['pictures', 'one row a', 'showing']),
        ('"""Images of ``pictures`` and prior_pictures in pictures.tsv."""', []),
        ('"""Show.\n\n    Parameters\n    ----------\n    pictures\n        Shown.\n    """', []),
        ('column = table["picture"]', []),
    ],
)
def test_words_of_our_own_are_found(text, words):
    assert wording(ast.parse(text)) == words
