"""Searching a folder, with models that need no training."""

import csv
import json
import logging
import os
import pathlib

import numpy as np
import pytest
from flax import nnx

from g2ajax.__main__ import main
from g2ajax.apps import search
from g2ajax.cli import opening
from g2ajax.data import captioned
from g2ajax.models.load import of_run
from g2ajax.retrieval.distances import unit
from g2ajax.tasks.embedder import embed_split
from tests.fake_data import make_dataset


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Makes the commands open the model of a given run; its folder."""

    def choose(run):
        model = of_run(run, run.options.phases[0], "best", 7, home=tmp_path / "run")
        for module in (opening, search):
            monkeypatch.setattr(module, "load", lambda *args, **options: model)
        return tmp_path / "run"

    return choose


@pytest.fixture
def folder(tmp_path):
    """Five crops, one of them in two places, a note, and a broken image."""
    split = make_dataset().splits["gallery"]
    where = tmp_path / "crops"
    (where / "deeper").mkdir(parents=True)
    for row in range(5):
        (where / f"{row}.png").write_bytes(split.read(row))
    (where / "deeper" / "again.png").write_bytes(split.read(3))
    (where / "notes.txt").write_text("not an image")
    (where / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (where / ".hidden").write_text("")
    return where


def test_an_image_is_found_in_a_folder(images_only, use, folder, capsys):
    workdir = use(images_only)
    asked = folder / "3.png"
    arguments = [f"--workdir={workdir}", f"--gallery={folder}", f"--query={asked}", "--top=3"]
    assert main(["search", *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"skipped: {folder / 'broken.jpg'} (not an image)" in printed
    assert f"skipped: {folder / 'notes.txt'} (not an image)" in printed and ".hidden" not in printed
    assert "6 images, 1 of them embedded before or twice there" in printed
    listed = [line.split() for line in printed.splitlines() if line.startswith("   ")]
    near = [str(folder / "3.png"), str(folder / "deeper/again.png")]
    assert [path for _, path in listed[:2]] == near
    assert float(listed[0][0]) == pytest.approx(0.0, abs=1e-4) and len(listed) == 3
    page = (workdir / "search" / "3.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "3.png in 6 images" in page
    assert f'href="{(folder / "3.png").as_uri()}"' in page
    rows = list(csv.DictReader((workdir / "search" / "3.csv").open()))
    assert [row["path"] for row in rows[:2]] == near and [row["rank"] for row in rows] == list(
        "123"
    )
    stored = json.loads((workdir / "search" / "3.json").read_text())
    assert [row["path"] for row in stored["results"]] == [row["path"] for row in rows]
    assert stored["metric"] == "cosine"

    # Now everything is known, under any name; a new image is embedded alone.
    (folder / "3.png").rename(folder / "renamed.png")
    gallery = search.open_gallery(workdir, folder)
    assert gallery.embedded == 0 and len(gallery.files) == 6
    found = gallery.by_image(folder / "renamed.png", top=100)
    assert len(found) == 6 and found[0].path.name in ("again.png", "renamed.png")
    (folder / "new.png").write_bytes(make_dataset().splits["gallery"].read(9))
    assert search.open_gallery(workdir, folder).embedded == 1


def test_several_questions_at_once(with_text, use, folder, tmp_path, capsys):
    workdir = use(with_text)
    asked = tmp_path / "asked"
    asked.mkdir()
    for name in ("0.png", "1.png"):
        (asked / name).write_bytes((folder / name).read_bytes())
    arguments = [f"--query={asked}", "--text=a red coat", "--text=blue shoes", "--top=2"]
    assert main(["search", f"--model={workdir}", f"--gallery={folder}", *arguments]) == 0
    rows = list(csv.DictReader((workdir / "search" / "search.csv").open()))
    queries = [str(asked / "0.png"), str(asked / "1.png"), "a red coat", "blue shoes"]
    assert list(dict.fromkeys(row["query"] for row in rows)) == queries and len(rows) == 8
    assert rows[0]["path"] == str(folder / "0.png") and rows[2]["path"] == str(folder / "1.png")
    page = (workdir / "search" / "search.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 3 + 2 * 2 and page.count("<li>") == 4
    assert "blue shoes\n" in capsys.readouterr().out


def test_a_sentence_finds_images(with_text, use, folder, capsys, caplog):
    workdir = use(with_text)
    captioned._tokenizer.cache_clear()
    captioned.tokens.cache_clear()
    long = "a person in a red coat with a backpack and blue shoes and grey hair"
    with caplog.at_level(logging.WARNING):
        arguments = [f"--workdir={workdir}", f"--gallery={folder}", f"--text={long}"]
        assert main(["search", *arguments]) == 0
    assert caplog.text.count("have more than 12 tokens and are cut") == 1
    assert capsys.readouterr().out.count(".png\n") == 6
    (page,) = (file.read_text() for file in (workdir / "search").glob("*.html"))
    assert f"<h2>{long}</h2>" in page and page.count("data:image/jpeg;base64,") == 6
    gallery = search.open_gallery(workdir, folder)
    found = gallery.by_text("<b>blue</b> shoes", top=2)
    assert len(found) == 2 and found[0].distance <= found[1].distance
    with pytest.raises(ValueError, match="top is 0"):
        gallery.by_text("blue shoes", top=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text= "], "the sentence is empty"),
        (["--text=caf\udce9"], "is not UTF-8"),
        (["--text=a coat", "--top=0"], "at least 1 image can be found"),
        ([], "give --query=IMAGE (or a folder), --text=SENTENCE"),
        (["--query=nowhere.png"], "--query=nowhere.png is neither a file nor a folder"),
    ],
)
def test_bad_questions_of_a_search(with_text, use, folder, capsys, arguments, message):
    workdir = use(with_text)
    assert main(["search", f"--workdir={workdir}", f"--gallery={folder}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_run_that_cannot_be_written_is_searched_all_the_same(
    images_only, use, folder, tmp_path, monkeypatch, caplog
):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    workdir = use(images_only)
    arguments = [f"--workdir={workdir}", f"--gallery={folder}", f"--query={folder / '3.png'}"]
    monkeypatch.setattr(np, "savez", refuse)
    assert main(["search", *arguments, f"--out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "3.html").is_file()
    (line,) = [one.getMessage() for one in caplog.records if one.name == search.__name__]
    assert line.startswith("the embeddings are not kept: ") and "(Permission denied)" in line
    assert not list(workdir.rglob("*.npz"))


def test_a_folder_of_results_is_asked_for_before_anything_is_embedded(
    images_only, use, folder, tmp_path, capsys
):
    workdir = use(images_only)
    arguments = [f"--workdir={workdir}", f"--gallery={folder}", f"--query={folder / '3.png'}"]
    (tmp_path / "file").write_text("")
    assert main(["search", *arguments, f"--out={tmp_path / 'file'}"]) == 1
    assert "file cannot be made: File exists; name another folder" in capsys.readouterr().err
    assert not list(workdir.rglob("*.npz"))


def test_a_damaged_cache_is_made_anew(images_only, use, folder, caplog):
    workdir = use(images_only)
    assert search.open_gallery(workdir, folder).embedded == 5
    (cache,) = workdir.rglob("*.npz")
    cache.write_bytes(cache.read_bytes()[:100])
    assert search.open_gallery(workdir, folder).embedded == 5
    assert f"{cache} cannot be read" in caplog.text
    assert search.open_gallery(workdir, folder).embedded == 0


def test_names_that_are_not_utf8(images_only, use, folder, capsys):
    workdir = use(images_only)
    name = os.fsdecode(b"caf\xe9.png")
    asked = folder.with_name("asked")
    asked.mkdir()
    for file in ("3.png", "4.png"):
        (asked / file.replace("3.png", name)).write_bytes((folder / file).read_bytes())
    (folder / "3.png").rename(folder / name)
    common = [f"--workdir={workdir}", f"--gallery={folder}"]
    assert main(["search", *common, f"--query={asked}"]) == 0
    assert "caf?.png" in capsys.readouterr().out
    results = workdir / "search"
    page = (results / "search.html").read_text()
    assert "<h2>caf?.png</h2>" in page and "caf%E9.png" in page
    assert str(folder / "caf?.png") in (results / "search.csv").read_text()
    paths = [row["path"] for row in json.loads((results / "search.json").read_text())["results"]]
    assert str(folder / "caf?.png") in paths
    # Alone it gives the results its name.
    assert main(["search", *common, f"--query={folder / name}"]) == 0
    assert (results / f"{pathlib.Path(name).stem}.html").is_file()


def test_bad_galleries(images_only, use, tmp_path):
    workdir = use(images_only)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        search.open_gallery(workdir, tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="is empty; the gallery is a folder of crops"):
        search.open_gallery(workdir, empty)
    (empty / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"has no images \(1 other files\)"):
        search.open_gallery(workdir, empty)
    with pytest.raises(ValueError, match=r"embeds captions, and 'strong_baseline'.*aea_firm, irra"):
        search.load(workdir).embed_text("a red coat")


def test_every_file_is_read_once(images_only, folder, tmp_path, monkeypatch):
    read, of_path = [], pathlib.Path.read_bytes

    def read_bytes(path):
        read.append(path)
        return of_path(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
    files = search.files_of(folder)
    model = of_run(images_only, images_only.options.phases[0], "best", 0)
    gallery = search.open_gallery(model, folder, cache=tmp_path / "cache")
    assert sorted(read) == list(files) and gallery.embedded == 5
    # Embedded as the test images are.
    state, data = nnx.state(images_only.model), images_only.task.options.data
    split = make_dataset().splits["gallery"].take(np.arange(5))
    expected = embed_split(images_only.task.embedder.embed, state, split, data, 8, images_only.mesh)
    np.testing.assert_allclose(gallery.prepared.features[:5], unit(expected), atol=1e-5)
