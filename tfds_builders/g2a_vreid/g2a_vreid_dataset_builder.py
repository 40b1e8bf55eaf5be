"""G2A-VReID: tracklets from the ground and from a drone (Zhang et al., ECCV 2024, VSLA-CLIP)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import count_configs, protocol
from tfds_builders.mars_files import MarsBuilder


class Builder(MarsBuilder):
    """Reads the lists and tables of the release, in MARS's layout."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
G2A-VReID is released after a signed agreement, see https://github.com/FHR-L/G2A-VReID (academic use, no
redistribution). Unpack it so that manual_dir/G2A-VReID holds
  bbox_train/  bbox_test/  info/"""
    FOLDER = "G2A-VReID"
    PLATFORM = {0: "ground", 1: "aerial"}
    # Published are the totals alone: 2,788 identities, 5,576 tracklets, 185,907 images.
    EXPECTED = {}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.tracklet_info(
            homepage="https://github.com/FHR-L/G2A-VReID",
            protocols=[protocol("G2A", "ground", "aerial")],
        )

    def protocols_of(self, split: str, platform: str) -> list[int]:
        asked = {"query": "ground", "gallery": "aerial"}[split]
        return [0] if platform == asked else []

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return self.finished(self.splits(self.root(dl_manager)))
