"""Options: frozen dataclasses built from configuration blocks, with no unknown field let through."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the known word closest to `name`, and all known words."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def options(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Builds the frozen dataclass `cls` from `mapping`.

    A nested mapping becomes the dataclass of its field. Raises ValueError for an unknown key
    (naming the nearest), a missing required one, and a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    where = where or cls.__name__
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise ValueError(f"{where} has no option {key!r}; {nearest(key, fields)}")
        values[key] = _value(hints[key], value, f"{where}.{key}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise ValueError(f"{where} needs the option {name!r}")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return options(hint, value, where)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        arms = typing.get_args(hint)
        if value is None and type(None) in arms:
            return None
        for arm in arms:
            if dataclasses.is_dataclass(arm) and isinstance(value, Mapping):
                return options(arm, value, where)
        if any(_fits(arm, value) for arm in arms):
            return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif _fits(hint, value):
        return _tuples(value) if typing.get_origin(hint) is tuple else value
    raise ValueError(f"{where} = {value!r}: expected {hint}, got {type(value).__name__}")


def _tuples(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again; those inside, too."""
    return tuple(map(_tuples, value)) if isinstance(value, tuple | list) else value


def _fits(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (tuple, list):
        return isinstance(value, tuple | list)
    if origin is not None:
        return isinstance(value, Mapping) if origin in (dict, Mapping) else True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True
