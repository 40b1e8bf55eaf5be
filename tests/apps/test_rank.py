"""Ranked lists of a trained model: they are those that were scored."""

import dataclasses
import json
import re

import numpy as np
import pytest

from g2ajax.__main__ import main
from g2ajax.apps import rank
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.report.album import Album
from g2ajax.tasks.ranked_lists import choose, list_queries, worst
from g2ajax.training import loop
from tests.runs import written


@pytest.fixture
def opened(ranked_run, fake_dataset):
    workdir, config, _ = ranked_run
    run, _ = loop.reopen(config, workdir, "best")
    return run


def listed(lists, rows, dataset):
    return list_queries(lists, rows, Album(), dataset)


@pytest.mark.parametrize("ranking", ["reid", "rerank"])
def test_lists_are_those_of_the_scores(opened, ranked_run, ranking):
    _, _, results = ranked_run
    lists = rank.rank_queries(opened.model, opened.task.embedder, "G2A", ranking, 15)
    (stored,) = (
        r
        for r in results
        if (r.protocol, r.ranking) == ("G2A", ranking) and r.checkpoint.startswith("best")
    )
    assert 100 * lists.result.mAP == pytest.approx(stored.mAP, abs=1e-6)
    query_rows, gallery_rows = protocol_rows(opened.task.dataset, "G2A")
    assert len(lists.query) == len(query_rows) and len(lists.gallery) == len(gallery_rows)
    # Each query has three matches among the fifteen images of the other platform.
    assert lists.chance[1] == pytest.approx(100 * 3 / 15) and lists.chance[0] > lists.chance[1]
    precision = lists.result.average_precision
    order = worst(precision, 3)
    assert precision[order].tolist() == sorted(precision.tolist())[:3]
    for row, query in zip(order, listed(lists, order.tolist(), opened.task.dataset), strict=True):
        assert query.score == pytest.approx(100 * precision[row])
        ranks = np.flatnonzero([item.correct for item in query.entries]) + 1
        expected = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        assert precision[row] == pytest.approx(expected)
        distances = [item.distance for item in query.entries]
        assert distances == sorted(distances)


def test_the_first_true_match_is_shown_with_its_rank(opened):
    """A failed query, whose first images are all of others, shows it too."""
    lists = rank.rank_queries(opened.model, opened.task.embedder, "G2A", "reid", 15)
    result, entry = lists.result, int(lists.result.match[0])
    wrong = np.flatnonzero(lists.gallery.identity != lists.query.identity[0])[:1]
    top = np.repeat(wrong[None], len(result.top), axis=0)
    near, first = result.top_distance[:, :1], np.full(len(top), 37)
    failed = dataclasses.replace(result, top=top, top_distance=near, first_match=first)
    (query,) = listed(dataclasses.replace(lists, result=failed), [0], opened.task.dataset)
    other, match = query.entries
    assert (other.correct, other.rank, match.correct, match.rank) == (False, 1, True, 37)
    assert str(lists.gallery.image_id[entry]).endswith(match.title.partition(" (")[0])
    assert match.distance == pytest.approx(result.match_distance[0])
    # Names are shown without the folder that all images share.
    assert "/" not in match.title and match.title.endswith(("(camera 0)", "(camera 1)"))


def test_the_command_writes_a_page_and_figures(ranked_run, fake_dataset, tmp_path, capsys):
    workdir, _, _ = ranked_run
    before = written(workdir)
    name = str(fake_dataset.splits["query"].image_id[0])
    common = [f"--workdir={workdir}", "--protocol=A2G", "--top=3", f"--out={tmp_path}"]
    assert main(["rank", *common, "--worst=2", "--rankings=reid,rerank"]) == 0
    assert len(list(tmp_path.glob("A2G-reid-*.svg"))) == 2
    page = (tmp_path / "A2G-rerank.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert [len(r["queries"]) for r in data["rankings"]] == [2] and "rerank (k1 5, k2 2" in page
    assert main(["rank", *common, f"--queries=1,{name}"]) == 0
    printed = capsys.readouterr().out
    assert f"{name.rpartition('/')[2]} (camera 0): AP " in printed
    assert (tmp_path / "A2G-reid-1.svg").exists() and (tmp_path / "A2G-reid-0.svg").exists()
    assert written(workdir) == before


def test_many_queries_are_the_worst_and_a_sample():
    precision = np.array([0.9, np.nan, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8])
    rows, note = choose(precision, 3)
    assert rows[:2].tolist() == [2, 6] and len(set(rows.tolist())) == 3
    assert note == (
        "3 of 7 queries: the 2 worst and a sample of the others. 1 query has no match and no score."
    )
    rows, note = choose(precision, 7)
    assert rows.tolist() == [2, 6, 4, 3, 5, 7, 0] and note.startswith("All 7 queries.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top=21"], "from 1 to 20 images"),
        (["--worst=0"], "at least 1 query"),
        (["--protocol=A2A"], "no protocol 'A2A'; did you mean"),
        (["--queries=99"], "'99' is neither the name of a query of A2G"),
        (["--rankings=rerank", "--k1=16"], "at most 15"),
        (["--rankings=distance"], "needs a trained explainable stream"),
        (["--workdir=/nowhere"], "there is no /nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(ranked_run, fake_dataset, capsys, arguments, message):
    workdir, _, _ = ranked_run
    assert main(["rank", f"--workdir={workdir}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_query_without_a_match_has_no_list(opened):
    lists = rank.rank_queries(opened.model, opened.task.embedder, "A2G", "reid", 3)
    lists.result.valid[1] = False
    with pytest.raises(
        ValueError, match=r"query 1 \(query/p101c0i0.png\) has no image of its person"
    ):
        listed(lists, [1], opened.task.dataset)
