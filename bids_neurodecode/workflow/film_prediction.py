"""Placeholder until this part lands."""

from __future__ import annotations

from typing import Any


def connect_film_prediction(*_: Any) -> Any:
    """Raise: not there yet."""
    raise NotImplementedError
