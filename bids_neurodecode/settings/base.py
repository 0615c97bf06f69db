"""The base of all settings: frozen, strict about unknown keys, written as TOML can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]
"""A name in a list of names."""


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra='forbid',
        str_strip_whitespace=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def switchable(cls) -> list[str]:
        """Names of the settings with a default that can be switched off by ``none``."""
        return [
            name
            for name, field in cls.model_fields.items()
            if field.default is not None and type(None) in get_args(field.annotation)
        ]

    @model_validator(mode='before')
    @classmethod
    def _refuse_switches(cls, values: Any) -> Any:
        """Python counts with true and false: refuse them where a number is needed."""
        for name, field in cls.model_fields.items() if isinstance(values, Mapping) else ():
            if isinstance(values.get(name), bool) and 'bool' not in str(field.annotation):
                value = str(values[name]).lower()
                raise ValueError(f'{name} = {value}: true and false are no value of it')
        return values

    @model_validator(mode='before')
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """TOML has no null, and what is left out has its default: read the word ``none``."""
        if not isinstance(values, Mapping):
            return values
        off = {name: None for name in cls.switchable() if values.get(name) == 'none'}
        return {**values, **off}

    def written(self) -> dict[str, Any]:
        """Return all settings as TOML can hold them; what is None by default is left out."""
        values = self.model_dump(mode='json', exclude_none=True)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Settings):
                values[name] = value.written()
            elif value is None and name in self.switchable():
                values[name] = 'none'
        return values
