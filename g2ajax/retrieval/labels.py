"""Identities and cameras: of one kind on both sides, and compared exactly."""

import collections.abc
import contextlib
import numbers
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from g2ajax.retrieval.inputs import array

EXPECTED = "expected integers, text, bytes, booleans or hashable objects"


# Any object passes these types; what does not fit is refused by `label_pair` and `flags`, by name.
@runtime_checkable
class Labels(Protocol):
    """One label a row: integers, text, bytes, booleans or hashable objects, in an array or a list."""


@runtime_checkable
class Flags(Protocol):
    """One boolean for each gallery entry, in an array or a list."""


class LabelPair(NamedTuple):
    """Labels of both sides as numbers that are equal where the labels are, in the labels' order."""

    query: Int[np.ndarray, " Q"]
    gallery: Int[np.ndarray, " G"]
    given: Shaped[np.ndarray, " Q"]
    """The queries' own labels, for messages."""


def label_pair(
    query: Labels | None, gallery: Labels | None, sizes: tuple[int, int], what: str
) -> LabelPair:
    """Labels of both sides, to be compared.

    `what`: "identity" or "camera"; `sizes`: numbers of queries and gallery entries.

    Raises ValueError for labels of another number or of two kinds, and for labels that are equal to
    nothing or stand for several integers: None, NaN, fractions, floats beyond their exact integers.
    """
    names = f"query_{what}", f"gallery_{what}"
    for name, labels in zip(names, (query, gallery), strict=True):
        if labels is None:
            raise ValueError(f"{name} is None; {EXPECTED}")
    (own, kind), (other, other_kind) = (
        _read(labels, size, name)
        for labels, size, name in zip((query, gallery), sizes, names, strict=True)
    )
    if len(own) and len(other) and kind != other_kind:
        raise ValueError(
            f"{names[0]} holds {kind}, {names[1]} {other_kind}: they are never equal; convert one side"
        )
    return LabelPair(*_codes(own, other, names), own)


def camera_pair(
    query: Labels | None, gallery: Labels | None, sizes: tuple[int, int]
) -> LabelPair | None:
    """Cameras of both sides; None if neither is given. Raises what `label_pair` raises, and ValueError
    for cameras of one side only."""
    if query is None and gallery is None:
        return None
    for side, labels in (("query", query), ("gallery", gallery)):
        if labels is None:
            raise ValueError(
                f"{side}_camera is missing, but the other side's is given; give both or none"
            )
    return label_pair(query, gallery, sizes, "camera")


def flags(values: Flags | None, size: int, name: str) -> Bool[np.ndarray, " N"]:
    """Booleans, all False for None. Raises ValueError unless there is one for each of `size` entries."""
    if values is None:
        return np.zeros(size, bool)
    values = np.asarray(array(values, name))
    _check_shape(values, size, name)
    if values.dtype != bool and size:
        raise ValueError(
            f"{name} is of kind {values.dtype}; expected booleans, one for each gallery entry"
        )
    return values.astype(bool)


def length(labels: Labels) -> int:
    """Number of labels; 0 for a value that is not a list of labels, which `label_pair` refuses."""
    if isinstance(labels, collections.abc.Sequence):
        return len(labels)
    shape = array(labels, "labels").shape
    return shape[0] if shape else 0


def _read(labels: Labels, size: int, name: str) -> tuple[np.ndarray, str]:
    """Labels as an array (integers as integers, others as they are or as objects), and their kind."""
    if isinstance(labels, collections.abc.Sequence) and not isinstance(labels, str | bytes | range):
        # Element by element: NumPy makes text of [1, "a"] and floats of large integers.
        values = np.fromiter(labels, dtype=object, count=len(labels))
    else:
        values = np.asarray(array(labels, name))
    _check_shape(values, size, name)
    dtype = values.dtype
    if dtype.kind == "b":
        return values, "booleans"
    # NumPy counts spans of time (m) among the integers.
    if jnp.issubdtype(dtype, jnp.integer) and dtype.kind != "m":
        return values, "integers"
    if jnp.issubdtype(dtype, jnp.floating):
        return _whole(values, name), "integers"
    if dtype.kind in "US":
        return values, {"U": "text", "S": "bytes"}[dtype.kind]
    if dtype.kind in "OT":
        return _read_objects(values.astype(object), name)
    raise ValueError(f"{name} is of kind {dtype}; {EXPECTED}")


