"""Runs on images with sentences: AEA-FIRM from end to end, and what is refused before the start."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.backbones import clip
from g2ajax.data.pipeline import caption_columns
from g2ajax.methods import EmbedsCaptions, EmbedsCrops, Method
from g2ajax.tasks import captions, crops
from g2ajax.tasks.base import Phase, RunInfo
from g2ajax.training import loop, setup
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import run_options
from tests.fake_captions import make_captions_dataset
from tests.fake_data import make_dataset
from tests.runs import changed, opens, tiny_config


class Images(Method, EmbedsCrops):
    """A method of images alone."""


class Stub(Method, EmbedsCaptions):
    """The attributes that are read of a model before it is trained."""

    caption_length = 77
    uses_pairs = True

    def embed(self, images, *, camera=None, platform=None):
        return images.mean((1, 2))

    def embed_text(self, caption):
        return caption[:, :3]


class Guessing(Stub):
    guesses_words = True


def captions_config(**changes) -> dict:
    config = tiny_config()
    config["method"] = {
        "name": "aea_firm",
        "backbone": {"name": "clip_shallow"},
        "queue_length": 8,
    }
    config["text"] = {"length": 12, "mask": 0.15}
    config["augment"] = {"pad": 0, "erase": {"probability": 0.0}}
    config["sampler"] = {"name": "shuffled", "identities": 8, "images": 1}
    config["phase"]["reid"] |= {"epochs": 1, "steps_per_epoch": 2}
    config["phase"]["reid"]["optimizer"] = {
        "learning_rate": 1e-3,
        "eps": 1e-3,
        "weight_decay_bias": 0.0,
        "rules": (("bias", 2.0), ("atr_matching_head", 5.0)),
    }
    return changed(config, **changes)


def opened_task(options, dataset) -> captions.Task:
    """The task of a run, before its model is built."""
    phases = tuple(
        Phase(i, name, options.phase[name].task_options) for i, name in enumerate(options.phases)
    )
    info = RunInfo("", "fake", "stub", 0, "float32", make_mesh(-1, 1), options.task_options, phases)
    with opens(dataset):
        return captions.Task(info)


@pytest.fixture
def captioned(monkeypatch):
    dataset = make_captions_dataset()
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: dataset)
    shallow = dataclasses.replace(clip.VARIANTS["clip_test"], vision_layers=1, text_layers=1)
    monkeypatch.setitem(clip.VARIANTS, "clip_shallow", shallow)
    return dataset


def test_a_run_from_end_to_end(one_device, captioned, tmp_path):
    results = loop.run(captions_config(evaluate__reported_queries=60), tmp_path)
    names = ["T2A", "T2G", "T2AG", "A2T", "G2T", "AG2T"]
    assert [r.protocol for r in results] == names * 2
    assert [r.checkpoint for r in results] == ["last"] * 6 + [loop.CHOSEN_ON_TEST] * 6
    sizes = {r.protocol: (r.queries, r.gallery, r.valid_queries) for r in results}
    assert sizes["T2A"] == (10, 10, 10)
    assert sizes["T2AG"] == (10, 20, 10)
    assert sizes["AG2T"] == (20, 10, 20)
    assert {r.direction for r in results if r.protocol == "G2T"} == {"ground -> text"}
    assert {r.filter for r in results} == {"nothing left out"}
    assert all(r.interval_mAP[0] <= r.mAP <= r.interval_mAP[1] for r in results)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = set().union(*lines)
    assert {"aea", "match"} <= found
    page = (tmp_path / "report.html").read_text()
    sentence = captioned.splits["test"].captions.text[0]
    assert json.dumps(sentence)[1:-1] in page and "text → aerial" in page
    assert any(name.startswith("lr/") and "x5" in name for name in found)  # the matching head's


def test_a_batch_is_of_pairs_and_their_words_are_masked():
    plain = {"flip": 0.0, "pad": 0, "erase": {"probability": 0.0}}
    options = run_options(captions_config(augment=plain))
    task = opened_task(options, make_captions_dataset())
    task.use(Stub())
    run = setup.Run(options, task, task.info.mesh, Stub())
    assert task.examples.paired
    assert run.steps_per_epoch(0) == 2
    rows = task.sampler(run.phase(0)).batch_indices(0)
    assert len(np.unique(rows)) == 8
    assert rows.max() < len(task.examples) == 12
    batch = {**caption_columns(task.examples, rows), "caption": task.examples.ids[rows]}
    store = jnp.arange(24, dtype=jnp.uint8)[:, None, None, None] * jnp.ones((1, 8, 4, 3), jnp.uint8)
    ready = task.prepare(run.phase(0))(jax.random.key(0), jax.tree.map(jnp.asarray, batch), store)
    for name, kind in (("image", "index"), ("paired_image", "paired_index")):
        np.testing.assert_array_equal(ready[name].max((1, 2, 3)), batch[kind])
    masked = np.asarray(ready["masked_word"]) > 0
    assert masked.any(axis=1).all()
    np.testing.assert_array_equal(
        np.where(masked, ready["masked_word"], ready["caption"]), batch["caption"]
    )
    assert "masked_caption" not in ready


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text__length": 1}, "config.text.length = 1: expected a whole number, at least 2"),
        (
            {"text__mask": 1.0},
            r"config.text.mask = 1.0: expected a probability, at least 0, below 1",
        ),
        ({"text__lenght": 77}, r"no option 'lenght'; did you mean 'length'"),
    ],
)
def test_options_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        run_options(captions_config(**changes))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (Stub(), {"text__length": 78}, r"text.length = 78, but the text tower has 77 places"),
        (Guessing(), {"text__mask": 0.0}, r"names 'mlm', .*, but text.mask = 0"),
        (Images(), {}, r"protocol T2A of fake ranks images by sentences .* images alone"),
    ],
)
def test_what_does_not_fit_captions(model, changes, message):
    task = opened_task(run_options(captions_config(**changes)), make_captions_dataset())
    with pytest.raises(ValueError, match=message):
        task.use(model)


def test_sentences_need_captions():
    task = opened_task(run_options(captions_config()), make_dataset())
    with pytest.raises(ValueError, match=r"protocol A2G of fake ranks images by images"):
        task.use(Stub())


def test_attributes_are_said_where_they_are_those_of_the_sentences():
    ids, counts = captions.attribute_sentences(make_captions_dataset())
    assert (len(ids), sum(map(sum, counts))) == (55, 55)
    assert captions.attribute_sentences(make_dataset()) == ((), ())
