"""DetReIDX: tracklets from drones at 6 to 120 m and from the ground (Hambarde et al., 2025)."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.base import count_configs, protocol
from tfds_builders.tracklets import TrackletBuilder

CASES = ("case1_aerial_to_ground", "case2_ground_to_aerial", "case3_aerial_to_aerial")
GROUND_FIELDS = 8
"""A name with fewer fields is of the ground."""
OUTDOOR_FIELDS = 23
"""Fields of a name with the whole of its metadata; anonymised names have fewer."""
EXAMPLE = (
    "0004_23_10_2024_09_18_5.8_10_30_3_0_1_1_0_-1_-1_6_0_0_6_152_178_S1.jpg (a drone, with height, distance "
    "and angle in the fields 7 to 9 and the session at the end) or 0001_0_1_1_1_0_F.jpg (the ground)"
)
LEVELS = (15.0, 30.0, 60.0)
"""Heights in metres from which on a drone is of `altitude_level` 1, 2 and 3."""
CAMERAS = ("ground", "S1", "S2")


class Builder(TrackletBuilder):
    """Reads the folders of training and of the three cases; identities are the folders' numbers."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
DetReIDX is linked from https://www.it.ubi.pt/DetReIDX. Unpack the part for re-identification so that
manual_dir/DetReIDX holds
  train/  case1_aerial_to_ground/  case2_ground_to_aerial/  case3_aerial_to_aerial/
each case with query/ and gallery/"""
    FOLDER = "DetReIDX"
    REQUIRED = ("train", *(f"{case}/{side}" for case in CASES for side in ("query", "gallery")))

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://www.it.ubi.pt/DetReIDX",
            protocols=[
                protocol("A2G", "aerial", "ground"),
                protocol("G2A", "ground", "aerial"),
                protocol("A2A", "aerial", "aerial"),
            ],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {"train": [*self.read_folder(root, "train")]}
        for number, side in enumerate(("query", "gallery")):
            splits[side] = []
            for index, case in enumerate(CASES):
                expected = case.split("_")[1:4:2][number]
                for record in self.read_folder(root, f"{case}/{side}"):
                    if record["platform"] != expected:
                        raise ValueError(
                            f"{self.name}: {record['tracklet_id']} is named as {record['platform']}, "
                            f"but {case}/{side} is {expected}; expected names such as {EXAMPLE}"
                        )
                    splits[side].append({**record, "protocols": [index]})
        return self.finished(splits)

    def read_folder(self, root: pathlib.Path, below: str) -> Iterator[dict[str, Any]]:
        """Yields arguments of `tracklet` for the folders IDENTITY/TRACKLET of a folder.

        Raises ValueError as `tracklet_folders`, for a name of another form, and for a tracklet of several
        people, cameras or places of the drone.
        """
        for where, identity, images in self.tracklet_folders(root, below):
            images = sorted(images, key=lambda path: _in_order(path.stem))
            views = [self._view(f"{where}/{path.name}") for path in images]
            self.single(where, (path.stem.split("_")[0] for path in images), "people")
            camera = self.single(where, (camera for camera, _ in views), "cameras")
            height, distance, angle = self.single(
                where, (place for _, place in views), "heights, distances or angles"
            )
            yield {
                "frames": images,
                # No field of the names is documented as the number of the frame.
                "frame_ids": range(len(images)),
                "tracklet_id": where,
                "identity": identity,
                "camera": camera,
                "camera_raw": CAMERAS[camera],
                "platform": "aerial" if camera else "ground",
                "altitude_m": height if camera else float("nan"),
                "distance_m": distance if camera else float("nan"),
                "angle_deg": angle if camera else float("nan"),
                "altitude_level": int(np.searchsorted(LEVELS, height, "right")) if camera else -1,
                "session": CAMERAS[camera] if camera else "",
            }

    def _view(self, image_id: str) -> tuple[int, tuple[float, float, float]]:
        """Index of the camera, and height, distance and angle of a drone (zeros on the ground).

        Raises ValueError for a name that gives neither.
        """
        folder, _, name = image_id.rpartition("/")
        fields = name.rpartition(".")[0].split("_")
        if len(fields) < GROUND_FIELDS:
            return 0, (0.0, 0.0, 0.0)
        try:
            height, distance, angle = (float(field) for field in fields[6:9])
            last = fields[-1].removeprefix("S")
            first = int(last if fields[-1].startswith("S") else fields[-2]) == 1
        except ValueError:
            raise ValueError(f"{self.name}: {image_id} is not of the form {EXAMPLE}") from None
        person = folder.split("/")[-2]
        if len(fields) == OUTDOOR_FIELDS and fields[0] != person:
            raise ValueError(f"{self.name}: {image_id} is of {fields[0]}, but lies with {person}")
        return 1 if first else 2, (height, distance, angle)


def _in_order(stem: str) -> tuple[tuple[float, str], ...]:
    """Sorts the numbers of a name as numbers."""
    parts = stem.split("_")
    return tuple(
        (float(part), "") if re.fullmatch(r"-?\d+(\.\d+)?", part) else (float("inf"), part)
        for part in parts
    )
