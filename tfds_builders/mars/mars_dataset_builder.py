"""MARS: tracklets of the people of Market-1501, six ground cameras (Zheng et al., ECCV 2016)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs, protocol
from tfds_builders.mars_files import MarsBuilder


class Builder(MarsBuilder):
    """Reads the lists and tables of the benchmark."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
MARS is linked from https://zheng-lab.cecs.anu.edu.au/Project/project_mars.html (research use only).
Unpack bbox_train.zip and bbox_test.zip, and the folder info of
https://github.com/liangzheng06/MARS-evaluation, so that manual_dir/MARS holds
  bbox_train/  bbox_test/  info/"""
    FOLDER = "MARS"
    PLATFORM = dict.fromkeys(range(6), "ground")
    # The test table has 12,180 tracklets: 634 people, 3,248 distractors and 870 of junk, which no
    # ranking counts. Without junk there are the 11,310 that papers call the gallery.
    EXPECTED = {"train": (8298, 625), "query": (1980, 626), "gallery": (12180, 634)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://zheng-lab.cecs.anu.edu.au/Project/project_mars.html",
            protocols=[protocol("STD", "any", "any")],
        )

    def protocols_of(self, split: str, platform: str) -> list[int]:
        return [0]

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return self.finished(self.splits(self.root(dl_manager)))
