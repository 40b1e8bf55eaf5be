"""CARGO: synthetic people seen by five aerial and eight ground cameras (Zhang et al., 2024)."""

import collections
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol

NAME = re.compile(r"^Cam(\d{1,2})_(day|night)_(\d+)_(\d+)\.jpg$")
EXAMPLE = "Cam1_day_2519_1.jpg"
SPLITS = ("train", "query", "gallery")
CAMERAS = {**dict.fromkeys(range(1, 6), "aerial"), **dict.fromkeys(range(6, 14), "ground")}
"""Number of the camera → its platform."""
# AG-pooled is the authors' "A↔G": all queries and the whole gallery, where "the same camera" means
# the same platform. A2G and G2A are the one-way protocols of later work.
PROTOCOLS = [
    protocol("ALL", "any", "any"),
    protocol("A2A", "aerial", "aerial"),
    protocol("G2G", "ground", "ground"),
    protocol("AG-pooled", "any", "any", camera_key="platform"),
    protocol("A2G", "aerial", "ground"),
    protocol("G2A", "ground", "aerial"),
]
VALID_QUERIES = {"ALL": 312, "A2A": 40, "G2G": 112, "AG-pooled": 160, "A2G": 94, "G2A": 66}
"""Protocol → number of queries with a match, derived from published results; differences warn."""

Records = list[dict[str, Any]]


class Builder(ManualBuilder):
    """Reads the folders of cameras of the three splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
CARGO is linked from https://github.com/LinlyAC/VDT-AGPReID (academic, non-commercial use). Unpack
it so that manual_dir/CARGO holds
  train/  query/  gallery/    (each with folders Cam1 to Cam13)"""
    FOLDER = "CARGO"
    REQUIRED = SPLITS
    EXPECTED = {"train": (51451, 2500), "query": (312, None), "gallery": (50712, 2500)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://github.com/LinlyAC/VDT-AGPReID", protocols=PROTOCOLS
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {split: self.read_split(root, split) for split in SPLITS}
        generators = self.finished(splits)
        if self.strict:
            check_valid_queries(splits)
        return generators

    def read_split(self, root: pathlib.Path, split: str) -> Records:
        """Arguments of `crop` for each image of a split.

        Raises ValueError for a folder without a camera, a name of another form and an image in the
        folder of another camera.
        """
        records = []
        folders = {f"Cam{number}": number for number in CAMERAS}
        for folder in self.folders(root, split, "Cam1"):
            if folder.name not in folders:
                raise ValueError(
                    f"{self.name}: {split}/{folder.name} is the folder of no camera; the dataset "
                    f"has Cam1 to Cam{max(CAMERAS)}"
                )
            below = f"{split}/{folder.name}"
            for path, image_id, match in self.named_images(folder, below, NAME, EXAMPLE):
                number = int(match[1])
                if number != folders[folder.name]:
                    raise ValueError(
                        f"{self.name}: {image_id} is of camera {number}, its folder of "
                        f"{folders[folder.name]}"
                    )
                records.append(
                    {
                        "image": path,
                        "image_id": image_id,
                        "identity": int(match[3]),
                        "identity_raw": match[3],
                        "camera": number - 1,
                        "camera_raw": f"Cam{number}",
                        "platform": CAMERAS[number],
                        "time_of_day": match[2],
                        "frame": int(match[4]),
                        "protocols": members(split, CAMERAS[number]),
                    }
                )
        return records


def members(split: str, platform: str) -> list[int]:
    """Indices of the protocols that include an image, in the role of its split."""
    if split == "train":
        return []
    side = f"{split}_platform"
    return [i for i, row in enumerate(PROTOCOLS) if row[side] in ("any", platform)]


def valid_queries(splits: Mapping[str, Records], index: int) -> int:
    """Counts queries of a protocol with a match: the identity seen by another camera or platform."""
    key = PROTOCOLS[index]["camera_key"]
    seen = collections.defaultdict(set)
    for record in splits["gallery"]:
        if index in record["protocols"]:
            seen[record["identity"]].add(record[key])
    return sum(
        index in record["protocols"] and bool(seen[record["identity"]] - {record[key]})
        for record in splits["query"]
    )


def check_valid_queries(splits: Mapping[str, Records]) -> None:
    """Warns of protocols whose number of queries with a match differs from published results."""
    lines = []
    for index, row in enumerate(PROTOCOLS):
        count, expected = valid_queries(splits, index), VALID_QUERIES[row["name"]]
        if count != expected:
            lines.append(f"{row['name']}: {count} queries have a match, expected {expected}")
    if lines:
        warnings.warn(
            "cargo: results may not compare with published ones:\n  " + "\n  ".join(lines),
            stacklevel=2,
        )
