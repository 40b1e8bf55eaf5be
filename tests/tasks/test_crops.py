"""Query expansion, re-ranking and the flip test in a run: what is scored, named and refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.tasks.embedder import make_embed
from g2ajax.training import loop
from tests.runs import tiny_config


def config(**changes):
    settings = {"phase__reid__epochs": 1, "evaluate__rerank": {"k1": 5, "k2": 2}, **changes}
    return tiny_config(**settings)


def test_the_end_of_a_run_is_scored_by_the_rankings_named(ranked_run):
    workdir, _, results = ranked_run
    for checkpoint in ("last", loop.CHOSEN_ON_TEST):
        of_it = [(r.protocol, r.ranking) for r in results if r.checkpoint == checkpoint]
        assert sorted(of_it) == sorted(
            (p, r) for p in ("A2G", "G2A") for r in ("reid", "rerank", "query_expansion")
        )
    parameters = {r.parameters for r in results if r.ranking == "rerank"}
    assert parameters == {"k1 5, k2 2, lambda 0.3, zhong"}
    assert "rerank (k1 5, k2 2, lambda 0.3, zhong)" in (workdir / "results.md").read_text()
    # During training only the phase's own ranking is scored, and chooses the best checkpoint.
    journal = (workdir / "metrics.jsonl").read_text()
    assert "evaluation/A2G" in journal and "rerank" not in journal


def test_an_ended_run_may_be_scored_by_others(ranked_run, fake_dataset, tmp_path):
    workdir, _, results = ranked_run
    # A copy: other tests read the run's own results.
    copy = shutil.copytree(workdir, tmp_path / "run")
    again = loop.run(config(evaluate__rankings=("query_expansion_rerank",)), copy)
    assert {r.ranking for r in again} == {"reid", "query_expansion_rerank"}
    before = {(r.protocol, r.checkpoint): r.mAP for r in results if r.ranking == "reid"}
    for r in again:
        if r.ranking == "reid":
            assert r.mAP == pytest.approx(before[r.protocol, r.checkpoint], abs=1e-6)


def test_a_flip_is_the_mean_with_the_mirror(ranked_run, fake_dataset):
    workdir, _, _ = ranked_run
    opened, _ = loop.reopen(config(), workdir, "latest")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 48, 32, 3), dtype=np.uint8)
    batch = {name: np.zeros(16, np.int32) for name in ("camera", "platform")}
    state = nnx.state(opened.model)
    plain = opened.task.embedder.embed(state, {"image": image, **batch})
    mirror = opened.task.embedder.embed(state, {"image": image[:, :, ::-1], **batch})
    flipped = make_embed(opened.model, opened.mesh, flip=True)
    got = flipped(state, {"image": image, **batch})
    np.testing.assert_allclose(got, (plain + mirror) / 2, rtol=1e-4, atol=1e-5)
    assert not np.allclose(got, plain, rtol=1e-2, atol=1e-3)
    turned = flipped(state, {"image": image[:, :, ::-1], **batch})
    np.testing.assert_allclose(turned, got, rtol=1e-4, atol=1e-5)
    assert isinstance(got, jax.Array) and got.dtype == jnp.float32


def test_a_flip_is_named_in_the_results(ranked_run, fake_dataset):
    workdir, _, results = ranked_run
    flipped = loop.evaluate(config(evaluate__flip=True), workdir, "latest")
    assert {r.feature for r in flipped} == {results[0].feature + " (image + mirror)"}
    stored = json.loads((workdir / "results-latest.json").read_text())["results"]
    assert "image + mirror" in stored[0]["feature"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate__rankings": ("rerank",), "evaluate__rerank": {"k1": 16}}, "at most 15"),
        ({"phase__reid__rankings": ("rerank",), "evaluate__rerank": {}}, "k1 is 20, but the gall"),
        ({"evaluate__rankings": ("re-rank",)}, "no ranking 're-rank'; did you mean 'rerank'"),
        ({"evaluate__rankings": ("decomposed",)}, "evaluate.rankings names 'decomposed', which"),
        (
            {"evaluate__rankings": ("query_expansion",), "evaluate__expansion": {"k": 99}},
            "evaluate.expansion does not fit fake A2G",
        ),
        ({"evaluate__rerank": {"variant": "kz"}}, "config.evaluate.rerank.variant = 'kz'"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_training(fake_dataset, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        loop.run(config(**changes), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
