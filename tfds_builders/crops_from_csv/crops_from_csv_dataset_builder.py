"""Your own crops: a folder of images, and a table `crops.csv` of identities and cameras."""

import hashlib
import json
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, count_configs, labels_of
from tfds_builders.crops_from_csv.listing import (
    SPLITS,
    UNKNOWN,
    Row,
    classes_of,
    divide,
    numbers_of,
    protocols_of,
    read_rows,
    warn_of_shared,
)

TABLE = "crops.csv"


class Builder(ManualBuilder):
    """Reads the table; the configuration `partial` skips missing images."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = count_configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
Put your images below manual_dir, and a table manual_dir/{TABLE} beside them, for example
  path,identity,camera,platform
  images/anna_1.jpg,anna,0,aerial
  images/anna_2.jpg,anna,1,ground
The column `camera`, and one `split` (train, query, gallery), are optional; every other column is an
attribute. Identity -1 (junk) is left out of rankings; `distractor` is nobody's match."""
    FOLDER = "crops_from_csv"
    REQUIRED = (TABLE,)

    def _info(self) -> tfds.core.DatasetInfo:
        # Protocols and attributes are read from the table while building.
        return self.crop_info(homepage="", protocols=[])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self.root(dl_manager)
        rows, attributes = read_rows(root / TABLE)
        rows = self.with_images(root, rows)
        if rows[0].split:
            splits = {split: [row for row in rows if row.split == split] for split in SPLITS}
        else:
            splits = divide(rows)
        warn_of_shared(self.name, splits)
        protocols = protocols_of(splits["query"], splits["gallery"])
        classes = classes_of(rows, attributes)
        self.info.metadata["source"] = hash_of(root)
        self.info.metadata["protocols"] = json.dumps(protocols)
        self.info.metadata["attribute_groups"] = json.dumps(classes)
        numbers = numbers_of({row.identity for row in rows if row.kind == "person"})
        labels = labels_of(numbers[row.identity] for row in splits["train"])
        return self.split_records(
            {
                split: [
                    _record(root, row, split, numbers, labels, protocols, classes) for row in rows
                ]
                for split, rows in splits.items()
            }
        )

    def source_hash(self, manual: pathlib.Path) -> str:
        """Hash of the table and its images in a folder of downloads; "" if there is no table."""
        for root in (manual / self.FOLDER, manual):
            if (root / TABLE).is_file():
                return hash_of(root)
        return ""

    def with_images(self, root: pathlib.Path, rows: Sequence[Row]) -> list[Row]:
        """Selects the rows whose image exists.

        Raises FileNotFoundError if one does not, unless the configuration is `partial`.
        """
        missing = [row for row in rows if not (root / row.path).is_file()]
        if missing and self.strict:
            raise FileNotFoundError(
                f"{TABLE}, line {missing[0].line}: {root / missing[0].path} does not exist "
                f"({len(missing)} of {len(rows)} images are missing; the configuration `partial` "
                "passes over them)"
            )
        if missing:
            warnings.warn(f"{self.name}: {len(missing)} of {len(rows)} images are missing")
        if len(missing) == len(rows):
            raise FileNotFoundError(f"{TABLE}: none of its {len(rows)} images is below {root}")
        missing_lines = {row.line for row in missing}
        return [row for row in rows if row.line not in missing_lines]


def hash_of(root: pathlib.Path) -> str:
    """Hash of the table in a folder, and of the images that it names."""
    digest = hashlib.sha256((root / TABLE).read_bytes())
    for row in read_rows(root / TABLE)[0]:
        path = root / row.path
        content = path.read_bytes() if path.is_file() else b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _record(
    root: pathlib.Path,
    row: Row,
    split: str,
    numbers: Mapping[str, int],
    labels: Mapping[int, int],
    protocols: Sequence[Mapping[str, Any]],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    side = f"{split}_platform"
    # Junk and distractors are nobody: their kind says that they match no query.
    identity = numbers.get(row.identity, -1)
    codes = [
        names.index(value) if value else -1
        for names, value in zip(classes.values(), row.attributes, strict=True)
    ]
    return {
        "image": root / row.path,
        "image_id": row.path,
        "identity": identity,
        "identity_raw": row.identity,
        "label": labels[identity] if split == "train" else -1,
        "kind": row.kind,
        "camera": row.camera,
        "camera_raw": "" if row.camera == UNKNOWN else str(row.camera),
        "platform": row.platform,
        "attributes": codes,
        "protocols": [
            i for i, p in enumerate(protocols) if p.get(side, "") in ("any", row.platform)
        ],
    }
