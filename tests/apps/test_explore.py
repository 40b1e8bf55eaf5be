"""The explorer as functions: rankings, marks, filters, and what it reads."""

import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from g2ajax.__main__ import main
from g2ajax.apps import search
from g2ajax.apps.explore import (
    HELD,
    Question,
    decode_dropped,
    read_inside,
    read_question,
)
from g2ajax.apps.explore_galleries import cameras_of, compiled, folders_of, open_explorer
from g2ajax.apps.explore_server import Server
from g2ajax.cli import opening
from g2ajax.models.load import of_run
from tests.apps import explored
from tests.fake_data import make_dataset


@pytest.fixture
def small(tmp_path):
    return explored.make(tmp_path)


def rows(answer) -> list[int]:
    return [item["row"] for item in answer["results"]]


def test_a_row_ranks_the_images_that_stay_inside(small):
    answer = small.answer(Question(row=2))
    cosine = small.features[:7] @ small.features[2]
    assert rows(answer) == np.argsort(-cosine).tolist() and answer["total"] == 7
    distances = [item["distance"] for item in answer["results"]]
    np.testing.assert_allclose(distances, np.sort(1 - cosine), atol=1e-5)
    assert answer["results"][0]["name"] == "a/3_c1.png"
    assert rows(small.answer(Question(row=2, top=3))) == rows(answer)[:3]


def test_marks_rank_as_by_hand(small):
    right, wrong = [4, 6], [1, 5, 0]
    f = small.features
    query = f[2] + 0.75 * (f[4] + f[6]) / 2 - 0.15 * (f[1] + f[5] + f[0]) / 3
    expected = np.argsort(-(f[:7] @ query))
    answer = small.answer(Question(row=2, right=tuple(right), wrong=tuple(wrong)))
    assert rows(answer) == expected.tolist() != rows(small.answer(Question(row=2)))


def test_filters_are_of_folders_and_cameras(small):
    assert small.folders.names == ("a", "a/b", "c") and small.cameras.names == ("1", "2")
    assert small.about() == {
        "title": "a model in crops",
        "metric": "cosine",
        "kind": {"one": "image", "many": "images", "dropped": "an image"},
        "count": 7,
        "text": True,
        "folders": ["a", "a/b", "c"],
        "cameras": ["1", "2"],
    }
    cases = {(0, None): [2, 3, 4], (1, None): [4], (2, None): [5, 6], (None, 0): [0, 2, 4]}
    for (folder, camera), expected in {**cases, (0, 1): [3], (2, 0): []}.items():
        browsed = small.answer(Question(folder=folder, camera=camera))
        assert rows(browsed) == expected and browsed["total"] == len(expected)
        ranked = small.answer(Question(row=0, folder=folder, camera=camera))
        assert sorted(rows(ranked)) == expected


def test_sentences_and_dropped_images(small):
    text = small.answer(Question(text="a red coat"))
    cosine = small.features[:7] @ explored.embed_text("a red coat")
    assert rows(text) == np.argsort(-cosine).tolist()
    key = small.hold(explored.encoded((200, 30, 30), "JPEG"))
    cosine = small.features[:7] @ explored.embed_image(np.full((2, 2, 3), (200, 30, 30)))
    assert rows(small.answer(Question(image=key)))[0] == int(np.argmax(cosine))
    for number in range(HELD):  # the oldest make place
        small.answer(Question(text=f"number {number}"))
    with pytest.raises(LookupError, match="no longer held; drop it again"):
        small.answer(Question(image=key))
    with pytest.raises(ValueError, match="the sentence is empty"):
        small.answer(Question(text=" "))


def test_a_model_of_images_takes_no_sentence(tmp_path):
    small = explored.make(tmp_path, text=False)
    assert not small.about()["text"]
    with pytest.raises(ValueError, match="embeds images only"):
        small.answer(Question(text="a red coat"))


@pytest.mark.parametrize(
    "question",
    [
        Question(row=8),
        Question(row=7),  # the link that leaves the gallery
        Question(row=-1),
        Question(row=0, right=(99,)),
        Question(row=0, wrong=(7,)),
        Question(folder=3),
        Question(camera=-1),
    ],
)
def test_unknown_numbers(small, question):
    with pytest.raises(LookupError, match="there is no"):
        small.answer(question)


