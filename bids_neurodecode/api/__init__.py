"""The library for notebooks: what ``import bids_neurodecode as nd`` offers, by task."""
