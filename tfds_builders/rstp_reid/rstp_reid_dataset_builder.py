"""RSTPReid: MSMT17's pedestrians, five images each, two sentences an image (Zhu et al., 2021)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs
from tfds_builders.captions import CaptionBuilder, listed_records

FILE = "data_captions.json"


class Builder(CaptionBuilder):
    """Reads `data_captions.json`, where the key of the image is `img_path`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
RSTPReid is linked from https://github.com/NjtechCVLab/RSTPReid-Dataset; its images are MSMT17's,
whose agreement applies. Unpack it so that manual_dir/RSTPReid holds
  imgs/  {FILE}"""
    FOLDER = "RSTPReid"
    REQUIRED = ("imgs", FILE)
    EXPECTED = {"train": (18505, 3701), "val": (1000, 200), "test": (1000, 200)}
    CAPTIONS = {"train": 37010, "val": 2000, "test": 2000}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.caption_info(homepage="https://github.com/NjtechCVLab/RSTPReid-Dataset")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return self.finished(listed_records(self, self.root(dl_manager), FILE, path_key="img_path"))
