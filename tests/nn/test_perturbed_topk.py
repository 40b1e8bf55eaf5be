import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.nn.perturbed_topk import hard_topk, perturbed_topk


def test_by_hand():
    scores = jnp.asarray([[0.0, 3.0, 1.0, 2.0]])
    # The first draw changes nothing; the second lifts the first score above the third.
    noise = jnp.asarray([[[0.0, 0, 0, 0], [1.5, 0, 0, 0]]])
    np.testing.assert_array_equal(hard_topk(scores, 3), [[1, 2, 3]])
    expected = [[[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]]
    cotangent = jnp.arange(12.0).reshape(1, 3, 4)
    for gradient in ("code", "full"):
        got, back = jax.vjp(lambda s, g=gradient: perturbed_topk(s, noise, 3, 1.0, g), scores)
        np.testing.assert_allclose(got, expected)
        # The noise is 0 but for the first score in the second draw, where rows 0, 1, 2 chose
        # columns 0, 1, 3: 0, 5 and 11.
        own = 0.0 if gradient == "code" else 0 + 5 + 11
        np.testing.assert_allclose(back(cotangent)[0], [[1.5 * own / 2, 0, 0, 0]])


def test_the_full_gradient_is_that_of_the_mean_choice():
    scores = jnp.asarray([[0.1, 0.0, -0.1]])
    noise = jax.random.normal(jax.random.key(0), (1, 100_000, 3))
    cotangent = jnp.asarray([[[1.0, -2.0, 0.5]]])

    @jax.jit
    def value(scores):
        return jnp.sum(perturbed_topk(scores, noise, 1, 0.2, "full") * cotangent)

    got = jax.grad(value)(scores)[0]
    for i in range(3):
        step = jnp.zeros((1, 3)).at[0, i].set(0.05)
        expected = (value(scores + step) - value(scores - step)) / 0.1
        np.testing.assert_allclose(got[i], expected, atol=0.1)
    # Adding the same to all scores chooses the same.
    assert abs(got.sum()) < 0.1


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match=f"the {k} highest of 3 scores: expected 1 to all"):
        perturbed_topk(jnp.zeros((1, 3)), jnp.zeros((1, 2, 3)), k)
