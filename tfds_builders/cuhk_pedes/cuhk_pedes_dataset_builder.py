"""CUHK-PEDES: pedestrians and sentences about them (Li et al., CVPR 2017)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs
from tfds_builders.captions import CaptionBuilder, listed_records

FILE = "reid_raw.json"


class Builder(CaptionBuilder):
    """Reads `reid_raw.json` and the images below `imgs`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
CUHK-PEDES is sent by its authors on request (Li et al., CVPR 2017; for academic use).
Unpack it so that manual_dir/CUHK-PEDES holds
  imgs/  {FILE}"""
    FOLDER = "CUHK-PEDES"
    REQUIRED = ("imgs", FILE)
    EXPECTED = {"train": (34054, 11003), "val": (3078, 1000), "test": (3074, 1000)}
    CAPTIONS = {"train": 68126, "val": 6158, "test": 6156}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.caption_info(homepage="")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return self.finished(listed_records(self, self.root(dl_manager), FILE))
