"""The house: nothing imports in circles, and nothing takes what is private to another file."""

import pytest

from benchmarks.house import ROOT, circles, modules, private_imports, unsafe


def test_no_modules_import_each_other():
    assert circles() == []


def test_nothing_private_is_imported():
    assert private_imports() == []


def test_nothing_runs_what_a_file_says_or_speaks_to_a_network():
    assert [
        x for name, file in modules(ROOT).items() for x in unsafe(file.read_text(), name)
    ] == []


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
    assert len(list(unsafe(text, 'a'))) == 1
