"""Options: frozen dataclasses built from configuration blocks; unknown fields are refused."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from g2ajax.config.ranges import arms, check_range

T = TypeVar("T")
# Arguments of a constructor, which replaces each None by its own default.
ARGUMENTS = ("backbone",)


def nearest(name: str, words: Iterable[str]) -> str:
    """A sentence with the word closest to `name`, and all words."""
    words = sorted(words)
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(words)}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings under dotted names; an empty mapping is a value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def options(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Builds the frozen dataclass `cls` from `mapping`.

    A nested mapping becomes the dataclass of its field, or None for an optional dataclass with no
    field set.

    Raises:
      ValueError: for an unknown key (naming where it is an option, or the nearest), a missing
        required one, a value of another type, and a number that is not finite or not in the range
        that the field's type states (`config.ranges`).
    """
    where = where or cls.__name__
    return _options(cls, mapping, where, (cls, where))


def _options(cls: type[T], mapping: Mapping[str, Any], where: str, root: tuple[type, str]) -> T:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    ranged = typing.get_type_hints(cls, include_extras=True)
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            hint = elsewhere(key, _paths(*root)) or nearest(key, fields)
            raise ValueError(f"{where} has no option {key!r}; {hint}")
        values[key] = _value(hints[key], value, f"{where}.{key}", root)
        check_range(ranged[key], value, f"{where}.{key}")
    for name, field in fields.items():
        if default_of(field) is dataclasses.MISSING and name not in values:
            raise ValueError(f"{where} needs the option {name!r}")
    return cls(**values)


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field, `dataclasses.MISSING` without one."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _paths(cls: type, where: str) -> Iterator[str]:
    """The dotted path of each option of a tree of dataclasses."""
    for name, hint in typing.get_type_hints(cls).items():
        yield f"{where}.{name}"
        inner = inner_dataclass(hint)
        if inner:
            yield from _paths(inner, f"{where}.{name}")
        elif typing.get_origin(hint) is Mapping and inner_dataclass(typing.get_args(hint)[1]):
            yield from _paths(typing.get_args(hint)[1], f"{where}.{name}.<name>")


def elsewhere(name: str, paths: Iterable[str]) -> str:
    """A sentence with the blocks of `paths` that have an option `name`; "" if none has."""
    split = (path.rpartition(".") for path in paths)
    owners = [block.removeprefix("config.") for block, _, leaf in split if leaf == name]
    if not owners:
        return ""
    return f"`{name}` is an option of " + ", ".join(f"`{owner}`" for owner in dict.fromkeys(owners))


def inner_dataclass(hint: Any) -> type | None:
    """The dataclass in `X` or `X | None`."""
    return next((arm for arm in arms(hint) if dataclasses.is_dataclass(arm)), None)


def _value(hint: Any, value: Any, where: str, root: tuple[type, str]) -> Any:
    kinds, inner = arms(hint), inner_dataclass(hint)
    if inner and isinstance(value, Mapping):
        if type(None) in kinds:
            if value and unset(value):
                return None
            value = set_only(value)
        return _options(inner, value, where, root)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if any(_fits(arm, value) for arm in kinds):
        if isinstance(value, Mapping):
            return _arguments(value, where.rpartition(".")[2])
        return _tuples(value) if typing.get_origin(hint) is tuple else value
    suffix = "" if isinstance(value, tuple | list) else f", got {type(value).__name__}"
    raise ValueError(f"{where} = {value!r}: expected {type_name(hint)}{suffix}")


def unset(value: Any) -> bool:
    """True if no field of an optional block is set."""
    return all(map(unset, value.values())) if isinstance(value, Mapping) else value is None


def set_only(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without unset values."""
    return {
        key: set_only(value) if isinstance(value, Mapping) else value
        for key, value in mapping.items()
        if not unset(value)
    }


def _arguments(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The mapping without the arguments left to a constructor's defaults."""
    return {
        key: _arguments(value, key) if isinstance(value, Mapping) else value
        for key, value in mapping.items()
        if value is not None or name not in ARGUMENTS
    }


def _tuples(value: Any) -> Any:
    """Turns lists, as JSON stores tuples, into tuples, nested ones too."""
    return tuple(map(_tuples, value)) if isinstance(value, tuple | list) else value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, list):
        if not isinstance(value, tuple | list):
            return False
        if origin is tuple and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(_fits, arguments, value))
        return all(_fits(arguments[0], item) for item in value)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(arm, value) for arm in arguments)
    if origin is not None:
        return isinstance(value, Mapping) if origin in (dict, Mapping) else True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def type_name(hint: Any) -> str:
    """A type in words: `float or None`, `one of 'zhong', 'fastreid'`."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is not None and len(arms(hint)) == 1:
        return str(hint).replace("typing.", "").replace("collections.abc.", "")
    if len(arms(hint)) > 1:
        return " or ".join(map(type_name, arms(hint)))
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
