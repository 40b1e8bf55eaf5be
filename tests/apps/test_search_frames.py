"""Searching frames of one's own with a finished run."""

import io

import numpy as np
import pytest
from PIL import Image

from g2ajax.__main__ import main
from g2ajax.apps import search_frames as searching
from g2ajax.apps.evaluate import evaluate_datasets
from g2ajax.apps.explore import THUMBNAIL, Question
from g2ajax.apps.explore_galleries import open_explorer
from g2ajax.data.frame_source import open_frames
from g2ajax.data.images import decode
from g2ajax.models import load as models
from tests.runs import on_one_device


@pytest.fixture
def frames(tmp_path):
    """The gallery's frames as files, the query's frame among them, and a broken one; the query."""
    dataset = open_frames("skyground/frames_tiny")
    where = tmp_path / "frames"
    where.mkdir()
    gallery, query = dataset.splits["gallery"], dataset.splits["query"]
    for row in range(6):
        (where / gallery.image_id[row]).write_bytes(gallery.read(row))
    (where / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    asked = tmp_path / "asked.jpg"
    asked.write_bytes(query.read(0))
    return where, asked, query.boxes[0]


def test_a_person_is_looked_for_in_a_folder(frames_run, frames, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "make_mesh", lambda devices: on_one_device(1, 1))
    workdir, _, _ = frames_run
    where, asked, box = frames
    arguments = [
        *(f"--workdir={workdir}", f"--query={asked}", f"--frames={where}", "--top=3"),
        *(f"--box={','.join(f'{side:g}' for side in box)}", f"--out={tmp_path / 'out'}"),
    ]
    assert main(["search-frames", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "skipped: broken.jpg cannot be read\n6 frames searched, 1 skipped" in printed
    listed = [line.split() for line in printed.splitlines() if line.endswith(".jpg")]
    similarity = [float(first) for first, *_ in listed]
    assert len(listed) == 3 and similarity == sorted(similarity, reverse=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    pictures = [f"{rank:03d}_{name}.png" for rank, (_, name) in enumerate(listed, start=1)]
    assert names == [*pictures, "frames.html", "query.png"]
    page = (tmp_path / "out" / "frames.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in page

    # The same through the library: the numbers are those of the run's own evaluation.
    opened = models.load(workdir)
    image = decode(asked.read_bytes())
    found, seen = searching.search_frames(opened, image, tuple(map(float, box)), [("it", image)])
    assert seen == 1 and len(found) == 1
    one = found[0]
    assert (np.diff(one.similarity) <= 0).all() and (one.scores > 0.2).all()
    assert (one.boxes >= 0).all() and (one.boxes[:, 2] <= image.shape[1]).all()


def test_the_people_of_a_folder_of_frames_are_explored(frames_run, frames, monkeypatch):
    monkeypatch.setattr(models, "make_mesh", lambda devices: on_one_device(1, 1))
    where, *_ = frames
    model, said = models.load(frames_run[0]), []
    content = open_explorer(model, where, say=said.append)
    files = sorted(where.glob("[!b]*.jpg"))
    counts = [len(one.boxes) for one in model.detect(files)]
    assert said[0] == "skipped: broken.jpg cannot be read"
    assert said[1] == f"{sum(counts)} people in 6 frames" and len(content.names) == sum(counts)
    assert content.about()["kind"]["many"] == "people"
    # Someone of a frame is nearest to herself, and is shown cut out, or large within the frame.
    row = counts[0] + 1
    assert content.names[row] == f"{files[1].name}, person 2"
    answer = content.answer(Question(row=row))
    assert answer["results"][0]["row"] == row
    whole = Image.open(io.BytesIO(content.picture(row, large=True)))
    assert min(whole.size) > 300
    person = Image.open(io.BytesIO(content.picture(row)))
    left, top, right, bottom = content.shots[row].box
    shape = (right - left) / (bottom - top)
    assert person.height <= THUMBNAIL
    assert person.width / person.height == pytest.approx(shape, abs=0.15)
    # A picture cut to one person is a query.
    key = content.hold(content.picture(row))
    assert len(content.answer(Question(image=key, top=3))["results"]) == 3


@pytest.mark.slow
def test_a_model_of_frames_is_scored_like_its_run(frames_run, monkeypatch):
    monkeypatch.setattr(models, "make_mesh", lambda devices: on_one_device(1, 1))
    workdir, _, results = frames_run
    found = evaluate_datasets(models.load(workdir / "model"))
    best = [r for r in results if r.checkpoint.startswith("best")]
    assert [(r.protocol, r.ranking) for r in found] == [(r.protocol, r.ranking) for r in best]
    for one, other in zip(found, best, strict=True):
        assert one.mAP == pytest.approx(other.mAP, abs=1e-3)
        assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": "1,2,3"}, "--box=1,2,3; expected four numbers"),
        ({"box": "30,10,20,40"}, "the box 30,10,20,40 is not inside the image of"),
        ({"box": "10,10,10,40"}, "the box 10,10,10,40 is not inside the image of"),
        ({"box": "0,0,9999,40"}, "expected x0,y0,x1,y1 with x0 < x1"),
        ({"top": "0"}, "--top=0; at least 1 frame can be shown"),
        ({"query": "nowhere.jpg"}, "--query=nowhere.jpg is not a file"),
    ],
)
def test_questions_that_cannot_be(frames, tmp_path, capsys, changes, message):
    where, asked, _ = frames
    given = {"workdir": tmp_path, "query": asked, "box": "1,1,20,40", "frames": where} | changes
    assert main(["search-frames", *(f"--{name}={value}" for name, value in given.items())]) == 1
    assert message in capsys.readouterr().err


def test_a_model_of_crops_is_refused(images_only):
    model = models.of_run(images_only, images_only.options.phases[0], "best", 0)
    with pytest.raises(ValueError, match=r"is a model of crops; .*configs/seqnet.py"):
        searching.check_searches(model)
