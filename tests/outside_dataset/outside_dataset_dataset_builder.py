"""A dataset outside the package: folders of `<identity>_<a or g>_<number>.png`."""

import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol

NAME = re.compile(r"^(\d+)_([ag])_(\d+)\.png$")


class Builder(ManualBuilder):
    """Four people for training, four for testing, from the air and from the ground."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Drawn by a test: manual_dir/outside holds train/ query/ gallery/"
    )
    FOLDER = "outside"
    REQUIRED = ("train", "query", "gallery")
    EXPECTED = {"train": (16, 4), "query": (8, 4), "gallery": (16, 4)}

    def _info(self) -> tfds.core.DatasetInfo:
        protocols = [protocol("A2G", "aerial", "ground"), protocol("G2A", "ground", "aerial")]
        return self.crop_info(homepage="https://example.org", protocols=protocols)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        return self.finished({split: self.read(root / split, split) for split in self.REQUIRED})

    def read(self, folder: pathlib.Path, split: str) -> list[dict[str, Any]]:
        """The arguments of `crop` for each image of a folder."""
        records = []
        for path, image_id, match in self.named_images(folder, split, NAME, "0012_a_3.png"):
            aerial = match[2] == "a"
            asks = aerial == (split == "query")  # which of the two protocols it takes part in
            records.append(
                {
                    "image": path,
                    "image_id": image_id,
                    "identity": int(match[1]),
                    "camera": 0 if aerial else 1,
                    "platform": "aerial" if aerial else "ground",
                    "protocols": [] if split == "train" else [0 if asks else 1],
                }
            )
        return records
