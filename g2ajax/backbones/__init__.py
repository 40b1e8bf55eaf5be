"""Backbones: ResNet and OSNet (a map of features) and ViT (tokens), built by name."""

import difflib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from g2ajax.backbones import osnet, resnet, vit

NAMES = (*resnet.VARIANTS, *osnet.VARIANTS, *vit.VARIANTS)


def _module(name: str):
    for module in (resnet, osnet, vit):
        if name in module.VARIANTS:
            return module
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"backbone {name!r} is unknown{hint} Known: {', '.join(NAMES)}")


def build(
    name: str,
    *,
    image_size: Sequence[int],
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> resnet.ResNet | osnet.OSNet | vit.ViT:
    """The backbone called `name` for normalised images of `image_size` (H, W) pixels.

    `options` are those of `ResNet`, `OSNet` or `ViT`; `dtype` is the one computed in, parameters
    are float32. A ResNet and an OSNet return a map [B,h,w,D], a ViT tokens [B,T,D] with the class
    token first; D is its `feature_dim`.

    Raises:
      ValueError: for an unknown name (with the nearest known one), and what the network refuses.
    """
    module = _module(name)
    if module is vit:
        options["image_size"] = image_size
    return module.build(name, dtype=dtype, rngs=rngs, **options)


def feature_dim(name: str) -> int:
    """D of the backbone called `name`, without building it."""
    return _module(name).feature_dim(name)
