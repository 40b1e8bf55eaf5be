"""G2APS-ReID: crops of a person search dataset, by a drone and from the ground (Wang et al., 2025)."""

import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, protocol
from tfds_builders.lists import Line, read_protocols

NAME = re.compile(r"^(\d+)_c([03])v(\d+)_(\d+).*\.jpg$")
EXAMPLE = "0001_c0v2_000451.jpg, with a camera of c0 and c3"
TRAIN = "bounding_box_train"
CAMERAS = {"0": "aerial", "3": "ground"}
DISTRACTOR = 5555
LISTS = {"A2G": "exp3_A2G+.txt", "G2A": "exp4_G2A+.txt"}
PROTOCOLS = [protocol("A2G", "aerial", "ground"), protocol("G2A", "ground", "aerial")]
IDENTITIES = {"train": 1569, "query and gallery": 1219}


class Builder(ManualBuilder):
    """Reads the training folder and the lists of the two protocols."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
G2APS-ReID is cut out of G2APS (https://github.com/yqc123456/HKD_for_person_search) with the scripts
and lists of https://github.com/wangshining681/G2APS-ReID, so that manual_dir/GA-ReID holds
  {TRAIN}/  query_c0/  query_c3/  bounding_box_test_c0/  bounding_box_test_c3/
  bounding_box_gallery/
  {"  ".join(LISTS.values())}"""
    FOLDER = "GA-ReID"
    REQUIRED = (TRAIN, *LISTS.values())
    # The cutting of crops is not reproducible. Distractors have their own folders.
    EXPECTED = {
        "train": (100871, None),
        "query_c0": (4876, None),
        "query_c3": (4876, None),
        "bounding_box_test_c0": (62791, None),
        "bounding_box_test_c3": (37202, None),
    }
    COUNT_LEVEL = "warning"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.crop_info(
            homepage="https://github.com/wangshining681/G2APS-ReID",
            protocols=PROTOCOLS,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        test = read_protocols(
            {name: root / file for name, file in LISTS.items()},
            root,
            PROTOCOLS,
            self.test_record,
            self.name,
            strict=self.strict,
        )
        splits = {"train": self.read_train(root), **test}
        check_identities(splits, IDENTITIES if self.strict else {})
        return self.finished(splits)

    def read_train(self, root: pathlib.Path) -> list[dict[str, Any]]:
        """Arguments of `crop` for each training image.

        Raises ValueError for a distractor and for an image in the folder of another identity.
        """
        folders = sorted(path for path in (root / TRAIN).iterdir() if path.is_dir())
        records = []
        for folder in [root / TRAIN, *folders]:
            below = folder.relative_to(root).as_posix()
            for path, image_id, match in self.named_images(folder, below, NAME, EXAMPLE):
                record = self.record(path, image_id, match)
                if record.get("kind"):
                    raise ValueError(f"{self.name}: the distractor {image_id} is in {TRAIN}")
                if folder in folders and folder.name.lstrip("0") != str(record["identity"]):
                    raise ValueError(
                        f"{self.name}: {image_id} is of identity {record['identity']}, its folder "
                        f"of {folder.name}"
                    )
                records.append(record)
        return records

    def test_record(self, line: Line, split: str) -> dict[str, Any]:
        """Arguments of `crop` for a listed image. Raises ValueError for a distractor as a query."""
        record = self.record(line.path, line.image_id, self.parsed(line.image_id, NAME, EXAMPLE))
        if split == "query" and record.get("kind"):
            raise ValueError(f"{line.place}: the query {line.image_id} has no identity")
        return record

    def record(self, path: pathlib.Path, image_id: str, match: re.Match[str]) -> dict[str, Any]:
        """Arguments of `crop` for an image."""
        identity = int(match[1])
        return {
            "image": path,
            "image_id": image_id,
            "identity": identity,
            "identity_raw": match[1],
            "camera": list(CAMERAS).index(match[2]),
            "camera_raw": f"c{match[2]}",
            "platform": CAMERAS[match[2]],
            "sequence": int(match[3]),
            "frame": int(match[4]),
            **({"kind": "distractor"} if identity == DISTRACTOR else {}),
        }


def check_identities(
    splits: Mapping[str, Iterable[Mapping[str, Any]]], expected: Mapping[str, int]
) -> None:
    """Raises ValueError for identities in train and test, and for wrong numbers of identities.

    Unlike the counts of images, these numbers are certain: the published lists were checked.
    """
    persons = {
        split: {r["identity"] for r in records if r.get("kind", "person") == "person"}
        for split, records in splits.items()
    }
    test = persons["query"] | persons["gallery"]
    both = persons["train"] & test
    if both:
        raise ValueError(
            f"g2aps_reid: {len(both)} identities are in train and in the test images (the first: "
            f"{min(both)}); training on a test identity makes every score meaningless"
        )
    counts = {"train": len(persons["train"]), "query and gallery": len(test)}
    for part, number in expected.items():
        if counts[part] != number:
            raise ValueError(
                f"g2aps_reid: {counts[part]} identities in {part}, expected {number}; were all "
                "crops written, and by the lists of the authors? A part of the dataset builds with "
                "the configuration `partial`"
            )
