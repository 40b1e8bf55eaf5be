"""Every experiment of `configs/` is valid with all its arguments, and its `:tiny` variant runs."""

import itertools
import json
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.cli import train
from g2ajax.config.blocks import plain
from g2ajax.data.text import sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.recipes import blocks, files
from g2ajax.recipes.arguments import VARIANTS
from g2ajax.training import loop
from g2ajax.training.options import resolved, run_options

ROOT = pathlib.Path(__file__).parents[1]
FRAMES = ("dataset=g2aps", "dataset=cuhk_sysu", "dataset=prw")
SIDES = tuple(f"dataset={n}" for n in ("cargo", "agreid", "agreid_v2", "lagper", "g2aps_reid"))
CROPS = tuple(
    f"dataset={n}" for n in ("market1501", "msmt17", "agreid", "agreid_v2", "cargo", "lagper")
)
TRACKLETS = ("dataset=g2a_vreid",)  # the others differ in nothing that is built
PEDES = ("dataset=tbagpr", "dataset=cuhk_pedes")
# File → the values of each of its arguments; the other files have none.
ARGUMENTS = {
    "seqnet": (FRAMES, ("", "hkd")),
    "coat": (FRAMES, ("", "hkd")),
    "head_teacher": (("head=seqnet", "head=coat"), FRAMES),
    "agreid_vit": (("", "predictor"),),
    "irra": (PEDES,),
    "contrastive": (PEDES,),
    "vdt": (SIDES,),
    "temporal_baseline": (TRACKLETS, ("", "temporal=granular")),
    "vsla_clip": (TRACKLETS, ("", "ft_clip")),
    "clip_reid": (CROPS,),
    "latex": (CROPS[2:5],),
    "uni_prompt": (CROPS[2:],),
    # VDT's recipe with another method: one dataset each, one with options of its own if there is.
    "secap": (("dataset=agreid",),),
    "dts": (("dataset=cargo",),),
    "gsalign": (("dataset=agreid_v2",),),
    "sd_reid": (("dataset=cargo",),),
    "visa": (("dataset=lagper",),),
}


def _experiments():
    for path in sorted((ROOT / "configs").glob("*.py")):
        if path.stem == "finetune":  # it needs a model and images: tests/test_program.py
            continue
        for values in itertools.product(*ARGUMENTS.get(path.stem, ())):
            yield f"{path.stem}:{','.join(filter(None, values))}".rstrip(":")


NAMES = list(_experiments())
# The others run with `make test-slow`; smaller runs of their methods are among the other tests.
QUICK = ("agreid_bot_r50",)

SENTENCES = tuple(map(tuple, sentence_ids(Tokenizer()).tolist()))


def load(name: str, variant: str = ""):
    file, _, arguments = name.partition(":")
    text = ",".join(filter(None, (arguments, variant)))
    return files.load(f"{ROOT}/configs/{file}.py:{text}".rstrip(":"))


@pytest.mark.parametrize("variant", ["", *VARIANTS])
@pytest.mark.parametrize("name", NAMES)
def test_options_and_method_are_valid(name, variant):
    config = load(name, variant).to_dict()
    run = run_options(config)
    assert run.dataset
    if variant:  # a small model: built where the variant runs
        assert run.dataset.startswith("skyground/")
        return
    blocks = run.task_options
    size = blocks.frames.canvases[0] if run.task == "frames" else blocks.data.image_size
    key = (repr(run.method), tuple(size), run.dtype)
    if key not in METRICS:
        METRICS[key] = metric_of(run.method, size, run.dtype)
    assert METRICS[key] in ("cosine", "squared_euclidean")


METRICS: dict[tuple, str] = {}
"""The metric of each method that was built: many experiments differ in their dataset alone."""


def metric_of(method, size, dtype) -> str:
    """Builds the method without values, and asks for its metric."""
    facts = methods.DataFacts(
        10,
        size,
        2,
        num_platforms=2,
        attribute_groups=(("bag", ("backpack", "nothing")), ("hat", ("yes", "no"))),
        attribute_rates=(0.5, 0.5, 0.5, 0.5),
        sentences=SENTENCES,
        sentence_counts=sentence_counts(),
        dtype=jnp.dtype(dtype),
    )
    return nnx.eval_shape(lambda: methods.build(method, facts, rngs=nnx.Rngs(params=0))).metric


