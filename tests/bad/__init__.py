"""The kinds of bad input, by subject: how each comes about, and the line that refuses it."""

from tests.bad import columns, dataset, events, images, places, settings
from tests.bad_input import fault

__all__ = ['columns', 'dataset', 'events', 'fault', 'images', 'places', 'settings']
