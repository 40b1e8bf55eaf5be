"""A run's embedding as one file with its preprocessing and parameters inside.

import g2ajax
from g2ajax.apps.export import export
export(g2ajax.load("runs/irra", dtype="float32"), "exported", part="text")

`stablehlo` needs jax alone to run, on CPU, CUDA and TPU; `onnx` needs onnxruntime. Both take any
number of images (or captions) at a time.
"""

import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from g2ajax.apps.resizing import Interpolation, resized
from g2ajax.apps.search import check_alone
from g2ajax.data.images import resize as resized_by_pil
from g2ajax.data.tokenizer import END, PAD, START
from g2ajax.methods import EmbedsCaptions, Method, evaluated, require
from g2ajax.models.model import Model, fingerprint
from g2ajax.retrieval.distances import unit

Format = Literal["stablehlo", "onnx"]
Part = Literal["image", "text"]
Program = Callable[[np.ndarray], Array | np.ndarray]
PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4
"""Largest difference of an element between the program's embeddings and the method's."""
TOLERANCE_RESIZED = 1e-2
"""The same for resized images, where a few values differ by one."""
BATCH_SIZES = (1, 3, 8)
SIZES = ("rows", "height", "width")
"""Axes of any length of a program that resizes."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """The files written, and how exact the program is."""

    program: pathlib.Path
    description: pathlib.Path
    """JSON: inputs and outputs of the program."""
    differences: dict[int, float]
    """Largest difference of an element to the method's embeddings, by batch size."""
    difference_resized: float | None = None
    """The same for images resized by the program, and by PIL for the method."""


def export(
    model: Model,
    folder: str | os.PathLike,
    *,
    part: Part = "image",
    format: Format = "stablehlo",
    resize: bool = False,
) -> Exported:
    """Writes FOLDER/<part>.<format> and FOLDER/<part>.<format>.json of a model.

    The program computes in float32, so the model must. It is loaded again and compared with the method
    on random input of three batch sizes. With `resize` it takes images of any height and width, all
    of a batch of the same, and resizes them as the model's test images.

    Raises ValueError when a difference is above its tolerance (and writes nothing), for a model in
    bfloat16, for a method that needs camera or platform, for text with a method of images, `resize`
    of text, an operation that the format lacks, and without the packages of the extra `export`.
    """
    check_packages(format)
    if model.facts.dtype != jnp.float32:
        raise ValueError(
            'an exported program computes in float32; load the model with dtype="float32"'
        )
    folder = pathlib.Path(folder)
    if part == "text":
        require(model.method, EmbedsCaptions, "part=text")
        if resize:
            raise ValueError("resize is of images; leave it out with part=text")
    function, reference, inputs = (_image if part == "image" else _text)(model)
    example = inputs[BATCH_SIZES[-1]]
    interpolation = model.options.data.test_interpolation if resize else None
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / f"{part}.{format}", folder / f"{part}.partial.{format}"
    try:
        write = stablehlo if format == "stablehlo" else onnx
        partial.write_bytes(write(function, example, resize=interpolation))
        program = load(partial)
        different = {size: difference(program(x), reference(x)) for size, x in inputs.items()}
        worst = float(np.max(list(different.values())))  # NaN where there is one
        _check(part, worst, TOLERANCE)
        different_resized = None
        if interpolation:
            other = _of_another_size(example)
            same = np.stack([resized_by_pil(x, example.shape[1:3], interpolation) for x in other])
            different_resized = difference(program(other), reference(same))
            _check("resized image", different_resized, TOLERANCE_RESIZED)
        dim = np.asarray(program(example)).shape[1]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    description = folder / f"{part}.{format}.json"
    text = json.dumps(_described(model, part, example, dim, resize), indent=2)
    description.write_text(text + "\n")
    return Exported(path, description, different, different_resized)


def _check(what: str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:
        raise ValueError(
            f"the exported {what} embedding differs from the method's by {difference:.1e}, more "
            f"than {tolerance:.0e}; nothing was written"
        )


def _of_another_size(images: UInt8[np.ndarray, "B H W 3"]) -> UInt8[np.ndarray, "B h w 3"]:
    """Random images that shrink along one axis and grow along the other."""
    rows, height, width = images.shape[:3]
    shape = (rows, height * 3 // 2, width * 3 // 4, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def stablehlo(
    function: Callable[[Array], Array], example: np.ndarray, *, resize: Interpolation | None = None
) -> bytes:
    """`function` of arrays like `example` with any number of rows, as a serialised
    `jax.export.Exported`. `resize`: of images of any size, which the program resizes so."""
    function, _, lengths = _resizing(function, example, resize)
    symbols = jax.export.symbolic_shape(", ".join(lengths))
    argument = jax.ShapeDtypeStruct((*symbols, *example.shape[len(symbols) :]), example.dtype)
    program = jax.export.export(jax.jit(function), platforms=PLATFORMS)(argument)
    return bytes(program.serialize())


def onnx(
    function: Callable[[Array], Array], example: np.ndarray, *, resize: Interpolation | None = None
) -> bytes:
    """The same as an ONNX model from `input` to `embedding`."""
    from g2ajax.apps.to_onnx import to_onnx

    return to_onnx(*_resizing(function, example, resize))


def _resizing(
    function: Callable[[Array], Array], example: np.ndarray, resize: Interpolation | None
) -> tuple[Callable[[Array], Array], np.ndarray, tuple[str, ...]]:
    """The function with the resize before it, its example, and names of axes of any length."""
    if resize is None:
        return function, example, ("rows",)
    size = example.shape[1:3]
    return lambda images: function(resized(images, size, resize)), example, SIZES


def load(path: str | os.PathLike) -> Program:
    """The program of a file that `export` made: embeddings [B, D] of a batch.

    Raises FileNotFoundError without the file, and ValueError for one of another kind.
    """
    path = pathlib.Path(path)
    data = path.read_bytes()
    check_packages(path.suffix.removeprefix("."))
    try:
        if path.suffix == ".stablehlo":
            return jax.jit(jax.export.deserialize(bytearray(data)).call)
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # other data makes the readers raise errors of many kinds
        raise ValueError(f"{path} is no exported program ({len(data)} bytes): {error}") from error

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {"input": batch})[0]

    return run


