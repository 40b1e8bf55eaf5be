"""CUHK-SYSU: person search in street photographs and films (Xiao et al., CVPR 2017)."""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders import sysu_files
from tfds_builders.base import count_configs
from tfds_builders.frames import FrameBuilder, gallery_column, protocol

GALLERIES = (50, 100, 500, 1000, 2000, 4000)
"""Sizes of the galleries; the file of the first one names the test people."""
PROTOCOLS = [protocol(f"G{n}", "any", "any", gallery=gallery_column(n)) for n in GALLERIES]


class Builder(FrameBuilder):
    """Reads the frames and the annotation files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Ask the authors of CUHK-SYSU (http://www.ee.cuhk.edu.hk/~xgwang/PS/dataset.html) for the dataset and
unpack it, so that manual_dir/CUHK-SYSU holds
  Image/SSM/s1.jpg ...
  annotation/Images.mat  annotation/pool.mat
  annotation/test/train_test/Train.mat
  annotation/test/train_test/TestG50.mat  TestG100.mat  ...  TestG4000.mat"""
    FOLDERS = ("CUHK-SYSU", "CUHK-SYSU/dataset", "dataset")
    GALLERIES = GALLERIES
    EXPECTED_FRAMES = {
        "train": (11206, 55272, 5532),
        "gallery": (6978, 40871, 2900),
        "query": (2900, 2900, 2900),
    }
    SURE = frozenset(
        f"{split} {unit}"
        for split in ("train", "gallery", "query")
        for unit in ("frames", "boxes", "identities")
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.frame_info(
            homepage="http://www.ee.cuhk.edu.hk/~xgwang/PS/dataset.html", protocols=PROTOCOLS
        )

    def required(self) -> tuple[str, ...]:
        """Entries that a copy must contain: all galleries; for a partial copy only the smallest."""
        sizes = GALLERIES if self.strict else GALLERIES[:1]
        return (*sysu_files.FILES, *(sysu_files.test_file(n) for n in sizes))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        sizes = tuple(n for n in GALLERIES if (root / sysu_files.test_file(n)).exists())
        annotations = sysu_files.read(root, self.name, sizes, raw_ids=False)
        protocols = [GALLERIES.index(n) for n in sizes]
        return self.finished_frames(
            sysu_files.splits(
                annotations, root, lambda name: {"platform": "ground"}, lambda query: protocols
            )
        )
