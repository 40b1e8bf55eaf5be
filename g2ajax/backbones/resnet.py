"""ResNet with the options of fast-reid, reid-strong-baseline and TransReID.

Names are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, ...).
The stride of a bottleneck is on its 3x3 convolution.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.init import conv_init, torch_uniform
from g2ajax.nn.non_local import NonLocal
from g2ajax.nn.norm import IBN, BatchNorm
from g2ajax.nn.pointwise import pointwise_norm
from g2ajax.nn.pooling import MAX_POOLS, MaxPool, max_pool


@dataclasses.dataclass(frozen=True)
class Variant:
    """The shape of one network. `non_local` counts the blocks that `with_nl` adds a stage."""

    block: str
    depths: tuple[int, ...]
    width: int = 64
    non_local: tuple[int, ...] | None = None


VARIANTS = {
    "resnet10": Variant("basic", (1, 1, 1, 1)),
    "resnet18": Variant("basic", (2, 2, 2, 2)),
    "resnet34": Variant("basic", (3, 4, 6, 3)),
    "resnet50": Variant("bottleneck", (3, 4, 6, 3), non_local=(0, 2, 3, 0)),
    "resnet101": Variant("bottleneck", (3, 4, 23, 3), non_local=(0, 2, 9, 0)),
    "resnet_tiny": Variant("bottleneck", (1, 1, 1, 1), width=8, non_local=(0, 1, 1, 0)),
}
EXPANSION = {"basic": 1, "bottleneck": 4}


def conv(
    features_in: int, features_out: int, kernel: int, stride: int, *, dtype: Any, rngs: nnx.Rngs
) -> nnx.Conv:
    """A convolution without bias, padded by kernel // 2 on every side (never "SAME": at stride 2
    the two differ), initialised N(0, 2 / (kernel^2 out))."""
    return nnx.Conv(
        features_in,
        features_out,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=conv_init,
        dtype=dtype,
        rngs=rngs,
    )


class SqueezeExcite(nnx.Module):
    """Channel gates (Hu et al., CVPR 2018): mean, two linear maps without bias, sigmoid."""

    def __init__(self, channels: int, reduction: int, *, dtype, rngs: nnx.Rngs):
        inner = channels // reduction
        down = nnx.Linear(
            channels, inner, use_bias=False, kernel_init=torch_uniform(channels), rngs=rngs
        )
        up = nnx.Linear(
            inner, channels, use_bias=False, kernel_init=torch_uniform(inner), rngs=rngs
        )
        # The activation has index 1: checkpoints number the linear maps 0 and 2.
        self.fc = nnx.List([down, jax.nn.relu, up])
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        gate = jnp.mean(x.astype(jnp.float32), (1, 2))
        for layer in self.fc:
            gate = layer(gate)
        return x * jax.nn.sigmoid(gate).astype(self.dtype)[:, None, None]


def _cells(mask: Bool[Array, "B *cells"] | None, stride: int) -> Bool[Array, "B *cells2"] | None:
    """The mask of a map after a convolution with this stride; a mask of rows is unchanged."""
    return mask if mask is None or mask.ndim == 1 else mask[:, ::stride, ::stride]


def _inside(x: Float[Array, "B h w C"], mask: Bool[Array, "B *cells"] | None) -> Array:
    """Zeroes values outside the mask, as beyond a map's edge. A mask of rows changes nothing."""
    return x if mask is None or mask.ndim == 1 else jnp.where(mask[..., None], x, 0)


