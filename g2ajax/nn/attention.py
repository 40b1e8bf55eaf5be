"""Multi-head attention with packed queries, keys and values, as timm and as PyTorch store it."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.init import token_init, torch_uniform

KERNELS = ("auto", "xla", "cudnn")


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device that programs are traced for."""

    platform: str
    """`cpu`, `tpu`, `cuda` or `rocm`."""
    capability: float = 0.0
    """Compute capability of an NVIDIA GPU."""


_TRACED_FOR: contextvars.ContextVar[Device | None] = contextvars.ContextVar("device", default=None)


@contextlib.contextmanager
def traced_for(device: Device) -> Iterator[None]:
    """Traces programs inside the context for `device`, which need not be present."""
    token = _TRACED_FOR.set(device)
    try:
        yield
    finally:
        _TRACED_FOR.reset(token)


def current_device() -> Device:
    """The device that programs are traced for: the one of `traced_for`, else JAX's first one."""
    device = _TRACED_FOR.get()
    if device is not None:
        return device
    platform = jax.default_backend()
    if platform != "gpu":
        return Device(platform)
    try:
        return Device("cuda", float(jax.local_devices()[0].compute_capability))
    except (AttributeError, ValueError):  # an AMD GPU names its architecture, not a number
        return Device("rocm")


def check_kernel(choice: str) -> str:
    """Returns `choice`. Raises ValueError when it names no kernel."""
    if choice not in KERNELS:
        raise ValueError(f"attention {choice!r}: expected one of {', '.join(map(repr, KERNELS))}")
    return choice


def attention_kernel(choice: str, dtype: Any, head_dim: int) -> str:
    """The kernel that computes attention on the current device, "xla" or "cudnn".

    "auto" takes cuDNN's flash attention on an NVIDIA GPU of compute capability 8.0 or more for 16-bit
    numbers and a head width that is a multiple of 8 up to 128 (256 from capability 9.0 on), else the matrix products
    of XLA. Both compute the softmax in float32.

    Raises:
      ValueError: for another choice.
    """
    if check_kernel(choice) != "auto":
        return choice
    device = current_device()
    widest = 256 if device.capability >= 9.0 else 128
    fits = jnp.dtype(dtype).itemsize == 2 and head_dim % 8 == 0 and head_dim <= widest
    return "cudnn" if device.platform == "cuda" and device.capability >= 8.0 and fits else "xla"


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S N H"],
    value: Float[Array, "B S N H"],
    *,
    scale: int | float | None = None,
    causal: bool = False,
    mask: Bool[Array, "#B #N #T S"] | None = None,
    length: int | None = None,
    kernel: str = "auto",
) -> Float[Array, "B T N H"]:
    """softmax(scale q k^T) v for each head, the softmax in float32; `scale` defaults to H^-0.5.

    `causal` hides the keys after a query, `mask` the keys where it is False, `length` the keys from
    that index on. `kernel` is a choice of `attention_kernel`.

    Under gradients JAX offers cuDNN's kernels for even lengths only. An odd number of rows gets a
    row of zeros, hidden as a key and cut off as a query; with `query_seq_lengths` instead, the
    kernel would decide the contents of that row.
    """
    queries, keys = query.shape[1], key.shape[1]
    length = keys if length is None else length
    implementation = attention_kernel(kernel, query.dtype, query.shape[-1])
    if implementation == "cudnn":
        query, key, value = (_even(x) for x in (query, key, value))
        if mask is not None:
            rows = query.shape[1] - queries if mask.shape[2] > 1 else 0
            mask = jnp.pad(mask, ((0, 0), (0, 0), (0, rows), (0, key.shape[1] - keys)))
    hidden = None
    if length < key.shape[1]:
        hidden = jnp.full((key.shape[0],), length, jnp.int32)
    y = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        scale=scale,
        is_causal=causal,
        key_value_seq_lengths=hidden,
        implementation=implementation,
    )
    return y[:, :queries]


def _even(x: Float[Array, "B T N H"]) -> Float[Array, "B T2 N H"]:
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) if x.shape[1] % 2 else x


def pad_tokens(
    tokens: Float[Array, "B T D"], attention: "Attention | MultiHeadAttention"
) -> Float[Array, "B T2 D"]:
    """The tokens, with a row of zeros behind them if the kernel of `attention` needs an even
    number. Padded once before a stack of blocks instead of in each: attention then takes the number
    of real tokens as its `length`."""
    kernel = attention_kernel(attention.kernel, tokens.dtype, attention.head_dim)
    odd = tokens.shape[1] % 2 if kernel == "cudnn" else 0
    return jnp.pad(tokens, ((0, 0), (0, odd), (0, 0))) if odd else tokens


