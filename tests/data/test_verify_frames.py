"""Findings about built datasets of frames, and the commands."""

import dataclasses
import json

import pytest
from PIL import Image

from g2ajax.__main__ import main
from g2ajax.data import verify_frames
from g2ajax.data.frame_source import open_frames
from g2ajax.synthetic import frame_layouts
from g2ajax.synthetic.frames import FRAME_SIZES
from g2ajax.synthetic.world import SIZES


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_frames("skyground/frames_tiny", data_dir=data_dir)


def changed(dataset, metadata=None, **splits):
    return dataclasses.replace(
        dataset,
        metadata={**dataset.metadata, **(metadata or {})},
        splits={**dataset.splits, **splits},
    )


def test_a_sound_copy(dataset):
    found = verify_frames.verify_frames(dataset)
    assert found.errors == []
    assert found.warnings == []
    assert found.counts["train"] == (24, len(dataset.splits["train"].boxes), 6)
    assert found.counts["query"] == (8, 8, 4)
    assert [content.recorded for content in found.contents] == [
        content.digest for content in found.contents
    ]


def test_counts_are_errors_where_they_are_sure(dataset):
    expected = {"train": [25, None, 7], "gallery": [16, None, None]}
    metadata = {"expected_frames": json.dumps(expected), "sure": json.dumps(["train frames"])}
    found = verify_frames.verify_frames(changed(dataset, metadata))
    assert found.errors == ["train: 24 frames, expected 25"]
    assert found.warnings == ["train: 6 identities, expected 7"]


def test_another_content_and_lost_queries(dataset):
    gallery = dataset.splits["gallery"]
    nobody = dataclasses.replace(gallery, identity=0 * gallery.identity - 1)
    metadata = {"content_train": "0" * 64}
    found = verify_frames.verify_frames(changed(dataset, metadata, gallery=nobody))
    assert len(found.errors) == 1
    assert "train: the images are not those that were built" in found.errors[0]
    assert any("G2A: the person of 4 of 4 queries is in no" in text for text in found.warnings)


def test_damaged_frames_are_named(dataset):
    @dataclasses.dataclass(frozen=True)
    class Damaged(type(dataset.splits["query"])):
        def read(self, row):
            return super().read(row)[: 300 if row == 3 else None]

    query = dataset.splits["query"]
    columns = {field.name: getattr(query, field.name) for field in dataclasses.fields(query)}
    found = verify_frames.verify_frames(changed(dataset, query=Damaged(**columns)))
    name = f"{query.image_id[3]}:{query.identity[3]}"
    assert any(text.startswith(f"query: {name}: does not decode") for text in found.errors)


def test_command(dataset, data_dir, capsys):
    arguments = ["--dataset=skyground/frames_tiny", f"--data_dir={data_dir}"]
    assert main(["verify", *arguments]) == 0
    out = capsys.readouterr().out
    assert "frames  boxes  identities" in out
    assert "gallery: 16 of 16 images decode" in out and "(as built)" in out
    assert main(["verify", "--dataset=nowhere"]) == 1


def test_layout_command(tmp_path, capsys, monkeypatch):
    def writer(world, out, *, workers):
        assert (world.size, workers) == ("small", 1)
        return 7

    monkeypatch.setitem(frame_layouts.FRAME_LAYOUTS, "prw", writer)
    assert (
        main(["skyground", "--layout=prw", "--size=small", f"--out={tmp_path}", "--workers=1"]) == 0
    )
    assert "wrote 7 frames of 112 people" in capsys.readouterr().out
    assert set(FRAME_SIZES) <= set(SIZES)  # what --size takes
    frames_of_many = ["--layout=prw", "--size=many", f"--out={tmp_path}"]
    assert main(["skyground", *frames_of_many]) != 0
    assert "no frames of size 'many'; there are tiny, small, full" in capsys.readouterr().err


def test_sheet_command(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["skyground", "--frames", f"--sheet={sheet}"]) == 0
    with Image.open(sheet) as image:
        assert image.size == (3 * 192 + 144 + 3 * 6, 192)
    assert main(["skyground", "--frames", "--layout=agreid", f"--out={tmp_path}"]) == 2
    assert "--layout=agreid is not of --frames, whose layouts are" in capsys.readouterr().err