class Block(nnx.Module):
    """A residual block, "basic" (3x3, 3x3) or "bottleneck" (1x1, 3x3 with the stride, 1x1).

    A `mask` of the rows [B] or cells [B,h,w] of its input keeps the others out of the batch
    statistics and, for cells, out of their neighbours' convolutions. That needs a `norm` that takes
    a mask (`MaskedBatchNorm`), and neither gates nor IBN.
    """

    def __init__(
        self,
        kind: str,
        features_in: int,
        width: int,
        stride: int,
        *,
        with_ibn: bool,
        with_se: bool,
        se_reduction: int,
        bn_momentum: int | float,
        norm: type[BatchNorm] = BatchNorm,
        dtype,
        rngs: nnx.Rngs,
    ):
        features_out = width * EXPANSION[kind]
        options = {"dtype": dtype, "rngs": rngs}
        norm_options = {"momentum": bn_momentum, "dtype": dtype}
        first_norm = (IBN if with_ibn else norm)(width, **norm_options)
        self.kind = kind
        self.stride = stride
        if kind == "bottleneck":
            self.conv1 = conv(features_in, width, 1, 1, **options)
            self.bn1 = first_norm
            self.conv2 = conv(width, width, 3, stride, **options)
            self.bn2 = norm(width, **norm_options)
            self.conv3 = conv(width, features_out, 1, 1, **options)
            self.bn3 = norm(features_out, **norm_options)
        else:
            self.conv1 = conv(features_in, width, 3, stride, **options)
            self.bn1 = first_norm
            self.conv2 = conv(width, width, 3, 1, **options)
            self.bn2 = norm(width, **norm_options)
        self.with_se = with_se
        if with_se:
            self.se = SqueezeExcite(features_out, se_reduction, **options)
        self.with_downsample = stride != 1 or features_in != features_out
        if self.with_downsample:
            shortcut = conv(features_in, features_out, 1, stride, **options)
            self.downsample = nnx.List([shortcut, norm(features_out, **norm_options)])

    def __call__(
        self, x: Float[Array, "B h w C"], mask: Bool[Array, "B *cells"] | None = None
    ) -> Float[Array, "B h2 w2 C2"]:
        if mask is not None:
            return self._masked(x, mask)
        shortcut = x
        if self.with_downsample:
            shortcut = pointwise_norm(*self.downsample, x)
        if self.stride != 1:
            # cuDNN would add the gradients of both branches, that of the strided one with its zeros.
            x = jax.lax.optimization_barrier(x)
        y = self.bn1(self.conv1(x), relu=True)
        if self.kind == "basic":
            y = self.bn2(self.conv2(y))
            y = self.se(y) if self.with_se else y
            return jax.nn.relu(shortcut + y)
        y = self.bn2(self.conv2(y), relu=True)
        if not self.with_se:
            return pointwise_norm(self.conv3, self.bn3, y, shortcut, relu=True)
        return jax.nn.relu(shortcut + self.se(pointwise_norm(self.conv3, self.bn3, y)))

    def _masked(
        self, x: Float[Array, "B h w C"], mask: Bool[Array, "B *cells"]
    ) -> Float[Array, "B h2 w2 C2"]:
        after = _cells(mask, self.stride)
        if self.kind == "bottleneck":
            y = self.bn1(self.conv1(x), mask, relu=True)
            y = self.bn2(self.conv2(_inside(y, mask)), after, relu=True)
            y = self.bn3(self.conv3(y), after)
        else:
            y = self.bn1(self.conv1(_inside(x, mask)), after, relu=True)
            y = self.bn2(self.conv2(_inside(y, after)), after)
        if self.with_downsample:
            x = self.downsample[1](self.downsample[0](x), after)
        return jax.nn.relu(x + y)


