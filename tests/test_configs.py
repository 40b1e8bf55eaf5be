"""Every experiment of `configs/` is valid, and its `:tiny` variant runs."""

import importlib
import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import pytest
from flax import nnx

from configs import common
from g2ajax import methods
from g2ajax.data.text import sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.training import loop
from g2ajax.training.options import run_options

ROOT = pathlib.Path(__file__).parents[1]
# One experiment of each method; the others run with `make test-slow`.
QUICK = ("agreid_bot_r50", "agreid_transreid", "agreid_vit", "market1501_uav_group")
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*_*.py") if not p.stem.startswith("__"))

SENTENCES = tuple(map(tuple, sentence_ids(Tokenizer()).tolist()))


def load(name: str, variant: str | None = None):
    return importlib.import_module(f"configs.{name}").get_config(variant)


@pytest.mark.parametrize("variant", [None, *common.VARIANTS])
@pytest.mark.parametrize("name", NAMES)
def test_options_and_method_are_valid(name, variant):
    run = run_options(load(name, variant).to_dict())
    assert run.dataset
    if variant:  # a small model: built where the variant runs
        return
    blocks = run.task_options
    size = blocks.frames.canvases[0] if run.task == "frames" else blocks.data.image_size
    facts = methods.DataFacts(
        10,
        size,
        2,
        attribute_groups=(("bag", ("backpack", "nothing")), ("hat", ("yes", "no"))),
        attribute_rates=(0.5, 0.5, 0.5, 0.5),
        sentences=SENTENCES,
        sentence_counts=sentence_counts(),
        dtype=jnp.dtype(run.dtype),
    )
    model = nnx.eval_shape(lambda: methods.build(run.method, facts, rngs=nnx.Rngs(params=0)))
    assert model.metric in ("cosine", "squared_euclidean")


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="no variant 'smal'; known: skyground, tiny"):
        load("agreid_vit", "smal")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_tiny_variant_runs(name, tmp_path):
    config = load(name, "tiny").to_dict()
    results = loop.run(config, tmp_path)
    last = config["phase"][config["phases"][-1]]
    rankings = (*(last.get("rankings") or ("reid",)), *config["evaluate"].get("rankings", ()))
    protocols = config["evaluate"]["protocols"]
    if config["method"]["name"] == "faster_rcnn":
        protocols, rankings = ("people, aerial", "people, ground"), ("detection",)
    assert sorted((r.protocol, r.ranking) for r in results) == sorted(
        (protocol, ranking)
        for protocol in protocols
        for ranking in rankings * 2  # of the last state and of the best
    )
    assert all(r.label.startswith("SkyGround") for r in results)
    assert {p.name for p in tmp_path.iterdir()} >= {
        *("config.json", "metrics.jsonl", "results.json", "results.md", "results.csv"),
        *("checkpoints", "tensorboard"),
    }
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == len(results)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_command_line_names_a_wrong_field(tmp_path):
    done = command("--config=configs/agreid_vit.py:tiny", "--config.sed=1")
    assert done.returncode != 0
    assert "seed" in done.stderr


def test_command_line_says_what_is_wrong_in_one_line(tmp_path):
    done = command(
        "--config=configs/agreid_vit.py", f"--workdir={tmp_path}", f"--config.data.dir={tmp_path}"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Put it below") or "error:" in done.stderr
    assert "Traceback" not in done.stderr
