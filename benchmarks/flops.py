"""FLOPs of a traced program: its matrix products, convolutions and fused attention kernels.

A multiply-add counts two. Recomputation for the backward pass (remat) counts as often as it runs. A
scan counts its body once a trip, a branch its costliest arm, a `while` of unknown length (the rounds
of AutoAugment, suppression of boxes) its body once. Shapes are those of the whole mesh.
"""

import collections
import math
from collections.abc import Iterator
from typing import Any

import jax

Counts = collections.Counter
"""(kind, precision) → FLOPs; kinds are `matmul` and `attention`, precisions those of `Chip.matrix`."""
# Products of [T, H] by [H, S] or [T, S] by [S, H] in a fused kernel; the backward pass makes the
# logits again.
FUSED = {"dot_product_attention_fwd": 2, "dot_product_attention_bwd": 5}


def count(jaxpr: Any) -> Counts:
    """The FLOPs of a (closed) jaxpr, such as `traced.jaxpr`."""
    total = Counts()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        total.update(_equation(equation))
    return total


def _equation(equation: Any) -> Counts:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation, _dot(equation))
    if name == "conv_general_dilated":
        return _product(equation, _convolution(equation))
    fused = next((products for key, products in FUSED.items() if name.startswith(key)), 0)
    if fused:
        return Counts({("attention", "bfloat16"): fused * _attention(equation)})
    if name == "cond":
        return max(map(count, params["branches"]), key=lambda c: c.total())
    inner = Counts()
    for body in _bodies(params):
        inner.update(count(body))
    times = 1
    if name == "scan":
        times = params["length"]
    elif name == "shard_map":
        times = math.prod(params["mesh"].shape[axis] for axis in params["manual_axes"])
    return Counts({key: times * flops for key, flops in inner.items()})


def _bodies(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                yield one


def _product(equation: Any, flops: int) -> Counts:
    narrow = max(v.aval.dtype.itemsize for v in equation.invars) <= 2
    precisions = equation.params["precision"]
    highest = jax.lax.Precision.HIGHEST in (
        precisions if isinstance(precisions, tuple) else (precisions,)
    )
    precision = "bfloat16" if narrow else "float32 highest" if highest else "float32"
    return Counts({("matmul", precision): flops})


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return 2 * inner * equation.outvars[0].aval.size


def _convolution(equation: Any) -> int:
    """Places where a dilated or padded input has a zero count too, but for the zeros that the gradient
    of a strided convolution puts between its inputs."""
    params, kernel = equation.params, equation.invars[1].aval.shape
    numbers = params["dimension_numbers"]
    inner = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])
    return 2 * inner * equation.outvars[0].aval.size // math.prod(params["lhs_dilation"])


def _attention(equation: Any) -> int:
    """FLOPs of one product in a fused kernel on queries [B, T, N, H] and keys [B, S, N, H]."""
    query, key = (v.aval.shape for v in equation.invars[:2])
    batch, rows, heads, width = query
    return 2 * batch * heads * rows * key[1] * width