def residual_stage(
    depth: int,
    features_in: int,
    width: int,
    stride: int,
    *,
    block: str = "bottleneck",
    with_ibn: bool = False,
    with_se: bool = False,
    se_reduction: int = 16,
    bn_momentum: int | float = 0.1,
    norm: type[BatchNorm] = BatchNorm,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.List:
    """`depth` blocks of inner `width`, the first one with the stride: a `layer<n>`."""
    options = {
        "with_ibn": with_ibn,
        "with_se": with_se,
        "se_reduction": se_reduction,
        "bn_momentum": bn_momentum,
        "norm": norm,
        "dtype": dtype,
        "rngs": rngs,
    }
    features_out = width * EXPANSION[block]
    return nnx.List(
        [
            Block(
                block,
                features_out if i else features_in,
                width,
                1 if i else stride,
                **options,
            )
            for i in range(depth)
        ]
    )


def run_blocks(
    blocks: nnx.List,
    x: Float[Array, "B h w C"],
    mask: Bool[Array, "B *cells"] | None = None,
    *,
    remat: bool = False,
) -> Float[Array, "B h2 w2 C2"]:
    """The blocks one after another; with `remat` each is recomputed in the backward pass."""
    for block in blocks:
        if mask is None:
            x = nnx.remat(lambda block, x: block(x))(block, x) if remat else block(x)
            continue
        call = nnx.remat(lambda block, x, mask: block(x, mask)) if remat else Block.__call__
        x = call(block, x, mask)
        mask = _cells(mask, block.stride)
    return x


class ResNet(nnx.Module):
    """ResNet without its classifier: images [B,H,W,3], normalised, to a map [B,h,w,feature_dim].

    `last_stride` 1 (usual in re-identification) gives h = H/16. `pool`: the stem's max-pool,
    a key of `MAX_POOLS` or a `MaxPool`; `stem_relu=False` leaves out the ReLU before it as
    reid-strong-baseline's and TransReID's plain ResNets do. `with_ibn`: IBN-a in layers 1-3.
    `with_se`: channel gates. `non_local`: number of last blocks of each stage that a non-local
    block follows. `remat`: recompute each block in the backward pass. `norm`: the class of
    the batch norms; with `MaskedBatchNorm` `stem` and `stage` take a mask of the images' cells.

    Raises:
      ValueError: for an unknown block or max-pool, or a stage with more non-local than residual
        blocks.
    """

    # The modules of the stem and of each stage, for a network that is cut between stages.
    parts = (("conv1", "bn1"), *((f"layer{i}", f"NL_{i}") for i in (1, 2, 3, 4)))

    def __init__(
        self,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        *,
        block: str = "bottleneck",
        width: int = 64,
        last_stride: int = 1,
        pool: str | MaxPool = "fastreid",
        stem_relu: bool = True,
        with_ibn: bool = False,
        with_se: bool = False,
        se_reduction: int = 16,
        non_local: tuple[int, ...] = (0, 0, 0, 0),
        non_local_inner: int = 1,
        bn_momentum: int | float = 0.1,
        remat: bool = False,
        norm: type[BatchNorm] = BatchNorm,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if block not in EXPANSION:
            raise ValueError(f"block {block!r}: expected 'basic' or 'bottleneck'")
        if isinstance(pool, str) and pool not in MAX_POOLS:
            raise ValueError(f"max-pool {pool!r}: expected one of {', '.join(MAX_POOLS)}")
        if len(depths) != 4 or len(non_local) != 4:
            raise ValueError(f"depths {depths}, non_local {non_local}: expected four stages each")
        if any(extra > depth for extra, depth in zip(non_local, depths, strict=True)):
            raise ValueError(f"non_local {non_local} asks for more blocks than {depths} has")
        self.pool = MAX_POOLS[pool] if isinstance(pool, str) else pool
        self.stem_relu = stem_relu
        self.remat = remat
        self.dtype = dtype
        self.non_local = tuple(non_local)
        self.conv1 = conv(3, width, 7, 2, dtype=dtype, rngs=rngs)
        self.bn1 = norm(width, momentum=bn_momentum, dtype=dtype)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = residual_stage(
                depth,
                channels,
                width * 2**stage,
                (1, 2, 2, last_stride)[stage],
                block=block,
                with_ibn=with_ibn and stage < 3,
                with_se=with_se,
                se_reduction=se_reduction,
                bn_momentum=bn_momentum,
                norm=norm,
                dtype=dtype,
                rngs=rngs,
            )
            channels = width * 2**stage * EXPANSION[block]
            setattr(self, f"layer{stage + 1}", blocks)
            if non_local[stage]:
                extra = [
                    NonLocal(
                        channels, non_local_inner, bn_momentum=bn_momentum, dtype=dtype, rngs=rngs
                    )
                    for _ in range(non_local[stage])
                ]
                setattr(self, f"NL_{stage + 1}", nnx.List(extra))
        self.feature_dim = channels

    def stem(
        self, x: Float[Array, "B H W 3"], mask: Bool[Array, "B H W"] | None = None
    ) -> Float[Array, "B h w C"]:
        """Convolution, norm, ReLU (if `stem_relu`) and max-pool; `mask` is of the pixels."""
        x = self.conv1(_inside(x.astype(self.dtype), mask))
        half = _cells(mask, 2)
        x = self.bn1(x) if mask is None else self.bn1(x, half)
        # The padding must not win a maximum.
        x = x if mask is None else jnp.where(half[..., None], x, jnp.finfo(x.dtype).min)
        x = max_pool(x, self.pool, relu=self.stem_relu)
        return x if mask is None else _inside(x, _cells(half, 2))

    def stage(
        self,
        number: int,
        x: Float[Array, "B h w C"],
        mask: Bool[Array, "B h w"] | None = None,
    ) -> Float[Array, "B h2 w2 C2"]:
        """`layer{number}` (1 to 4) with its non-local blocks (without a mask)."""
        blocks = getattr(self, f"layer{number}")
        if mask is not None:
            return run_blocks(blocks, x, mask, remat=self.remat)
        extra = self.non_local[number - 1]
        for i, block in enumerate(blocks):
            x = nnx.remat(lambda block, x: block(x))(block, x) if self.remat else block(x)
            place = i - (len(blocks) - extra)
            if place >= 0:
                x = getattr(self, f"NL_{number}")[place](x)
        return x

    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
        x = self.stem(x)
        for number in (1, 2, 3, 4):
            x = self.stage(number, x)
        return x


def build(
    name: str,
    *,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    with_nl: bool = False,
    **options: Any,
) -> ResNet:
    """The ResNet called `name` (a key of `VARIANTS`); `options` as `ResNet` takes them.

    `with_nl` puts fast-reid's non-local blocks where its variant has them.

    Raises:
      ValueError: for an unknown name, or `with_nl` if fast-reid defines no places for it.
    """
    if name not in VARIANTS:
        raise ValueError(f"ResNet {name!r} is unknown; expected one of {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    if with_nl:
        if variant.non_local is None:
            raise ValueError(
                f"with_nl: {name} has no places for non-local blocks; give non_local=(0, n, n, 0)"
            )
        options["non_local"] = variant.non_local
    return ResNet(
        variant.depths,
        block=variant.block,
        **{"width": variant.width, **options},
        dtype=dtype,
        rngs=rngs,
    )


def feature_dim(name: str) -> int:
    """Channels of the last map of the ResNet called `name`."""
    variant = VARIANTS[name]
    return variant.width * 8 * EXPANSION[variant.block]
