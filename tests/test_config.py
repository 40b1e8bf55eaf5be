"""Options refuse what they do not know, before anything is computed."""

import dataclasses
from typing import Literal

import pytest

from g2ajax.config import nearest, options


@dataclasses.dataclass(frozen=True)
class Inner:
    margin: float = 0.3


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    size: tuple[int, int] = (256, 128)
    kind: Literal["hard", "soft"] = "hard"
    rate: float | None = None
    rules: tuple[tuple[str, float], ...] = ()


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


def test_missing_required_key_is_named():
    with pytest.raises(ValueError, match="needs the option 'name'"):
        options(Outer, {})


@pytest.mark.parametrize(
    ("key", "value"), [("kind", "semi"), ("name", 3), ("size", 256), ("inner", 2), ("rate", "fast")]
)
def test_wrong_type_is_named_with_its_place(key, value):
    with pytest.raises(ValueError, match=f"Outer.{key} = "):
        options(Outer, {"name": "x", key: value})


def test_nearest_lists_all_known_words():
    assert nearest("tripet", ["triplet", "center"]) == (
        "did you mean 'triplet'? known: center, triplet"
    )
    assert nearest("zzz", ["a"]) == "known: a"