@pytest.mark.parametrize("name", NAMES)
def test_every_option_can_be_set_and_says_what_it_is(name):
    config = load(name, "tiny")
    found = blocks.run_block(config.to_dict())
    given = config.to_dict()
    # Nothing was added to the blocks of the dataclasses, and nothing taken away.
    values = {key: value for key, value in plain(found).items() if key in given}
    assert values == given
    text = blocks.description(given)
    for path in _paths(given, "config"):
        assert f"  {path}: " in text


def _paths(config, where):
    for key, value in config.items():
        if isinstance(value, dict) and key != "copy":
            yield from _paths(value, f"{where}.{key}")
        else:
            yield f"{where}.{key}"


def test_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match="no variant 'smal'; known: skyground, tiny"):
        load("agreid_bot_vit", "smal")
    with pytest.raises(ValueError, match="no dataset 'prv'; did you mean 'prw'"):
        load("seqnet", "dataset=prv")
    with pytest.raises(
        ValueError, match=r"no argument 'hdk'; did you mean 'hkd'\? known: dataset="
    ):
        load("seqnet", "hdk")
    with pytest.raises(ValueError, match="gives variant twice"):
        load("seqnet", "tiny,skyground")
    with pytest.raises(FileNotFoundError, match=r"no configuration file .*; did you mean"):
        load("seqnett")


def test_a_configuration_that_leaves_out_a_default_is_the_same_run():
    config = load("agreid_vit", "tiny").to_dict()
    del config["evaluate"]["rerank"], config["method"]["alpha"]
    config["method"]["stream1"]["backbone"] = {"name": "vit_test", "stride": 16, "drop_path": 0.1}
    assert resolved(config) == resolved(load("agreid_vit", "tiny").to_dict())
    config["method"]["alpha"] = 9.0
    assert resolved(config) != resolved(load("agreid_vit", "tiny").to_dict())


def test_phases_have_batches_of_their_own_only_where_they_say_so():
    phases = resolved(load("agreid_vit").to_dict())["phase"]
    assert phases["reid"]["sampler"] is None
    assert tuple(phases["explain"]["sampler"].values()) == ("naive_identity", 6, 4, False)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("agreid_vit.py:tiny", "--config.sed=1"),
            "config has no option 'sed'; did you mean 'seed'",
        ),
        (("agreid_vit.py:tiny", "--config.erase.fill=noise"), "`erase` is an option of `augment`"),
        (("agreid_vi.py",), "no configuration file 'configs/agreid_vi.py'; did you mean"),
        (("seqnet.py:hdk",), "no argument 'hdk'; did you mean 'hkd'"),
    ],
)
def test_command_line_says_what_is_wrong_in_one_line(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    file, *rest = arguments
    with pytest.raises(SystemExit, match=re.escape(message)) as error:
        train.parse(["run.py", f"--config=configs/{file}", *rest])
    assert re.fullmatch("error: .+", error.value.code)


def test_a_value_of_another_type_ends_the_program_with_one_line():
    done = command("--config=configs/agreid_vit.py:tiny", "--config.seed=one")
    assert done.returncode == 1
    assert "--config.seed=one: invalid literal for int" in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_command_line_says_in_one_line_where_the_data_are_missing(tmp_path):
    done = command(
        "--config=configs/agreid_vit.py", f"--workdir={tmp_path}", f"--config.data.dir={tmp_path}"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Put it below") or "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line_prints_every_option():
    done = command(
        "--config=configs/seqnet.py:dataset=prw,hkd",
        "--config.method.student.backbone.last_stride=2",
        "--help_config",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "  config.method.student.backbone.last_stride: int = 2 (default 1)" in lines
    assert (
        "  config.method.student.matching.queue_size: int (at least 0) = 500 (default 5000)"
        in lines
    )
    assert "config.frames: " in done.stdout
    assert "config.augment" not in done.stdout  # frames are not augmented so


@pytest.mark.parametrize("name", ["agreid_vit", "agreid_transreid", "aea_firm", "irra", "coat:hkd"])
def test_every_option_has_a_sentence(name):
    text = blocks.description(load(name).to_dict()).split("\n")
    alone = [
        line
        for line, following in zip(text, [*text[1:], ""], strict=True)
        if re.match(r"  \S", line) and not following.startswith("      ")
    ]
    # Arguments of a network are described together, at the head of their block.
    assert [line for line in alone if ".backbone." not in line] == []
