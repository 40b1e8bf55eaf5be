"""OSNet: omni-scale features (Zhou et al., ICCV 2019) and OSNet-AIN (Zhou et al., TPAMI 2021).

Names are torchreid's (`conv1.conv`, `conv2.0.conv2b.1.bn`, `conv2.2.0.conv`, `conv5.bn`, ...).
"""

import dataclasses
import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.backbones.resnet import conv
from g2ajax.nn.depthwise import Depthwise
from g2ajax.nn.init import conv_init
from g2ajax.nn.norm import BatchNorm, InstanceNorm
from g2ajax.nn.pooling import MAX_POOLS, MaxPool, max_pool

# Position of the instance norm in a block: none, after the sum with the shortcut (OSNet-IBN), or on
# the residual branch before the sum, replacing the batch norm of its last convolution (OSNet-AIN).
BLOCK_NORMS = ("none", "after_sum", "residual_branch")
# Positions for each block of each stage of OSNet-AIN. They result from a search with two blocks per
# stage and are undefined for other depths.
AIN = (
    ("residual_branch", "residual_branch"),
    ("none", "residual_branch"),
    ("residual_branch", "none"),
)
INSTANCE_NORMS = ("none", "ibn", "ain")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Shape of a network; `widths` are the channels after the stem and after each of three stages."""

    widths: tuple[int, int, int, int]
    instance_norm: str = "none"
    gate_reduction: int = 16


_WIDTHS = {
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
VARIANTS = {
    **{f"osnet_{name}": Variant(widths) for name, widths in _WIDTHS.items()},
    "osnet_ibn_x1_0": Variant(_WIDTHS["x1_0"], "ibn"),
    **{f"osnet_ain_{name}": Variant(widths, "ain") for name, widths in _WIDTHS.items()},
    # A gate with one inner channel is often dead at the start, so this one is not reduced.
    "osnet_test": Variant((8, 16, 24, 32), gate_reduction=1),
}


class ConvLayer(nnx.Module):
    """Convolution without bias (`conv`), a batch or instance norm or none (`bn`), ReLU if `relu`."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        norm: str | None = "batch",
        relu: bool = True,
        bn_momentum: int | float = 0.1,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.conv = conv(features_in, features_out, kernel, stride, dtype=dtype, rngs=rngs)
        self.norm = norm
        if norm == "batch":
            self.bn = BatchNorm(features_out, momentum=bn_momentum, dtype=dtype)
        elif norm == "instance":
            self.bn = InstanceNorm(features_out, dtype=dtype)
        self.relu = relu

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h2 w2 C2"]:
        x = self.conv(x)
        if self.norm is not None:
            x = self.bn(x)
        return jax.nn.relu(x) if self.relu else x