def test_pictures_are_pixels_of_files_inside(small, tmp_path):
    photo = Image.new("RGB", (300, 900), (10, 200, 90))
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    photo.save(small.shots[1].files[0], exif=exif)
    data = small.picture(1)
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.size) == ("JPEG", (96, 288)) and b"secret" not in data
    np.testing.assert_allclose(np.asarray(picture)[100, 50], (10, 200, 90), atol=3)
    assert Image.open(io.BytesIO(small.picture(6))).size == (6, 12)  # a link inside
    with pytest.raises(LookupError, match="no image 7"):
        small.picture(7)
    # Links that are put in a file's place later, and other things there.
    small.shots[1].files[0].unlink()
    small.shots[1].files[0].symlink_to(tmp_path / "secret.png")
    with pytest.raises(LookupError, match="a link that leaves the gallery"):
        small.picture(1)
    small.shots[1].files[0].unlink()
    with pytest.raises(LookupError, match="cannot be read: No such file"):
        small.picture(1)
    os.mkfifo(small.shots[1].files[0])
    with pytest.raises(LookupError, match="no regular file"):
        read_inside(small.shots[1].files[0], small.root)
    small.shots[0].files[0].write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be decoded"):
        small.picture(0)


def bomb() -> bytes:
    """A PNG of 60000 x 60000 pixels in few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999))


def large_jpeg() -> bytes:
    """A JPEG whose head says 65500 x 65500 pixels."""
    data = bytearray(explored.encoded((9, 9, 9), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"no image",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0 EPSF-3.0",
        ),
        *(bomb(), large_jpeg(), explored.encoded((9, 9, 9))[:40]),
    ],
    ids=["empty", "text", "svg", "eps", "bomb", "large_jpeg", "cut"],
)
def test_dropped_images_that_are_none(data):
    with pytest.raises(ValueError, match="the dropped image"):
        decode_dropped(data)


def test_questions_are_read():
    content = {"query": {"row": 3}, "right": [5, 5, 2], "wrong": [], "folder": None, "camera": 0}
    assert read_question(content) == Question(row=3, right=(5, 2), camera=0)
    assert read_question({}) == Question()


def test_groups_of_paths():
    paths = [pathlib.PurePath(p) for p in ("x.png", "b/y.png", "a/q/z.png")]
    groups = folders_of(paths)
    assert groups.names == ("a", "a/q", "b") and groups.index.tolist() == [-1, 2, 1]
    cameras = cameras_of(paths, "([yz])[.]")
    assert cameras.names == ("y", "z") and cameras.index.tolist() == [-1, 0, 1]
    assert cameras_of(paths, "").names == ()
    with pytest.raises(ValueError, match=r"fits no image, such as x\.png"):
        cameras_of(paths, "c([0-9])")
    with pytest.raises(ValueError, match="has 2 groups; expected one"):
        compiled("(a)(b)")
    with pytest.raises(ValueError, match="no regular expression"):
        compiled("(")


def test_a_model_explores_a_folder(with_text, tmp_path, monkeypatch, capsys):
    model = of_run(with_text, with_text.options.phases[0], "best", 7, home=tmp_path / "run")
    split = make_dataset().splits["gallery"]
    folder = tmp_path / "crops"
    (folder / "deep").mkdir(parents=True)
    for row in range(4):
        (folder / "deep" / f"{row}_c{row % 2}.png").write_bytes(split.read(row))
    (tmp_path / "away.png").write_bytes(split.read(5))
    (folder / "link.png").symlink_to(tmp_path / "away.png")
    gallery = search.open_gallery(model, folder)
    content = open_explorer(model, folder, "_c([0-9])")
    assert content.among.tolist() == [True] * 4 + [False] and content.cameras.names == ("0", "1")
    answer = content.answer(Question(image=content.hold(split.read(2))))
    names = [item["name"] for item in answer["results"]]
    assert names[0] == "deep/2_c0.png" and "link.png" not in names
    # The same order as that of a search, without the link.
    expected = [found.path.name for found in gallery.by_text("a red coat", 5)]
    expected.remove("link.png")
    texts = content.answer(Question(text="a red coat"))["results"]
    assert [pathlib.PurePath(item["name"]).name for item in texts] == expected

    # The command serves the same until it is stopped.
    def stop(server) -> None:
        assert server.explorer.names == content.names
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "load", lambda *args, **options: model)
    monkeypatch.setattr(Server, "serve_forever", stop)
    arguments = ["--model=run", f"--gallery={folder}", "--camera=_c([0-9])"]
    assert main(["explore", *arguments]) == 130
    printed = capsys.readouterr().out
    assert f"1 images are links that leave {folder} and are not shown" in printed
    assert "4 images; Ctrl-C ends it. Open http://127.0.0.1:" in printed

    for file in (folder / "deep").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="a link that leaves it; give the folder"):
        open_explorer(model, folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=70000"], "--port=70000; expected 0 (any free one) to 65535"),
        (["--camera=x"], "has 0 groups; expected one around the camera's name"),
        ([], "nowhere is not a folder; the gallery is a folder"),
        (["--gallery=empty"], "empty is empty; the gallery is a folder"),
    ],
)
def test_what_does_not_fit_is_said_before_the_model_opens(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    assert main(["explore", "--model=none", "--gallery=nowhere", *arguments]) == 1
    assert message in capsys.readouterr().err
