import math

import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.losses.margin import arcface_logits
from g2ajax.nn.heads import margin_logits


def test_adds_the_margin_to_the_angle_of_the_true_class():
    angles = jnp.asarray([[0.3, 1.0], [1.2, 2.0]])
    logits = arcface_logits(jnp.cos(angles), jnp.asarray([0, 1]), scale=10.0, margin=0.5)
    wanted = 10 * np.cos([[0.8, 1.0], [1.2, 2.5]])
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)
    unknown = arcface_logits(jnp.cos(angles), jnp.asarray([-1, -1]), scale=10.0, margin=0.5)
    np.testing.assert_allclose(unknown, 10 * jnp.cos(angles))


def test_the_fallback_keeps_falling_where_the_plain_margin_rises_again():
    cosine = jnp.cos(jnp.linspace(0.01, math.pi - 0.01, 200))[:, None]
    label = jnp.zeros(200, jnp.int32)
    assert (jnp.diff(arcface_logits(cosine, label)[:, 0]) < 0).all()
    assert (jnp.diff(margin_logits("ArcSoftmax", cosine, label, 30.0, 0.5)[:, 0]) > 0).any()


def test_gradient_is_finite_at_both_ends():
    cosine = jnp.asarray([[1.0, -1.0], [-1.0, 1.0]])
    gradient = jax.grad(lambda c: arcface_logits(c, jnp.asarray([0, 0])).sum())(cosine)
    assert jnp.isfinite(gradient).all()
