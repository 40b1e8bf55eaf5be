"""Backbones: ResNet and OSNet (a map of features) and ViT (tokens), built by name."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from g2ajax.backbones import osnet, resnet, vit

NAMES = (*resnet.VARIANTS, *osnet.VARIANTS, *vit.VARIANTS)
TITLES = (
    (r"resnet(\d+)", r"ResNet-\1"),
    (r"osnet_x(\d)_(\d+)", r"OSNet x\1.\2"),
    (r"osnet_(\w+)_x(\d)_(\d+)", r"OSNet-\1 x\2.\3"),
    (r"vit_base", "ViT-B/16"),
    (r"vit_small", "ViT-S/16"),
    (r"vit_tiny", "ViT-Ti/16"),
    (r"deit_small", "DeiT-S/16"),
    (r"vit_small_transreid", "ViT-S/16 of TransReID"),
    (r"clip_vit_b(\d+)", r"CLIP ViT-B/\1"),
    (r"clip_vit_l(\d+)", r"CLIP ViT-L/\1"),
)
"""Patterns of variants' names, CLIP's too, and what a reader calls them."""


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


def title(name: str) -> str:
    """A network's name for a reader: "ResNet-50", "OSNet x0.25", "ViT-B/16"; else the name itself."""
    for pattern, text in TITLES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(text)
    return name


def feature_dim(name: str) -> int:
    """D of the backbone called `name`, without building it."""
    return _module(name).feature_dim(name)
