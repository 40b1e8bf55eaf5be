"""A trained model on other datasets, and the command for it."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

from g2ajax.__main__ import main
from g2ajax.apps import evaluate
from g2ajax.interop.model_folder import Card
from g2ajax.methods import DataFacts, Method
from g2ajax.models.model import Model
from tests.fake_data import make_dataset, without_matches
from tests.runs import written


def make_other():
    """More people, numbered as the first dataset's but with other platforms' names unknown."""
    other = make_dataset(test_people=7, per_camera=2)
    return dataclasses.replace(other, name="other/small", fingerprint="0123456789ab")


@pytest.fixture
def two_datasets(monkeypatch):
    known = {"fake": make_dataset(), "other/small": make_other()}

    def opened(name, **_):
        if name not in known:
            raise FileNotFoundError(f"{name} is neither built nor downloaded")
        return known[name]

    monkeypatch.setattr(evaluate, "open_dataset", opened)


def test_the_matrix_of_two_datasets(ranked_run, two_datasets, tmp_path, capsys):
    workdir, _, results = ranked_run
    before = written(workdir)
    arguments = [f"--workdir={workdir}", "--datasets=fake,other/small", f"--out={tmp_path}"]
    assert main(["evaluate", *arguments]) == 0
    assert written(workdir) == before
    printed = capsys.readouterr().out
    assert "trained on fake, checkpoint best, chosen on the test split (step 3)" in printed
    assert "other small" in printed and max(map(len, printed.splitlines()[1:-1])) <= 100
    stored = json.loads((tmp_path / "cross_results.json").read_text())
    assert stored["trained_on"] == "fake"
    rows = stored["results"]
    rankings = ("reid", "rerank", "query_expansion")
    assert [(r["dataset"], r["ranking"], r["protocol"]) for r in rows] == [
        (name, ranking, protocol)
        for name in ("fake", "other/small")
        for ranking in rankings
        for protocol in ("A2G", "G2A")
    ]
    best = [r for r in results if r.checkpoint.startswith("best")]
    for row, result in zip(rows, best, strict=False):
        assert row["mAP"] == pytest.approx(result.mAP, abs=1e-6)
    assert rows[-1]["checkpoint"] == "best, chosen on the test split of fake"
    assert rows[-1]["queries"] == 7 and rows[-1]["gallery"] == 14
    for row in rows:
        for score in ("mAP", "rank1", "rank5", "mINP"):
            low, high = row[f"interval_{score}"]
            assert low - 1e-9 <= row[score] <= high + 1e-9
    table = list(csv.DictReader(io.StringIO((tmp_path / "cross_results.csv").read_text())))
    assert [float(r["interval_mINP_low"]) for r in table] == [r["interval_mINP"][0] for r in rows]
    lines = (tmp_path / "cross_results.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + 12
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_its_own_dataset_if_none_is_named(ranked_run, two_datasets, tmp_path, capsys):
    workdir, _, _ = ranked_run
    arguments = [f"--workdir={workdir}", f"--out={tmp_path}", "--rankings=rerank", "--k1=3"]
    assert main(["evaluate", *arguments, "--checkpoint=latest", "--flip"]) == 0
    rows = json.loads((tmp_path / "cross_results.json").read_text())["results"]
    assert {(r["dataset"], r["checkpoint"]) for r in rows} == {("fake", "last")}
    assert {r["parameters"] for r in rows} == {"k1 3, k2 2, lambda 0.3, zhong"}
    assert all(r["feature"].endswith("(image + mirror)") for r in rows)
    assert "(k1 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets=fake,absent"], "absent is neither built nor downloaded"),
        (["--datasets=other/small,other/small"], "'other/small' is named 2 times"),
        (["--datasets=other/small", "--rankings=rerank", "--k1=15"], "only 14 entries"),
        (["--rankings=rerankk"], "no ranking 'rerankk'; did you mean 'rerank'"),
        (
            ["--rankings=decomposed"],
            "ranking 'decomposed' needs a trained explainable stream, and this model ranks by reid",
        ),
        (["--workdir=/nowhere"], "there is no /nowhere; expected the folder of a run"),
    ],
)
def test_what_does_not_fit_is_refused_before_embedding(
    ranked_run, two_datasets, monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(evaluate, "embed_sides", None)
    workdir, _, _ = ranked_run
    assert main(["evaluate", f"--workdir={workdir}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_protocol_without_a_match_is_left_out(ranked_run, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "open_dataset", lambda *_, **__: without_matches(0))
    workdir, _, _ = ranked_run
    arguments = [f"--workdir={workdir}", "--datasets=fake", f"--out={tmp_path}"]
    assert main(["evaluate", *arguments, "--rankings=reid"]) == 0
    rows = json.loads((tmp_path / "cross_results.json").read_text())["results"]
    assert [row["protocol"] for row in rows] == ["G2A"]
    monkeypatch.setattr(evaluate, "open_dataset", lambda *_, **__: without_matches(0, 1))
    assert main(["evaluate", *arguments]) == 1


class Sided(Method):
    """A model that embeds cameras, or platforms."""

    def __init__(self, camera: bool, platforms: int = 0):
        self.needs_camera = camera
        self.platforms = platforms


def model_of(method: Method) -> Model:
    """A model that was trained on the first dataset, for its checks alone."""
    model = object.__new__(Model)
    model.method, model.facts = method, DataFacts(4, (48, 32), num_cameras=4)
    model.card = Card("", "crops", {}, {}, {}, "cosine", trained_on={"name": "fake"})
    return model


def test_side_information_means_nothing_elsewhere():
    other = make_other()
    with pytest.raises(
        ValueError, match=r"embeds the cameras of fake, and those of other/small are"
    ):
        evaluate.check_transfer(model_of(Sided(True)), other)
    evaluate.check_transfer(model_of(Sided(False)), other)
    same = dataclasses.replace(other, name="fake/other")
    evaluate.check_transfer(model_of(Sided(True)), same)
    query = other.splits["query"]
    strange = {**other.splits, "query": dataclasses.replace(query, camera=query.camera + 5)}
    with pytest.raises(ValueError, match=r"cameras 0 to 3, but the query split of .* has \[5, 6\]"):
        evaluate.check_transfer(model_of(Sided(True)), dataclasses.replace(same, splits=strange))
    evaluate.check_transfer(model_of(Sided(False, 2)), other)
    unknown = dataclasses.replace(query, platform=np.full(len(query), -1, np.int8))
    changed = dataclasses.replace(other, splits={**other.splits, "query": unknown})
    with pytest.raises(ValueError, match=r"platforms 0 to 1, but the query split of other/small"):
        evaluate.check_transfer(model_of(Sided(False, 2)), changed)
