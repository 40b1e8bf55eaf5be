"""A run of two phases, what it measures and shows, what it refuses, and that nothing gets lost."""

import contextlib
import dataclasses
import json
import re

import numpy as np
import pytest
from flax import nnx

from g2ajax.__main__ import main
from g2ajax.evaluation import reasons
from g2ajax.evaluation.explanation import Measure
from g2ajax.models.load import of_run
from g2ajax.report.album import Album
from g2ajax.tasks import crops, explanation_measures
from g2ajax.tasks import explanation_pages as pages
from g2ajax.tasks.embedder import embed_split, explained_sides
from g2ajax.tasks.explanation_measures import REASONS
from g2ajax.tasks.explanation_pages import trust
from g2ajax.tasks.predicted_attributes import differences, predict
from g2ajax.training import loop, phase, setup
from g2ajax.training.options import run_options
from tests.fake_data import GROUPS, encode, make_dataset
from tests.runs import explainable_config, on_one_device, tiny_config
from tests.training.test_resume import assert_same, tensors

ROUND = 1e-4
PREDICTS = {
    "method__predictor": True,
    "phase__explain__trainable": ("stream2", "adh", "predictor", "predictor_head"),
}
"""A predictor of attributes, trained beside the explanations."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on one device; its report page is made too. (On all devices are `ranked_run` and, of
    this method, the `:tiny` variant in `tests/test_configs.py`.)"""
    workdir = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_mesh", on_one_device)
        patch.setattr(crops, "open_dataset", lambda *args, **kwargs: make_dataset())
        config = explainable_config(**PREDICTS, evaluate__reported_queries=2)
        results = loop.run(config, workdir)
    return workdir, results


def test_every_ranking_is_named_in_the_results(finished):
    workdir, results = finished
    last = [r for r in results if r.checkpoint == "last"]
    assert {(r.protocol, r.ranking) for r in last} == {
        (protocol, ranking)
        for protocol in ("A2G", "G2A")
        for ranking in ("reid", "distance", "decomposed", "reweighted_max")
    }
    assert len({r.fingerprint for r in last if r.protocol == "A2G"}) == 1
    stored = json.loads((workdir / "results.json").read_text())
    measured = {(m["part"], m["measure"], m["source"]) for m in stored["explanations"]}
    assert ("pairs A2G", "precision at M_E", "attention") in measured
    assert ("pairs G2A", "precision at M_E", "random") in measured
    for source in ("attention", "plain shares", "usual shares", "random"):
        assert ("groups A2G", "precision at M_E", source) in measured
    page = (workdir / "report.html").read_text()
    assert "precision at M_E" in page and page.count('id="explanation-') == 2
    truth = re.search("Are the reasons true.</strong>(.*?)</p>", page)[1]
    assert ("A2G: " in truth) == (("reasons A2G", "precision of reasons", "attention") in measured)


@pytest.mark.parametrize(
    ("shares", "lead"),
    [
        (
            {"A2G": 0.7, "G2A": 0.9},
            "Not always, but more often than chance. A2G: 70.0% of the reasons",
        ),
        ({"A2G": 0.7, "G2A": 0.6}, "In some protocols more often than chance, in others not."),
        ({"A2G": 0.61, "G2A": 0.4}, "No more often than chance: do not rely on them."),
        ({}, ""),
    ],
)
def test_the_truth_of_reasons_in_words(shares, lead):
    measured = [Measure("upper", REASONS, "attention", 0.5, (0.4, 0.6), 9)]
    for protocol, share in shares.items():
        for source, value in (("attention", share), ("random", 0.6)):
            bounds = (value - 0.05, value + 0.05)
            measured.append(Measure(f"reasons {protocol}", REASONS, source, value, bounds, 9))
    text = trust(measured)
    silent = Measure("groups A2G", "precision at M_E", "attention", 0.5, (0.4, 0.6), 9)
    assert trust([silent]) == "No attribute stood out in the pairs that were measured."
    assert text.startswith(lead) and bool(text) == bool(lead)
    for protocol, share in shares.items():
        word = "more" if share > 0.65 else "less" if share < 0.55 else "no more"
        assert re.search(f"{protocol}: {100 * share:.1f}%[^%]*, {word} than the 60.0%", text)


