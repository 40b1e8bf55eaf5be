import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.nn.norm import BatchNorm
from g2ajax.nn.norm_aware import MaskedBatchNorm, NormAwareEmbedding, SoftmaxIdentityHead

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 2, 3)])
def test_padded_rows_move_no_statistic(shape):
    x = RNG.normal(size=shape).astype(np.float32)
    x[4:] = np.nan
    mask = jnp.arange(6) < 4
    norm, plain = MaskedBatchNorm(3), BatchNorm(3)
    got = nnx.grad(lambda m, x: jnp.sum(m(x, mask)[:4] ** 3))(norm, jnp.asarray(x))
    expected = nnx.grad(lambda m, x: jnp.sum(m(x) ** 3))(plain, jnp.asarray(x[:4]))
    np.testing.assert_allclose(got["scale"][...], expected["scale"][...], rtol=1e-4)
    norm(jnp.asarray(x), mask), plain(jnp.asarray(x[:4]))
    np.testing.assert_allclose(norm.mean[...], plain.mean[...], rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], plain.var[...], rtol=1e-5)


def test_a_single_row_and_none_keep_what_they_cannot_know():
    norm = MaskedBatchNorm(3)
    x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    assert np.isfinite(norm(x, jnp.zeros((4,), bool))).all()
    np.testing.assert_array_equal(norm.mean[...], 0.0)
    norm(x, jnp.arange(4) < 1)
    np.testing.assert_allclose(norm.mean[...], 0.1 * x[0], rtol=1e-5)
    np.testing.assert_array_equal(norm.var[...], 1.0)


@nnx.jit
def embed(head, features, mask):
    return head(features, mask)


def test_embedding_has_unit_length_and_one_logit_a_row():
    head = NormAwareEmbedding({"first": 4, "second": 6}, 9, rngs=nnx.Rngs(0))
    assert [head.projectors[k][0].out_features for k in ("first", "second")] == [4, 5]
    widths = (("first", 4), ("second", 6))
    features = {k: jnp.asarray(RNG.normal(size=(5, n)), jnp.float32) for k, n in widths}
    mask = jnp.arange(5) < 3
    embedding, logit = embed(head, features, mask)
    assert embedding.shape == (5, 9) and logit.shape == (5,)
    np.testing.assert_allclose(np.linalg.norm(embedding[:3], axis=1), 1.0, rtol=1e-5)
    of_alone, logit_alone = embed(head, {k: v[:3] for k, v in features.items()}, mask[:3])
    np.testing.assert_allclose(embedding[:3], of_alone, atol=1e-5)
    np.testing.assert_allclose(logit[:3], logit_alone, atol=1e-4)
    evaluated = nnx.view(head, use_running_average=True, raise_if_not_found=False)
    one = embed(evaluated, {k: v[:1] for k, v in features.items()}, mask[:1])
    assert one[1].shape == (1,)


def test_identity_head_trains_no_bias():
    head = SoftmaxIdentityHead(4, 7, rngs=nnx.Rngs(0))
    x = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
    assert head(x, jnp.ones((3,), bool)).shape == (3, 7)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(head, nnx.Param))}
    assert names == {"bottleneck.scale", "classifier.kernel"}
