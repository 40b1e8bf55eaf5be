"""Arguments of the functions of this folder: arrays of any library, and numbers that float32 can hold.

An argument is an array of NumPy or JAX, nested lists, or anything with `__array__` or `__dlpack__`.
Embeddings whose squares float32 cannot hold are scaled by powers of 2, which changes no ranking; others
are left as they are, to the last bit.
"""

import dataclasses
import math
from typing import NoReturn, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import Array, Float, Shaped

# Magnitudes between which squares and their sums are exact enough in float32, and norms above the 1e-12
# of `distances.unit`.
PLAIN = (2.0**-32, 2.0**32)
# Smallest component of a row: below, its squares are lost; "euclidean" besides never goes below 1e-6.
LEAST = {"squared_euclidean": 2.0**-50, "euclidean": 2.0**-8}
MOST = 2.0**40


# Any object passes these types; what does not fit is refused by the functions, by name.
@runtime_checkable
class Features(Protocol):
    """Embeddings, one a row: an array [rows, D] of any library, or nested lists."""


@runtime_checkable
class Distances(Protocol):
    """Distances [Q, G], smaller is more similar: an array of any library, or nested lists."""


@runtime_checkable
class Whole(Protocol):
    """A whole number: an int, or an integer of NumPy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """Finite embeddings."""

    rows: Float[Array | np.ndarray, "N D"]
    magnitudes: tuple[float, float]
    """Largest component of the largest row and of the smallest one, rows of zeros left out: infinite if
    there are no others."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return self.rows.shape[1]

    def directions(self) -> Float[Array | np.ndarray, "N D"]:
        """Rows of the same directions in float32, whose norms float32 can hold."""
        (least, most), (largest, smallest) = PLAIN, self.magnitudes
        if largest <= most and smallest >= least:
            return _float32(self.rows)
        numpy = _library(self.rows)
        _, exponent = numpy.frexp(numpy.abs(self.rows).max(axis=1, keepdims=True))
        return _float32(numpy.ldexp(self.rows, -exponent))

    def scaled(self, exponent: int) -> Float[Array | np.ndarray, "N D"]:
        """Rows divided by 2^`exponent`, in float32."""
        if not exponent:
            return _float32(self.rows)
        return _float32(_library(self.rows).ldexp(self.rows, -exponent))


def array(values: object, name: str) -> np.ndarray | Array:
    """`values` as an array of NumPy, or of JAX if they are one.

    Raises ValueError for anything but an array, and for masked entries, which NumPy would fill in.
    """
    if isinstance(values, jax.Array):
        return _with_automatic_axes(values)
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: some entries are masked; leave them out")
    try:
        if hasattr(values, "__dlpack__") and not isinstance(values, np.ndarray):
            return _from_dlpack(values)
        return np.asarray(values)
    except Exception as error:
        # Libraries refuse with errors of many types; nested lists of unequal lengths come here too.
        raise ValueError(f"{name}: cannot be read as an array: {error}") from error


def numbers(values: object, name: str) -> Shaped[np.ndarray | Array, "..."]:
    """Real numbers as float32 or float64 (integers of JAX as float32).

    Raises ValueError for anything but an array of real numbers.
    """
    values = array(values, name)
    dtype = values.dtype
    if dtype in (np.float32, np.float64) and dtype.isnative:
        return values
    if jnp.issubdtype(dtype, jnp.floating):
        wide = np.float32 if dtype.itemsize < 8 else np.float64
    elif dtype.kind in "biu" or (jnp.issubdtype(dtype, jnp.integer) and dtype.kind != "m"):
        wide = np.float32 if dtype.itemsize < 4 or isinstance(values, jax.Array) else np.float64
    else:
        raise ValueError(f"{name}: of kind {_described(dtype)}; expected real numbers")
    with np.errstate(over="ignore"):
        return values.astype(wide)


