"""Multi-head attention with packed queries, keys and values, as timm and as PyTorch store it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.init import token_init, torch_uniform


def attention_implementation(choice: str, dtype: Any, head_dim: int) -> str:
    """The kernel behind `jax.nn.dot_product_attention`: "xla" or "cudnn".

    "auto" takes cuDNN's flash attention on a GPU of compute capability 8.0 or more with a 16-bit
    dtype and a head width it accepts, else XLA. Both compute the softmax in float32.

    Raises:
      ValueError: for another choice.
    """
    if choice not in ("auto", "xla", "cudnn"):
        raise ValueError(f"attention {choice!r}: expected 'auto', 'xla' or 'cudnn'")
    if choice != "auto":
        return choice
    half = jnp.dtype(dtype) in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))
    if jax.default_backend() != "gpu" or not half or head_dim % 8 or head_dim > 128:
        return "xla"
    capability = getattr(jax.local_devices()[0], "compute_capability", "0")
    try:
        return "cudnn" if float(capability) >= 8.0 else "xla"
    except ValueError:  # a GPU that is not NVIDIA's names its architecture, not a number
        return "xla"


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
        implementation: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if dim % num_heads:
            raise ValueError(f"attention width {dim} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.scale = scale if scale is not None else (dim // num_heads) ** -0.5
        self.implementation = attention_implementation(implementation, dtype, dim // num_heads)
        options = {"kernel_init": token_init, "dtype": dtype, "rngs": rngs}
        self.qkv = nnx.Linear(dim, 3 * dim, use_bias=qkv_bias, **options)
        self.proj = nnx.Linear(dim, dim, **options)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        batch, length, dim = x.shape
        packed = self.qkv(x).reshape(batch, length, 3, self.num_heads, dim // self.num_heads)
        y = jax.nn.dot_product_attention(
            packed[:, :, 0],
            packed[:, :, 1],
            packed[:, :, 2],
            scale=self.scale,
            implementation=self.implementation,
        )
        return self.proj(y.reshape(batch, length, dim))


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
        implementation: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if dim % num_heads:
            raise ValueError(f"attention width {dim} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.dtype = dtype
        self.implementation = attention_implementation(implementation, dtype, dim // num_heads)
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
    ) -> Float[Array, "B T D"]:
        dim = x.shape[-1]
        if memory is None:
            query, key, value = jnp.split(self._project(x, slice(None)), 3, axis=-1)
        else:
            query = self._project(x, slice(dim))
            key, value = jnp.split(self._project(memory, slice(dim, None)), 2, axis=-1)
        query, key, value = (
            part.reshape(*part.shape[:2], self.num_heads, dim // self.num_heads)
            for part in (query, key, value)
        )
        y = jax.nn.dot_product_attention(
            query, key, value, is_causal=causal, implementation=self.implementation
        )
        return self.out_proj(y.reshape(x.shape))

    def _project(self, x: Float[Array, "B T D"], rows: slice) -> Float[Array, "B T N"]:
        weight = self.in_proj_weight[...][rows].astype(self.dtype)
        bias = self.in_proj_bias[...][rows].astype(self.dtype)
        return x.astype(self.dtype) @ weight.T + bias[None, None]
