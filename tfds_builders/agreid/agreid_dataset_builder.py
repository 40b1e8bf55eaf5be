"""AG-ReID: people seen from a drone at 15 to 45 m and from a CCTV camera (Nguyen et al., 2023)."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.agreid.attributes import GROUP_SIZES, read_attributes
from tfds_builders.agreid.names import EXAMPLE, parse_name
from tfds_builders.base import (
    ManualBuilder,
    count_configs,
    image_files,
    protocol,
)

ATTRIBUTES = "qut_attribute_v4_88_attributes.mat"
CAMERAS = {"C0": "aerial", "C3": "ground"}
PROTOCOLS = [protocol("A2G", "aerial", "ground"), protocol("G2A", "ground", "aerial")]
A2G, G2A = 0, 1

# Folder → split, camera of its images (None: any), protocols that include it.
FOLDERS = {
    "bounding_box_train": ("train", None, []),
    "query_all_c0": ("query", "C0", [A2G]),
    "query_all_c3": ("query", "C3", [G2A]),
    "bounding_box_test_all_c0": ("gallery", "C0", [G2A]),
    "bounding_box_test_all_c3": ("gallery", "C3", [A2G]),
}


class Builder(ManualBuilder):
    """Reads the five flat folders and the attribute file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
AG-ReID is linked from https://github.com/huynguyen792/AG-ReID (images and attributes are two
files). Unpack both so that manual_dir/AG-ReID holds
  bounding_box_train/  query_all_c0/  query_all_c3/
  bounding_box_test_all_c0/  bounding_box_test_all_c3/
  {ATTRIBUTES}"""
    FOLDER = "AG-ReID"
    REQUIRED = (*FOLDERS, ATTRIBUTES)
    # Counts of the README. The paper's differ (there are two releases): its ground gallery has 3,255
    # images, its text mentions 2,033 queries. So a difference is only a warning.
    EXPECTED = {
        "train": (11554, 199),
        "query": (2663, None),
        "gallery": (10535, 189),
        "query_all_c0": (1701, None),
        "query_all_c3": (962, None),
        "bounding_box_test_all_c0": (7204, None),
        "bounding_box_test_all_c3": (3331, None),
    }
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        # Class names are read from the file while building.
        return self.crop_info(
            homepage="https://github.com/huynguyen792/AG-ReID",
            protocols=PROTOCOLS,
            attribute_groups={group: [] for group in GROUP_SIZES},
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        groups, codes = read_attributes(root / ATTRIBUTES)
        self.info.metadata["attribute_groups"] = json.dumps(groups)
        splits: dict[str, list[dict[str, Any]]] = {"train": [], "query": [], "gallery": []}
        for name, (split, _, _) in FOLDERS.items():
            splits[split] += read_folder(root / name, codes)
        return self.finished(splits)


def read_folder(
    folder: pathlib.Path, codes: Mapping[str, Mapping[int, np.ndarray]]
) -> list[dict[str, Any]]:
    """Arguments of `crop` for each image of one of the folders.

    Raises ValueError for a name of another form, a camera that is not the folder's, and an identity
    without attributes.
    """
    split, only_camera, protocols = FOLDERS[folder.name]
    part = "train" if split == "train" else "test"
    records = []
    for path in image_files(folder):
        fields = parse_name(path.name)
        if fields is None or fields["camera_raw"] not in CAMERAS:
            raise ValueError(
                f"agreid: {folder.name}/{path.name} is not of the form {EXAMPLE}, with a camera of "
                f"{' and '.join(CAMERAS)}"
            )
        camera, identity = fields["camera_raw"], fields["identity"]
        if only_camera not in (None, camera):
            raise ValueError(
                f"agreid: {folder.name}/{path.name} is of camera {camera}, its folder of "
                f"{only_camera}"
            )
        if identity not in codes[part]:
            raise ValueError(
                f"agreid: {ATTRIBUTES} has no {part} row for identity {identity} "
                f"({folder.name}/{path.name})"
            )
        records.append(
            {
                **fields,
                "image": path,
                "image_id": f"{folder.name}/{path.name}",
                "camera": list(CAMERAS).index(camera),
                "platform": CAMERAS[camera],
                "attributes": codes[part][identity],
                "protocols": protocols,
            }
        )
    return records