def test_predicted_attributes_stand_beside_the_annotated_ones(finished, one_device, fake_dataset):
    workdir, _ = finished
    page = (workdir / "report.html").read_text()
    remarks = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["remarks"]
    drawn = (workdir / "figures" / "attributes.svg").read_text()
    assert ">bag<" in drawn and ">hat<" in drawn and "predicted against annotated" in page
    # The model predicts again what the report says of one of its pictures.
    opened, _ = loop.reopen(explainable_config(**PREDICTS), workdir, "latest")
    model, embedder = opened.model, opened.task.embedder
    right, texts = [], set()
    for name in ("query", "gallery"):
        split, codes = predict(model, embedder, fake_dataset.splits[name])
        for row, own in zip(split.attributes, codes, strict=True):
            known = [row[0] if row[0] != 2 else -1, row[1]]
            right.append(known[1] == own[1])
            texts.add(differences(own, np.array(known), GROUPS))
    assert 100 * np.mean(right) == pytest.approx(
        float(re.search(r"hat: ([\d.]+) \(", page)[1]), abs=0.06
    )
    assert remarks and set(remarks.values()) <= texts
    assert not any("unknown" in text for text in remarks.values())
    for text in remarks.values():
        assert re.fullmatch(r"((bag|hat): predicted \w+, annotated \w+(; )?)+", text)


def test_stream_1_stands_still_while_the_rest_learns(one_device, fake_dataset, tmp_path):
    """Phase `explain` alone, on the checkpoint of an earlier run of the plain method."""
    plain = tiny_config(method__head={"pool": "GlobalAvgPool"}, evaluate__every_epochs=2)
    loop.run(plain, tmp_path / "plain")
    config = explainable_config(
        phases=("explain",), init={"file": str(tmp_path / "plain"), "part": "all"}
    )
    loop.run(config, tmp_path / "explained")
    before, after = tensors(tmp_path / "plain"), tensors(tmp_path / "explained")
    kept = [name for name in before if name.startswith(("['params']", "['stats']"))]
    assert kept
    for name in kept:
        inside = name.replace("']['", "']['stream1.", 1)
        np.testing.assert_array_equal(after[inside], before[name], err_msg=name)
    own = [n for n in after if n.startswith("['params']['stream2.")]
    assert own
    for name in own:
        start = after[name.replace("stream2.", "stream1.backbone.")]
        assert np.any(after[name] != start), name
    # The optimizer holds moments of what is trained, and of nothing else.
    held = sum(a.size for n, a in after.items() if n.startswith("['optimizer']") and a.size > 1)
    trained = sum(
        a.size for n, a in after.items() if "['params']" in n and ("stream2." in n or "adh." in n)
    )
    assert held == 2 * trained


@pytest.mark.parametrize("step", [7, pytest.param(10, marks=pytest.mark.slow)])
def test_resumes_inside_the_second_phase(finished, one_device, fake_dataset, tmp_path, step):
    whole, cut = finished[0], tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        stop = contextlib.nullcontext(lambda total: total == step)
        patch.setattr(loop, "stop_requests", lambda: stop)
        with pytest.raises(phase.Stopped):
            loop.run(explainable_config(**PREDICTS), cut)
    loop.run(explainable_config(**PREDICTS), cut)
    assert_same(whole, cut)


def with_attributes(attributes=None, groups=GROUPS):
    dataset = make_dataset()
    splits = dict(dataset.splits)
    if attributes is not None:
        splits["train"] = dataclasses.replace(splits["train"], attributes=attributes)
    return dataclasses.replace(dataset, splits=splits, attribute_groups=groups)


CODES = make_dataset().splits["train"].attributes


def _changed(rows, value):
    codes = CODES.copy()
    codes[rows] = value
    return codes


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (with_attributes(groups=()), "agreid, agreid_v2 and skyground have them"),
        (with_attributes(_changed(0, 5)), "has code 5 for 'bag'; expected 0 to 2, or -1"),
        (with_attributes(_changed(slice(0, 6), -1)), r"1 training identities have no attr.*\[0\]"),
        (with_attributes(CODES[:, :1]), "1 attributes an image, but 2 groups are named"),
    ],
)
def test_attributes_that_do_not_fit_are_named_before_training(
    dataset, message, monkeypatch, tmp_path
):
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: dataset)
    with pytest.raises(ValueError, match=message):
        loop.run(explainable_config(), tmp_path)