def difference(result: Array | np.ndarray, reference: Array | np.ndarray) -> float:
    """The largest difference of an element; NaN if any element is NaN."""
    return float(np.max(np.abs(np.asarray(result) - np.asarray(reference))))


def check_packages(format: str) -> None:
    """Raises ValueError for an unknown format, and without the packages that it needs."""
    packages = {"stablehlo": ("flatbuffers",), "onnx": ("onnx", "onnxruntime")}
    if format not in packages:
        raise ValueError(f"no format {format!r}; known: {', '.join(packages)}")
    for package in packages[format]:
        try:
            importlib.import_module(package)
        except ImportError:
            raise ValueError(
                f"format={format} needs the package {package}, which is not installed; "
                "`pip install 'g2ajax[export]'`"
            ) from None


def _image(model: Model) -> tuple[Callable, Program, dict[int, np.ndarray]]:
    """The function to export, the model's own embedding, and input of each batch size."""
    method, flip = model.method, model.options.evaluate.flip
    check_alone(method)
    make = _frozen(method)

    def function(images: UInt8[Array, "B H W 3"]) -> Float[Array, "B D"]:
        frozen, images = make(), images.astype(jnp.float32)
        features = frozen.embed(images)
        if flip:
            features = (features + frozen.embed(images[:, :, ::-1])) / 2.0
        return _as_compared(features, method.metric)

    def ours(images: UInt8[np.ndarray, "B H W 3"]) -> Array:
        blank = np.zeros(len(images), np.int32)
        batch = {"image": images, "camera": blank, "platform": blank}
        return _as_compared(model.embedder.embed(nnx.state(method), batch), method.metric)

    rng, size = np.random.default_rng(0), model.image_size
    inputs = {rows: rng.integers(0, 256, (rows, *size, 3), np.uint8) for rows in BATCH_SIZES}
    return function, ours, inputs


def _text(model: Model) -> tuple[Callable, Program, dict[int, np.ndarray]]:
    """The same as `_image`, for captions."""
    method, length = model.method, model.embedder.text_length
    make = _frozen(method)

    def function(caption: Int[Array, "B L"]) -> Float[Array, "B D"]:
        return _as_compared(make().embed_text(caption), method.metric)

    def ours(caption: Int[np.ndarray, "B L"]) -> Array:
        return _as_compared(
            model.embedder.embed_text(nnx.state(method), {"caption": caption}), method.metric
        )

    rng = np.random.default_rng(0)
    inputs = {rows: _captions(rng, rows, length) for rows in BATCH_SIZES}
    return function, ours, inputs


def _captions(rng: np.random.Generator, rows: int, length: int) -> Int[np.ndarray, "B L"]:
    """Captions of random words, of several lengths."""
    ids = np.full((rows, length), PAD, np.int32)
    for row in ids:
        words = int(rng.integers(1, length - 1))
        row[: words + 2] = [START, *rng.integers(1, START, words), END]
    return ids


def _frozen(model: Method) -> Callable[[], Method]:
    """Makes the model in evaluation mode, its values constants on no device in particular."""
    graphdef, state = evaluated(model)
    state = jax.device_get(state)

    def make() -> Method:
        return nnx.merge(graphdef, jax.tree.map(jnp.asarray, state), copy=True)

    return make


def _as_compared(features: Float[Array, "B D"], metric: str) -> Float[Array, "B D"]:
    """Scales features to norm 1 if the cosine compares them."""
    return unit(features) if metric == "cosine" else features.astype(jnp.float32)


def _described(
    model: Model, part: str, example: np.ndarray, dim: int, resize: bool
) -> dict[str, Any]:
    method, card, options = model.method, model.card, model.options
    shape = [*SIZES, 3] if resize else ["rows", *example.shape[1:]]
    feature = method.feature_name
    if part == "image":
        details = {
            "values": "RGB, 0 to 255; normalised inside",
            "image_size": list(options.data.image_size),
            "interpolation": f"{options.data.test_interpolation}, antialiased, "
            + ("inside" if resize else "before"),
            "mean": list(method.preprocessing.mean),
            "std": list(method.preprocessing.std),
        }
        feature += " (image + mirror)" * options.evaluate.flip
    else:
        details = {"values": f"ids of CLIP's words: {START}, the caption, {END}, then {PAD}"}
    return {
        "model": card.name,
        "method": card.method["name"],
        "origin": card.origin,
        "trained_on": dict(card.trained_on),
        "checkpoint": card.checkpoint,
        "step": card.step,
        "part": part,
        "input": {"shape": shape, "dtype": str(example.dtype), **details},
        "output": {
            "shape": ["rows", dim],
            "dtype": "float32",
            "feature": feature,
            "metric": method.metric,
            "norm_1": method.metric == "cosine",
        },
        "parameters": fingerprint(method),
    }
