"""TAG-CLIP on tiny towers: experts by view, selected tokens, what its losses teach."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.backbones.clip_blocks import Variant
from g2ajax.methods import DataFacts, build, tag_clip

FACTS = DataFacts(num_classes=3, image_size=(32, 32), num_platforms=2)
CAPTION = jnp.array([[48, 5, 6, 49, 0, 0], [48, 7, 49, 0, 0, 0], [48, 9, 8, 7, 6, 49]])
PIXELS = jax.random.uniform(jax.random.key(0), (3, 32, 32, 3), maxval=255.0)
BATCH = {
    "image": PIXELS,
    "label": jnp.array([0, 1, 2]),
    "platform": jnp.array([0, 1, 0]),
    "caption": CAPTION,
}
EXPERTS = {"experts": 3, "aerial_experts": 2, "ground_experts": 2, "active": 2}


@pytest.fixture(scope="module", autouse=True)
def small():
    variant = dataclasses.replace(
        clip.VARIANTS["clip_test"], vocabulary_size=50, context_length=6, text_layers=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clip.VARIANTS, "clip_small", variant)
        yield


def make(**changes):
    config = {"name": "tag_clip", "backbone": {"name": "clip_small"}, **EXPERTS, **changes}
    return build(config, FACTS, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def trained():
    """Gradient of the first step, the terms of each step, and the model after them."""
    model = make()
    model.train()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.value_and_grad(lambda m: m.loss(BATCH, nnx.Rngs(0)), has_aux=True)
        (_, terms), grads = gradient(model)
        optimizer.update(model, grads)
        return terms, grads

    steps = [step(model, optimizer) for _ in range(30)]
    return steps[0][1], [terms for terms, _ in steps], model


def test_every_parameter_is_trained(trained):
    gradient, _, model = trained
    silent = [path for path, leaf in nnx.to_flat_state(gradient) if not jnp.any(leaf[...] != 0)]
    # The MLP whose place the experts take, and experts of a view that the routers do not yet predict.
    names = {"expert_0_0", "expert_0_1", "expert_0_2"}
    assert {path[0] for path in silent} < {"base_model", "moe", *names}
    replaced = ("base_model", "visual", "transformer", "resblocks", 1, "mlp")
    assert {path[:6] for path in silent if path[0] == "base_model"} == {replaced}
    start = make()
    for name in names:
        before, after = (getattr(one, name).c_fc.kernel[...] for one in (start, model))
        assert np.any(before != after), name


def test_it_learns(trained):
    _, terms, model = trained
    first, last = terms[0], terms[-1]
    assert all(np.isfinite(value) for value in last.values())
    for name in ("global", "identity", "view"):
        assert last[name] < 0.5 * first[name], name
    image, text = model.embed(PIXELS), model.embed_text(CAPTION)
    assert image.shape == text.shape == (3, 64)
    np.testing.assert_array_equal(jnp.argmax(image @ text.T, axis=1), [0, 1, 2])


def test_a_similarity_is_the_mean_of_both():
    model = make()
    whole, local = model.image_features(model.encode_images(PIXELS)[0])
    other, words = model.text_features(CAPTION)

    def cosine(x, y):
        return jnp.sum(x * y, -1) / jnp.linalg.norm(x, axis=-1) / jnp.linalg.norm(y, axis=-1)

    image, text = model.embed(PIXELS), model.embed_text(CAPTION)
    expected = (cosine(whole, other) + cosine(local, words)) / 2
    np.testing.assert_allclose(cosine(image, text), expected, atol=1e-5)


def test_a_token_uses_the_experts_of_its_images_view():
    options = tag_clip.Options({}, **EXPERTS)
    variant = Variant(vision_width=8)
    moe = tag_clip.Routing(variant, options, rngs=nnx.Rngs(0))
    experts = [tag_clip.Mlp(8, "gelu", None, rngs=nnx.Rngs(k)) for k in range(3)]
    route = jnp.array([[0.0, 1.0], [1.0, 0.0]])  # aerial, ground
    allowed = moe.allowed(route)
    np.testing.assert_array_equal(allowed, [[True, True, False], [False, True, True]])
    tokens = jax.random.normal(jax.random.key(1), (2, 5, 8))
    got = moe(tokens, allowed=allowed, experts=experts)
    for row in range(2):
        chosen = np.flatnonzero(allowed[row]).tolist()
        weights = jax.nn.softmax(moe.gate(tokens[row])[:, chosen], axis=-1)
        expected = sum(weights[:, [i]] * experts[k](tokens[row]) for i, k in enumerate(chosen))
        np.testing.assert_allclose(got[row], expected, atol=1e-5)
    # One active expert: its weight stays that of the softmax over both.
    moe.active = 1
    best = jnp.argmax(jnp.where(allowed[0], moe.gate(tokens[0]), -jnp.inf), axis=-1)
    weight = jax.nn.softmax(moe.gate(tokens[0])[:, :2], axis=-1).max(axis=-1)
    of_best = [experts[int(k)](x[None])[0] for k, x in zip(best, tokens[0], strict=True)]
    expected = weight[:, None] * jnp.stack(of_best)
    got = moe(tokens, allowed=allowed, experts=experts)
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_padding_is_never_selected():
    head = tag_clip.LocalHead(4, rngs=nnx.Rngs(0))
    tokens = jax.random.normal(jax.random.key(0), (2, 5, 4))
    whole = tokens[:, 0]
    real = jnp.array([[True, True, False, False, False], [False] * 5])
    got = head(whole, tokens, real, 1.0)
    expected = jnp.max(tokens + head.fc2(jax.nn.gelu(head.fc1(tokens))), axis=1, where=real[..., None],
                       initial=-jnp.inf)  # fmt: skip
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(got[1], whole[1])
    # The share is of the real ones: one of two.
    one = head(whole, tokens, real, 0.5)
    np.testing.assert_allclose(
        one[0], (tokens + head.fc2(jax.nn.gelu(head.fc1(tokens))))[0, 0], rtol=1e-5
    )
    gradient = jax.grad(lambda t: jnp.sum(head(t[:, 0], t, real, 0.5)))(tokens)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": (2,)}, "expected numbers from 0 to 1, rising"),
        ({"blocks": ()}, "expected numbers from 0 to 1"),
        ({"experts": 5}, "must cover all experts"),
        ({"active": 3}, "no smaller than the active ones"),
        ({"aerial_experts": 4}, "no larger than that"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(**changes))