def read_features(features: Features, name: str, start: int = 0) -> Embeddings:
    """Embeddings of one side.

    `name`: "query" or "gallery"; `start`: number of the first row, for the message. Raises ValueError
    unless they are real numbers [rows, D], D ≥ 1, all finite.
    """
    rows = numbers(features, f"{name} embeddings")
    if rows.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {rows.shape}; expected [rows, D]")
    if not rows.shape[1]:
        raise ValueError(f"{name} embeddings have no dimensions: their shape is {rows.shape}")
    if isinstance(rows, jax.Array):
        # Numbers, not rows, come back: rows of a sharded array may be on other processes.
        finite, lost, largest, smallest = _range_on_device(rows)
        if not finite:
            _refuse_not_finite(~np.asarray(jnp.isfinite(rows).all(axis=1)), name, start)
        if lost:
            raise ValueError(
                f"{name} embeddings have rows below 1.2e-38, which the device takes for 0; multiply "
                "them by a constant, or give a NumPy array"
            )
        return Embeddings(rows, (float(largest), float(smallest)))
    with np.errstate(invalid="ignore"):
        magnitude = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    if not np.isfinite(magnitude).all():
        _refuse_not_finite(~np.isfinite(magnitude), name, start)
    smallest = magnitude.min(initial=np.inf, where=magnitude > 0)
    return Embeddings(rows, (float(magnitude.max(initial=0)), float(smallest)))


def check_pair(query_width: int, gallery_width: int) -> None:
    """Raises ValueError unless query and gallery have the same width."""
    if query_width != gallery_width:
        raise ValueError(
            f"query embeddings have {query_width} dimensions, gallery ones {gallery_width}; "
            "embed both with one network"
        )


def common_exponent(metric: str, width: int, *ranges: tuple[float, float]) -> int:
    """Exponent of the power of 2 by which embeddings are divided before Euclidean distances; 0 if float32
    holds their squares as they are, and for "cosine", which scales each row.

    `width`: number of dimensions; `ranges`: `Embeddings.magnitudes` of each side. Raises ValueError if no power
    serves the largest row and the smallest.
    """
    largest, smallest = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if metric == "cosine" or largest == 0:
        return 0
    if largest <= MOST and smallest >= LEAST[metric]:
        return 0
    # The sum of `width` squares of differences stays below 2^127.
    exponent = math.frexp(largest)[1] - (122 - width.bit_length()) // 2
    # Distances of several blocks meet in float64.
    beyond = largest > 2.0**480 or smallest < 2.0**-480
    if beyond or math.ldexp(smallest, -exponent) < LEAST[metric]:
        raise ValueError(
            f"embeddings of magnitudes from {smallest:.3g} to {largest:.3g}: "
            f"{'float64' if beyond else 'float32'} does not hold the squared distances of both; leave "
            f"out broken rows, or use the metric 'cosine' instead of {metric!r}"
        )
    return exponent


def unscaled(
    distance: Float[np.ndarray, "..."], metric: str, exponent: int
) -> Float[np.ndarray, "..."]:
    """Distances of embeddings as they were before `Embeddings.scaled`, in float64 if they were scaled."""
    if not exponent or metric == "cosine":
        return distance
    power = 2 * exponent if metric == "squared_euclidean" else exponent
    return np.ldexp(distance.astype(np.float64), power)


