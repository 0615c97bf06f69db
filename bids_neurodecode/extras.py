"""What is installed beside the core."""

from __future__ import annotations

import importlib.util

NETWORKS = ('torch', 'diffusers', 'transformers')
"""The packages of the extra ``networks`` that the program imports."""


def has_networks() -> bool:
    """Return whether networks can be trained and applied (the extra ``networks``)."""
    return all(importlib.util.find_spec(name) is not None for name in NETWORKS)
