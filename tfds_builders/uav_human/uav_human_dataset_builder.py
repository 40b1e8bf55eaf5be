"""UAV-Human, the part for re-identification: people seen by a low drone (Li et al., 2021)."""

import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol

NAME = re.compile(
    r"^([PD])(\d*)S(\d+)G(\d+)B(\d+)H(\d+)UC(\d+)LC(\d+)A(\d+)R(\d+)_(\d{8})_(\d+)(_bbx)?\.jpg$"
)
EXAMPLE = (
    "P000S00G10B10H10UC022000LC021000A000R0_08241716_170_bbx.jpg (the release of the challenge, with "
    "names like 00000.jpg, has no identities and cannot be built)"
)
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LEFT_OUT = (3109, 8405)
DISTRACTOR = 50000


class Builder(ManualBuilder):
    """Reads the three folders; two identities are left out, as in published results."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
UAV-Human is given out after an application form (https://github.com/SUTDCV/UAV-Human). Unpack its
part for person re-identification so that manual_dir/UAV-Human holds
  bounding_box_train/  query/  bounding_box_test/"""
    FOLDER = "UAV-Human"
    REQUIRED = tuple(FOLDERS.values())
    EXPECTED = {"train": (11805, 619), "query": (1050, 525), "gallery": (28435, None)}
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://github.com/SUTDCV/UAV-Human",
            protocols=[protocol("A2A", "aerial", "aerial", drop_same_camera=False)],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        return self.finished(
            {split: self.read_folder(root / name, split) for split, name in FOLDERS.items()}
        )

    def read_folder(self, folder: pathlib.Path, split: str) -> list[dict[str, Any]]:
        """Arguments of `crop` for each image of a folder. Raises ValueError for a distractor outside
        the gallery.
        """
        records = []
        for path, image_id, match in self.named_images(folder, folder.name, NAME, EXAMPLE):
            distractor = match[1] == "D"
            if distractor and split != "gallery":
                raise ValueError(
                    f"{self.name}: {image_id} is a distractor, which belong into "
                    f"{FOLDERS['gallery']} only"
                )
            if not (distractor or match[2]):
                raise ValueError(f"{self.name}: {image_id} has no number of a person")
            identity = DISTRACTOR if distractor else int(match[2] + match[3])
            if identity in LEFT_OUT:
                continue
            records.append(
                {
                    "image": path,
                    "image_id": image_id,
                    "identity": identity,
                    "identity_raw": f"{match[1]}{match[2]}S{match[3]}",
                    "kind": "distractor" if distractor else "person",
                    "platform": "aerial",
                    "session": match[3],
                    "timestamp": match[11],
                    "frame": int(match[12]),
                    "protocols": [] if split == "train" else [0],
                }
            )
        return records
