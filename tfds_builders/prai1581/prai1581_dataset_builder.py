"""PRAI-1581: people seen by two drones at 20 to 60 m (Zhang et al., 2021)."""

import pathlib
import re
import warnings
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol
from tfds_builders.prai1581.partitions import read_partitions

NAME = re.compile(r"^(\d{8})_(\d{4})_(\d{8})\.jpg$")
EXAMPLE = "00000001_0002_00000003.jpg"
IMAGES, PARTITIONS = "images", "partitions.pkl"


class Builder(ManualBuilder):
    """Reads the images listed in the file of partitions."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
PRAI-1581 is linked from https://github.com/stormyoung/PRAI-1581. Unpack it so that
manual_dir/PRAI-1581 holds
  {IMAGES}/  {PARTITIONS}"""
    FOLDER = "PRAI-1581"
    REQUIRED = (IMAGES, PARTITIONS)
    # Sources report 781 or 782 training identities, and 1,580 or 1,581 in total.
    EXPECTED = {"train": (19523, None), IMAGES: (39461, 1581)}
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://github.com/stormyoung/PRAI-1581",
            protocols=[protocol("A2A", "aerial", "aerial")],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        names = read_partitions(root / PARTITIONS)
        splits = {}
        for split, split_names in names.items():
            present = self.present(root, split, split_names)
            splits[split] = [self.record(root, name, split) for name in sorted(present)]
        return self.finished(splits)

    def present(self, root: pathlib.Path, split: str, names: list[str]) -> list[str]:
        """Selects the names whose images exist.

        Raises ValueError for a missing image, unless the configuration is `partial`, which warns.
        """
        missing = [name for name in names if not (root / IMAGES / name).is_file()]
        if missing:
            text = (
                f"{self.name}: {PARTITIONS} names {len(missing)} {split} images that are not in "
                f"{IMAGES} (the first: {missing[0]})"
            )
            if self.strict:
                raise ValueError(f"{text}; a partial copy builds with the configuration `partial`")
            warnings.warn(f"{text}; they are passed over", stacklevel=2)
        return [name for name in names if name not in set(missing)]

    def record(self, root: pathlib.Path, name: str, split: str) -> dict[str, Any]:
        """Arguments of `crop` for an image. Raises ValueError for a name of another form."""
        match = self.parsed(f"{IMAGES}/{name}", NAME, EXAMPLE)
        return {
            "image": root / IMAGES / name,
            "image_id": f"{IMAGES}/{name}",
            "identity": int(match[1]),
            "identity_raw": match[1],
            "camera": int(match[2]) - 1,
            "camera_raw": match[2],
            "platform": "aerial",
            "frame": int(match[3]),
            "protocols": [] if split == "train" else [0],
        }