class Attention(nnx.Module):
    """Self-attention of a ViT: softmax(scale q k^T) v over heads, then a projection.

    `qkv` packs queries, keys and values (in this order, each split into heads), as timm stores
    them. The softmax is float32. `scale` defaults to head_dim^-0.5.

    Raises:
      ValueError: when `dim` is not divisible by `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        scale: int | float | None = None,
        kernel: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if dim % num_heads:
            raise ValueError(f"attention width {dim} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = scale if scale is not None else (dim // num_heads) ** -0.5
        self.dtype = dtype
        self.kernel = check_kernel(kernel)
        options = {"kernel_init": token_init, "dtype": dtype, "rngs": rngs}
        self.qkv = nnx.Linear(dim, 3 * dim, use_bias=qkv_bias, **options)
        self.proj = nnx.Linear(dim, dim, **options)

    def __call__(
        self, x: Float[Array, "B T D"], *, length: int | None = None, queries: int | None = None
    ) -> Float[Array, "B Q D"]:
        """`length`: tokens from that index on are padding, which no token attends to. `queries`:
        only that many first tokens are computed; None: all."""
        batch, tokens, dim = x.shape
        packed = self.qkv(x.reshape(-1, dim))
        packed = packed.reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = packed[:, :queries, 0], packed[:, :, 1], packed[:, :, 2]
        y = attend(query, key, value, scale=self.scale, length=length, kernel=self.kernel)
        return self.proj(y.reshape(-1, dim)).reshape(batch, -1, dim)


class MultiHeadAttention(nnx.Module):
    """Attention under PyTorch's names: `in_proj_weight` [3D, D] (rows of queries, keys, values),
    `in_proj_bias`, `out_proj`. Scale head_dim^-0.5, softmax in float32, no dropout.

    `memory` gives the keys and values (cross-attention); `causal` hides later tokens. The default
    initial values are PyTorch's: Xavier-uniform, and U(±D^-0.5) for `out_proj`; biases 0.

    Raises:
      ValueError: when `dim` is not divisible by `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        in_proj_init: nnx.Initializer | None = None,
        out_proj_init: nnx.Initializer | None = None,
        kernel: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if dim % num_heads:
            raise ValueError(f"attention width {dim} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.dtype = dtype
        self.kernel = check_kernel(kernel)
        in_proj_init = in_proj_init or nnx.initializers.xavier_uniform()
        out_proj_init = out_proj_init or torch_uniform(dim)
        self.in_proj_weight = nnx.Param(in_proj_init(rngs.params(), (3 * dim, dim), jnp.float32))
        self.in_proj_bias = nnx.Param(jnp.zeros((3 * dim,)))
        self.out_proj = nnx.Linear(dim, dim, kernel_init=out_proj_init, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: Float[Array, "B S D"] | None = None,
        *,
        causal: bool = False,
        mask: Bool[Array, "#B #N #T S"] | None = None,
        length: int | None = None,
        queries: int | None = None,
    ) -> Float[Array, "B Q D"]:
        """`length`: keys from that index on are padding, which no token attends to; `mask` is False
        for others. `queries`: only that many first tokens are computed; None: all."""
        batch, _, dim = x.shape
        if memory is None:
            query, key, value = jnp.split(self._project(x, slice(None)), 3, axis=-1)
        else:
            query = self._project(x, slice(dim))
            key, value = jnp.split(self._project(memory, slice(dim, None)), 2, axis=-1)
        query, key, value = (
            part.reshape(*part.shape[:2], self.num_heads, self.head_dim)
            for part in (query[:, :queries], key, value)
        )
        hidden = {"causal": causal, "mask": mask, "length": length}
        y = attend(query, key, value, **hidden, kernel=self.kernel)
        return self.out_proj(y.reshape(-1, dim)).reshape(batch, -1, dim)

    def _project(self, x: Float[Array, "B T D"], rows: slice) -> Float[Array, "B T N"]:
        weight = self.in_proj_weight[...][rows].astype(self.dtype)
        bias = self.in_proj_bias[...][rows].astype(self.dtype)
        y = x.astype(self.dtype).reshape(-1, x.shape[-1]) @ weight.T + bias[None]
        return y.reshape(*x.shape[:2], -1)
