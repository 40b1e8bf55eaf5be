"""A configuration made from dataclasses: every option with its type, default and sentence.

`block` lists the options of a dataclass with the values of a configuration; `plain` gives them as a
dictionary, `config_dict` as a ConfigDict for the command line, `listing` as text.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import config_dict as library

from g2ajax.config import default_of, inner_dataclass, set_only, type_name, unset
from g2ajax.config.ranges import arms, stated_ranges


class Option(NamedTuple):
    """One option of a block."""

    value: Any
    """Value; None: not set, and the default is None or decided elsewhere."""
    type: Any
    default: Any = None
    sentence: str = ""
    range: str = ""
    """The numbers that it may have, in words; "": any."""


class Block(NamedTuple):
    """Options and nested blocks by name, with a sentence."""

    entries: dict[str, Any]
    sentence: str = ""


def block(
    cls: type,
    values: Mapping[str, Any],
    *,
    default: Any = None,
    set_at_all: bool = True,
    free: Callable[[str, Any], Block | None] = lambda name, value: None,
) -> Block:
    """Every option of the dataclass `cls` with the `values` of a configuration, else its default.

    An optional dataclass stays unset unless one of its options is set. Unknown keys are kept:
    `options` refuses them. `default`: an instance with other defaults than the fields'.
    `free(name, value)` may return the block of a mapping whose options `cls` does not know.
    """
    texts, hints, entries = sentences(cls), typing.get_type_hints(cls), {}
    ranged = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        name, inner = field.name, inner_dataclass(hints[field.name])
        base = default_of(field) if default is None else getattr(default, name)
        base = None if base is dataclasses.MISSING else base
        value = values.get(name)
        if inner:
            set_inner = set_at_all and (base is not None or not unset(value))
            values_inside = value or {} if base is not None else set_only(value or {})
            entry = block(inner, values_inside, default=base, set_at_all=set_inner, free=free)
        elif nested := free(name, value):
            entry = nested
        else:
            current = base if set_at_all and name not in values else value
            words = "; ".join(dict.fromkeys(filter(None, map(str, stated_ranges(ranged[name])))))
            entry = Option(current, hints[name], base, texts.get(name, ""), words)
        entries[name] = entry
    unknown = {key: Option(value, Any) for key, value in values.items() if key not in entries}
    return Block(entries | unknown, _first_sentence(cls))


def joined(
    classes: tuple[type, ...],
    values: Mapping[str, Any],
    *,
    free: Callable[[str, Any], Block | None] = lambda name, value: None,
) -> Block:
    """The options of several dataclasses side by side in one block, under the first one's sentence."""
    entries: dict[str, Any] = {}
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)}
        own = {name: value for name, value in values.items() if name in names}
        entries |= block(cls, own, free=free).entries
    unknown = {key: Option(value, Any) for key, value in values.items() if key not in entries}
    return Block(entries | unknown, _first_sentence(classes[0]))


@functools.cache
def sentences(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, read from the source; inherited ones too."""
    texts: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__)):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, after in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                texts[field.target.id] = " ".join(ast.literal_eval(after.value).split())
    return texts


def _first_sentence(cls: type) -> str:
    return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())


def plain(block: Block) -> dict[str, Any]:
    """The values of a block as a nested dictionary."""
    return {
        name: plain(entry) if isinstance(entry, Block) else entry.value
        for name, entry in block.entries.items()
    }


def config_dict(block: Block) -> Any:
    """The block as a locked ConfigDict; an unset option has a type, so that a command line can set
    it."""
    result = library.ConfigDict()
    for name, entry in block.entries.items():
        if isinstance(entry, Block):
            result[name] = config_dict(entry)
        elif isinstance(entry.value, Mapping):
            result[name] = library.ConfigDict(dict(entry.value))
        elif entry.value is None or _flag_type(entry.type) is object:
            result[name] = library.FieldReference(entry.value, field_type=_flag_type(entry.type))
        else:
            result[name] = _flag_type(entry.type)(entry.value)
    return result.lock()


def _flag_type(hint: Any) -> type:
    """The type of the option in a ConfigDict and on the command line; object: any literal."""
    kinds = set()
    for arm in arms(hint):
        origin = typing.get_origin(arm)
        literal = origin is typing.Literal
        kinds.add(type(typing.get_args(arm)[0]) if literal else origin or arm)
    kinds.discard(type(None))
    kinds = {float} if kinds == {int, float} else kinds
    kind = kinds.pop() if len(kinds) == 1 else object
    return kind if kind in (bool, int, float, str, tuple) else object


def listing(block: Block, path: str) -> Iterator[str]:
    """Lines of text: for each block its sentence, for each option type, range, value and sentence."""
    inner = {name: entry for name, entry in block.entries.items() if isinstance(entry, Block)}
    yield f"\n{path}: {block.sentence}".rstrip(": ")
    for name, entry in block.entries.items():
        if name in inner:
            continue
        differs = entry.value != entry.default and entry.default is not None
        default = f" (default {entry.default!r})" if differs else ""
        text = "not set" if differs and entry.value is None else repr(entry.value)
        kind = f"{type_name(entry.type)} ({entry.range})" if entry.range else type_name(entry.type)
        yield f"  {path}.{name}: {kind} = {text}{default}"
        yield from textwrap.wrap(
            entry.sentence, 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    for name, entry in inner.items():
        yield from listing(entry, f"{path}.{name}")
