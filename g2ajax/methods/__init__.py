"""One paper, one file. A method is named by its module: `config.method.name = "strong_baseline"`.

A method's module has `build(options, task, *, rngs) -> nnx.Module`, `options` being the rest of its
configuration block. The module it builds offers:

- `loss(batch, rngs) -> (scalar, metrics)`: `batch["image"]` is float32 in 0..255, augmented;
- `embed(images, *, camera, platform) -> [B, D]` in float32, from the same kind of images;
- `preprocessing`, `metric`, `feature_name`, `in_batch_terms`: what a caller must know to get the
  same numbers, and which loss terms look at the whole batch.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g2ajax.config import nearest

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class Task:
    """What the data decide about a model."""

    num_classes: int
    image_size: tuple[int, int]
    """Height and width in pixels."""
    num_cameras: int = 0
    """Cameras among the training images."""
    attribute_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Attribute groups and their class names, in the order of the columns."""
    attribute_rates: tuple[float, ...] = ()
    """For each class of each group, the share of the training identities that have it."""
    sentences: tuple[tuple[int, ...], ...] = ()
    """CLIP's ids of sentences that say attributes, class by class; for methods that match them."""
    sentence_counts: tuple[tuple[int, ...], ...] = ()
    """Number of sentences of each class of each attribute, in the same order."""
    dtype: DTypeLike = jnp.float32
    """Of the computation; parameters, statistics and losses stay float32."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pixels 0..255 become the network's input: `(x - mean) / std`, once."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel, subtracted from pixels 0..255."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, by which pixels are divided."""

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """Images with pixels 0..255 as the network wants them."""
        mean, std = (jnp.asarray(x, jnp.float32)[None, None, None] for x in (self.mean, self.std))
        return (images - mean) / std


def build(config: Mapping[str, Any], task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
    """Builds the method `config["name"]`; a dotted name is a module outside this package.

    Raises ValueError for an unknown method (naming the nearest) or option.
    """
    rest = dict(config)
    name = rest.pop("name")
    return module(name).build(rest, task, rngs=rngs)


def drawn(config: Mapping[str, Any], task: Task, *, seed: int = 0) -> nnx.Module:
    """`build` with parameters drawn from `seed`, on the device.

    Under one jit: drawn eagerly, every shape would compile by itself.
    """

    def make() -> nnx.Module:
        return build(config, task, rngs=nnx.Rngs(params=seed))

    graphdef, _ = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graphdef, jax.jit(lambda: nnx.state(make()))())


def evaluated(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State]:
    """`nnx.split` of the model in evaluation mode: no dropout, running statistics."""
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    return nnx.split(view)


def module(name: str) -> Any:
    """The module of the method `name`."""
    if "." in name:
        return importlib.import_module(name)
    known = [m.name for m in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise ValueError(f"no method {name!r}; {nearest(name, known)}")
    return importlib.import_module(f"{__name__}.{name}")
