"""LS-VID: people on a campus, fifteen ground cameras (Li et al., ICCV 2019)."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.base import count_configs, image_files, protocol
from tfds_builders.tracklets import TrackletBuilder

LISTS = {
    "train": "list_sequence/list_seq_train.txt",
    "test": "list_sequence/list_seq_test.txt",
}
QUERIES = "test/data/info_test.mat"
NAME = re.compile(r"^[^_]+_[^_]+_(\d+)_.*\.(jpg|png)$")
EXAMPLE = "0001_0000_01_0001.jpg (the camera between the second and the third underscore)"
CAMERAS = 15


def _lines(path: pathlib.Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]


class Builder(TrackletBuilder):
    """Reads the lists of tracklets, each named by the begin of its images' paths."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
LS-VID is given out after a signed agreement, see https://www.pkuvmc.com/dataset.html. Unpack it so that
manual_dir/LS-VID holds the folders of images that its lists name, and
  {LISTS["train"]}  {LISTS["test"]}
  {QUERIES}"""
    FOLDER = "LS-VID"
    REQUIRED = (*LISTS.values(), QUERIES)
    EXPECTED = {"train": (2831, 842), "query": (3504, None), "gallery": (7829, None)}
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://www.pkuvmc.com/dataset.html",
            protocols=[protocol("STD", "any", "any")],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        numbers, listed = self._queries(root / QUERIES), len(_lines(root / LISTS["test"]))
        wrong = [number for number in sorted(numbers) if not 1 <= number <= listed]
        if wrong:
            raise ValueError(
                f"{self.name}: {QUERIES} names tracklet {wrong[0]}, but {LISTS['test']} lists {listed}"
            )
        train, test = (list(self._tracklets(root, name)) for name in LISTS.values())
        for record in train:
            del record["line"]
        splits: dict[str, list[dict[str, Any]]] = {"train": train, "query": [], "gallery": []}
        for record in test:
            split = "query" if record.pop("line") in numbers else "gallery"
            splits[split].append({**record, "protocols": [0]})
        return self.finished(splits)

    def _queries(self, path: pathlib.Path) -> set[int]:
        """Numbers of the queries in the test list, from 1; the other tracklets are the gallery.

        Raises ImportError without h5py, and ValueError for another file.
        """
        try:
            import h5py
        except ImportError as error:
            raise ImportError(
                f"{path.name} is an HDF5 file; reading it needs h5py: pip install 'g2ajax[ls_vid]'"
            ) from error
        try:
            with h5py.File(path) as file:
                return {int(number) for number in np.asarray(file["query"]).ravel()}
        except (OSError, KeyError) as error:
            raise ValueError(
                f"{self.name}: {QUERIES} is no HDF5 file with the table query"
            ) from error

    def _tracklets(self, root: pathlib.Path, file: str) -> Iterator[dict[str, Any]]:
        """Yields the tracklets of a list, whose lines are the begin of the images' paths and the identity.

        Identity −1 is left out. Raises ValueError for a line of another form, and FileNotFoundError for
        tracklets without images, which are left out of a partial copy.
        """
        folders: dict[pathlib.Path, list[pathlib.Path]] = {}
        lost = []
        for number, line in enumerate(_lines(root / file), 1):
            words = line.replace("\\", "/").split()
            if len(words) != 2 or not re.fullmatch(r"-?\d+", words[1]):
                raise ValueError(
                    f"{self.name}: {file}, line {number}: expected the begin of a path and an "
                    f"identity, got {line.strip()!r}"
                )
            begin, identity = root / words[0], int(words[1])
            if identity < 0:
                continue
            if begin.parent not in folders:
                folder = begin.parent
                folders[folder] = image_files(folder) if folder.is_dir() else []
            images = [path for path in folders[begin.parent] if path.name.startswith(begin.name)]
            if not images:
                lost.append(words[0])
                continue
            yield {"line": number, **self._record(words[0], images, identity)}
        self.report_lost(lost, f"tracklets of {file} have no images")

    def _record(self, begin: str, images: list[pathlib.Path], identity: int) -> dict[str, Any]:
        folder = begin.rpartition("/")[0]
        names = (f"{folder}/{path.name}" for path in images)
        cameras = (int(self.parsed(name, NAME, EXAMPLE)[1]) for name in names)
        camera = self.single(begin, cameras, "cameras")
        if not 1 <= camera <= CAMERAS:
            raise ValueError(
                f"{self.name}: {begin} is of camera {camera}; there are 1 to {CAMERAS}"
            )
        return {
            "frames": images,
            # The names sort by time; which of their numbers is the frame's is not published.
            "frame_ids": range(len(images)),
            "tracklet_id": begin,
            "identity": identity,
            "camera": camera - 1,
            "camera_raw": str(camera),
            "platform": "ground",
        }
