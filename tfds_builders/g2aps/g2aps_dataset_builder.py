"""G2APS: person search from the ground to a drone (Zhang et al., ACM MM 2023)."""

import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders import sysu_files
from tfds_builders.base import count_configs
from tfds_builders.frames import FrameBuilder, gallery_column, protocol

NAME = re.compile(r"^([SD])(\d+)_(\w+)_(\d+)\.jpg$")
EXAMPLE = "S1_2_00001.jpg or D1_2_00001.jpg"
CAMERAS = {"S": (0, "ground"), "D": (1, "aerial")}
SIZE = 50
PROTOCOLS = [
    protocol("G2A", "ground", "aerial", gallery=gallery_column(SIZE)),
    protocol("G2A_ALL", "ground", "aerial"),
]


class Builder(FrameBuilder):
    """Reads the frames and the annotation files, which have the format of CUHK-SYSU's."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Download G2APS (https://github.com/yqc123456/HKD_for_person_search) and unpack it, so that
manual_dir/G2APS/ssm holds
  Image/SSM/S1_2_00001.jpg ...
  annotation/Images.mat  annotation/pool.mat
  annotation/test/train_test/Train.mat
  annotation/test/train_test/TestG50.mat"""
    FOLDERS = ("G2APS/ssm", "G2APS", "ssm")
    REQUIRED = (*sysu_files.FILES, sysu_files.test_file(SIZE))
    GALLERIES = (SIZE,)
    # Counts of the paper; they could not be checked on a copy.
    EXPECTED_FRAMES = {
        "train": (21962, None, 2078),
        "gallery": (9808, None, 566),
        "query": (566, 566, 566),
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return self.frame_info(
            homepage="https://github.com/yqc123456/HKD_for_person_search", protocols=PROTOCOLS
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        annotations = sysu_files.read(root, self.name, (SIZE,), raw_ids=True)
        both = {i for f in annotations.train.values() for i in f.identities if i >= 0} & {
            query.identity for query in annotations.queries
        }
        if both:
            raise ValueError(
                f"g2aps: {len(both)} people are in Train.mat and are queries (the first: "
                f"{min(both)}); training on a test person makes every score meaningless"
            )
        for query in annotations.queries:
            for name in (query.name, *query.galleries[SIZE]):
                platform = "ground" if name is query.name else "aerial"
                if self.fields(name)["platform"] != platform:
                    raise ValueError(
                        f"g2aps: TestG{SIZE}.mat: {name}, for the query {query.name}, is not of "
                        f"the platform {platform}"
                    )
        return self.finished_frames(
            sysu_files.splits(annotations, root, self.fields, lambda query: [0, 1])
        )

    def fields(self, name: str) -> dict[str, Any]:
        """Metadata in the name of a frame. Raises ValueError for a name of another form."""
        match = self.parsed(name, NAME, EXAMPLE)
        camera, platform = CAMERAS[match[1]]
        return {
            "camera": camera,
            "camera_raw": f"{match[1]}{match[2]}_{match[3]}",
            "platform": platform,
            "sequence": int(match[2]),
            "frame": int(match[4]),
        }