class LightConv(nnx.Module):
    """The paper's Lite 3x3: a linear 1x1 convolution, a depthwise 3x3, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        *,
        bn_momentum: int | float = 0.1,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.conv1 = conv(channels, channels, 1, 1, dtype=dtype, rngs=rngs)
        self.conv2 = Depthwise(channels, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(channels, momentum=bn_momentum, dtype=dtype)

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        return jax.nn.relu(self.bn(self.conv2(self.conv1(x))))


class LightConvStream(nnx.Module):
    """A stream of OSNet-AIN, named `layers`."""

    def __init__(self, layers: Sequence[LightConv]):
        self.layers = nnx.List(layers)


class ChannelGate(nnx.Module):
    """Unified aggregation gate: one small network weights the channels of every stream.

    Mean over the map, 1x1 convolutions `fc1` (ReLU) and `fc2` with biases, sigmoid; float32. The
    inner width is channels // reduction, and at least one.
    """

    def __init__(
        self, channels: int, reduction: int = 16, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        inner = max(1, channels // reduction)

        def point(features_in, features_out):
            return nnx.Conv(features_in, features_out, (1, 1), kernel_init=conv_init, rngs=rngs)

        self.fc1 = point(channels, inner)
        self.fc2 = point(inner, channels)
        self.dtype = dtype

    def __call__(self, streams: Sequence[Float[Array, "B h w C"]]) -> Float[Array, "B h w C"]:
        """Returns the sum of the streams, each multiplied by its gate."""
        # Streams are stacked as rows of one map, so that the gate runs once for all of them.
        pooled = jnp.stack([jnp.mean(x.astype(jnp.float32), (1, 2)) for x in streams], 1)
        gate = jax.nn.sigmoid(self.fc2(jax.nn.relu(self.fc1(pooled[:, :, None]))))
        gate = gate.astype(self.dtype)
        total = streams[0] * gate[:, 0, None]
        for i, x in enumerate(streams[1:], 1):
            total = total + x * gate[:, i, None]
        return total


class OSBlock(nnx.Module):
    """An omni-scale block: stream t of `streams` is t Lite 3x3 convolutions, all gated and summed.

    The bottleneck has features_out // bottleneck_reduction channels. `instance_norm`: one of
    `BLOCK_NORMS`. The streams are `conv2a`, `conv2b.0`, ... as in OSNet, or, with `ain_names`,
    `conv2.0.layers.0`, ... as in OSNet-AIN.

    Raises:
      ValueError: for an unknown position of the instance norm.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        instance_norm: str = "none",
        ain_names: bool = False,
        streams: int = 4,
        bottleneck_reduction: int = 4,
        gate_reduction: int = 16,
        bn_momentum: int | float = 0.1,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if instance_norm not in BLOCK_NORMS:
            raise ValueError(
                f"instance norm {instance_norm!r} of a block: expected one of "
                f"{', '.join(BLOCK_NORMS)}"
            )
        width = features_out // bottleneck_reduction
        options = {"bn_momentum": bn_momentum, "dtype": dtype, "rngs": rngs}
        self.instance_norm = instance_norm
        self.conv1 = ConvLayer(features_in, width, **options)
        self.stream_names = tuple(f"conv2{letter}" for letter in string.ascii_lowercase[:streams])
        layers = [[LightConv(width, **options) for _ in range(t + 1)] for t in range(streams)]
        if ain_names:
            self.stream_names = ()
            self.conv2 = nnx.List([LightConvStream(stream) for stream in layers])
        else:
            for name, stream in zip(self.stream_names, layers, strict=True):
                setattr(self, name, stream[0] if len(stream) == 1 else nnx.List(stream))
        self.gate = ChannelGate(width, gate_reduction, dtype=dtype, rngs=rngs)
        last = None if instance_norm == "residual_branch" else "batch"
        self.conv3 = ConvLayer(width, features_out, norm=last, relu=False, **options)
        self.with_downsample = features_in != features_out
        if self.with_downsample:
            self.downsample = ConvLayer(features_in, features_out, relu=False, **options)
        if instance_norm != "none":
            self.IN = InstanceNorm(features_out, dtype=dtype)

    def _streams(self) -> list[list[LightConv]]:
        if not self.stream_names:
            return [list(stream.layers) for stream in self.conv2]
        streams = [getattr(self, name) for name in self.stream_names]
        return [[stream] if isinstance(stream, LightConv) else list(stream) for stream in streams]

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C2"]:
        reduced, scales = self.conv1(x), []
        for stream in self._streams():
            y = reduced
            for layer in stream:
                y = layer(y)
            scales.append(y)
        y = self.conv3(self.gate(scales))
        if self.instance_norm == "residual_branch":
            y = self.IN(y)
        y = y + (self.downsample(x) if self.with_downsample else x)
        if self.instance_norm == "after_sum":
            y = self.IN(y)
        return jax.nn.relu(y)


