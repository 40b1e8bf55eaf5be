"""Every numeric option states its range where it is declared, and the range is checked."""

import dataclasses
import math
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import pytest

from g2ajax import methods, tasks
from g2ajax.config import default_of, inner_dataclass, options
from g2ajax.config.blocks import block, listing
from g2ajax.config.ranges import (
    ANY,
    Count,
    Decay,
    NonNegative,
    Number,
    Probability,
    Range,
    arms,
    check_range,
)
from g2ajax.training.options import PhaseOptions, RunOptions, run_options

METHOD = {"name": "strong_baseline", "backbone": {"name": "resnet_tiny"}}
TASKS = sorted(tasks.KINDS)


class Place(NamedTuple):
    """A number inside the value of an option."""

    suffix: str
    """Its place in a tuple: `[0][1]`."""
    kind: type
    bounds: Range | None
    fill: Callable[[Any], Any]
    """The option's whole value with this number in it."""


def places(hint: Any) -> Iterator[Place]:
    """The numbers of a type with their ranges."""
    for arm in arms(hint):
        inner = typing.get_args(arm)
        if typing.get_origin(arm) is Annotated:
            bounds = next((Range(*note) for note in inner[1:] if isinstance(note, tuple)), None)
            if inner[0] in (int, float):
                yield Place("", inner[0], bounds, lambda x: x)
        elif arm in (int, float):
            yield Place("", arm, None, lambda x: x)
        elif typing.get_origin(arm) in (tuple, list):
            kinds = inner[:1] if inner[-1] is Ellipsis else inner
            for place, kind in enumerate(kinds):
                for one in places(kind):
                    yield Place(f"[{place}]{one.suffix}", *one[1:3], _in_tuple(kinds, place, one))


def _in_tuple(kinds: tuple, place: int, one: Place) -> Callable[[Any], Any]:
    rest = [sample(kind) for kind in kinds]
    return lambda x: (*rest[:place], one.fill(x), *rest[place + 1 :])


def sample(hint: Any) -> Any:
    """A value that a type allows."""
    if typing.get_origin(hint) is tuple:
        return tuple(sample(kind) for kind in typing.get_args(hint) if kind is not Ellipsis)
    return next((inside(one)[0] for one in places(hint)), "a")


def inside(place: Place) -> list[float]:
    """The ends of a range, as far as they are in it."""
    bounds, far, near = place.bounds, 10**6, 1e-6
    low = bounds.low if bounds.above is None else bounds.above + near
    high = bounds.high if bounds.below is None else bounds.below - near
    ends = [-far if low is None else low, far if high is None else high]
    return [place.kind(x) for x in (*ends, bounds.also) if x is not None]


def outside(place: Place) -> list[float]:
    """Numbers just outside a range; for floats also those that are not finite."""
    bounds, near = place.bounds, 1 if place.kind is int else 1e-6
    numbers = [math.nan, math.inf, -math.inf] if place.kind is float else []
    if bounds.low is not None:
        numbers.append(bounds.low - near)
    if bounds.high is not None:
        numbers.append(bounds.high + near)
    numbers += [bound for bound in (bounds.above, bounds.below) if bound is not None]
    return [place.kind(x) for x in numbers if x != bounds.also]


