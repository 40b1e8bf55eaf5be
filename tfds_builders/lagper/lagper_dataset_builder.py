"""LAGPeR: seven scenes seen by seven drones and fourteen ground cameras (Wang et al., 2025)."""

import json
import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol
from tfds_builders.lists import Line, read_protocols

NAME = re.compile(r"^(-1|\d+)_c(\d+).*\.jpg$")
EXAMPLE = "0001_c3_000451.jpg"
TRAIN = "bounding_box_train"
CAMERAS = [number for number in range(1, 23) if number != 10]
AERIAL = (3, 6, 9, 13, 16, 19, 22)
UNKNOWN = -1
LISTS = {
    "A2G": "exp3_A2G+.txt",
    "G2A": "exp4_G2A+.txt",
    "G2AG": "exp5_G2A+G.txt",
    "A2G_v1": "exp1_A2G.txt",
    "G2A_v1": "exp2_G2A.txt",
}
PROTOCOLS = [
    protocol("A2G", "aerial", "ground"),
    protocol("G2A", "ground", "aerial"),
    protocol("G2AG", "ground", "any"),
    protocol("A2G_v1", "aerial", "ground"),
    protocol("G2A_v1", "ground", "aerial"),
]
OPTIONAL = ("A2G_v1", "G2A_v1")


class Builder(ManualBuilder):
    """Reads the training folders of identities and the lists of the protocols."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
LAGPeR is given to institutions that sign its agreement (https://wangshining681.github.io/laper-page).
Unpack it so that manual_dir/LAGPeR holds
  {TRAIN}/    (with a folder for each identity)
  {"  ".join(list(LISTS.values())[:3])}
and the folders of test images that these lists name; {LISTS["A2G_v1"]} and {LISTS["G2A_v1"]} are
read if they are there."""
    FOLDER = "LAGPeR"
    REQUIRED = (TRAIN, *(file for name, file in LISTS.items() if name not in OPTIONAL))
    # The published numbers do not add up to the published total.
    EXPECTED = {
        "train": (40770, 2708),
        "A2G query": (3046, None),
        "A2G gallery": (15533, None),
        "G2A query": (3046, None),
        "G2A gallery": (7717, None),
        "G2AG query": (3046, None),
        "G2AG gallery": (20204, None),
    }
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        # Protocols without a list are removed while building.
        return self.crop_info(
            homepage="https://wangshining681.github.io/laper-page", protocols=PROTOCOLS
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        files = {name: root / file for name, file in LISTS.items()}
        protocols = [row for row in PROTOCOLS if files[row["name"]].is_file()]
        self.info.metadata["protocols"] = json.dumps(protocols)
        test = read_protocols(
            files, root, protocols, self.test_record, self.name, strict=self.strict
        )
        return self.finished({"train": self.read_train(root), **test})

    def read_train(self, root: pathlib.Path) -> list[dict[str, Any]]:
        """Arguments of `crop` for each training image with an identity."""
        records = [
            self.record(path, image_id, match)
            for folder in self.folders(root, TRAIN, "0001")
            for path, image_id, match in self.named_images(
                folder, f"{TRAIN}/{folder.name}", NAME, EXAMPLE
            )
        ]
        return [record for record in records if record["identity"] != UNKNOWN]

    def test_record(self, line: Line, split: str) -> dict[str, Any]:
        """Arguments of `crop` for a listed image. Raises ValueError for a query without identity."""
        record = self.record(line.path, line.image_id, self.parsed(line.image_id, NAME, EXAMPLE))
        if record["identity"] != UNKNOWN:
            return record
        if split == "query":
            raise ValueError(f"{line.place}: the query {line.image_id} has no identity")
        return {**record, "kind": "distractor"}

    def record(self, path: pathlib.Path, image_id: str, match: re.Match[str]) -> dict[str, Any]:
        """Arguments of `crop` for an image. Raises ValueError for an unknown camera."""
        number = int(match[2])
        if number not in CAMERAS:
            raise ValueError(
                f"{self.name}: {image_id} is of camera {number}; the dataset has 1 to 22, without 10"
            )
        return {
            "image": path,
            "image_id": image_id,
            "identity": int(match[1]),
            "identity_raw": match[1],
            "camera": CAMERAS.index(number),
            "camera_raw": f"c{match[2]}",
            "platform": "aerial" if number in AERIAL else "ground",
        }