def average_pool(x: Float[Array, "B h w C"]) -> Float[Array, "B h2 w2 C"]:
    """Mean of 2x2 cells, computed in float32; an odd last row or column is dropped.

    Raises:
      ValueError: for a map of less than 2x2.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    if not rows or not columns:
        raise ValueError(
            f"2x2 average-pool on a map of {height}x{width}: the image is too small for this "
            "network"
        )
    cells = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    return jnp.mean(cells, (2, 4), dtype=jnp.float32).astype(x.dtype)


class OSNet(nnx.Module):
    """OSNet without head: maps normalised images [B,H,W,3] to [B,H/16,W/16,feature_dim].

    `widths`: channels after the stem and after `conv2`, `conv3`, `conv4`. `depths`: numbers of
    blocks of these three. `instance_norm`: "none"; "ibn" (stem and every block of `conv2`); "ain"
    (stem and the positions of `AIN`, with the names of OSNet-AIN). `pool`: max-pool of the stem, a
    key of `MAX_POOLS` or a `MaxPool`. `remat`: recompute each block in the backward pass.

    Raises:
      ValueError: for an unknown instance norm or max-pool, a number of stages that is not three,
        or "ain" with depths other than (2, 2, 2).
    """

    # Modules of the stem and of each stage, for `split`.
    parts = (("conv1",), ("conv2", "pool2"), ("conv3", "pool3"), ("conv4",), ("conv5",))

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 256, 384, 512),
        depths: tuple[int, ...] = (2, 2, 2),
        *,
        instance_norm: str = "none",
        pool: str | MaxPool = "torchvision",
        streams: int = 4,
        bottleneck_reduction: int = 4,
        gate_reduction: int = 16,
        bn_momentum: int | float = 0.1,
        remat: bool = False,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if instance_norm not in INSTANCE_NORMS:
            raise ValueError(
                f"instance norm {instance_norm!r}: expected one of {', '.join(INSTANCE_NORMS)}"
            )
        if isinstance(pool, str) and pool not in MAX_POOLS:
            raise ValueError(f"max-pool {pool!r}: expected one of {', '.join(MAX_POOLS)}")
        if len(widths) != 4 or len(depths) != 3:
            raise ValueError(f"widths {widths}, depths {depths}: expected four and three numbers")
        if instance_norm == "ain" and tuple(depths) != (2, 2, 2):
            raise ValueError(f"depths {depths}: OSNet-AIN is defined for (2, 2, 2) only")
        self.pool = MAX_POOLS[pool] if isinstance(pool, str) else pool
        self.remat = remat
        self.dtype = dtype
        self.ain = instance_norm == "ain"
        self.depths = tuple(depths)
        options = {"bn_momentum": bn_momentum, "dtype": dtype, "rngs": rngs}
        stem_norm = "batch" if instance_norm == "none" else "instance"
        self.conv1 = ConvLayer(3, widths[0], 7, 2, norm=stem_norm, **options)
        for stage, depth in enumerate(depths):
            inside = "after_sum" if instance_norm == "ibn" and stage == 0 else "none"
            blocks = [
                OSBlock(
                    widths[stage + (i > 0)],
                    widths[stage + 1],
                    instance_norm=AIN[stage][i] if self.ain else inside,
                    ain_names=self.ain,
                    streams=streams,
                    bottleneck_reduction=bottleneck_reduction,
                    gate_reduction=gate_reduction,
                    **options,
                )
                for i in range(depth)
            ]
            if stage < 2:
                transition = nnx.List([ConvLayer(widths[stage + 1], widths[stage + 1], **options)])
                if self.ain:
                    setattr(self, f"pool{stage + 2}", transition)
                else:
                    blocks.append(transition)
            setattr(self, f"conv{stage + 2}", nnx.List(blocks))
        self.conv5 = ConvLayer(widths[3], widths[3], **options)
        self.feature_dim = widths[3]

    def stem(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
        """Runs `conv1` (convolution, norm, ReLU) and the max-pool."""
        return max_pool(self.conv1(x.astype(self.dtype)), self.pool)

    def stage(self, number: int, x: Float[Array, "B h w C"]) -> Float[Array, "B h2 w2 C2"]:
        """Runs stage 1 to 4: `conv2` and `conv3`, each with its transition, `conv4`, `conv5`."""
        if number == 4:
            return self.conv5(x)
        layers = getattr(self, f"conv{number + 1}")
        for block in layers[: self.depths[number - 1]]:
            x = nnx.remat(lambda block, x: block(x))(block, x) if self.remat else block(x)
        if number == 3:
            return x
        transition = getattr(self, f"pool{number + 1}") if self.ain else layers[-1]
        return average_pool(transition[0](x))

    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
        x = self.stem(x)
        for number in (1, 2, 3, 4):
            x = self.stage(number, x)
        return x


def build(name: str, *, dtype: Any = jnp.float32, rngs: nnx.Rngs, **options: Any) -> OSNet:
    """Builds the OSNet called `name` (a key of `VARIANTS`); `options` are those of `OSNet`.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"OSNet {name!r} is unknown; expected one of {', '.join(VARIANTS)}")
    variant = dataclasses.asdict(VARIANTS[name])
    return OSNet(**{**variant, **options}, dtype=dtype, rngs=rngs)


def feature_dim(name: str) -> int:
    """Channels of the last map of the OSNet called `name`."""
    return VARIANTS[name].widths[-1]