def _check_shape(values: np.ndarray, size: int, name: str) -> None:
    if values.shape != (size,):
        raise ValueError(f"{name} has shape {values.shape}, but there are {size} embeddings")


def _whole(values: np.ndarray, name: str) -> Int[np.ndarray, " N"]:
    """Floats that are integers as integers."""
    limit, wide = _limit(values.dtype), values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        exact = (values == np.floor(values)) & (np.abs(wide) < limit)
    if not exact.all():
        position = int(np.argmin(exact))
        raise ValueError(
            f"{name} holds {float(wide[position])} at position {position}: {_exact(limit)}"
        )
    return wide.astype(np.int64)


def _limit(dtype) -> float:
    """Below it a float of this kind is one integer at most; above it several are rounded to it."""
    if not isinstance(dtype, np.dtype) or not jnp.issubdtype(dtype, jnp.floating):
        return 2.0**53
    # Extended floats go through float64.
    return 2.0 ** min(jnp.finfo(dtype).nmant + 1, 53)


def _exact(limit: float) -> str:
    return (
        f"as floats, labels must be whole numbers below {limit:.0f}, which are exact; give integers"
    )


def _read_objects(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    labels, first = [], ""
    for position, value in enumerate(values):
        label, kind = _label(value, f"{name} holds {value!r} at position {position}")
        first = first or kind
        if kind != first:
            raise ValueError(
                f"{name} mixes {first} and {kind} (first at position {position}); use one kind"
            )
        labels.append(label)
    if first in ("booleans", "integers"):
        low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        if all(low <= label <= high for label in labels):
            return np.array(labels, bool if first == "booleans" else np.int64), first
    return np.fromiter(labels, dtype=object, count=len(labels)), first


def _label(value: object, description: str) -> tuple[object, str]:
    """One label of a list or an array of objects, and its kind."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        raise ValueError(f"{description}; {EXPECTED}")
    limit = _limit(value.dtype) if hasattr(value, "dtype") else 2.0**53
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return value, "booleans"
    if isinstance(value, numbers.Integral):
        return int(value), "integers"
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= limit:
            raise ValueError(f"{description}: {_exact(limit)}")
        return int(value), "integers"
    if isinstance(value, str | bytes):
        return value, "text" if isinstance(value, str) else "bytes"
    try:
        hash(value)
        missing = value is None or bool(value != value)
    except Exception as error:
        raise ValueError(f"{description}; {EXPECTED}") from error
    if missing:
        raise ValueError(f"{description}, which is equal to no label; leave such rows out")
    return value, f"objects of type {type(value).__qualname__}"


def _codes(
    own: np.ndarray, other: np.ndarray, names: tuple[str, str]
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " G"]]:
    sides = own, other
    if all(jnp.issubdtype(side.dtype, jnp.integer) for side in sides):
        # Together, int64 and uint64 would become float64.
        if all(side.max(initial=0) <= np.iinfo(np.int64).max for side in sides):
            return own.astype(np.int64), other.astype(np.int64)
        sides = tuple(side.astype(object) for side in sides)
    if any(side.dtype == object for side in sides):
        labels = [label for side in sides for label in side.tolist()]
        try:
            code = {label: position for position, label in enumerate(dict.fromkeys(labels))}
        except Exception as error:
            raise ValueError(f"{names[0]} and {names[1]} cannot be compared: {error}") from error
        # Labels without an order keep that of their appearance.
        with contextlib.suppress(Exception):
            code = {label: position for position, label in enumerate(sorted(code))}
        codes = np.array([code[label] for label in labels], np.int64)
    else:
        _, codes = np.unique(np.concatenate(sides), return_inverse=True)
    return codes[: len(own)], codes[len(own) :]
