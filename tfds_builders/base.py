"""Base of all builders: array_record files, the crop schema, checks of folders and counts."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from g2ajax.data.images import as_stored
from tfds_builders.counts import content_hash, count_differences, images_and_identities, part

PLATFORMS = ("aerial", "ground", "wearable")
MODALITIES = ("rgb", "ir", "thermal")
KINDS = ("person", "distractor", "junk")
TIMES = ("day", "night")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

# Values of a record that its dataset does not provide.
UNKNOWN = {
    "kind": "person",
    "camera": -1,
    "camera_raw": "",
    "platform": -1,
    "modality": "rgb",
    "time_of_day": -1,
    "altitude_m": float("nan"),
    "distance_m": float("nan"),
    "angle_deg": float("nan"),
    "altitude_level": -1,
    "session": "",
    "timestamp": "",
    "frame": -1,
    "sequence": -1,
    "scene": -1,
    "attributes": np.zeros(0, np.int8),
    "protocols": np.zeros(0, np.int8),
}


def crop_features() -> tfds.features.FeaturesDict:
    """Schema of a crop: an image of a person, with its metadata."""
    text, scalar = tfds.features.Text, tfds.features.Scalar
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_id": text(),
            "identity_raw": text(),
            "identity": scalar(np.int64),
            "label": scalar(np.int32),
            "kind": tfds.features.ClassLabel(names=list(KINDS)),
            "camera": scalar(np.int32),
            "camera_raw": text(),
            "platform": tfds.features.ClassLabel(names=list(PLATFORMS)),
            "modality": tfds.features.ClassLabel(names=list(MODALITIES)),
            "time_of_day": tfds.features.ClassLabel(names=list(TIMES)),
            "altitude_m": scalar(np.float32),
            "distance_m": scalar(np.float32),
            "angle_deg": scalar(np.float32),
            "altitude_level": scalar(np.int8),
            "session": text(),
            "timestamp": text(),
            "frame": scalar(np.int64),
            "sequence": scalar(np.int32),
            "scene": scalar(np.int32),
            "attributes": tfds.features.Tensor(shape=(None,), dtype=np.int8),
            "protocols": tfds.features.Tensor(shape=(None,), dtype=np.int8),
        }
    )


def crop(
    image: bytes | pathlib.Path, image_id: str, identity: int, **fields: Any
) -> dict[str, Any]:
    """A record of the crop schema; missing `fields` are unknown."""
    record = {**UNKNOWN, "identity_raw": str(identity), "label": -1, **fields}
    record |= {"image": encoded_rgb(image), "image_id": image_id, "identity": identity}
    for name in ("attributes", "protocols"):
        record[name] = np.asarray(record[name], np.int8)
    return record


def encoded_rgb(image: bytes | pathlib.Path) -> bytes:
    """The encoded image as it is stored: as it was found, or upright RGB pixels as PNG where it would
    not decode as RGB (`g2ajax.data.images.as_stored`).

    A corrupt image is stored unchanged; `python -m g2ajax verify` reports it.
    """
    return as_stored(image if isinstance(image, bytes) else pathlib.Path(image).read_bytes())


def protocol(
    name: str,
    query_platform: str,
    gallery_platform: str,
    *,
    drop_same_camera: bool = True,
    camera_key: str = "camera",
    cmc: str = "standard",
) -> dict[str, Any]:
    """A row of the protocol table: platforms of queries and gallery ("any": all).

    `camera_key`: field that defines "the same camera" for `drop_same_camera`, `camera` or `platform`.
    """
    return {
        "name": name,
        "query_platform": query_platform,
        "gallery_platform": gallery_platform,
        "drop_same_camera": drop_same_camera,
        "camera_key": camera_key,
        "cmc": cmc,
    }


def labels_of(identities: Iterable[int]) -> dict[int, int]:
    """Identity → train label: its index among the sorted identities of the train split."""
    return {identity: label for label, identity in enumerate(sorted(set(identities)))}


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder, sorted; hidden files and other suffixes are ignored.

    Links are followed, as in all folders of a dataset. Warns of those that lead nowhere, which are
    left out.
    """
    with os.scandir(folder) as entries:
        images = sorted(
            (
                entry
                for entry in entries
                if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
            ),
            key=lambda entry: entry.name,
        )
    broken = {e.name for e in images if e.is_symlink() and not os.path.exists(e.path)}
    if broken:
        warnings.warn(
            f"{folder}: {len(broken)} links lead nowhere and are left out, such as {min(broken)}"
        )
    return [folder / entry.name for entry in images if entry.name not in broken]