def rounded(distance: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Distances in float32; infinite or 0 where they are beyond its range."""
    with np.errstate(over="ignore", under="ignore"):
        return distance.astype(np.float32)


def read_distances(values: Distances) -> Shaped[np.ndarray, "..."]:
    """Distances as a NumPy array of their own kind. Raises ValueError unless they are real numbers
    without NaN."""
    distance = array(values, "the distances")
    if not isinstance(distance, np.ndarray) or not _is_plain(distance.dtype):
        distance = np.asarray(numbers(distance, "the distances"))
    broken = np.isnan(distance)
    if broken.any():
        rows = broken.any(axis=-1).sum()
        raise ValueError(f"{rows} rows of the distances hold NaN")
    return distance


def in_float32(distance: Shaped[np.ndarray, "B G"]) -> Float[np.ndarray, "B G"]:
    """Distances that rank each row alike in float32: their places in the row where float32 merges some.

    Infinite distances stay infinite.
    """
    single = rounded(distance)
    bits = single.view(np.uint32) & np.uint32(0x7FFFFFFF)
    # Devices take numbers below 2^-126 for 0. Subtracting 1 sends 0 to the largest integer.
    lost = (bits - np.uint32(1) < np.uint32(0x7FFFFF)).any()
    if distance.dtype.kind == "f":
        lost = lost or (distance.dtype != np.float32 and (single != distance).any())
    else:
        lost = lost or (distance < -(2**24)).any() or (distance > 2**24).any()
    if not lost:
        return single
    order = np.argsort(distance, axis=1)
    near = np.take_along_axis(distance, order, axis=1)
    place = np.zeros(distance.shape, np.float32)
    steps = np.cumsum(near[:, 1:] != near[:, :-1], axis=1)
    np.put_along_axis(place, order[:, 1:], steps.astype(np.float32), axis=1)
    return np.where(np.isposinf(distance), np.float32(np.inf), place)


def count(name: str, value: Whole, largest: int | None = None) -> int:
    """A whole number as an int. Raises ValueError unless 1 ≤ value ≤ `largest` (the gallery entries)."""
    value = whole(name, value)
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1")
    if largest is not None and value > largest:
        raise ValueError(
            f"{name} is {value}, but the gallery has only {largest} entries: at most {largest}"
        )
    return value


def whole(name: str, value: Whole) -> int:
    """A whole number as an int. Raises ValueError for any other value; True is none."""
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    try:
        return value.__index__()
    except TypeError as error:
        raise ValueError(f"{name} is {value!r}; expected a whole number") from error


def _with_automatic_axes(values: Array) -> Array:
    """The array with the same sharding on a mesh with automatic axes.

    With explicit axes, the default of `jax.make_mesh`, `top_k` and indices along a sharded axis fail.
    """
    if not isinstance(values.sharding, NamedSharding):
        return values
    mesh, spec = values.sharding.mesh, values.sharding.spec
    automatic = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    return values if mesh == automatic else jax.device_put(values, NamedSharding(automatic, spec))


def _from_dlpack(values: object) -> np.ndarray | Array:
    """NumPy reads what lies in the host's memory, JAX what lies on a device, and bfloat16."""
    if hasattr(values, "__array__"):
        try:
            return np.asarray(values)
        except Exception:
            pass
    try:
        return np.from_dlpack(values)
    except Exception:
        return jnp.from_dlpack(values)


def _is_plain(dtype: np.dtype) -> bool:
    """True for integers and floats of NumPy itself, in this machine's byte order."""
    return dtype.kind in "iuf" and dtype.isnative


def _described(dtype: np.dtype) -> str:
    return {"U": "text", "S": "bytes", "O": "object", "c": "complex"}.get(dtype.kind, str(dtype))


def _library(rows: np.ndarray | Array):
    return jnp if isinstance(rows, jax.Array) else np


def _float32(rows: Float[Array | np.ndarray, "N D"]) -> Float[Array | np.ndarray, "N D"]:
    with np.errstate(under="ignore"):
        return rows if rows.dtype == np.float32 else rows.astype(np.float32)


def _refuse_not_finite(bad: np.ndarray, name: str, start: int) -> NoReturn:
    raise ValueError(
        f"{bad.sum()} of {len(bad)} {name} embeddings are not finite (rows "
        f"{(start + np.flatnonzero(bad)[:5]).tolist()}...); the network has diverged, or an "
        "image is broken"
    )


@jax.jit
def _range_on_device(rows: Float[Array, "N D"]) -> tuple[Array, Array, Array, Array]:
    """Flags that all rows are finite and that some are rounded to 0, the largest and smallest magnitude."""
    finite = jnp.isfinite(rows).all()
    magnitude = jnp.abs(rows).max(axis=1)
    smallest = jnp.where(magnitude > 0, magnitude, jnp.inf).min(initial=jnp.inf)
    lost = jnp.zeros((), bool)
    if rows.dtype == jnp.float32:
        # Compared as integers: as floats, devices take them for 0.
        bits = jax.lax.bitcast_convert_type(rows, jnp.int32) & 0x7FFFFFFF
        most = bits.max(axis=1)
        lost = ((most > 0) & (most < 0x800000)).any()
    return finite, lost, magnitude.max(initial=0.0), smallest