def leaves(cls: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(path, type, default) of every option of a tree of dataclasses."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        inner = inner_dataclass(hints[field.name])
        if field.name == "task_options":
            continue
        if inner:
            yield from leaves(inner, (*path, field.name))
        else:
            yield (*path, field.name), hints[field.name], default_of(field)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {path[0]: nested(path[1:], value) if path[1:] else value}


def check_leaf(leaf: tuple, build: Callable[[dict[str, Any]], Any], where: str) -> int:
    """Tries numbers in and around the ranges of an option; returns how many it has."""
    path, hint, default = leaf
    name = ".".join((where, *path))
    if default is not dataclasses.MISSING:
        check_range(hint, default, name)
    found = list(places(hint))
    for place in found:
        assert place.bounds is not None, f"{name}{place.suffix} states no range"
        for number in inside(place):
            build(nested(path, place.fill(number)))
        for number in outside(place):
            with pytest.raises(ValueError) as raised:
                build(nested(path, place.fill(number)))
            assert str(raised.value).startswith(f"{name}{place.suffix} = {number!r}: expected")
            assert str(place.bounds) in str(raised.value)
    return len(found)


@pytest.mark.parametrize("task", TASKS)
def test_options_of_a_run_and_its_task(task):
    kind = tasks.task_class(task)
    run = {"dataset": "d", "method": METHOD, "phases": ("a",), "phase": {"a": {}}, "task": task}
    numbers = sum(
        check_leaf(leaf, lambda values: run_options(run | values), "config")
        for cls in (RunOptions, kind.Options)
        for leaf in leaves(cls)
    )
    numbers += sum(
        check_leaf(leaf, lambda values: run_options(run | {"phase": {"a": values}}), "phase.a")
        for cls in (PhaseOptions, kind.PhaseOptions)
        for leaf in leaves(cls)
    )
    assert numbers > 40


@pytest.mark.parametrize("name", methods.names())
def test_options_of_a_method(name):
    cls = methods.module(name).Options
    required = {
        field.name: METHOD
        for field in dataclasses.fields(cls)
        if default_of(field) is dataclasses.MISSING
    }
    build = lambda values: options(cls, required | values, "method")  # noqa: E731
    assert sum(check_leaf(leaf, build, "method") for leaf in leaves(cls))


def test_no_block_of_options_is_outside_these_trees():
    """Also a dataclass of options that no configuration has states its ranges."""
    for name in methods.names():
        methods.module(name)
    for name in TASKS:
        tasks.task_class(name)
    classes = {
        value
        for name, module in list(sys.modules.items())
        if name.startswith("g2ajax.")
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and getattr(value, "__name__", "").endswith("Options")
    }
    assert len(classes) > 30
    for cls in classes:
        for path, hint, _ in leaves(cls):
            for place in places(hint):
                assert place.bounds is not None, f"{cls}.{'.'.join(path)} states no range"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Ranges in every kind of type."""

    flip: Probability = 0.5
    rate: NonNegative | None = None
    ema: Decay = 0.0
    mean: tuple[Number, Number] = (0.0, 0.0)
    stride: Count | tuple[Count, Count] = 16
    pairs: tuple[tuple[str, NonNegative], ...] = ()
    devices: Annotated[int, Range(1, also=-1)] = -1
    plain: Annotated[float, (0, 1)] = 0.5
    free: float = 0.0
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": 2}, "config.flip = 2: expected a probability, 0 to 1"),
        ({"rate": -0.5}, "config.rate = -0.5: expected a number, at least 0, or None"),
        ({"ema": 1.0}, "config.ema = 1.0: expected a number, at least 0, below 1"),
        ({"mean": (0.0, math.inf)}, "config.mean[1] = inf: expected a finite number"),
        ({"stride": 0}, "config.stride = 0: expected a whole number, at least 1"),
        ({"stride": [1, 0]}, "config.stride[1] = 0: expected a whole number, at least 1"),
        (
            {"pairs": (("a", 1.0), ("b", -1.0))},
            "config.pairs[1][1] = -1.0: expected a number, at least 0",
        ),
        ({"devices": 0}, "config.devices = 0: expected a whole number, at least 1, or -1"),
        ({"plain": 1.5}, "config.plain = 1.5: expected a number, 0 to 1"),
        ({"free": math.nan}, "config.free = nan: expected a finite number"),
        ({"rate": math.inf}, "config.rate = inf: expected a finite number, at least 0, or None"),
    ],
)
def test_the_sentence_names_path_value_and_range(values, message):
    with pytest.raises(ValueError) as raised:
        options(Sample, values, "config")
    assert str(raised.value) == message


def test_values_in_their_ranges_are_taken_as_they_are():
    values = {"flip": 1, "rate": None, "stride": (1, 2), "devices": -1, "other": {"x": math.nan}}
    made = options(Sample, values, "config")
    assert (made.flip, made.stride, made.devices) == (1.0, (1, 2), -1)
    assert options(Sample, {"free": 1e300}).free == 1e300


def test_the_listing_has_the_range_beside_the_type():
    lines = list(listing(block(Sample, {}), "config"))
    assert "  config.flip: float (0 to 1) = 0.5" in lines
    assert "  config.rate: float or None (at least 0) = None" in lines
    assert "  config.mean: tuple[float, float] = (0.0, 0.0)" in lines
    assert "  config.stride: int or tuple[int, int] (at least 1) = 16" in lines
    assert str(ANY) == ""