@dataclasses.dataclass
class CountConfig(tfds.core.BuilderConfig):
    """A configuration of a downloaded dataset; `strict` copies must be complete."""

    strict: bool = True


def count_configs() -> list[CountConfig]:
    """Configurations of a downloaded dataset; the first is the default."""
    return [
        CountConfig(name="strict", description="The complete dataset; counts are compared."),
        CountConfig(name="partial", description="A part of the dataset.", strict=False),
    ]


@dataclasses.dataclass
class DivisionConfig(CountConfig):
    """A configuration of one of several divisions into training and test people."""

    number: int = 0
    """Number of the division, from 0."""


def division_configs(noun: str, count: int) -> list[DivisionConfig]:
    """Configurations `split0`, `split1`, ... (`noun`: split) and `partial`, a part of the first."""
    whole = [
        DivisionConfig(name=f"{noun}{i}", description=f"Number {i} of the {noun}s.", number=i)
        for i in range(count)
    ]
    part = f"A part of the dataset, by number 0 of the {noun}s."
    return [*whole, DivisionConfig(name="partial", description=part, strict=False)]


class ManualBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of builders for datasets that users download themselves; works without TensorFlow.

    A dataset sets `FOLDER` (its official root folder), `REQUIRED` (entries in it), `EXPECTED` and
    `COUNT_LEVEL`. Its `_split_generators` reads the records and returns `finished(...)`.
    """

    FOLDER = ""
    REQUIRED: tuple[str, ...] = ()
    EXPECTED: Mapping[str, tuple[int | None, int | None]] = {}
    """Split, side of a protocol ("A2C query") or folder → (images, identities); None if unknown."""
    COUNTED = "images"
    """Noun for the records in messages."""
    SHOWS_PROGRESS = False
    """True if the builder itself says how far it is, and needs no count of the records beside it."""
    COUNT_LEVEL = "error"
    """"warning" if published counts contradict each other."""

    def __init__(self, *, file_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(file_format=file_format or "array_record", **kwargs)
        # Metadata of a built dataset are loaded at the first access to `keys()`, which `dict(...)` and
        # `.get` bypass: without this line they would return the values of `_info`, not of the file.
        self.info.metadata.keys()

    def crop_info(
        self,
        *,
        homepage: str,
        protocols: list[dict[str, Any]],
        attribute_groups: Mapping[str, Iterable[str]] | None = None,
        features: tfds.features.FeaturesDict | None = None,
        **metadata: Any,
    ) -> tfds.core.DatasetInfo:
        """Dataset info with the crop schema (or `features`), protocol table and attribute names."""
        groups = {name: list(classes) for name, classes in (attribute_groups or {}).items()}
        return self.dataset_info_from_configs(
            features=features or crop_features(),
            homepage=homepage,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                {
                    "protocols": json.dumps(protocols),
                    "attribute_groups": json.dumps(groups),
                    "expected": json.dumps(dict(self.EXPECTED) if self.strict else {}),
                    "count_level": self.COUNT_LEVEL,
                    **metadata,
                }
            ),
        )

    @property
    def strict(self) -> bool:
        """True if counts are compared; False in the configuration of a partial copy."""
        return getattr(self.builder_config, "strict", True)

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Finds the dataset's folder: `FOLDER` in `manual_dir`, or `manual_dir` itself.

        Raises FileNotFoundError naming what is missing and how to get it.
        """
        manual = pathlib.Path(dl_manager.manual_dir)
        candidates = (manual / self.FOLDER, manual)
        for root in candidates:
            if all((root / name).exists() for name in self.REQUIRED):
                return root
        nearest = candidates[0] if candidates[0].is_dir() else manual
        missing = [name for name in self.REQUIRED if not (nearest / name).exists()]
        raise FileNotFoundError(
            f"{self.name}: {nearest} lacks {', '.join(missing)}\n"
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def folders(self, root: pathlib.Path, below: str, example: str) -> list[pathlib.Path]:
        """Folders in `root / below`, sorted. Raises ValueError for an image among them."""
        stray = image_files(root / below)
        if stray:
            raise ValueError(
                f"{self.name}: {below}/{stray[0].name} lies outside the folders {below}/{example}/ "
                "and the like"
            )
        places = sorted((root / below).iterdir())
        return [path for path in places if path.is_dir() and not path.name.startswith(".")]

    def named_images(
        self, folder: pathlib.Path, below: str, form: re.Pattern[str], example: str
    ) -> Iterator[tuple[pathlib.Path, str, re.Match[str]]]:
        """Yields (file, image_id, match of its name) for the images of a folder.

        `below`: path of the folder within the dataset. Raises ValueError for a name of another form.
        """
        for path in image_files(folder):
            yield path, f"{below}/{path.name}", self.parsed(f"{below}/{path.name}", form, example)

    def parsed(self, image_id: str, form: re.Pattern[str], example: str) -> re.Match[str]:
        """Matches the file name of an image. Raises ValueError for a name of another form."""
        match = form.match(image_id.rpartition("/")[2])
        if match is None:
            raise ValueError(f"{self.name}: {image_id} is not of the form {example}")
        return match

    def finished(
        self, splits: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        """Labels the records of `train`, compares counts, and returns `split_records`."""
        labels = labels_of(record["identity"] for record in splits["train"])
        for record in splits["train"]:
            record["label"] = labels[record["identity"]]
        names = [row["name"] for row in json.loads(self.info.metadata["protocols"])]
        self.check_counts(
            {name: images_and_identities(part(splits, names, name)) for name in self.EXPECTED}
        )
        return self.split_records(splits)

    def split_records(
        self, splits: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        """Result of `_split_generators`: split → records, whose images are still paths.

        Images are read one at a time while the split is written. The content hash of the split is
        stored in the metadata, for `python -m g2ajax verify`. Raises ValueError for a split without
        records, which could be neither written nor evaluated.
        """
        for split, records in splits.items():
            if not records:
                raise ValueError(
                    f"{self.name}: no {self.COUNTED} for the split {split!r}; is the copy complete?"
                )
        return {split: self._generate_examples(split, records) for split, records in splits.items()}

    def _generate_examples(
        self, split: str, records: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        return self.crop_examples(split, records)

    def crop_examples(
        self, split: str, records: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pairs of key and record of a split of crops; images are read one at a time."""
        digests = {}
        for key, record in self.unique((record["image_id"], record) for record in records):
            record = crop(**record)
            digests[key] = hashlib.sha256(record["image"]).hexdigest()
            yield key, record
        self.info.metadata[f"content_{split}"] = content_hash(digests)

    def unique(self, records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Yields the (key, record) pairs. Raises ValueError for a repeated key."""
        seen = set()
        for key, record in records:
            if key in seen:
                raise ValueError(f"{self.name}: {key} occurs twice in a split")
            seen.add(key)
            yield key, record

    def check_counts(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Compares (images, identities) of each split with `EXPECTED`.

        Raises ValueError or warns, by `COUNT_LEVEL`; does nothing unless `strict`.
        """
        lines = count_differences(self.EXPECTED, counts, self.COUNTED) if self.strict else []
        if not lines:
            return
        text = f"{self.name}: the files differ from the published counts:\n  " + "\n  ".join(lines)
        if self.COUNT_LEVEL == "error":
            partial = [config.name for config in self.BUILDER_CONFIGS if not config.strict]
            raise ValueError(
                f"{text}\nan incomplete download, or another release? A partial copy builds with "
                f"the configuration `{'` or `'.join(partial)}`"
            )
        warnings.warn(text, stacklevel=2)
