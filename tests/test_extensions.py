"""What other packages add: what they declare is theirs alone, and what is broken is named."""

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bids_neurodecode import extensions
from bids_neurodecode.bids import recipes
from bids_neurodecode.bids.names import Product, product_of
from bids_neurodecode.bids.recipes import read_recipe, recipe_files, recognise
from bids_neurodecode.cli import tools
from bids_neurodecode.cli.systems import check_declarations
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.stimuli.features import extractor_names, get_extractor, image_size_of


def install(monkeypatch, **products):
    """Let there be systems, each with its products."""
    systems = {
        name: extensions.System(name, ('images',), lambda _: None, products=own)
        for name, own in products.items()
    }
    monkeypatch.setattr(extensions, 'installed', lambda group=None: dict.fromkeys(systems))
    monkeypatch.setattr(extensions, 'find_system', systems.get)
    monkeypatch.setattr('bids_neurodecode.cli.systems.find_system', systems.get)


def test_two_packages_that_mean_different_outputs_by_one_name(monkeypatch):
    first, second = Product('statmap'), Product('metrics', '.tsv')
    install(monkeypatch, one={'gain': first, 'loss': first}, two={'gain': second, 'loss': first})
    with pytest.raises(ArgumentsError, match="'one', 'two' all declare 'gain' among"):
        product_of('gain')
    with pytest.raises(ArgumentsError, match="'gain'"):
        check_declarations('two')
    assert product_of('loss') == first  # both mean the same


def test_a_package_that_takes_a_name_of_this_one(monkeypatch):
    install(monkeypatch, one={'betas': Product('metrics', '.tsv')}, two={'gain': Product('x')})
    with pytest.raises(ArgumentsError, match="'one' declares 'betas'"):
        check_declarations('one')
    check_declarations('two')
    check_declarations('auto')


def mean_colour(layer='all'):
    """Make an extractor."""
    return SimpleNamespace(
        name='colour', version='1', params={'layer': layer}, transform=lambda x: x.mean((1, 2))
    )


mean_colour.image_size = 48
RECIPE = Path(__file__).parent / 'data' / 'cats.toml'
NOTHING = object()


@pytest.fixture
def bring(monkeypatch):
    """Let a package bring objects of this file, by group and name."""

    def points(**groups):
        found = {
            f'bids_neurodecode.{group}': {
                name: EntryPoint(name, f'tests.test_extensions:{value}', group)
                for name, value in names.items()
            }
            for group, names in groups.items()
        }
        for module in ('extensions', 'stimuli.features', 'bids.recipes', 'settings.encoding'):
            monkeypatch.setattr(
                f'bids_neurodecode.{module}.installed', lambda group: found.get(group, {})
            )

    return points


def test_an_extractor_of_another_package_is_made_by_its_name(bring):
    bring(extractors={'colour': 'mean_colour', 'gabor': 'mean_colour'})
    assert 'colour' in extractor_names()
    assert get_extractor('colour:deep').params == {'layer': 'deep'}
    assert image_size_of('colour', 64) == 48
    assert image_size_of('gabor', 64) == 64, 'a name of this package stays its own'
    joined = get_extractor('colour+gabor')
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert joined.transform(images).shape[0] == 2
    assert build_config({'encoding': {'bands': ['gabor', 'colour']}}).encoding.bands[1] == 'colour'
    with pytest.raises(ArgumentsError, match=r"encoding.bands.0: .*'gabor'"):
        build_config({'encoding': {'bands': ['color']}})
    with pytest.raises(ArgumentsError, match=r'Extractors: .*colour'):
        get_extractor('color')


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('colour', 'NO_SUCH_THING', 'AttributeError'),
        ('colour', 'NOTHING', 'it is a object and no collections.abc.Callable'),
        ('colour', 'SimpleNamespace', 'no name, version, params and transform'),
        ('color', 'mean_colour', "calls itself 'colour'"),
    ],
)
def test_an_extractor_that_cannot_be_used_is_named(bring, name, value, reason):
    bring(extractors={name: value})
    with pytest.raises(ArgumentsError, match=f'installed extractor {name!r} .*{reason}'):
        get_extractor(name)


def test_a_generator_of_another_package_takes_no_name_of_this_one(bring):
    names = dict.fromkeys([*extensions.OWN_GENERATORS, 'dots'], 'NO_SUCH_THING')
    bring(generators=names)
    extensions.find_generator.cache_clear()
    for name in extensions.OWN_GENERATORS:
        assert extensions.find_generator(name) is None
        build_config({'reconstruction': {'generator': name}})
    with pytest.raises(ArgumentsError, match=r"installed generator 'dots' .*AttributeError"):
        extensions.find_generator('dots')
    extensions.find_generator.cache_clear()


def test_a_recipe_has_to_be_a_file_of_its_name(bring):
    bring(recipes={'cats': 'RECIPE'})
    with pytest.raises(ArgumentsError, match=r"recipe 'cats' .* path of a file cats.toml"):
        read_recipe('cats')
    bring(recipes={'nsd': 'NOTHING'})
    with pytest.raises(ArgumentsError, match=r'it is a object and no pathlib.Path'):
        recognise(Path(__file__).parent, 'nsd')


def test_a_broken_recipe_package_stops_only_who_asks_for_it(bring, monkeypatch, tmp_path, capsys):
    """Of no run that does not ask for it, be it not importable or not a recipe."""
    warned = []
    monkeypatch.setattr(recipes.LOGGER, 'warning', warned.append)
    recipes._warn.cache_clear()
    monkeypatch.setattr(f'{__name__}.RECIPE', tmp_path / 'dogs.toml')
    (tmp_path / 'dogs.toml').write_text('title = ')
    bring(recipes={'cats': 'NO_SUCH_THING', 'dogs': 'RECIPE'})
    for _ in range(2):
        assert recognise(tmp_path) is None
    assert 'cats' not in recipe_files()
    assert read_recipe('nsd').name == 'nsd'
    cats, dogs = warned
    assert "recipe 'cats'" in cats
    assert 'AttributeError' in cats
    assert 'dogs.toml' in dogs
    assert dogs.endswith("the recipe 'dogs' of the package tests is left out.")
    assert tools.main(['datasets', 'list']) == 0
    listed = capsys.readouterr()
    assert 'bold5000: ' in listed.out
    assert 'dogs' not in listed.out
    assert listed.err == '', 'warned of once'
    for name in ('cats', 'dogs'):
        with pytest.raises(ArgumentsError, match=name):
            recognise(tmp_path, name)
