"""The files of MARS, whose layout G2A-VReID shares: lists of images, and tables of tracklets."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.io

from tfds_builders.tracklets import TrackletBuilder

NAME = re.compile(r"^(\d{4}|00-1)C(\d)T(\d{4})F(\d+)\.jpg$")
EXAMPLE = "0001C1T0001F001.jpg"
FILES = {"train": ("bbox_train", "train_name.txt"), "test": ("bbox_test", "test_name.txt")}
TABLES = {
    "tracks_train_info.mat": "track_train_info",
    "tracks_test_info.mat": "track_test_info",
    "query_IDX.mat": "query_IDX",
}
REQUIRED = (
    *(folder for folder, _ in FILES.values()),
    *(f"info/{name}" for _, name in FILES.values()),
    *(f"info/{name}" for name in TABLES),
)
DISTRACTOR, JUNK = 0, -1


class MarsBuilder(TrackletBuilder, skip_registration=True):
    """Base of builders of MARS's layout; a dataset sets `PLATFORM`, `FOLDER` and its protocols."""

    REQUIRED = REQUIRED
    PLATFORM: Mapping[int, str] = {}
    """Camera, counted from 0 → its platform."""

    def protocols_of(self, split: str, platform: str) -> list[int]:
        """Indices of the protocols in which a test tracklet takes part in the role of its split."""
        raise NotImplementedError

    def splits(self, root: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
        """Arguments of `tracklet` of each split: the queries, named by number, are rows of the test
        table and stay in the gallery, where the rule of the same camera leaves them out.

        Identity 0 is a distractor, −1 junk (`kind`), both in the gallery only. Raises ValueError for
        tables that do not fit the lists, and FileNotFoundError for missing images.
        """
        train = list(self._tracklets(root, "train", "train"))
        test = list(self._tracklets(root, "test", "gallery"))
        numbers = self._table(root, "query_IDX.mat").astype(np.int64).ravel()
        by_row = {record.pop("row"): record for record in test}
        query = []
        for number in numbers.tolist():
            if number - 1 not in by_row:
                raise ValueError(
                    f"{self.name}: info/query_IDX.mat names row {number}, but the test table has "
                    f"{len(by_row)} tracklets"
                )
            record = by_row[number - 1]
            if record["kind"] != "person":
                raise ValueError(
                    f"{self.name}: the query {record['tracklet_id']} is a distractor or junk"
                )
            platform = record["platform"]
            query.append({**record, "protocols": self.protocols_of("query", platform)})
        for record in train:
            del record["row"]
            if record["kind"] != "person":
                raise ValueError(
                    f"{self.name}: {record['tracklet_id']} is a distractor or junk, which belong into "
                    "bbox_test only"
                )
        return {"train": train, "query": query, "gallery": test}

    def _table(self, root: pathlib.Path, file: str) -> np.ndarray:
        content = scipy.io.loadmat(root / "info" / file)
        if TABLES[file] not in content:
            raise ValueError(f"{self.name}: info/{file} has no table {TABLES[file]}")
        return np.asarray(content[TABLES[file]])

    def _tracklets(self, root: pathlib.Path, part: str, split: str) -> Iterator[dict[str, Any]]:
        """Yields the tracklets of a table; the images of each are a stretch of the list, from the
        first to the last number, both counted from 1 and included."""
        folder, file = FILES[part]
        names = (root / "info" / file).read_text().split()
        present = {
            name.name: {image.name for image in name.iterdir()}
            for name in (root / folder).iterdir()
            if name.is_dir()
        }
        table = self._table(root, f"tracks_{part}_info.mat").astype(np.int64)
        lost = []
        for row, (first, last, identity, camera) in enumerate(table.tolist()):
            where = f"{self.name}: row {row + 1} of info/tracks_{part}_info.mat"
            if not 1 <= first <= last <= len(names):
                raise ValueError(
                    f"{where} names the images {first} to {last} of the {len(names)} of info/{file}"
                )
            images = names[first - 1 : last]
            found = [name for name in images if name in present.get(name[:4], ())]
            lost += [f"{folder}/{name[:4]}/{name}" for name in images if name not in found]
            if found:
                yield {"row": row, **self._record(root, folder, split, found, identity, camera)}
        self.report_lost(lost, "listed images are missing")

    def _record(
        self,
        root: pathlib.Path,
        folder: str,
        split: str,
        images: list[str],
        identity: int,
        camera: int,
    ) -> dict[str, Any]:
        matches = [self.parsed(name, NAME, EXAMPLE) for name in images]
        said = {(int(match[1].replace("00-1", "-1")), int(match[2])) for match in matches}
        if said != {(identity, camera)}:
            raise ValueError(
                f"{self.name}: the tracklet from {images[0]} to {images[-1]} is of identity {identity} "
                f"in camera {camera} by its table, but its images are of {sorted(said)}"
            )
        if camera - 1 not in self.PLATFORM:
            raise ValueError(f"{self.name}: {images[0]} is of an unknown camera {camera}")
        platform = self.PLATFORM[camera - 1]
        kind = {DISTRACTOR: "distractor", JUNK: "junk"}.get(identity, "person")
        return {
            "frames": [root / folder / name[:4] / name for name in images],
            "frame_ids": [int(match[4]) for match in matches],
            # A person may have several tracklets of one number: the first image tells them apart.
            "tracklet_id": f"{folder}/{images[0].removesuffix('.jpg')}",
            "identity": identity,
            "identity_raw": matches[0][1],
            "kind": kind,
            "camera": camera - 1,
            "camera_raw": f"C{camera}",
            "platform": platform,
            "sequence": int(matches[0][3]),
            "protocols": [] if split == "train" else self.protocols_of("gallery", platform),
        }
