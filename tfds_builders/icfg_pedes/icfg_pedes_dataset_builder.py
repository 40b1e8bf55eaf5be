"""ICFG-PEDES: MSMT17's pedestrians with one fine-grained sentence each (Ding et al., 2021)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs
from tfds_builders.captions import CaptionBuilder, listed_records

FILES = ("ICFG-PEDES.json", "ICFG_PEDES.json")
"""Name in the release, and name in its README."""


class Builder(CaptionBuilder):
    """Reads the annotation file; `imgs/train` and `imgs/test` are MSMT17's folders, not the split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
ICFG-PEDES is sent by its authors on request (https://github.com/zifyloo/SSAN); its images are
MSMT17's, whose agreement applies. Unpack it so that manual_dir/ICFG-PEDES holds
  imgs/  {FILES[0]}"""
    FOLDER = "ICFG-PEDES"
    REQUIRED = ("imgs",)
    EXPECTED = {"train": (34674, 3102), "test": (19848, 1000)}
    CAPTIONS = {"train": 34674, "test": 19848}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.caption_info(homepage="https://github.com/zifyloo/SSAN")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        files = [name for name in FILES if (root / name).is_file()]
        if not files:
            raise FileNotFoundError(
                f"{self.name}: {root} lacks {' or '.join(FILES)}\n"
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return self.finished(listed_records(self, root, files[0], splits=("train", "test")))
