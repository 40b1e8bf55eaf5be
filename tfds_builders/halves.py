"""Tracklets of two cameras, one of each person in each, divided into halves by a released file.

The layout of iLIDS-VID and PRID 2011: a folder for each camera, in it one for each person.
"""

import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tfds_builders.base import image_files, protocol
from tfds_builders.tracklets import TrackletBuilder

NAME = re.compile(r"^.*?(\d+)\.(png|jpg)$")
EXAMPLE = "cam1_person001_00317.png (a number of the frame at the end)"


class HalvesBuilder(TrackletBuilder, skip_registration=True):
    """Base of builders of two ground cameras: people of the test half are queries in the first camera
    and the gallery in the second; a dataset sets `CAMERAS` and gives its halves."""

    CAMERAS: tuple[str, str] = ("", "")
    """Folder of each camera, below the root."""
    PROTOCOLS = [protocol("STD", "any", "any")]

    def halves(self, root: pathlib.Path) -> tuple[list[str], list[str]]:
        """Folders of the training and of the test people."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = self.root(dl_manager)
        train, test = self.halves(root)
        both = sorted(set(train) & set(test))
        if both:
            raise ValueError(f"{self.name}: {both[0]} is of the training and of the test half")
        return self.finished(
            {
                "train": list(self._tracklets(root, train, (0, 1))),
                "query": list(self._tracklets(root, test, (0,), [0])),
                "gallery": list(self._tracklets(root, test, (1,), [0])),
            }
        )

    def _tracklets(
        self,
        root: pathlib.Path,
        people: Iterable[str],
        cameras: Iterable[int],
        protocols: Iterable[int] = (),
    ) -> Iterator[dict[str, Any]]:
        """Yields arguments of `tracklet` for the people in the cameras.

        Raises FileNotFoundError for people without images, who are left out of a partial copy.
        """
        lost = []
        for camera in cameras:
            for person in sorted(people):
                where = f"{self.CAMERAS[camera]}/{person}"
                images = image_files(root / where) if (root / where).is_dir() else []
                if not images:
                    lost.append(where)
                    continue
                yield {**self._record(where, images, person, camera), "protocols": list(protocols)}
        self.report_lost(lost, "people have no images")

    def _record(
        self, where: str, images: list[pathlib.Path], person: str, camera: int
    ) -> dict[str, Any]:
        digits = re.search(r"(\d+)$", person)
        if digits is None:
            raise ValueError(f"{self.name}: {where} has no number of a person at its end")
        numbers = [int(self.parsed(f"{where}/{path.name}", NAME, EXAMPLE)[1]) for path in images]
        order = sorted(range(len(images)), key=numbers.__getitem__)
        return {
            "frames": [images[i] for i in order],
            "frame_ids": [numbers[i] for i in order],
            "tracklet_id": where,
            "identity": int(digits[1]),
            "identity_raw": person,
            "camera": camera,
            "camera_raw": pathlib.PurePath(self.CAMERAS[camera]).name,
            "platform": "ground",
        }
