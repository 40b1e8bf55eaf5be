"""Ranges of numeric options, stated in their types: `momentum: Decay = 0.9`.

A type is `Annotated[int, Range(1)]` or one of the names below, also inside a tuple or a union. A plain pair
(low, high) in place of `Range(low, high)` serves the floors that import nothing of ours.
`typing.get_type_hints` leaves a range out unless `include_extras=True`.
"""

import itertools
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple


class Range(NamedTuple):
    """The numbers that an option may have; NaN and infinities are never among them."""

    low: int | float | None = None
    """The smallest; None: no bound."""
    high: int | float | None = None
    """The largest; None: no bound."""
    above: int | float | None = None
    """A bound in place of `low` that is not itself in the range."""
    below: int | float | None = None
    """A bound in place of `high` that is not itself in the range."""
    also: int | float | None = None
    """A number outside the bounds with a meaning of its own."""
    noun: str = ""
    """Name of the number in messages, such as "a probability"; empty: "a number"."""

    def has(self, value: int | float) -> bool:
        """True if the number is in the range."""
        if isinstance(value, float) and not math.isfinite(value):
            return False
        inside = (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        return inside or value == self.also

    def __str__(self) -> str:
        """The bounds in words: `0 to 1`; "" without any."""
        if self.low is not None and self.high is not None:
            bounds = [f"{self.low} to {self.high}"]
        else:
            ends = {
                "at least": self.low,
                "above": self.above,
                "at most": self.high,
                "below": self.below,
            }
            bounds = [f"{word} {end}" for word, end in ends.items() if end is not None]
        text = ", ".join(bounds)
        return text if self.also is None else f"{text}, or {self.also}"


ANY = Range()
NOUNS = {int: "a whole number", float: "a number"}
Number = Annotated[float, ANY]
"""Any finite number."""
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(0)]
Probability = Annotated[float, Range(0, 1, noun="a probability")]
Share = Annotated[float, Range(0, 1, noun="a share")]
Decay = Annotated[float, Range(0, below=1)]
"""The share of the old value in a running mean."""


def check_range(hint: Any, value: Any, where: str) -> None:
    """Raises ValueError for a number of `value` outside the range that the type `hint` states, and
    for one that is not finite; `where` names the option in the sentence."""
    kinds = arms(hint)
    if isinstance(value, tuple | list):
        for place, (inner, item) in enumerate(zip(_items(kinds), value, strict=False)):
            check_range(inner, item, f"{where}[{place}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        kind, bounds = next(filter(None, map(_stated, kinds)), (float, ANY))
        if not bounds.has(value):
            noun = bounds.noun or NOUNS[kind]
            if isinstance(value, float) and not math.isfinite(value):
                noun = "a finite number"
            none = ", or None" if type(None) in kinds else ""
            expected = ", ".join(filter(None, (noun, str(bounds))))
            raise ValueError(f"{where} = {value!r}: expected {expected}{none}")


def stated_ranges(hint: Any) -> Iterator[Range]:
    """The ranges in a type, from left to right."""
    if one := _stated(hint):
        yield one[1]
    else:
        for inner in typing.get_args(hint):
            yield from stated_ranges(inner)


def _stated(hint: Any) -> tuple[type, Range] | None:
    """The kind of number and the range of `Annotated[kind, range]`."""
    if typing.get_origin(hint) is not Annotated:
        return None
    kind, *notes = typing.get_args(hint)
    return next(((kind, Range(*note)) for note in notes if isinstance(note, tuple)), None)


def arms(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _items(kinds: tuple[Any, ...]) -> Iterator[Any]:
    """The types of a tuple's places, from the arm of a union that is a tuple; else Any."""
    arm = next((arm for arm in kinds if typing.get_origin(arm) in (tuple, list)), Any)
    inner = typing.get_args(arm) or (Any,)
    if inner[-1] is Ellipsis or typing.get_origin(arm) is not tuple:
        return itertools.repeat(inner[0])
    return iter(inner)
