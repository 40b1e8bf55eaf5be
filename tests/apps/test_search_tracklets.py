"""Searching among tracklets, with a model that needs no training."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import g2ajax
from g2ajax.__main__ import main
from g2ajax.apps import search, search_tracklets
from g2ajax.apps.explore import THUMBNAIL, Question
from g2ajax.apps.explore_galleries import open_explorer
from g2ajax.cli import opening
from g2ajax.data.images import decode
from g2ajax.models.load import of_run


@pytest.fixture(scope="module")
def trained(tracklets_only):
    run = tracklets_only
    return of_run(run, run.options.phases[0], "best", 7)


@pytest.fixture
def use(tracklets_only, monkeypatch, tmp_path):
    """Makes the commands open the model of the run; its folder."""
    run = tracklets_only
    model = of_run(run, run.options.phases[0], "best", 7, home=tmp_path / "run")
    for module in (opening, search, search_tracklets):
        monkeypatch.setattr(module, "load", lambda *args, **options: model)
    return tmp_path / "run"


def person(colour, place, size=(24, 12)):
    """Somebody of one colour; each of the images differs a little."""
    noise = np.random.default_rng((*colour, place)).integers(0, 12, (*size, 3))
    return (np.array(colour) + noise).astype(np.uint8)


RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (40, 60, 210)


@pytest.fixture
def gallery(tmp_path):
    """Two folders of images, and a video with the tracks 4 and 9 of two of the three people."""
    root = tmp_path / "walks"
    for name, colour, count in (("red", RED, 5), ("green/one", GREEN, 2)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(person(colour, number)).save(root / name / f"f{number}.png")
    (root / "gate").mkdir()
    rows = []
    for t in range(7):
        frame = np.full((40, 60, 3), 128, np.uint8)
        frame[2:26, 3 + t : 15 + t] = person(BLUE, t)
        rows.append(f"{t + 1},9,{4 + t},3,12,24,1,-1,-1,-1")
        if t != 3:
            frame[10:34, 40:52] = person(RED, 10 + t)
            rows.append(f"{t + 1},4,41,11,12,24,1,-1,-1,-1")
        Image.fromarray(frame).save(root / "gate" / f"{t + 1:06d}.png")
    (root / "gate.txt").write_text("\n".join(rows))
    return root


def test_tracklets_are_explored(trained, gallery, tmp_path):
    model, lines = trained, []
    opened = search_tracklets.open_tracklet_gallery(model, gallery, cache=tmp_path / "cache")
    content = open_explorer(model, gallery, say=lines.append)
    assert content.names == tuple(one.name for one in opened.tracklets)
    assert content.folders.names == ("gate", "green") and not lines
    row = content.names.index("red")
    nearest = [one.tracklet.name for one in opened.by_tracklet(gallery / "red")]
    ranked = content.answer(Question(row=row))["results"]
    assert [item["name"] for item in ranked] == nearest
    # A strip of the images of a folder, and of those of a track that the model sees.
    for number, count in ((row, 5), (len(opened.tracklets) - 1, 3)):
        width, height = Image.open(io.BytesIO(content.picture(number, large=True))).size
        assert height == THUMBNAIL and width == pytest.approx(count * height / 2, rel=0.1)
    # One image is a tracklet of one.
    key = content.hold((gallery / "red/f3.png").read_bytes())
    first = content.answer(Question(image=key))["results"][0]["name"]
    assert first in ("red", next(n for n in content.names if "4" in n))


def test_a_tracklet_is_found_among_folders_and_tracks(use, gallery, capsys):
    asked = gallery / "red"
    arguments = [f"--model={use}", f"--gallery={gallery}", f"--query={asked}", "--top=3"]
    assert main(["search", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "4 tracklets, 0 of them embedded before or twice there" in printed
    lines = [line for line in printed.splitlines() if line.startswith("   ")]
    assert lines[0].endswith(f"  {asked}") and len(lines) == 3
    assert float(lines[0].split()[0]) == pytest.approx(0.0, abs=1e-4)
    rows = list(csv.DictReader((use / "search" / "red.csv").open()))
    gate = next(row for row in rows if row["path"] == str(gallery / "gate"))
    assert (rows[0]["path"], rows[0]["track"], rows[0]["images"]) == (str(asked), "", "5")
    # Both tracks are from frame 1 to 7; that of the red person has no box in frame 4.
    assert (gate["first_frame"], gate["last_frame"]) == ("1", "7")
    assert gate["images"] == {"4": "6", "9": "7"}[gate["track"]]
    stored = json.loads((use / "search" / "red.json").read_text())
    assert [row["distance"] for row in stored["results"]] == [
        float(row["distance"]) for row in rows
    ]
    page = (use / "search" / "red.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "red in 4 tracklets" in page
    assert f'href="{asked.as_uri()}"' in page and "frames 1 to 7" in page

    # A track of the video asks too; now everything is known.
    arguments[2:] = [f"--query={gallery / 'gate'}", "--track=4", "--track=9"]
    assert main(["search", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "4 tracklets, 4 of them embedded before" in printed
    rows = list(csv.DictReader((use / "search" / "search.csv").open()))
    first = [row for row in rows if row["rank"] == "1"]
    assert [row["track"] for row in first] == ["4", "9"]
    assert all(float(row["distance"]) == pytest.approx(0.0, abs=1e-4) for row in first)


def test_embeddings_are_those_of_the_model_on_its_own_crops(trained, gallery, tmp_path):
    found = g2ajax.search_tracklets(trained, gallery, cache=tmp_path / "cache")
    assert [one.name for one in found.tracklets] == [
        *("green/one", "red"),
        *("gate track 4", "gate track 9"),
    ]
    lists = [
        [person(GREEN, number) for number in range(2)],
        [person(RED, number) for number in range(5)],
        [person(RED, 10 + t) for t in range(7) if t != 3],
        [person(BLUE, t) for t in range(7)],
    ]
    expected = trained.embed_tracklets(lists)
    np.testing.assert_allclose(found.prepared.features, expected, atol=1e-4)
    nearest = found.by_tracklet(gallery / "gate", track=9, top=1)
    assert [one.tracklet.name for one in nearest] == ["gate track 9"]
    # The images of the clip: the first of each of three blocks of two.
    (seen,) = found.images(found.tracklets[2:3])
    np.testing.assert_array_equal(seen, [person(RED, 10 + t) for t in (0, 2, 5)])


def test_only_the_frames_of_the_clips_are_read(trained, gallery, tmp_path, monkeypatch):
    read, of_path = [], pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: read.append(path) or of_path(path))
    (gallery / "gate.txt").unlink()
    for file in (gallery / "gate").iterdir():
        file.unlink()
    search_tracklets.open_tracklet_gallery(trained, gallery, cache=tmp_path / "cache")
    names = [f"{file.parent.name}/{file.name}" for file in read]
    assert names == ["one/f0.png", "one/f1.png", "red/f0.png", "red/f1.png", "red/f2.png"]


def test_what_cannot_be_read_is_named_and_left_out(trained, gallery, tmp_path):
    (gallery / "red" / "f1.png").write_bytes(b"\x89PNG cut off")
    (gallery / "broken").mkdir()
    (gallery / "broken" / "f0.jpg").write_bytes(b"no image")
    (gallery / "gate" / "000007.png").unlink()
    with (gallery / "gate.txt").open("a") as table:
        table.write("\n1,5,1,1,10,10,1\n9,6,1,1,10,10,1")
    found = search_tracklets.open_tracklet_gallery(trained, gallery, cache=tmp_path / "cache")
    names = {one.name: len(one) for one in found.tracklets}
    # The tracks 4 and 9 are seen at their frames 1, 3, 6 and 1, 3, 5; track 6 has frame 9 alone.
    expected = {"gate track 4": 6, "gate track 5": 1, "gate track 9": 7}
    assert names == {"green/one": 2, "red": 4, **expected}
    assert {path.name: why for path, why in found.skipped} == {
        "f1.png": "an image that cannot be read",
        "f0.jpg": "an image that cannot be read",
        "broken": "none of its images can be read",
        "gate": f"tracks 6: {gallery / 'gate'} has no image of frame 9",
    }
    whole = [decode((gallery / "red" / f"f{number}.png").read_bytes()) for number in (0, 2, 3, 4)]
    place = [one.name for one in found.tracklets].index("red")
    np.testing.assert_allclose(
        found.prepared.features[place], trained.embed_tracklets([whole])[0], atol=1e-4
    )
    with pytest.raises(
        ValueError, match=r"the query cannot be read: .*f1.png: an image that cannot"
    ):
        found.by_tracklet(gallery / "red")
    # The second time nothing is computed, and the same is left out.
    again = search_tracklets.open_tracklet_gallery(trained, gallery, cache=tmp_path / "cache")
    assert again.embedded == 0 and set(again.skipped) == set(found.skipped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text=a red coat"], "answers tracklets, not sentences"),
        (["--query={}/nowhere"], "nowhere does not exist"),
        (["--query={}/gate", "--track=5"], "gate.txt has no track 5; it has 4, 9"),
        (["--query={}/red", "--track=5"], "red is a folder without a table red.txt beside it"),
        (["--query={}/red/f0.png"], "f0.png is one image; a tracklet is a folder of images"),
        (["--query={}/green"], "green has no images; a tracklet is a folder"),
        (
            ["--query={}/clip.mp4"],
            "is a video: name the track of the person, --track=ID (clip.txt has 3)",
        ),
        (
            ["--query={}/gate"],
            "gate is a video: name the track of the person, --track=ID (gate.txt has 4, 9)",
        ),
        (["--query={}/red", "--query={}/gate", "--track=4"], "the one query video, but 2 queries"),
    ],
)
def test_bad_questions(use, gallery, capsys, arguments, message):
    (gallery / "clip.mp4").write_bytes(b"")
    (gallery / "clip.txt").write_text("1,3,1,1,5,5,1")
    asked = [one.format(gallery) for one in arguments]
    assert main(["search", f"--model={use}", f"--gallery={gallery}", *asked]) == 1
    assert message in capsys.readouterr().err


def test_models_and_galleries_that_do_not_fit(
    use, images_only, gallery, tmp_path, monkeypatch, capsys
):
    crops = tmp_path / "crops"
    crops.mkdir()
    Image.fromarray(person(RED, 0)).save(crops / "0.png")
    query = f"--query={gallery / 'red'}"
    assert main(["search", f"--model={use}", f"--gallery={crops}", query]) == 1
    assert "crops has no tracklets; 1 other files" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"model of tracklets, .* searched by `g2ajax.search_track"
    ):
        g2ajax.search(use, crops)

    model = of_run(images_only, images_only.options.phases[0], "best", 7, home=tmp_path / "other")
    with pytest.raises(
        ValueError, match="is a model of crops; tracklets are searched by a model of"
    ):
        g2ajax.search_tracklets(model, gallery)
    monkeypatch.setattr(opening, "load", lambda *args, **options: model)
    assert main(["search", "--model=other", f"--gallery={gallery}", query, "--track=4"]) == 1
    assert "--track=4 names a track of a video, for models of tracklets" in capsys.readouterr().err
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "gate.mp4").write_bytes(b"")
    (videos / "gate.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"videos holds videos \(gate.mp4\), no images; their tracks"
    ):
        g2ajax.search(model, videos)
