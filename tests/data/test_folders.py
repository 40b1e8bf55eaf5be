"""Folders with links: followed, each real folder once."""

import pytest

from g2ajax.apps.search import files_of
from g2ajax.data.folders import files_below
from g2ajax.data.footage import footage
from tests.tfds_builders import dummies
from tfds_builders.base import image_files


@pytest.fixture
def gallery(tmp_path):
    """A gallery of eight images, six of them behind links."""
    where, elsewhere = tmp_path / "gallery", tmp_path / "elsewhere"
    (where / "own").mkdir(parents=True)
    (elsewhere / "deeper").mkdir(parents=True)
    places = [where / "1.png", where / "own" / "2.png"]
    places += [elsewhere / f"{n}.png" for n in (3, 4, 5)]
    places += [elsewhere / "deeper" / f"{n}.png" for n in (6, 7)]
    for seed, place in enumerate([*places, tmp_path / "alone.png"]):
        place.write_bytes(dummies.encoded("PNG", seed=seed))
    (where / "8.png").symlink_to(tmp_path / "alone.png")
    (where / "linked").symlink_to(elsewhere)
    return where


NAMES = [
    *("1.png", "8.png", "linked/3.png", "linked/4.png", "linked/5.png"),
    *("linked/deeper/6.png", "linked/deeper/7.png", "own/2.png"),
]


def test_links_are_followed_by_every_command(gallery):
    assert [str(path.relative_to(gallery)) for path in files_of(gallery)] == NAMES
    assert [name for name, _ in footage(gallery, [])] == NAMES


def test_links_in_a_link(gallery, tmp_path):
    """The gallery itself may be a link, and its path stays the one that was given."""
    (tmp_path / "other").symlink_to(gallery)
    files, passed = files_below(tmp_path / "other")
    assert [str(path.relative_to(tmp_path / "other")) for path in files] == NAMES and not passed


def test_every_folder_is_read_once_and_loops_end(gallery, tmp_path):
    (gallery / "0again").symlink_to(gallery / "own")  # sorted before the folder itself
    (gallery / "linked_too").symlink_to(tmp_path / "elsewhere" / "deeper")
    (gallery / "own" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "deeper" / "top").symlink_to(tmp_path)
    (gallery / "gone").symlink_to("nowhere")
    (gallery / "itself").symlink_to("itself")
    skipped = []
    assert [str(path.relative_to(gallery)) for path in files_of(gallery, skipped)] == NAMES
    assert [(str(path.relative_to(gallery)), why) for path, why in skipped] == [
        ("0again", "a link to a folder that is read already"),
        ("gone", "a link that leads nowhere"),
        ("itself", "a link that leads nowhere"),
        ("linked/deeper/top", "a link that leads back up"),
        ("linked_too", "a link to a folder that is read already"),
        ("own/up", "a link that leads back up"),
    ]
    lines = []
    assert len(list(footage(gallery, lines))) == 8
    assert "own/up (a link that leads back up)" in lines and len(lines) == 6


def test_a_gallery_of_broken_links_says_so(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"is empty \(.*a\.png is a link that leads nowhere\)"):
        files_of(tmp_path)


def test_folders_of_a_dataset(gallery):
    assert [path.name for path in image_files(gallery)] == ["1.png", "8.png"]
    (gallery / "9.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match="1 links lead nowhere and are left out, such as 9.png"):
        assert [path.name for path in image_files(gallery)] == ["1.png", "8.png"]
