"""AG-ReID.v2: people seen from a drone, by CCTV and by smart glasses (Nguyen et al., 2024)."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.agreid.attributes import GROUP_SIZES, read_attributes
from tfds_builders.agreid.names import EXAMPLE, parse_name
from tfds_builders.agreid_v2.protocol_files import (
    FILES,
    find_files,
    members_by_rule,
    read_members,
)
from tfds_builders.base import (
    CountConfig,
    ManualBuilder,
    image_files,
    protocol,
)

ATTRIBUTES = "qut_attribute_v8.mat"
CAMERAS = {"C0": "aerial", "C2": "wearable", "C3": "ground"}
SPLITS = {"train": "train_all", "query": "query", "gallery": "gallery"}
PROTOCOLS = [
    protocol("A2C", "aerial", "ground"),
    protocol("A2W", "aerial", "wearable"),
    protocol("C2A", "ground", "aerial"),
    protocol("W2A", "wearable", "aerial"),
]
EXPECTED = {
    "train": (51530, 807),
    "query": (8499, 808),
    "gallery": (40473, 808),
    "A2C query": (2356, 534),
    "A2C gallery": (6347, 534),
    "A2W query": (2209, 519),
    "A2W gallery": (12912, 519),
    "C2A query": (1811, 534),
    "C2A gallery": (14362, 534),
    "W2A query": (2340, 519),
    "W2A gallery": (12568, 519),
}

GROUND = ("C2", "C3")
CHALLENGE_PROTOCOLS = [
    protocol("A2G", "aerial", "ground and wearable"),
    protocol("G2A", "ground and wearable", "aerial"),
]
A2G, G2A = 0, 1
# Folder → split, cameras of its images, protocols that include it, kind of its images.
CHALLENGE_FOLDERS = {
    "bounding_box_train": ("train", tuple(CAMERAS), [], "person"),
    "exp3_aerial_to_ground/query": ("query", ("C0",), [A2G], "person"),
    "exp3_aerial_to_ground/bounding_box_test": ("gallery", GROUND, [A2G], "person"),
    "gallery_add_on/exp3_aerial_to_ground": ("gallery", tuple(CAMERAS), [A2G], "distractor"),
    "exp6_ground_to_aerial/query": ("query", GROUND, [G2A], "person"),
    "exp6_ground_to_aerial/bounding_box_test": ("gallery", ("C0",), [G2A], "person"),
    "gallery_add_on/exp6_ground_to_aerial": ("gallery", tuple(CAMERAS), [G2A], "distractor"),
}
# Only the number of queries of the challenge is known: 8,499 rows of a submission, 4,348 aerial.
CHALLENGE_EXPECTED = {
    "query": (8499, 808),
    "exp3_aerial_to_ground/query": (4348, None),
    "exp6_ground_to_aerial/query": (4151, None),
}

Records = list[dict[str, Any]]


@dataclasses.dataclass
class ReleaseConfig(CountConfig):
    """A configuration of one of the two releases; `challenge` is the one of 2023."""

    challenge: bool = False


class Builder(ManualBuilder):
    """Reads the folders of identities with the protocol files, or the flat challenge release."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        ReleaseConfig(name="strict", description="The complete dataset; counts are compared."),
        ReleaseConfig(name="partial", description="A part of the dataset.", strict=False),
        ReleaseConfig(name="challenge", description="The release of 2023.", challenge=True),
        ReleaseConfig(
            name="challenge_partial",
            description="A part of the release of 2023.",
            strict=False,
            challenge=True,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
AG-ReID.v2 is linked from https://github.com/huynguyen792/AG-ReID.v2. Unpack it so that
manual_dir/AG-ReID.v2 holds
  train_all/  query/  gallery/     (or a folder AG-ReID.v2 with these three)
  {ATTRIBUTES}
  {"  ".join(list(FILES.values())[:2])}
  {"  ".join(list(FILES.values())[2:])}
The challenge release (agreid_v2/challenge) is on https://www.kaggle.com/competitions/ag-reid2023;
manual_dir/ag-reid2023 holds
  bounding_box_train/  {ATTRIBUTES}
  exp3_aerial_to_ground/  exp6_ground_to_aerial/    (each with query/ and bounding_box_test/)
  gallery_add_on/    (with exp3_aerial_to_ground/ and exp6_ground_to_aerial/)"""
    # The counts of the paper and of people who counted the files; nobody publishes all of them.
    COUNT_LEVEL = "warning"

    @property
    def challenge(self) -> bool:
        """True for the release of 2023."""
        return self.builder_config.challenge

    @property
    def EXPECTED(self) -> Mapping[str, tuple[int, int | None]]:
        """Split, side of a protocol, or folder → (images, identities or None)."""
        return CHALLENGE_EXPECTED if self.challenge else EXPECTED

    def _info(self) -> tfds.core.DatasetInfo:
        # Class names are read from the file while building.
        return self.crop_info(
            homepage="https://github.com/huynguyen792/AG-ReID.v2",
            protocols=CHALLENGE_PROTOCOLS if self.challenge else PROTOCOLS,
            attribute_groups={group: [] for group in GROUP_SIZES},
            protocols_from="",
        )

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Finds the folder of the images, with the attribute file in it or (not the challenge) beside it.

        Raises FileNotFoundError naming what is missing and how to get it.
        """
        manual = pathlib.Path(dl_manager.manual_dir)
        if self.challenge:
            candidates, folders = [manual / "ag-reid2023", manual], list(CHALLENGE_FOLDERS)
        else:
            outer = manual / "AG-ReID.v2"
            candidates, folders = [outer, outer / outer.name, manual], list(SPLITS.values())

        def missing(root: pathlib.Path) -> list[str]:
            absent = [name for name in folders if not (root / name).is_dir()]
            return absent + ([] if self.attribute_file(root) else [ATTRIBUTES])

        root = min(candidates, key=lambda place: (len(missing(place)), not place.is_dir()))
        if missing(root):
            raise FileNotFoundError(
                f"{self.name}: {root} lacks {', '.join(missing(root))}\n"
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return root

    def attribute_file(self, root: pathlib.Path) -> pathlib.Path | None:
        """Attribute file of the dataset with images in `root`; None if there is none."""
        places = [root] if self.challenge else [root, root.parent]
        return next((p / ATTRIBUTES for p in places if (p / ATTRIBUTES).is_file()), None)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        splits = read_challenge(root) if self.challenge else read_splits(root)
        check_identities(splits)
        groups, codes = read_attributes(self.attribute_file(root))
        self.info.metadata["attribute_groups"] = json.dumps(groups)
        set_attributes(splits, codes)
        if not self.challenge:
            self.set_protocols(root, splits)
        return self.finished(splits)

    def set_protocols(self, root: pathlib.Path, splits: Mapping[str, Records]) -> None:
        """Sets the protocols of the records: from the four files, or by the rule if there are none."""
        files = find_files(root)
        if files:
            members = read_members(files, splits, strict=self.strict)
        else:
            members = members_by_rule(splits)
        self.info.metadata["protocols_from"] = "files" if files else "identities"
        sides = [members[row["name"]] for row in PROTOCOLS]
        for split in ("query", "gallery"):
            for record in splits[split]:
                inside = [i for i, ids in enumerate(sides) if record["image_id"] in ids]
                record["protocols"] = inside


def read_splits(root: pathlib.Path) -> dict[str, Records]:
    """Reads the records of each split, without attributes and protocols.

    Every folder holds one identity. Raises ValueError for a name of another form, an unknown camera,
    and an image in the folder of another identity.
    """
    splits = {}
    for split, name in SPLITS.items():
        folders = sorted(p for p in (root / name).iterdir() if p.is_dir() and p.name[0] != ".")
        splits[split] = [
            record for folder in folders for record in read_folder(folder, f"{name}/{folder.name}")
        ]
        stray = image_files(root / name)
        if stray:
            raise ValueError(
                f"agreid_v2: {name}/{stray[0].name} is not in the folder of an identity "
                f"({name}/P0001T04041A0/ or the like)"
            )
        for record in splits[split]:
            folder, raw = record["image_id"].split("/")[1], record["identity_raw"]
            if folder != raw:
                raise ValueError(
                    f"agreid_v2: {record['image_id']} is of identity {raw}, its folder of {folder}"
                )
    return splits


def read_challenge(root: pathlib.Path) -> dict[str, Records]:
    """Reads the release of 2023, whose folders are flat and belong to a protocol.

    Images of the add-on folders are distractors, whatever the identity in their names. Raises what
    `read_splits` raises, and ValueError for an image of a camera that its folder excludes.
    """
    splits: dict[str, Records] = {"train": [], "query": [], "gallery": []}
    for name, (split, cameras, protocols, kind) in CHALLENGE_FOLDERS.items():
        for record in read_folder(root / name, name):
            if record["camera_raw"] not in cameras:
                raise ValueError(
                    f"agreid_v2: {record['image_id']} is of camera {record['camera_raw']}, its "
                    f"folder of {' and '.join(cameras)}"
                )
            splits[split].append({**record, "kind": kind, "protocols": protocols})
    return splits


def read_folder(folder: pathlib.Path, name: str) -> Records:
    """Records from the file names of a folder; `name`: path of the folder within the dataset."""
    records = []
    for path in image_files(folder):
        fields = parse_name(path.name)
        if fields is None:
            raise ValueError(f"agreid_v2: {name}/{path.name} is not of the form {EXAMPLE}")
        camera = fields["camera_raw"]
        if camera not in CAMERAS:
            raise ValueError(
                f"agreid_v2: {name}/{path.name} is of camera {camera}; the dataset has "
                f"{', '.join(f'{key} ({platform})' for key, platform in CAMERAS.items())}"
            )
        fields |= {"camera": list(CAMERAS).index(camera), "platform": CAMERAS[camera]}
        records.append({**fields, "image": path, "image_id": f"{name}/{path.name}"})
    return records


def check_identities(splits: Mapping[str, Records]) -> None:
    """Raises ValueError if an identity is in the train split and in a test split."""
    train = {record["identity_raw"] for record in splits["train"]}
    for split in ("query", "gallery"):
        for record in splits[split]:
            if record["identity_raw"] in train and record.get("kind") != "distractor":
                raise ValueError(
                    f"agreid_v2: identity {record['identity_raw']} is in train and in {split} "
                    f"({record['image_id']}); training on a test identity makes every score "
                    "meaningless, so check how the archive was unpacked"
                )


def set_attributes(
    splits: Mapping[str, Records], codes: Mapping[str, Mapping[int, Sequence[int]]]
) -> None:
    """Sets the attribute codes of each record by its identity.

    Distractors without a row are not annotated (-1). Raises ValueError for a person without a row.
    """
    unknown = [-1] * len(GROUP_SIZES)
    for split, records in splits.items():
        part = "train" if split == "train" else "test"
        for record in records:
            row = codes[part].get(record["identity"])
            if row is None and record.get("kind") != "distractor":
                raise ValueError(
                    f"agreid_v2: {ATTRIBUTES} has no {part} row for identity "
                    f"{record['identity']} ({record['image_id']})"
                )
            record["attributes"] = unknown if row is None else row
