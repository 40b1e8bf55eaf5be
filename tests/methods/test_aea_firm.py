"""AEA-FIRM on tiny towers: its queue as state, its terms, unknown attributes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.methods import DataFacts, aea_firm, build
from g2ajax.methods.irra import CLIP_PIXELS

SENTENCES = ((48, 1, 49, 0, 0, 0), (48, 2, 49, 0, 0, 0), (48, 3, 4, 49, 0, 0))
TASK = DataFacts(3, (16, 16), sentences=SENTENCES, sentence_counts=((2, 1),))
IMAGES = jax.random.uniform(jax.random.key(0), (2, 2, 16, 16, 3), maxval=255.0)
BATCH = {
    "image": IMAGES[0],
    "paired_image": IMAGES[1],
    "label": jnp.array([0, 2]),
    "caption": jnp.array([[48, 5, 6, 49, 0, 0], [48, 7, 49, 0, 0, 0]]),
    "attributes": jnp.array([[0], [1]], jnp.int8),
    "paired_attributes": jnp.array([[1], [0]], jnp.int8),
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


def model(task=TASK, **options):
    config = {"name": "aea_firm", "backbone": {"name": "clip_small"}, "queue_length": 3}
    return build({**config, **options}, task, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def step():
    """Two steps of one model: the metrics and queues after each."""
    graph, state = nnx.split(model())

    @jax.jit
    def call(state, batch):
        model = nnx.merge(graph, state)
        total, metrics = model.loss(batch, nnx.Rngs(1))
        text = model.embed_text(batch["caption"])
        return total, metrics, text, nnx.state(model)

    return call, state


def test_the_queue_is_read_before_and_moved_after(step):
    call, start = step
    total, metrics, text, state = call(start, BATCH)
    np.testing.assert_allclose(total, metrics["aea"] + metrics["match"], rtol=1e-6)
    assert state["queue"]["identity"][...].tolist() == [0, 2, 0]
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    np.testing.assert_allclose(state["queue"]["text"][...], [*unit, np.zeros(32)], atol=1e-6)
    _, again, _, state = call(state, {**BATCH, "label": jnp.array([1, 1])})
    assert state["queue"]["identity"][...].tolist() == [1, 1, 0]
    assert again["aea"] != metrics["aea"]


def test_unknown_attributes_are_left_out(step):
    call, state = step
    unknown = jnp.full((2, 1), -1, jnp.int8)
    found = call(state, {**BATCH, "attributes": unknown, "paired_attributes": unknown})[1]
    assert found["match"] == 0 and np.isfinite(found["aea"])


def test_the_queue_is_in_no_public_state_dict():
    names = to_state_dict(model()).keys()
    assert not [name for name in names if "queue" in name]
    assert {n for n in names if not n.startswith("base_model.")} == {
        "atr_matching_head.weight",
        "atr_matching_head.bias",
    }


def test_all_terms_have_a_value():
    losses = ("aea", "contrastive", "sdm", "bisdm", "itc", "biitc", "id", "match")
    options = {"losses": losses, "queue_length": 0, "joint": "concatenation", "negative": "uniform"}
    abstract = nnx.eval_shape(lambda: model(**options))
    assert abstract.queue is None
    assert abstract.in_batch_terms == losses[:-2]
    total, metrics = jax.eval_shape(lambda m: m.loss(BATCH, nnx.Rngs(1)), abstract)
    assert total.shape == () and set(metrics) == set(losses)


def test_sentences_are_cut_to_the_longest():
    abstract = nnx.eval_shape(model)
    assert [len(row) for row in abstract.sentences] == [4, 4, 4]


def test_matching_needs_sentences():
    with pytest.raises(ValueError, match=r"losses names 'match', which needs sentences"):
        model(task=DataFacts(3, (16, 16)))
    assert aea_firm.Options({}).preprocessing == CLIP_PIXELS
