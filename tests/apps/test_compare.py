"""Two models compared on the dataset that both were trained on."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

import g2ajax
from g2ajax.__main__ import main
from g2ajax.apps import compare
from g2ajax.data.images import decode
from g2ajax.models.load import of_run
from tests.fake_data import make_dataset
from tests.runs import opens


@pytest.fixture(scope="module")
def untrained(images_only, tmp_path_factory):
    """The folder of a model before its first step."""
    model = of_run(images_only, images_only.options.phases[0], "latest", 0)
    return model.save(tmp_path_factory.mktemp("untrained") / "model", name="untrained")


@pytest.fixture(scope="module")
def shuffled():
    """The dataset in memory with other identities in the gallery: no model ranks it perfectly."""
    dataset = make_dataset()
    gallery = dataset.splits["gallery"]
    identity = np.random.default_rng(1).permutation(gallery.identity)
    changed = dataclasses.replace(gallery, identity=identity)
    return dataclasses.replace(dataset, splits={**dataset.splits, "gallery": changed})


def precisions(model, dataset, query, gallery):
    """The average precision in percent of each query of a camera in the images of another, by sorting
    all distances."""
    features, identities = [], []
    for name, camera in (("query", query), ("gallery", gallery)):
        split = dataset.splits[name]
        rows = np.flatnonzero(split.camera == camera)
        features.append(model.embed([decode(split.read(row), name) for row in rows]))
        identities.append(split.identity[rows])
    precision = []
    for identity, distance in zip(identities[0], 1 - features[0] @ features[1].T, strict=True):
        hits = (identities[1] == identity)[np.argsort(distance, kind="stable")]
        if hits.any():
            ranks = np.flatnonzero(hits) + 1
            precision.append(100 * np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return np.array(precision)


def test_the_command_gives_the_difference_of_the_average_precisions(
    ranked_run, untrained, shuffled, tmp_path, capsys
):
    workdir, _, _ = ranked_run
    arguments = [str(untrained), str(workdir), f"--out={tmp_path}", "--changed=2", "--top=4"]
    with opens(shuffled):
        assert main(["compare", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "A: " in printed and "ranking reid)" in printed and "B - A [95%]" in printed
    stored = {
        p["protocol"]: p for p in json.loads((tmp_path / "compare.json").read_text())["protocols"]
    }
    assert stored.keys() == {"A2G", "G2A"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "compare.csv").read_text())))
    models = [g2ajax.load(path) for path in (untrained, workdir)]
    for protocol, cameras in (("A2G", (0, 1)), ("G2A", (1, 0))):
        a, b = (precisions(model, shuffled, *cameras) for model in models)
        row = stored[protocol]["mAP"]
        assert (row["a"], row["b"]) == pytest.approx((a.mean(), b.mean()), abs=1e-3)
        assert row["difference"] == pytest.approx((b - a).mean(), abs=1e-3)
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        changes = [float(r["change"]) for r in rows if r["protocol"] == protocol]
        assert sorted(changes) == pytest.approx(sorted(b - a), abs=1e-3)
        assert np.count_nonzero(np.abs(b - a) > 1e-6) >= 2
        page = (tmp_path / f"{protocol}.html").read_text()
        # Two queries, each with two lists of a query and four places or more.
        assert page.count('alt="Query ') == 4 and page.count('alt="Rank ') >= 16
        assert page.count("<h3>A: average") == page.count("<h3>B: average") == 2


@pytest.mark.slow
def test_one_run_by_two_rankings(ranked_run, fake_dataset, tmp_path):
    workdir, _, results = ranked_run
    common = [str(workdir), str(workdir), f"--out={tmp_path}", "--protocol=G2A"]
    assert main(["compare", *common, "--rankings=reid,rerank", "--changed=0"]) == 0
    (stored,) = json.loads((tmp_path / "compare.json").read_text())["protocols"]
    scores = {
        r.ranking: r.mAP for r in results if r.protocol == "G2A" and r.checkpoint.startswith("best")
    }
    assert stored["mAP"]["difference"] == pytest.approx(scores["rerank"] - scores["reid"], abs=1e-6)
    assert not list(tmp_path.glob("*.html"))


def test_runs_of_other_data_are_refused_before_anything_is_computed(untrained, ranked_run):
    a, b = (g2ajax.load(path) for path in (untrained, ranked_run[0]))
    a.card = dataclasses.replace(a.card, trained_on={**a.card.trained_on, "name": "market1501"})
    with pytest.raises(ValueError, match="A was trained and scored on market1501, B on fake"):
        compare.compare_models(a, b)
    row = {**b.card.results[0], "dataset_fingerprint": "0123", "gallery": 7}
    a.card = dataclasses.replace(b.card, results=(row,))
    with pytest.raises(ValueError, match=r"dataset_fingerprint: '0123' and .*; .*--dataset=NAME"):
        compare.compare_models(a, b)
    a.card = dataclasses.replace(b.card, trained_on={})
    with pytest.raises(ValueError, match="nothing is known of the data that A was trained on"):
        compare.compare_models(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top=0"], "from 1 to 20 images"),
        (["--changed=-1"], "give 0 or the number"),
        (["--samples=0"], "at least 1 bootstrap draw"),
        (["--rankings=a,b,c"], "name one for both models"),
        (["--protocol=A2A"], "no protocol A2A to compare on: A is scored on A2G, G2A"),
    ],
)
def test_what_does_not_fit_is_refused(untrained, capsys, tmp_path, arguments, message):
    with opens(make_dataset()):
        common = [str(untrained), str(untrained), f"--out={tmp_path}"]
        assert main(["compare", *common, *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_whole_frames_are_compared_too(frames_run, tmp_path):
    workdir, _, results = frames_run
    common = [str(workdir), str(workdir), f"--out={tmp_path}", "--checkpoint=latest"]
    assert main(["compare", *common, "--rankings=reid,cbgm"]) == 0
    stored = json.loads((tmp_path / "compare.json").read_text())["protocols"]
    for row in stored:
        scores = {
            r.ranking: r.mAP
            for r in results
            if r.protocol == row["protocol"] and r.checkpoint == "last"
        }
        assert row["mAP"]["difference"] == pytest.approx(scores["cbgm"] - scores["reid"], abs=1e-4)


def test_tracklets_are_compared_with_their_strips(tracklets_only, tmp_path):
    run = tracklets_only
    folder = of_run(run, run.options.phases[0], "latest", 0).save(tmp_path / "model")
    common = [str(folder), str(folder), f"--out={tmp_path}", "--protocol=A2G", "--top=2"]
    with opens(run.task.dataset):
        assert main(["compare", *common, "--rankings=reid,query_expansion"]) == 0
        scores = {
            r.ranking: r.mAP
            for r in run.task.score(
                run.model, checkpoint="last", step=0, rankings=("reid", "query_expansion")
            )
            if r.protocol == "A2G"
        }
    (stored,) = json.loads((tmp_path / "compare.json").read_text())["protocols"]
    assert stored["mAP"]["a"] == pytest.approx(scores["reid"], abs=1e-4)
    assert stored["mAP"]["b"] == pytest.approx(scores["query_expansion"], abs=1e-4)
