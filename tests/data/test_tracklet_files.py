"""Tracklets in a user's files: folders of images, and the tracks of videos."""

import numpy as np
import pytest
from PIL import Image

from g2ajax.data import tracklet_files
from g2ajax.data.tracklet_files import (
    content_of,
    folder_tracklet,
    in_order,
    tracklets_below,
    video_crops,
    video_tracks,
)


def image(path, level=0, size=(32, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size[::-1], 3), level, np.uint8)).save(path)


def numbered_video(folder, frames=6, size=(32, 16)):
    """A folder of numbered images: pixel (x, y) of frame t is (10 t, x, y)."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[: size[1], : size[0]]
    for t in range(frames):
        pixels = np.stack([np.full_like(x, 10 * t), x, y], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{t + 1:06d}.png")
    return folder


@pytest.fixture
def gallery(tmp_path):
    root = tmp_path / "gallery"
    for number in (1, 2, 10):
        image(root / "anna" / "one" / f"f{number}.png")
    image(root / "carl" / "f1.jpg")
    image(root / "loose.png")
    (root / "carl" / "notes.md").write_text("")
    (root / "alone.mp4").write_bytes(b"")
    numbered_video(root / "walk")
    (root / "walk.txt").write_text("1,3,5,3,4,8,1\n4,3,-3,3,8,8,1\n2,8,1,1,2,2,1\n3,8,90,1,2,2,1")
    return root


def test_folders_and_tracks_are_tracklets(gallery):
    skipped = []
    tracklets = tracklets_below(gallery, skipped)
    assert [(one.name, len(one), one.track, one.span) for one in tracklets] == [
        ("anna/one", 3, None, None),
        ("carl", 1, None, None),
        ("walk track 3", 2, 3, (1, 4)),
        ("walk track 8", 1, 8, (2, 2)),
    ]
    assert [file.name for file in tracklets[0].files] == ["f1.png", "f2.png", "f10.png"]
    assert tracklets[2].source == gallery / "walk"
    assert {path.name: why for path, why in skipped} == {
        "walk.txt": "1 boxes with conf 0 or outside the picture",
        "loose.png": "an image outside a tracklet's folder",
        "notes.md": "neither an image nor a video's table of tracks",
        "alone.mp4": "a video without a table of tracks alone.txt beside it",
    }


def test_numbers_in_names_are_in_order_of_their_value(tmp_path):
    names = ("C1F10.png", "C1F9.png", "C02F1.png", "b.png", "C1F9b.png")
    ordered = [file.name for file in in_order(tmp_path / name for name in names)]
    assert ordered == ["C1F9.png", "C1F9b.png", "C1F10.png", "C02F1.png", "b.png"]


def test_crops_of_a_video_are_cut_at_the_boxes(gallery, monkeypatch):
    read = []
    of_frames = tracklet_files.frames_at
    monkeypatch.setattr(
        tracklet_files,
        "frames_at",
        lambda path, numbers: read.extend(numbers) or of_frames(path, numbers),
    )
    three, eight = video_tracks(gallery / "walk", [])
    wanted = [(three, np.array([0, 1, 1])), (eight, np.array([0]))]
    crops = dict(video_crops(gallery / "walk", wanted))
    assert read == [0, 1, 3]  # one pass over the frames of both
    # Left 5 is pixel 4; -3 is cut at the edge, so that 8 pixels from -4 leave four.
    first, last, other = crops[0][0], crops[0][1], crops[1][0]
    assert first.shape == (8, 4, 3) and first[0, 0].tolist() == [0, 4, 2]
    assert last.shape == (8, 4, 3) and last[-1, -1].tolist() == [30, 3, 9]
    assert other.shape == (2, 2, 3) and other[0, 0].tolist() == [10, 0, 0]
    # A track is given as soon as it is complete.
    assert [number for number, _ in video_crops(gallery / "walk", wanted)] == [1, 0]


def test_content_knows_a_video_under_another_name(gallery, tmp_path):
    before = content_of(gallery / "walk")
    (gallery / "walk").rename(tmp_path / "other")
    assert content_of(tmp_path / "other") == before
    image(tmp_path / "other" / "000002.png", 7)
    assert content_of(tmp_path / "other") != before


def test_galleries_and_queries_that_are_refused(gallery, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="nowhere is not a folder; a gallery of tracklets is"
    ):
        tracklets_below(tmp_path / "nowhere", [])
    crops = tmp_path / "crops"
    for number in range(3):
        image(crops / f"{number}.png")
    with pytest.raises(
        ValueError,
        match=r"no tracklets; 3 other files, such as 0.png: an image outside .*a folder of images for",
    ):
        tracklets_below(crops, [])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        ValueError, match="empty has no images; a tracklet is a folder of the images"
    ):
        folder_tracklet(empty)
    with pytest.raises(FileNotFoundError, match="neither a folder of the images of a tracklet nor"):
        folder_tracklet(tmp_path / "none")
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*alone.txt; the tracks of alone.mp4"
    ):
        video_tracks(gallery / "alone.mp4", [])
    (gallery / "walk.txt").write_text("1,3,90,3,4,8,1")
    with pytest.raises(ValueError, match=r"walk.txt: no box lies in the picture of walk; is it of"):
        video_tracks(gallery / "walk", [])


def test_a_frame_of_another_size_is_named(gallery):
    image(gallery / "walk" / "000004.png", size=(16, 8))
    three, _ = video_tracks(gallery / "walk", [])
    with pytest.raises(
        ValueError, match="walk: frame 4 is smaller than the first, and the box of track"
    ):
        list(video_crops(gallery / "walk", [(three, np.array([0, 1]))]))


def test_tracks_of_an_encoded_video(tmp_path):
    """A tracker's table of an mp4: the box of each frame holds the square that moves."""
    av = pytest.importorskip("av")
    path = tmp_path / "gate.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate = 64, 48, 4_000_000
        lines = []
        for t in range(6):
            pixels = np.full((48, 64, 3), 30, np.uint8)
            pixels[16:32, 8 * t : 8 * t + 16] = 40 * t + 10
            lines.append(f"{t + 1},5,{8 * t + 1},17,16,16,1,-1,-1,-1")
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    (tmp_path / "gate.txt").write_text("\n".join(lines))
    (track,) = tracklets_below(tmp_path, [])
    assert (track.name, track.track, len(track), track.span) == ("gate.mp4 track 5", 5, 6, (1, 6))
    ((_, crops),) = video_crops(path, [(track, np.array([1, 3, 5]))])
    assert {place: crop.shape for place, crop in crops.items()} == dict.fromkeys(
        (1, 3, 5), (16, 16, 3)
    )
    for place, crop in crops.items():
        assert np.median(crop) == pytest.approx(40 * place + 10, abs=8)
