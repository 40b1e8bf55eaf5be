import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from tests.methods.learning import (
    FACTS,
    check_embedding,
    check_learning,
    embed,
    evaluation,
    make_batch,
    train,
    untrained,
)


def make(**changes):
    backbone = {"name": "vit_test", "drop_path": 0.0, **changes.pop("backbone", {})}
    config = {"name": "dts", "backbone": backbone, "block": 0, "samples": 50, **changes}
    return methods.build(config, FACTS, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def trained():
    model = make(view_weight=1.0, backbone={"remat": True})
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained_the_selector_too(trained):
    steps, model = trained
    assert not untrained(steps[0][2])
    check_learning(steps)
    check_embedding(model, 32)


@pytest.mark.slow
def test_later_blocks_see_the_patches_of_the_best_scores(trained):
    model, images = evaluation(trained[1]), make_batch()["image"]

    @nnx.jit
    def both(model):
        network = model.backbone
        tokens = network.blocks[0](network.embed_patches(model.preprocessing(images)))
        scores = model.selector(tokens)
        best = jnp.sort(jax.lax.top_k(scores[:, 2:], 2)[1], axis=1)
        kept = jnp.concatenate(
            [tokens[:, :2], jnp.take_along_axis(tokens[:, 2:], best[..., None], axis=1)], axis=1
        )
        kept = kept.at[:, 0].add(-kept[:, 1])
        kept = network.blocks[1](kept)
        kept = network.norm(kept.at[:, 0].add(-kept[:, 1]))
        return (kept[:, 0], kept[:, 1]), model.features(images), scores

    expected, got, scores = both(model)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.all(np.abs(scores) <= 1) and np.std(scores) > 0


select = nnx.jit(lambda model, tokens, noise: model.select(tokens, noise))


def test_without_noise_a_perturbed_choice_is_the_hard_one():
    model = make()
    tokens = jax.random.normal(jax.random.key(0), (3, 6, 32))
    hard = select(model, tokens, None)
    np.testing.assert_allclose(select(model, tokens, jnp.zeros((1, 5, 4))), hard, atol=1e-6)
    assert hard.shape == (3, 4, 32)
    # All patches in their order, if all are kept.
    np.testing.assert_array_equal(select(make(tokens=4), tokens, None), tokens)


def test_one_image_and_noise_in_tests():
    images = make_batch()["image"][:2]
    model = evaluation(make(test_noise=True))
    noisy = embed(model, images)
    np.testing.assert_allclose(embed(model, images[::-1])[::-1], noisy, atol=1e-5)
    assert not np.allclose(noisy[:1], embed(evaluation(make()), images[:1]), atol=1e-4)


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(ValueError, match=r"method\.tokens = 5: images of 32x32 have 4 patches"):
        make(tokens=5)
    for block, named in ((1, "1"), (None, "-1")):
        message = f"stands behind block {named} of 2: expected 0 to 0, so that a block follows"
        with pytest.raises(ValueError, match=message):
            make(block=block)
