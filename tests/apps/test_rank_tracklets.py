"""Ranked lists of tracklets: those of the scores, each tracklet as a strip of its frames."""

import numpy as np
import pytest

from g2ajax.__main__ import main
from g2ajax.apps import rank
from g2ajax.cli import opening
from g2ajax.data.images import decode
from g2ajax.models.load import of_run
from g2ajax.report.album import HEIGHT, Album
from g2ajax.tasks.ranked_lists import FRAMES, list_queries, picture
from tests.fake_tracklets import make_tracklets
from tests.runs import opens


@pytest.fixture(scope="module")
def lists(tracklets_only):
    run = tracklets_only
    return rank.rank_queries(run.model, run.task, "G2A", "reid", 4)


def test_lists_are_those_of_the_scores(tracklets_only, lists):
    run = tracklets_only
    scores = run.task.score(run.model, checkpoint="last", step=0)
    (stored,) = (one for one in scores if one.protocol == "G2A")
    assert 100 * lists.result.mAP == pytest.approx(stored.mAP, abs=1e-6)
    assert lists.ranker.described["feature_name"] == stored.feature == "after neck, mean, 3 frames"


def test_a_tracklet_is_a_strip_of_its_frames(lists):
    result = lists.result
    album = Album()
    (listed,) = list_queries(lists, [0], album)
    # A first match beyond the shown entries comes last, with its rank.
    late = int(result.first_match[0]) > 4
    assert len(listed.entries) == 4 + late and listed.entries[-1].correct >= late
    entry = int(result.top[0, 0])
    frames = [decode(one) for one in lists.gallery.encoded(entry)]
    places = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
    shown = picture(lists.gallery, entry)
    wide = round(HEIGHT * frames[0].shape[1] / frames[0].shape[0])
    assert shown.shape == (HEIGHT, len(places) * wide + 4 * (len(places) - 1), 3)
    for number, place in enumerate(places):
        part = shown[:, number * (wide + 4) : number * (wide + 4) + wide]
        np.testing.assert_allclose(part.mean((0, 1)), frames[place].mean((0, 1)), atol=2)


def test_the_command_ranks_tracklets(tracklets_only, tmp_path, monkeypatch, capsys):
    run = tracklets_only
    model = of_run(run, run.options.phases[0], "best", 7, home=tmp_path / "run")
    monkeypatch.setattr(opening, "load", lambda *args, **options: model)
    with opens(make_tracklets()):
        assert main(["rank", "--model=run", "--protocol=A2G", "--top=3", "--worst=2"]) == 0
        assert "ranking 15 tracklets for 5 queries of A2G" in capsys.readouterr().out
        folder = tmp_path / "run" / "rank"
        assert len(list(folder.glob("A2G-reid-*.svg"))) == 2
        page = (folder / "A2G-reid.html").read_text()
        assert "each as a strip of some of its images" in page and "mean, 3 frames" in page
        assert main(["rank", "--model=run", "--rankings=decomposed"]) == 1
        assert "tracklets are not ranked by 'decomposed'" in capsys.readouterr().err
