"""AG-VPReID: tracklets from drones, CCTV and wearable cameras (Nguyen et al., CVPR 2025)."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import CountConfig, protocol
from tfds_builders.tracklets import TrackletBuilder

NAME = re.compile(r"^P(\d+)T(\d+)A(\d+)C(\d+)E(\d+)K(\d+)F(\d+)\.jpg$")
EXAMPLE = "P0001T04041A0C4E0K01F12.jpg"
CASES = ("case1_aerial_to_ground", "case2_ground_to_aerial")
PLATFORM = {0: "ground", 1: "ground", 2: "wearable", 3: "wearable", 4: "aerial", 5: "aerial"}
FOLDERS = {"drive": "AG-VPReID", "challenge": "AG-VPReID-challenge"}


class Builder(TrackletBuilder):
    """Reads the folders of training and of the two cases; identities are the folders' numbers."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        CountConfig(name="drive", description="The authors' copy, with their identities."),
        CountConfig(name="challenge", description="The challenge's, with identities of its own."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
AG-VPReID is linked from https://github.com/agvpreid25/AG-VPReID. Unpack the authors' copy into
manual_dir/AG-VPReID (configuration `drive`), that of the challenge, whose identities differ, into
manual_dir/AG-VPReID-challenge (`challenge`), so that the folder holds
  train/  case1_aerial_to_ground/  case2_ground_to_aerial/"""
    REQUIRED = ("train", *(f"{case}/{side}" for case in CASES for side in ("query", "gallery")))

    @property
    def FOLDER(self) -> str:  # a configuration decides it
        return FOLDERS[self.builder_config.name]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://github.com/agvpreid25/AG-VPReID",
            protocols=[protocol("A2G", "aerial", "ground"), protocol("G2A", "ground", "aerial")],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {"train": [*self.read_folder(root, "train", [])]}
        for side in ("query", "gallery"):
            splits[side] = [
                record
                for number, case in enumerate(CASES)
                for record in self.read_folder(root, f"{case}/{side}", [number])
            ]
        return self.finished(splits)

    def read_folder(
        self, root: pathlib.Path, below: str, protocols: list[int]
    ) -> Iterator[dict[str, Any]]:
        """Yields arguments of `tracklet` for the folders IDENTITY/TRACKLET of a folder.

        Raises ValueError as `tracklet_folders`, for a name of another form, and for a tracklet of several
        people or cameras.
        """
        for where, identity, images in self.tracklet_folders(root, below):
            yield {**self._record(where, images, identity), "protocols": protocols}

    def _record(self, where: str, images: list[pathlib.Path], identity: int) -> dict[str, Any]:
        named = [(self.parsed(f"{where}/{path.name}", NAME, EXAMPLE), path) for path in images]
        named.sort(key=lambda item: int(item[0][7]))
        matches = [match for match, _ in named]
        self.single(where, (int(match[1]) for match in matches), "people")
        camera = self.single(where, (int(match[4]) for match in matches), "cameras")
        if camera not in PLATFORM:
            raise ValueError(f"{self.name}: the tracklet {where} is of an unknown camera C{camera}")
        return {
            "frames": [path for _, path in named],
            "frame_ids": [int(match[7]) for match in matches],
            "tracklet_id": where,
            "identity": identity,
            "camera": camera,
            "camera_raw": f"C{matches[0][4]}",
            "platform": PLATFORM[camera],
            "altitude_level": int(matches[0][3]),
            "session": matches[0][2],
        }
