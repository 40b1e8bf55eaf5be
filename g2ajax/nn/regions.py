"""Heads of two-stage detectors on a map or on regions, with torchvision's names."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.init import normal_linear, torch_uniform
from g2ajax.nn.norm_aware import small_batch_norm

HIGHEST = jax.lax.Precision.HIGHEST


class Parts(nnx.Module):
    """A container for a level of a checkpoint's names, such as `roi_heads`; computes nothing."""

    def __init__(self, **parts: Any):
        for name, part in parts.items():
            setattr(self, name, part)


class ProposalHead(nnx.Module):
    """Scores and codes of the anchors of each cell: 3x3 convolution, ReLU, two 1x1 convolutions.

    Names: `conv`, `cls_logits`, `bbox_pred`. Weights N(0, 0.01), biases 0. Returns logits [B,N] and
    codes [B,N,4] in float32, N = h w anchors in the order (row, column, anchor).
    """

    def __init__(self, channels: int, anchors: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        def conv(features_out: int, kernel: int) -> nnx.Conv:
            return nnx.Conv(
                channels,
                features_out,
                (kernel, kernel),
                padding=kernel // 2,
                kernel_init=nnx.initializers.normal(0.01),
                dtype=dtype,
                rngs=rngs,
            )

        self.conv = conv(channels, 3)
        self.cls_logits = conv(anchors, 1)
        self.bbox_pred = conv(4 * anchors, 1)

    def __call__(
        self, x: Float[Array, "B h w C"]
    ) -> tuple[Float[Array, "B N"], Float[Array, "B N 4"]]:
        y = jax.nn.relu(self.conv(x))
        logits = self.cls_logits(y).astype(jnp.float32)
        codes = self.bbox_pred(y).astype(jnp.float32)
        return logits.reshape(len(x), -1), codes.reshape(len(x), -1, 4)


class BoxPredictor(nnx.Module):
    """Class logits [R,2] and box codes [R,2,4] of pooled regions, background first; float32.

    Names: `cls_score`, `bbox_pred`; PyTorch's initialisation.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        def linear(features_out: int) -> nnx.Linear:
            return nnx.Linear(
                features,
                features_out,
                kernel_init=torch_uniform(features),
                bias_init=torch_uniform(features),
                precision=HIGHEST,
                rngs=rngs,
            )

        self.cls_score = linear(2)
        self.bbox_pred = linear(8)

    def __call__(self, x: Float[Array, "R C"]) -> tuple[Float[Array, "R 2"], Float[Array, "R 2 4"]]:
        return self.cls_score(x), self.bbox_pred(x).reshape(-1, 2, 4)


class BoxRegressor(nnx.Module):
    """Box codes [R,2,4] by a linear layer and a batch norm whose scales start from N(0, 0.01).

    Names: `bbox_pred.0`, `bbox_pred.1`. Rows with `mask` False are padding.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        linear = normal_linear(features, 8, 0.01, rngs=rngs)
        self.bbox_pred = nnx.List([linear, small_batch_norm(8, rngs)])

    def __call__(
        self, x: Float[Array, "R C"], mask: Bool[Array, " R"] | None = None
    ) -> Float[Array, "R 2 4"]:
        linear, norm = self.bbox_pred
        return norm(linear(x), mask).reshape(-1, 2, 4)
