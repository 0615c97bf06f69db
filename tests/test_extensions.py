"""Systems of other packages: what they declare is theirs alone."""

import pytest

from bids_neurodecode import extensions
from bids_neurodecode.bids.names import Product, product_of
from bids_neurodecode.cli.systems import check_declarations
from bids_neurodecode.errors import ArgumentsError


def install(monkeypatch, **products):
    """Let there be systems, each with its products."""
    systems = {
        name: extensions.System(name, ('images',), lambda _: None, products=own)
        for name, own in products.items()
    }
    monkeypatch.setattr(extensions, 'installed', lambda: dict.fromkeys(systems))
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
