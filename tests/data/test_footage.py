"""Frames of a folder and of a video, whole and damaged."""

import importlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from g2ajax.data import footage as module
from g2ajax.data.footage import footage, frames_at, picture_size
from g2ajax.data.images import decode


def png(level):
    data = io.BytesIO()
    Image.new("RGB", (32, 16), (level, level, level)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "frames"
    (where / "deeper").mkdir(parents=True)
    (where / "b.png").write_bytes(png(2))
    (where / "a.png").write_bytes(png(1))
    (where / "deeper" / "c.png").write_bytes(png(3))
    (where / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (where / ".hidden").write_text("")
    return where


def test_images_come_by_name_and_damaged_ones_are_named(folder):
    skipped = []
    found = [(name, int(image[0, 0, 0])) for name, image in footage(folder, skipped)]
    assert found == [("a.png", 1), ("b.png", 2), ("deeper/c.png", 3)]
    assert skipped == ["broken.jpg"]


@pytest.fixture
def video(tmp_path):
    """Ten frames that grow brighter."""
    av = pytest.importorskip("av")
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.gop_size = 64, 48, 1
        for number in range(10):
            image = np.full((48, 64, 3), 20 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_of_a_video(video):
    skipped = []
    frames = list(footage(video, skipped, every=3))
    assert [name for name, _ in frames] == ["frame 0", "frame 3", "frame 6", "frame 9"]
    for (_, image), number in zip(frames, (0, 3, 6, 9), strict=True):
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert abs(float(image.mean()) - 20 * number) < 6
    assert not skipped


def test_a_video_goes_on_after_a_damaged_packet(video, monkeypatch):
    av = importlib.import_module("av")
    whole = av.open(str(video))
    packets = list(whole.demux(whole.streams.video[0]))

    class Damaged:
        def decode(self):
            raise av.error.InvalidDataError(1, "invalid data")

    class Container:
        streams = whole.streams

        def demux(self, stream):
            return [packets[0], Damaged(), *packets[2:]]

        def __enter__(self):
            return self

        def __exit__(self, *error):
            whole.close()

    monkeypatch.setattr(av, "open", lambda path: Container())
    skipped = []
    assert len(list(footage(video, skipped))) == 9
    assert skipped == ["packet after frame 1"]


def test_what_is_no_footage(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist"):
        list(footage(tmp_path / "nowhere", []))
    with pytest.raises(ValueError, match=r"every = 0; take every frame"):
        list(footage(folder, [], every=0))
    for name in ("a.png", "b.png", "deeper/c.png"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"has no frame; 1 cannot be read, such as broken.jpg"):
        list(footage(folder, []))


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ((1, 0, 0, 1), 1),
        ((-1, 0, 0, 1), 2),
        ((-1, 0, 0, -1), 3),
        ((0, 1, 1, 0), 5),
        ((0, 1, -1, 0), 6),
        ((0, -1, 1, 0), 8),
    ],
)
def test_a_video_is_as_upright_as_a_photo(tmp_path, matrix, orientation):
    """A phone writes the same pixels and says the same turn, in a video by a matrix."""
    av = pytest.importorskip("av")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32] = 60, 120, 240
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for frame in (av.VideoFrame.from_ndarray(pixels, format="rgb24"), None):
            for packet in stream.encode(frame):
                container.mux(packet)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44  # of a b u c d v x y w, in 65536ths
    a, b, c, d = (65536 * value for value in matrix)
    data[place : place + 20] = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(data)
    ((_, image),) = footage(path, [])

    exif, photo = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(photo, "PNG", exif=exif)
    expected = decode(photo.getvalue())
    assert image.shape == expected.shape
    assert np.median(np.abs(image.astype(int) - expected)) < 6


def test_an_unreadable_video(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "video.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(ValueError, match=r"video.mp4 cannot be read as a video: .*Invalid data"):
        list(footage(tmp_path / "video.mp4", []))


def test_a_video_without_the_package(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    (tmp_path / "video.mp4").write_bytes(b"")
    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"needs PyAV \(pip install 'g2ajax\[video\]'\)"):
        list(footage(tmp_path / "video.mp4", []))


def test_frames_by_number(video, monkeypatch):
    """Only the frames that are asked for become pixels, and none after the last is decoded."""
    made = []
    monkeypatch.setattr(module, "_pixels", lambda frame: made.append(frame) or of_frame(frame))
    of_frame = lambda frame: frame.to_ndarray(format="rgb24")  # noqa: E731
    frames = list(frames_at(video, [1, 4, 5]))
    assert [number for number, _ in frames] == [1, 4, 5] and len(made) == 3
    for number, image in frames:
        assert abs(float(image.mean()) - 20 * number) < 6
    assert list(frames_at(video, [])) == []
    assert picture_size(video) == (48, 64)
    with pytest.raises(ValueError, match=r"video.mp4 ends after frame 10, before frame 12"):
        list(frames_at(video, [9, 11]))


def test_no_number_is_known_after_damage(video, monkeypatch):
    decoded = list(module._decoded(video))
    broken = [*decoded[:3], (3, None), *((number - 1, frame) for number, frame in decoded[4:])]
    monkeypatch.setattr(module, "_decoded", lambda path: (one for one in broken))
    assert [number for number, _ in frames_at(video, [0, 2])] == [0, 2]
    with pytest.raises(ValueError, match=r"video.mp4 is damaged after frame 3; write it again"):
        list(frames_at(video, [0, 5]))


def test_a_folder_of_numbered_images_is_a_video(tmp_path):
    for number in (1, 2, 4):
        (tmp_path / f"{number:06d}.png").write_bytes(png(number))
    (tmp_path / "notes.txt").write_text("")
    assert [(n, int(image[0, 0, 0])) for n, image in frames_at(tmp_path, [0, 3])] == [
        (0, 1),
        (3, 4),
    ]
    assert picture_size(tmp_path) == (16, 32)
    with pytest.raises(ValueError, match="has no image of frame 3"):
        list(frames_at(tmp_path, [1, 2]))
    (tmp_path / "000002.png").write_bytes(b"\x89PNG cut off")
    with pytest.raises(ValueError, match=r"000002.png"):
        list(frames_at(tmp_path, [1]))
    (tmp_path / "000000.png").write_bytes(png(0))
    with pytest.raises(ValueError, match=r"000000.png: tables of tracks count frames from 1"):
        picture_size(tmp_path)
    with pytest.raises(ValueError, match="has no images named by their number"):
        picture_size(tmp_path.parent)
