"""IRRA on tiny towers: which modules and terms its losses bring, and the word loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.losses.image_text import masked_words
from g2ajax.methods import DataFacts, build, irra
from g2ajax.training.optimizer import OptimizerOptions, group_of

TASK = DataFacts(num_classes=3, image_size=(32, 32))
CAPTION = jnp.array([[48, 5, 6, 49, 0, 0], [48, 7, 49, 0, 0, 0], [48, 9, 8, 7, 6, 49]])
BATCH = {
    "image": jax.random.uniform(jax.random.key(0), (3, 32, 32, 3), maxval=255.0),
    "label": jnp.array([0, 1, 1]),
    "caption": CAPTION,
    "masked_word": jnp.where(CAPTION == 7, 7, 0),
}


@pytest.fixture(scope="module", autouse=True)
def small():
    variant = dataclasses.replace(
        clip.VARIANTS["clip_test"],
        vocabulary_size=50,
        context_length=6,
        vision_layers=1,
        text_layers=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clip.VARIANTS, "clip_small", variant)
        yield


def model(*losses, **options):
    config = {"name": "irra", "backbone": {"name": "clip_small"}, "losses": losses, "depth": 1}
    return build({**config, **options}, TASK, rngs=nnx.Rngs(0))


def test_losses_decide_modules_and_terms():
    plain = nnx.eval_shape(lambda: model("itc"))
    assert not hasattr(plain, "classifier") and not hasattr(plain, "mlm_head")
    assert plain.in_batch_terms == ("itc",)
    full = nnx.eval_shape(lambda: model("sdm", "mlm", "id"))
    _, metrics = jax.eval_shape(lambda m: m.loss(BATCH, nnx.Rngs(0)), full)
    assert set(metrics) == {
        *("sdm", "identity", "words"),
        *("image_accuracy", "text_accuracy", "word_accuracy"),
    }


@pytest.fixture(scope="module")
def full():
    return model("sdm", "mlm", "id", identity_weight=0.5)


@pytest.mark.slow
def test_total_is_the_sum_of_the_terms_and_the_masked_copy_is_optional(full):
    call = jax.jit(lambda m, batch: m.loss(batch, nnx.Rngs(0)))
    total, metrics = call(full, BATCH)
    terms = [metrics[name] for name in ("sdm", "identity", "words")]
    np.testing.assert_allclose(total, sum(terms), rtol=1e-6)
    # A classifier of near-zero weights: half of log 3.
    assert metrics["identity"] == pytest.approx(0.5 * np.log(3), abs=0.02)
    apart, _ = call(full, {**BATCH, "masked_caption": CAPTION})
    np.testing.assert_allclose(apart, total, rtol=1e-6)


def test_word_loss_of_labelled_positions_is_that_of_all(full):
    def both(model):
        texts = model.base_model.encode_text(CAPTION)
        images = model.base_model.encode_image(model.preprocessing(BATCH["image"]))
        logits = model.mlm_head(model.cross(texts, images)).reshape(-1, 50)
        everything = masked_words(logits, BATCH["masked_word"].reshape(-1))
        return everything, model.word_loss(texts, images, BATCH["masked_word"])

    everything, (labelled, accuracy) = jax.jit(both)(full)
    np.testing.assert_allclose(labelled, everything, rtol=1e-5)
    assert 0 <= accuracy <= 1


def test_features_are_those_of_the_towers(full):
    image, text = jax.jit(lambda m: (m.embed(BATCH["image"]), m.embed_text(CAPTION)))(full)
    assert image.shape == text.shape == (3, 32)
    assert image.dtype == text.dtype == jnp.float32


def test_published_rates_by_rules():
    rules = (("cross", 5.0), ("bias", 2.0), ("classifier", 5.0), ("mlm_head", 5.0))
    options = OptimizerOptions(weight_decay=4e-5, weight_decay_bias=0.0, rules=rules)
    abstract = nnx.eval_shape(lambda: model("sdm", "mlm", "id"))
    groups = {
        ".".join(map(str, path)): group_of(path, set(), options)
        for path, _ in nnx.to_flat_state(nnx.state(abstract, nnx.Param))
    }
    assert groups["cross_attn.in_proj_weight"].factor == 5.0
    assert groups["cross_attn.in_proj_bias"][:2] == (2.0, 0.0)
    assert groups["mlm_head.fc.bias"][:2] == (5.0, 0.0)
    assert groups["ln_post.scale"][:2] == (1.0, 4e-5)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match=r"temprature.*temperature"):
        model("sdm", temprature=1.0)
    with pytest.raises(ValueError, match=r"CLIP 'clip_vit_b' is unknown"):
        model("sdm", backbone={"name": "clip_vit_b"})
    assert irra.Options({}).losses == ("sdm", "mlm", "id")
