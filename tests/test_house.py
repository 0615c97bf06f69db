"""The house: nothing imports in circles, and nothing takes what is private to another file."""

from benchmarks.house import circles, private_imports


def test_no_modules_import_each_other():
    assert circles() == []


def test_nothing_private_is_imported():
    assert private_imports() == []