def test_a_method_without_attributes_needs_none(monkeypatch):
    dataset = with_attributes(_changed(slice(0, 6), -1))
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: dataset)
    assert setup.prepare(run_options(tiny_config())).task.dataset.attribute_groups


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase__explain__rankings": ("decomposd",)}, "no ranking 'decomposd'; did you mean"),
        ({"phase__explain__rankings": ("reweighted_exclusive",)}, "method.predictor=True"),
        ({"phase__explain__copy": {"stream2": "stream3"}}, "names 'stream3', which has no param"),
        ({"phase__explain__copy": {"stream2": "adh"}}, "has no counterpart of its shape below adh"),
        ({"phase__explain__sampler": {"identities": 3, "images": 3}}, "a batch of 9 cannot be"),
        ({"phase__reid__sampler": {"identities": 8, "images": 1}}, "1 image of each identity"),
    ],
)
def test_phases_that_do_not_fit_are_named(fake_dataset, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        loop.run(explainable_config(**changes), tmp_path)


def test_a_checkpoint_of_another_backbone_is_refused(fake_dataset, tmp_path):
    run = setup.prepare(run_options(tiny_config(backbone="resnet_tiny")))
    of_run(run, "reid", "best", 0).save(tmp_path / "resnet")
    config = explainable_config(phases=("explain",), init={"file": str(tmp_path / "resnet")})
    with pytest.raises(ValueError, match="of a ResNet; the model's backbone is a ViT"):
        loop.run(config, tmp_path / "explained")


def test_another_number_of_attributes_than_the_checkpoints_is_named(finished, monkeypatch):
    workdir, _ = finished
    more = with_attributes(groups=(GROUPS[0], ("hat", ("yes", "no", "unknown"))))
    monkeypatch.setattr(crops, "open_dataset", lambda *args, **kwargs: more)
    with pytest.raises(ValueError, match=r"adh\.conv2\.kernel.*5.*6"):
        loop.evaluate(explainable_config(**PREDICTS), workdir, "latest")


def test_the_command_explains_a_query_a_name_and_a_file(finished, fake_dataset, tmp_path, capsys):
    workdir, _ = finished
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(np.full((60, 30, 3), 90, np.uint8)))
    name = str(fake_dataset.splits["query"].image_id[0])
    for query in ("1", name, str(photo)):
        out = tmp_path / "out"
        arguments = [f"--workdir={workdir}", f"--query={query}", "--top=2", f"--out={out}"]
        assert main(["explain", *arguments]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "(camera" in line]
    assert len(lines) == 3 * 2 and sum("  ?  " in line for line in lines) == 2
    assert all("usual share" in line or "no attribute stands out" in line for line in lines)
    pages = list(out.glob("*.html"))
    assert len(pages) == 3 and all("Grad-CAM" in page.read_text() for page in pages)
    # The photo is nobody's; test images beside it have annotations to differ from.
    asked = [re.search("<b>query</b>(.*?)</figcaption>", p.read_text(), re.S)[1] for p in pages]
    assert not asked[[page.stem for page in pages].index("photo")].strip()
    for changes, message in (
        ("--query=99", "has 5 queries"),
        ("--query=nobody.png", "neither a number nor a file"),
        ("--protocol=A2A", "no protocol 'A2A'"),
        ("--top=0", "from 1 to 10"),
    ):
        assert main(["explain", f"--workdir={workdir}", "--query=1", changes]) == 1
        assert message in capsys.readouterr().err


def test_a_report_explains_the_queries_with_the_most_reasons(
    finished, one_device, fake_dataset, monkeypatch
):
    monkeypatch.setattr(reasons, "STANDS_OUT", 0.5)
    monkeypatch.setattr(reasons, "LARGER", 1.0)
    config = explainable_config(**PREDICTS)
    opened, _ = loop.reopen(config, finished[0], "latest")
    queries = pages.from_queries(fake_dataset.splits["query"], range(5))
    asked = (opened.model, opened.task.embedder, "A2G", queries)
    whole = pages.explain(*asked, Album())
    counts = {
        one.title: sum(len(e.reasons) for e in one.images if not e.entry.correct) for one in whole
    }
    assert len(set(counts.values())) > 1
    chosen = [one.title for one in pages.explain(*asked, Album(), most=2)]
    assert len(chosen) == 2
    others = [counts[title] for title in counts if title not in chosen]
    assert min(counts[title] for title in chosen) >= max(others)


def test_a_run_without_the_stream_says_so(ranked_run, fake_dataset, capsys):
    assert main(["explain", f"--workdir={ranked_run[0]}", "--query=0"]) == 1
    assert "has no trained explainable stream" in capsys.readouterr().err


def test_the_decomposition_is_of_the_distance(finished, one_device, fake_dataset):
    """Attention one everywhere: every d^k is d, and the gap is nothing. Before, predictions are those
    of the logits."""
    workdir, _ = finished
    config = explainable_config(**PREDICTS)
    opened, _ = loop.reopen(config, workdir, "latest")
    gallery, embedder = fake_dataset.splits["gallery"], opened.task.embedder
    sides = explained_sides(opened.model, embedder, gallery, predicts=True)
    shown = np.concatenate([side.prediction[mask] for side, mask in sides])
    state, options = nnx.state(opened.model), embedder.options
    asked = gallery, options.data, options.evaluate.batch_size, embedder.mesh
    logits = embed_split(embedder.attribute_logits, state, *asked)
    np.testing.assert_array_equal(shown, logits > opened.model.attribute_threshold)
    opened.model.adh.conv2.kernel[...] = 0.0 * opened.model.adh.conv2.kernel[...]
    measures = explanation_measures.measure_pairs(opened.model, embedder)
    gaps = [m.value for m in measures if m.measure == "relative gap"]
    assert gaps and max(gaps) < ROUND
