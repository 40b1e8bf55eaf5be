"""Attention and drop path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.nn.attention import Attention, attention_implementation
from g2ajax.nn.drop_path import DropPath


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


def test_attention_errors():
    with pytest.raises(ValueError, match="width 6 is not divisible by 4 heads"):
        Attention(6, 4, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="expected 'auto', 'xla' or 'cudnn'"):
        attention_implementation("flash", jnp.float32, 64)


def test_attention_on_a_cpu_is_xla():
    assert attention_implementation("auto", jnp.bfloat16, 64) == "xla"


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    layer = DropPath(0.25)
    y = np.asarray(layer(jnp.ones((4000, 2, 3)), rngs=nnx.Rngs(dropout=0)))
    kept = y[:, 0, 0] != 0
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(y[~kept], 0)
    assert abs(kept.mean() - 0.75) < 0.03  # four standard deviations


def test_drop_path_is_off_in_evaluation_and_at_rate_zero():
    x = jnp.ones((3, 2))
    assert nnx.view(DropPath(0.5), deterministic=True)(x) is x
    assert DropPath(0.0)(x) is x


def test_drop_path_errors():
    with pytest.raises(ValueError, match="needs random numbers"):
        DropPath(0.5)(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="expected 0 <= rate < 1"):
        DropPath(1.0)
