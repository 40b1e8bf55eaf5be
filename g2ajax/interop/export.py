"""A trained embedding as one portable file (StableHLO), with its preprocessing inside.

The file needs jax alone to run, on CPU, CUDA and TPU, for any number of images:

    program = jax.export.deserialize(bytearray(path.read_bytes()))
    embedding = program.call(images)  # uint8 [B, H, W, 3] -> float32 [B, D]
"""

import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export as jax_export
from jaxtyping import Array, Float, Int, UInt8

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4
"""Largest difference of an element between the program's embeddings and the method's."""
BATCH_SIZES = (1, 3, 8)


def fingerprint(model: nnx.Module) -> str:
    """Short hash of all parameters and statistics under their names."""
    digest = hashlib.sha256()
    for path, leaf in sorted(nnx.to_flat_state(nnx.state(model)), key=lambda item: str(item[0])):
        value = leaf[...]
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            continue
        digest.update(f"{'.'.join(map(str, path))} {value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def image_function(
    model: nnx.Module, *, flip: bool = False
) -> Callable[[UInt8[Array, "B H W 3"]], Float[Array, "B D"]]:
    """The embedding of images by `model` as its metric uses it, with the parameters inside.

    Cosine: of norm 1. `flip`: the mean over images and their mirrors, before that.
    Raises ValueError for a method that must be told camera or platform of each image.
    """
    check_alone(model)
    embed = _frozen(model)

    def call(images: UInt8[Array, "B H W 3"]) -> Float[Array, "B D"]:
        images = images.astype(jnp.float32)
        found = embed().embed(images)
        if flip:
            found = (found + embed().embed(images[:, :, ::-1])) / 2.0
        return _as_used(found, model.metric)

    return call


def text_function(model: nnx.Module) -> Callable[[Int[Array, "B L"]], Float[Array, "B D"]]:
    """The embedding of captions, given by CLIP's ids, as the metric uses it."""
    embed = _frozen(model)

    def call(caption: Int[Array, "B L"]) -> Float[Array, "B D"]:
        return _as_used(embed().embed_text(caption), model.metric)

    return call


def check_alone(model: nnx.Module) -> None:
    """Raises ValueError where pixels alone do not make the embedding."""
    needs = "camera" if model.uses_camera else ""
    if getattr(getattr(model, "options", None), "platforms", 0):
        needs = "camera and platform" if needs else "platform"
    if needs:
        raise ValueError(
            f"this method must be told the {needs} of every image (side information), which a file "
            "of one's own does not say; use a run trained without it"
        )


def stablehlo(function: Callable[[Array], Array], shape: tuple[int, ...], dtype: Any) -> bytes:
    """`function` of an array [B, *shape], for any B, as a serialised `jax.export.Exported`.

    Raises ValueError when flatbuffers, the file's format, is not installed.
    """
    try:
        import flatbuffers  # noqa: F401  jax needs it, but does not ask for it
    except ImportError:
        raise ValueError(
            "the package flatbuffers writes and reads exported programs and is not installed; "
            "`pip install flatbuffers`"
        ) from None
    (batch,) = jax_export.symbolic_shape("b")
    argument = jax.ShapeDtypeStruct((batch, *shape), dtype)
    return bytes(jax_export.export(jax.jit(function), platforms=PLATFORMS)(argument).serialize())


def load(path: str | pathlib.Path) -> Callable[[Array | np.ndarray], Array]:
    """The program of a file that `stablehlo` made.

    Raises FileNotFoundError without the file, and ValueError for a file of another kind.
    """
    data = pathlib.Path(path).read_bytes()
    try:
        return jax.jit(jax_export.deserialize(bytearray(data)).call)
    except Exception as error:  # other data makes flatbuffers raise errors of many kinds
        raise ValueError(f"{path} is no exported program ({len(data)} bytes): {error}") from error


def differences(
    program: Callable[[np.ndarray], Array],
    ours: Callable[[np.ndarray], np.ndarray],
    inputs: Mapping[int, np.ndarray],
) -> dict[int, float]:
    """The largest difference of an element of the embeddings, by batch size.

    `ours` embeds as the method does; NaN counts as infinitely far.
    """
    found = {}
    for size, batch in inputs.items():
        off = np.abs(np.asarray(program(batch)) - np.asarray(ours(batch)))
        found[size] = float(np.max(np.where(np.isfinite(off), off, np.inf)))
    return found


def _frozen(model: nnx.Module) -> Callable[[], nnx.Module]:
    """Makes the model in evaluation mode, its values constants free of any device."""
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graphdef, state = nnx.split(view)
    state = jax.device_get(state)

    def make() -> nnx.Module:
        return nnx.merge(graphdef, jax.tree.map(jnp.asarray, state), copy=True)

    return make


def _as_used(features: Float[Array, "B D"], metric: str) -> Float[Array, "B D"]:
    features = features.astype(jnp.float32)
    if metric != "cosine":
        return features
    square = jnp.sum(features * features, -1, keepdims=True)
    return features / jnp.sqrt(jnp.maximum(square, 1e-24))
