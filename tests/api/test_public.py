"""The public names: cheap to import, typed, documented, each with an example."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bids_neurodecode as nd

SOURCE = Path(nd.__file__)


def typed_names() -> dict[str, str]:
    """Return what type checkers see: name to module."""
    (block,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    return {
        alias.name: node.module.removeprefix('bids_neurodecode.api.')
        for node in block.body
        for alias in node.names
    }


def test_type_checkers_see_what_is_loaded():
    assert typed_names() == nd._HOMES
    assert set(nd.__all__) == {*nd._HOMES, '__version__'}
    assert set(nd.__all__) <= set(dir(nd))


@pytest.mark.parametrize('name', sorted(nd._HOMES))
def test_names_load_from_their_module(name):
    loaded = getattr(nd, name)
    homes = {f'bids_neurodecode.api.{nd._HOMES[name]}', 'bids_neurodecode.errors'}
    assert loaded.__module__ in homes
    assert loaded is getattr(nd, name)


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match='has no attribute'):
        nd.fit_beta  # noqa: B018


def test_the_import_loads_nothing_heavy():
    code = 'import sys, bids_neurodecode as nd; print(*sys.modules)'
    loaded = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    heavy = {'numpy', 'pandas', 'nibabel', 'torch', 'sklearn', 'nipype', 'scipy'}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.slow
def test_no_name_brings_nipype():
    names = ', '.join(f'nd.{name}' for name in sorted(nd._HOMES))
    code = f'import sys, bids_neurodecode as nd; {names}; print("nipype" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'False'


@pytest.mark.parametrize(
    'name',
    ['fit_betas', 'noise_ceiling', 'reliability', 'load_dataset', 'load_results',
     'extract_features', 'ImageDecoder', 'MovieEncoder', 'VoxelEncoder', 'two_way',
     'score_reconstructions'],
)  # fmt: skip
def test_what_is_called_has_parameters_and_an_example(name):
    text = getattr(nd, name).__doc__
    assert 'Parameters\n' in text
    assert '>>> import bids_neurodecode as nd' in text
