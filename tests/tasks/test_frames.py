"""A run on whole frames from the configuration to its results, and what is refused."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.data.frame_source import open_frames
from g2ajax.evaluation.person_search import scoring_fault
from g2ajax.tasks import base, crops, frame_checks, frames
from g2ajax.tasks.base import Phase, RunInfo
from g2ajax.training import loop, mesh, phase, setup
from g2ajax.training.options import run_options
from tests.runs import frames_config, on_one_device
from tests.training.test_resume import assert_same


def test_seqnet_is_trained_and_scored(frames_run):
    workdir, _, results = frames_run
    asked = [(r.ranking, r.protocol) for r in results]
    protocols = ("G2A", "A2G", "G2A_3", "G2A_6")
    every = [(ranking, name) for name in protocols for ranking in ("reid", "cbgm", "true_boxes")]
    assert sorted(asked) == sorted(2 * every)  # the last state and the best
    for result in results:
        assert 0.0 <= result.mAP <= 100.0 and result.queries == 4
        assert result.interval_mAP[0] <= result.mAP <= result.interval_mAP[1]
        if result.ranking != "true_boxes":
            measures = dict(result.measures)
            assert measures["missed"] + measures["confused"] == pytest.approx(100 - result.mAP)
    bound = [r for r in results if r.ranking == "true_boxes"]
    assert all(r.mAP > 0 and r.given for r in bound)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [entry for entry in lines if entry["kind"] == "train/search"]
    assert [entry["step"] for entry in train] == [1, 2]
    assert {"rpn_cls", "proposal_reg", "box_reid"} <= set(train[0])
    stored = json.loads((workdir / "results.json").read_text())["results"]
    assert {row["given"] for row in stored} == {"", "true boxes of the gallery given"}
    page = (workdir / "report.html").read_text()
    assert "By size of the gallery" in page and (workdir / "figures/gallery_size.svg").exists()
    assert "Detection: precision and recall" in page and "aerial frames (AP " in page
    figures = {file.stem for file in (workdir / "figures").glob("*.svg")}
    assert {"cmc", "precision_recall", "detection"} <= figures
    assert '"label":"G2A"' in page and page.count('"e":[') == 8  # queries of both directions


def test_a_stopped_run_goes_on_to_the_same_numbers(frames_run, tmp_path, monkeypatch):
    whole, config, _ = frames_run
    monkeypatch.setattr(setup, "make_mesh", on_one_device)
    steps, make_step = [], phase.make_step

    def watched(*args, **kwargs):
        steps.append(make_step(*args, **kwargs))
        return steps[-1]

    monkeypatch.setattr(phase, "make_step", watched)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_requests", lambda: contextlib.nullcontext(lambda step: step == 1))
        with pytest.raises(phase.Stopped):
            loop.run(config, tmp_path)
    # Without a report, which both would make alike.
    loop.run({**config, "evaluate": {**config["evaluate"], "reported_queries": 0}}, tmp_path)
    assert_same(whole, tmp_path)  # the tables of the identities, too
    assert [step._cache_size() for step in steps] == [1, 1]  # one canvas, one compilation


@pytest.fixture(scope="module")
def dataset():
    return open_frames("skyground/frames_tiny")


def info_of(options) -> RunInfo:
    """The facts that a task has of a run with these options, on one device."""
    phase = Phase(0, "search", options.phase["search"].task_options)
    devices = mesh.make_mesh(devices=jax.devices()[:1])
    name = options.dataset
    return RunInfo("", name, "seqnet", 0, "float32", devices, options.task_options, (phase,))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("frames__canvases", ((100, 128),), r"names \(100, 128\).*multiples of 32"),
        ("phase__search__rankings", ("rerank",), r"phase.search.rankings: no ranking 'rerank'"),
        ("data__residency", "device", "an option of the task 'crops', and this run's task is 'fr"),
        ("data__image_size", (256, 128), "config.data has no option 'image_size'; it is an option"),
        ("evaluate__flip", True, "no option 'flip'; `flip` is an option of `frames`"),
        ("phase__search__sampler", {}, "phase.search has no option 'sampler'; it is an option of"),
        ("evaluate__protocols", ("G2B",), "has no protocol 'G2B'"),
    ],
)
def test_what_frames_do_not_have_is_refused(dataset, path, value, message):
    with pytest.raises(ValueError, match=message):
        frame_checks.check(info_of(run_options(frames_config(**{path: value}))), dataset)


def test_protocols_whose_people_nobody_meets_are_not_scored(dataset, capsys, monkeypatch):
    monkeypatch.setattr(base, "_WARNED", set())
    names = [row["name"] for row in dataset.protocols]
    assert [scoring_fault(dataset, name) for name in names] == [""] * len(names)
    query = dataset.splits["query"]
    nobody = dataclasses.replace(query, identity=query.identity + 10_000)
    none_asks = dataclasses.replace(query, protocols=query.protocols & (np.arange(len(names)) > 0))
    strangers, without = (
        dataclasses.replace(dataset, splits={**dataset.splits, "query": one})
        for one in (nobody, none_asks)
    )
    reason = r"the people of its \d+ queries are in none of their gallery frames"
    with pytest.raises(ValueError, match=f"{names[0]} of .* cannot be scored: {reason}"):
        base.scorable(strangers, (), scoring_fault)
    assert base.scorable(without, (), scoring_fault) == tuple(names[1:])
    line = f"protocol {names[0]} of {dataset.name} is left out: no query takes part"
    assert line in capsys.readouterr().err


def test_micro_batches_are_refused(frames_run, monkeypatch):
    monkeypatch.setattr(setup, "make_mesh", on_one_device)
    with pytest.raises(ValueError, match="losses are means over the regions of the whole batch"):
        setup.prepare(run_options(frames_config(phase__search__accumulate=2)))


@pytest.mark.parametrize(
    "changes", [{}, {"evaluate__rankings": ()}, {"evaluate__best": "detection AP"}]
)
def test_a_plain_detector_is_not_asked_whom_it_found(dataset, changes):
    options = run_options(frames_config(**changes))
    method = {"name": "faster_rcnn", "backbone": {"name": "resnet_tiny"}}
    facts = methods.DataFacts(dataset.num_identities, (128, 128))
    model = nnx.eval_shape(lambda: methods.build(method, facts, rngs=nnx.Rngs(params=0)))
    with pytest.raises(ValueError, match=r"does not tell them apart: give evaluate.rankings=\(\)"):
        frame_checks.check_model(model, options.task_options.evaluate)


def test_a_method_of_crops_finds_nobody():
    options = run_options(frames_config())
    with pytest.raises(ValueError, match=r"finds persons in whole frames, and .*, seqnet"):
        frame_checks.check_model(methods.Method(), options.task_options.evaluate)


def test_commands_on_crops_refuse_a_run_on_frames(tmp_path):
    with pytest.raises(ValueError, match=r"a run on whole frames.*--evaluate=best"):
        loop.reopen(frames_config(), tmp_path, "best", of=crops.Task)


def test_unreadable_frames_are_named_and_left_out(dataset, capsys):
    @dataclasses.dataclass(frozen=True)
    class Broken(type(dataset.splits["gallery"])):
        def read(self, row):
            return b"" if row == 1 else super().read(row)

    split = dataset.splits["gallery"]
    columns = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
    options = run_options(frames_config(frames__skip_unreadable=True)).task_options
    fitted = frames.fit(Broken(**columns), options.frames)
    devices = mesh.make_mesh(1, 1, jax.devices()[:1])
    (batch,) = frames.read(fitted, np.array([[0, 1]], np.int32), options, devices)
    assert np.asarray(batch["mask"]).tolist() == [True, False]
    assert f"{split.image_id[1]} (gallery) cannot be read" in capsys.readouterr().err
