"""Attention: the plain form in values and gradients, the choice of a kernel, padding, lowering."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.nn.attention import (
    Attention,
    Device,
    MultiHeadAttention,
    attend,
    attention_kernel,
    check_kernel,
    current_device,
    pad_tokens,
    traced_for,
)
from tests.lowering import CUDNN_ATTENTION, H200, V5E, tracing_for

BATCH, HEADS, WIDTH = 2, 2, 8
# Of values near 1: float32 sums in another order; bfloat16 has 8 bits, its sums are float32.
TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}


def plain(query, key, value, scale, allowed):
    """The definition, in float32; `allowed` [B,1,T,S]."""
    query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
    logits = jnp.einsum("btnh,bsnh->bnts", query, key) * scale
    logits = jnp.where(allowed, logits, -jnp.inf)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    return jnp.einsum("bnts,bsnh->btnh", weights, value)


def forms(queries: int, keys: int) -> dict:
    """Options of `attend`, and the pairs that they leave: one row a query or more everywhere."""
    every = np.ones((BATCH, 1, queries, keys), bool)
    drawn = np.random.default_rng(0).random((BATCH, 1, queries, keys)) < 0.6
    drawn[..., 0] = True
    rows = drawn[:, :, :1]
    short = np.arange(keys) < keys - 2
    below = np.tril(every)
    return {
        "whole": ({}, every),
        "scaled": ({"scale": 0.9}, every),
        "causal": ({"causal": True}, below),
        "masked": ({"mask": jnp.asarray(drawn)}, drawn),
        "masked_keys": ({"mask": jnp.asarray(rows)}, rows & every),
        "length": ({"length": keys - 2}, every & short),
        "causal_length": ({"causal": True, "length": keys - 2}, below & short),
        "masked_length": ({"mask": jnp.asarray(drawn), "length": keys - 2}, drawn & short),
    }


@pytest.fixture
def stand_in(monkeypatch):
    """cuDNN's kernel replaced by XLA's, which takes the same arguments, on a CPU."""
    attention = jax.nn.dot_product_attention

    def replaced(query, key, value, *, implementation, **options):
        if implementation == "cudnn":
            assert query.shape[1] % 2 == 0 and key.shape[1] % 2 == 0
        return attention(query, key, value, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", replaced)


@pytest.mark.parametrize(
    ("queries", "keys", "dtype"),
    [
        (5, 5, "float32"),
        (6, 6, "float32"),
        (5, 8, "float32"),
        (4, 7, "float32"),
        (5, 5, "bfloat16"),
    ],
)
@pytest.mark.usefixtures("stand_in")
def test_values_and_gradients_are_those_of_the_plain_form(queries, keys, dtype):
    draw = np.random.default_rng(1)
    shapes = [(BATCH, n, HEADS, WIDTH) for n in (queries, keys, keys, queries)]
    *inputs, cotangent = (jnp.asarray(draw.normal(size=s), dtype) for s in shapes)
    cases = forms(queries, keys)

    def both(function, inputs):
        y, pull = jax.vjp(function, *inputs)
        return y, *pull(cotangent.astype(y.dtype))

    @jax.jit
    def compute(inputs):
        expected, got = {}, {}
        for name, (options, allowed) in cases.items():
            scale = options.get("scale", WIDTH**-0.5)
            expected[name] = both(lambda *x, s=scale, a=allowed: plain(*x, s, a), inputs)
            for kernel in ("xla", "cudnn"):
                got[name, kernel] = both(
                    lambda *x, o=options, k=kernel: attend(*x, kernel=k, **o), inputs
                )
        return expected, got

    expected, got = compute(inputs)
    for (name, kernel), values in got.items():
        assert values[0].dtype == dtype
        for what, value, true in zip("yqkv", values, expected[name], strict=True):
            np.testing.assert_allclose(
                np.asarray(value, np.float32),
                np.asarray(true, np.float32),
                rtol=TOLERANCE[dtype],
                atol=2 * TOLERANCE[dtype],
                err_msg=f"{name} {kernel} {what}",
            )


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_against_numpy(scale):
    layer = Attention(6, 2, scale=scale, rngs=nnx.Rngs(params=0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 6)) * 10
    packed = np.asarray(x @ layer.qkv.kernel[...] + layer.qkv.bias[...][None, None])
    q, k, v = (part.reshape(2, 5, 2, 3) for part in np.split(packed, 3, axis=-1))
    logits = np.einsum("bqhd,bkhd->bhqk", q, k) * (scale or 3**-0.5)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(2, 5, 6)
    expected = y @ np.asarray(layer.proj.kernel[...]) + np.asarray(layer.proj.bias[...])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-6)


def test_layers_with_padding_and_with_the_first_queries_alone():
    x = jax.random.normal(jax.random.key(1), (2, 5, 16))
    # Padding is never zeros after a block: whatever it holds must not be seen.
    padded = jnp.concatenate([x, jnp.full((2, 1, 16), 7.0)], axis=1)
    layer = Attention(16, 2, rngs=nnx.Rngs(params=0))
    whole = layer(x)
    np.testing.assert_allclose(layer(padded, length=5)[:, :5], whole, atol=2e-6)
    np.testing.assert_allclose(layer(padded, length=5, queries=2), whole[:, :2], atol=2e-6)
    layer = MultiHeadAttention(16, 2, rngs=nnx.Rngs(params=0))
    for causal in (False, True):
        whole = layer(x, causal=causal)
        got = layer(padded, causal=causal, length=5)[:, :5]
        np.testing.assert_allclose(got, whole, atol=2e-6)
    np.testing.assert_allclose(layer(x[:, :3], padded, length=5), layer(x[:, :3], x), atol=2e-6)


@pytest.mark.parametrize(
    ("device", "dtype", "width", "kernel"),
    [
        (Device("cpu"), jnp.bfloat16, 64, "xla"),
        (V5E, jnp.bfloat16, 64, "xla"),
        (Device("rocm"), jnp.bfloat16, 64, "xla"),
        (H200, jnp.bfloat16, 64, "cudnn"),
        (H200, jnp.float16, 64, "cudnn"),
        (H200, jnp.float32, 64, "xla"),
        (H200, jnp.bfloat16, 256, "cudnn"),
        (H200, jnp.bfloat16, 264, "xla"),
        (H200, jnp.bfloat16, 60, "xla"),
        (Device("cuda", 8.0), jnp.bfloat16, 128, "cudnn"),
        (Device("cuda", 8.0), jnp.bfloat16, 136, "xla"),
        (Device("cuda", 7.5), jnp.bfloat16, 64, "xla"),
    ],
)
def test_the_kernel_is_one_that_takes_the_numbers(device, dtype, width, kernel):
    with traced_for(device):
        assert attention_kernel("auto", dtype, width) == kernel
        # A choice is kept.
        assert attention_kernel("xla", dtype, width) == "xla"
    assert current_device() == Device("cpu")


def test_tokens_are_padded_where_the_kernel_wants_them_even():
    layer = Attention(128, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(params=0))
    tokens = jnp.ones((2, 5, 128), jnp.bfloat16)
    assert pad_tokens(tokens, layer) is tokens
    with traced_for(H200):
        padded = pad_tokens(tokens, layer)
        assert padded.shape == (2, 6, 128) and not padded[:, 5].any()
        assert pad_tokens(padded, layer) is padded
        single = tokens.astype(jnp.float32)
        assert pad_tokens(single, layer) is single


def test_attention_errors():
    with pytest.raises(ValueError, match="width 6 is not divisible by 4 heads"):
        Attention(6, 4, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="width 6 is not divisible by 4 heads"):
        MultiHeadAttention(6, 4, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="expected one of 'auto', 'xla', 'cudnn'"):
        attention_kernel("flash", jnp.float32, 64)
    with pytest.raises(ValueError, match="attention 'flash'"):
        check_kernel("flash")


@pytest.mark.parametrize("device", [H200, V5E], ids=["cuda", "tpu"])
@pytest.mark.parametrize("tokens", [129, 211, 193, 77])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=["bfloat16", "float32"])
def test_training_lowers_for_absent_devices(tokens, dtype, device):
    # ViT-B/16 with stride 16 and 12, CLIP's images and its sentences (causal).
    shape = jax.ShapeDtypeStruct((2, tokens, 12, 64), dtype)

    def loss(query, key, value):
        return attend(query, key, value, causal=tokens == 77).astype(jnp.float32).sum()

    with tracing_for(device):
        traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(shape, shape, shape)
    text = traced.lower(lowering_platforms=(device.platform,)).as_text()
    fused = device == H200 and dtype == jnp.bfloat16
    assert [name in text for name in CUDNN_ATTENTION] == [fused, fused]
