"""Market-1501: people in front of a supermarket, six ground cameras (Zheng et al., 2015)."""

import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol

NAME = re.compile(r"^(-1|\d{4})_c([1-6])s(\d)_(\d{6})_(\d{2})\.jpg$")
EXAMPLE = "0002_c1s1_000451_03.jpg"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
DISTRACTOR, JUNK = 0, -1


class Builder(ManualBuilder):
    """Reads the three folders of the benchmark; junk images are left out of the gallery."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Market-1501 is linked from https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html (research use
only). Unpack Market-1501-v15.09.15.zip so that manual_dir/Market-1501-v15.09.15 holds
  bounding_box_train/  query/  bounding_box_test/"""
    FOLDER = "Market-1501-v15.09.15"
    REQUIRED = tuple(FOLDERS.values())
    # bounding_box_test holds 19,732 files: 13,115 images of the 750 test identities, 2,798 of
    # distractors (the paper says 2,793) and 3,819 of junk, which are left out.
    EXPECTED = {"train": (12936, 751), "query": (3368, 750), "gallery": (15913, 750)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
            protocols=[protocol("STD", "any", "any")],
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = {split: self.read_folder(root / name, split) for split, name in FOLDERS.items()}
        return self.finished(splits)

    def read_folder(self, folder: pathlib.Path, split: str) -> list[dict[str, Any]]:
        """Arguments of `crop` for each image of a folder that shows a person or a distractor.

        Identity 0 is a distractor: in the gallery, but never a correct match. Identity −1 is junk, which
        the benchmark removes from every ranking. Raises ValueError for a name of another form, and for
        a distractor or junk outside the gallery.
        """
        records = []
        for path, image_id, match in self.named_images(folder, folder.name, NAME, EXAMPLE):
            identity = int(match[1])
            if split != "gallery" and identity in (DISTRACTOR, JUNK):
                raise ValueError(
                    f"{self.name}: {image_id} is a distractor or junk, which belong into "
                    f"{FOLDERS['gallery']} only"
                )
            if identity == JUNK:
                continue
            records.append(
                {
                    "image": path,
                    "image_id": image_id,
                    "identity": identity,
                    "identity_raw": match[1],
                    "kind": "distractor" if identity == DISTRACTOR else "person",
                    "camera": int(match[2]) - 1,
                    "camera_raw": f"c{match[2]}",
                    "platform": "ground",
                    "sequence": int(match[3]),
                    "frame": int(match[4]),
                    "protocols": [] if split == "train" else [0],
                }
            )
        return records
