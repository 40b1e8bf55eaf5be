"""Options refuse what they do not know, before anything is computed; blocks state all of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from g2ajax.config import nearest, options
from g2ajax.config.blocks import block, config_dict, listing, plain, sentences


@dataclasses.dataclass(frozen=True)
class Inner:
    """An inner block."""

    margin: float = 0.3
    """Distance that is asked for."""
    places: int | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    """The whole."""

    name: str
    inner: Inner = Inner()
    size: tuple[int, int] = (256, 128)
    """Height and width; two numbers
    of pixels."""
    kind: Literal["hard", "soft"] = "hard"
    rate: float | None = None
    rules: tuple[tuple[str, float], ...] = ()
    other: Inner | None = None
    wide: Inner = Inner(margin=0.9)
    copy: Mapping[str, str] = dataclasses.field(default_factory=dict)
    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stride: int | tuple[int, int] = 16


@dataclasses.dataclass(frozen=True)
class Further(Inner):
    places: int | None = 3


def test_builds_nested_dataclasses_and_keeps_defaults():
    values = {"inner": {"margin": 1}, "size": [4, 2], "rate": 2, "rules": [["bias", 2.0]]}
    made = options(Outer, {"name": "x", **values})
    expected = {"inner": Inner(1.0), "size": (4, 2), "rate": 2, "rules": (("bias", 2.0),)}
    assert made == Outer(name="x", **expected)
    assert isinstance(made.inner.margin, float)


def test_unknown_key_names_the_nearest_and_the_place():
    with pytest.raises(
        ValueError, match=r"Outer.inner has no option 'margn'; did you mean 'margin'"
    ):
        options(Outer, {"name": "x", "inner": {"margn": 1.0}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"places": 1},
            r"config has no option 'places'; `places` is an option of `inner`, `other`",
        ),
        ({"inner": {"size": (1, 1)}}, r"config.inner has no option 'size'; .* option of `config`"),
    ],
)
def test_an_option_of_another_block_says_where_it_belongs(values, message):
    with pytest.raises(ValueError, match=message):
        options(Outer, {"name": "x", **values}, "config")


def test_missing_required_key_is_named():
    with pytest.raises(ValueError, match="needs the option 'name'"):
        options(Outer, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "semi"),
        ("name", 3),
        ("size", 256),
        ("size", ("256", 128)),
        ("size", (256,)),
        ("size", (2.5, 1)),
        ("rules", (("bias", "2"),)),
        ("rules", ("bias", 2.0)),
        ("inner", 2),
        ("rate", "fast"),
        ("stride", (8, 8, 8)),
    ],
)
def test_wrong_type_is_named_with_its_place(key, value):
    with pytest.raises(ValueError, match=f"Outer.{key} = .*: expected"):
        options(Outer, {"name": "x", key: value})


def test_expected_types_are_readable():
    with pytest.raises(ValueError, match="kind = 1: expected one of 'hard', 'soft', got int"):
        options(Outer, {"name": "x", "kind": 1})
    with pytest.raises(ValueError, match=r"rate = 'a': expected float or None, got str"):
        options(Outer, {"name": "x", "rate": "a"})
    with pytest.raises(ValueError, match=r"size = \(1, 'a'\): expected tuple\[int, int\]$"):
        options(Outer, {"name": "x", "size": (1, "a")})


def test_a_block_states_every_option_and_gives_the_dataclass_back():
    full = plain(block(Outer, {"name": "x"}))
    assert full["inner"] == {"margin": 0.3, "places": None}
    assert full["wide"] == {"margin": 0.9, "places": None}
    assert full["other"] == {"margin": None, "places": None}
    assert options(Outer, full) == Outer("x")
    assert options(Outer, config_dict(block(Outer, {"name": "x"})).to_dict()) == Outer("x")
    given = {"name": "x", "other": {"places": 2}, "wide": {"places": 1}, "size": (1, 2)}
    made = options(Outer, plain(block(Outer, given)))
    assert made == Outer("x", other=Inner(places=2), wide=Inner(0.9, 1), size=(1, 2))


def test_what_is_not_set_can_be_set_and_only_to_its_type():
    config = config_dict(block(Outer, {"name": "x"}))
    config.rate = 1
    config.other.places = 4
    config.stride = (8, 8)
    made = options(Outer, config.to_dict())
    assert made == Outer("x", rate=1.0, other=Inner(places=4), stride=(8, 8))
    with pytest.raises(TypeError):
        config.inner.places = "many"
    with pytest.raises(AttributeError):
        config.inner.margn = 1.0


def test_arguments_left_to_a_constructor_are_left_out():
    values = {"name": "x", "backbone": {"name": "net", "width": None, "depth": 3}}
    assert options(Outer, values).backbone == {"name": "net", "depth": 3}
    assert options(Outer, {"name": "x", "copy": {"a": "b"}}).copy == {"a": "b"}


def test_an_option_that_nobody_knows_stays_in_the_block_to_be_refused():
    full = plain(block(Outer, {"name": "x", "nmae": 1}))
    with pytest.raises(ValueError, match="no option 'nmae'; did you mean 'name'"):
        options(Outer, full)


def test_sentences_come_from_the_source():
    assert sentences(Outer) == {"size": "Height and width; two numbers of pixels."}
    assert sentences(Further) == {"margin": "Distance that is asked for."}
    lines = list(listing(block(Outer, {"name": "x", "size": (1, 2)}), "config"))
    assert lines[0] == "\nconfig: The whole."
    assert "  config.size: tuple[int, int] = (1, 2) (default (256, 128))" in lines
    assert "      Height and width; two numbers of pixels." in lines
    assert "\nconfig.inner: An inner block." in lines
    assert "  config.other.margin: float = not set (default 0.3)" in lines


def test_nearest_lists_all_known_words():
    assert nearest("tripet", ["triplet", "center"]) == (
        "did you mean 'triplet'? known: center, triplet"
    )
    assert nearest("zzz", ["a"]) == "known: a"
