"""Base of builders of images with captions: schema, protocols and checks.

A record is an image; `captions` are its sentences. If a sentence comes with a second image of the
person (from another view), `pair_image_ids` names that image, which is a record of the same split.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.base import ManualBuilder, crop_features


def caption_features() -> tfds.features.FeaturesDict:
    """Schema of a crop with captions."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            **crop_features(),
            "captions": tfds.features.Sequence(text()),
            "pair_image_ids": tfds.features.Sequence(text()),
            "caption_source": text(),
        }
    )


def caption_protocol(
    name: str, platform: str, *, asks: str = "text", split: str = "test"
) -> dict[str, Any]:
    """A row of the protocol table: captions of `split` as queries, its images of a platform as gallery.

    With `asks="image"` the images are the queries. Nothing is left out of a ranking.
    """
    sides = ("text", platform) if asks == "text" else (platform, "text")
    return {
        "name": name,
        "query_platform": sides[0],
        "gallery_platform": sides[1],
        "drop_same_camera": False,
        "camera_key": "camera",
        "cmc": "standard",
        "captions": split,
    }


GROUND_ONLY = (caption_protocol("T2I", "any"), caption_protocol("I2T", "any", asks="image"))
BOTH_VIEWS = (
    caption_protocol("T2A", "aerial"),
    caption_protocol("T2G", "ground"),
    caption_protocol("T2AG", "any"),
    caption_protocol("A2T", "aerial", asks="image"),
    caption_protocol("G2T", "ground", asks="image"),
    caption_protocol("AG2T", "any", asks="image"),
)


def members(protocols: Sequence[Mapping[str, Any]], platform: str) -> list[int]:
    """Indices of the protocols that include images of a platform."""
    return [
        index
        for index, row in enumerate(protocols)
        if {row["query_platform"], row["gallery_platform"]} & {"any", platform}
    ]


class CaptionBuilder(ManualBuilder, skip_registration=True):
    """Base of builders of images with captions; `CAPTIONS` are the published counts."""

    PROTOCOLS: Sequence[Mapping[str, Any]] = GROUND_ONLY
    CAPTIONS: Mapping[str, int] = {}
    """Split → number of captions."""

    def caption_info(self, *, homepage: str, **metadata: Any) -> tfds.core.DatasetInfo:
        """Dataset info with the caption schema."""
        return self.crop_info(
            homepage=homepage,
            protocols=[dict(row) for row in self.PROTOCOLS],
            features=caption_features(),
            **metadata,
        )

    def finished(
        self, splits: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        """As for crops, after a check of the captions.

        Raises ValueError for a split without captions, and (if `strict`) for a wrong number of them.
        """
        for split, records in splits.items():
            texts = [text for record in records for text in record["captions"]]
            if not texts:
                raise ValueError(f"{self.name}: the split {split!r} has no captions")
            expected = self.CAPTIONS.get(split)
            if self.strict and expected not in (None, len(texts)):
                raise ValueError(
                    f"{self.name}: {len(texts)} captions in {split}, expected {expected}; an "
                    "incomplete download? A partial copy builds with the configuration `partial`"
                )
        return super().finished(splits)

    def read_json(self, root: pathlib.Path, name: str) -> Any:
        """Content of a JSON file. Raises ValueError if it is not UTF-8 or not JSON."""
        try:
            return json.loads((root / name).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.name}: {name} is not UTF-8 (byte {error.start}); convert it first"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.name}: {name} is not JSON ({error})") from None

    def check_images(self, root: pathlib.Path, paths: Iterable[str], file: str) -> None:
        """Raises FileNotFoundError, naming some, if annotated images are missing."""
        missing = sorted(path for path in set(paths) if not (root / path).is_file())
        if missing:
            raise FileNotFoundError(
                f"{self.name}: {file} names {len(missing)} images that are not there (the first: "
                f"{', '.join(missing[:3])}); is the copy complete?\n"
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )


def listed_records(
    builder: CaptionBuilder,
    root: pathlib.Path,
    file: str,
    *,
    path_key: str = "file_path",
    below: str = "imgs",
    splits: Sequence[str] = ("train", "val", "test"),
    split: str = "",
    platform: Callable[[str], str | int] = lambda path: "ground",
) -> dict[str, list[dict[str, Any]]]:
    """Reads a file in CUHK-PEDES' form: [{split, captions, file_path, id}, ...].

    `split`: split of all entries, if the file does not name it. An image named twice in a split
    becomes one record with all its captions. Raises ValueError for an entry with missing fields,
    without a caption or without an image, and for an image of two identities; FileNotFoundError for
    missing images.
    """
    records: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in splits}
    for row, entry in enumerate(builder.read_json(root, file)):
        entry = {"split": split, **entry} if split else entry
        where = f"{builder.name}: {file}, entry {row}"
        missing = [key for key in ("split", "captions", path_key, "id") if key not in entry]
        if missing or entry["split"] not in records:
            raise ValueError(
                f"{where}: expected `split` ({', '.join(splits)}), `captions`, `{path_key}` and "
                f"`id`, got {str(entry)[:120]}"
            )
        captions = [entry["captions"]] if isinstance(entry["captions"], str) else entry["captions"]
        for text in captions:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{where}: a caption is {text!r}; expected a sentence")
        name = str(entry[path_key])
        if not name.strip():
            raise ValueError(f"{where}: captions of identity {entry['id']} name no image")
        if not captions:
            raise ValueError(f"{where}: {name} has no caption")
        image_id = f"{below}/{name}"
        record = records[entry["split"]].setdefault(
            image_id,
            {
                "image": root / image_id,
                "image_id": image_id,
                "identity": int(entry["id"]),
                "platform": platform(name),
                "captions": [],
                "pair_image_ids": [],
                "caption_source": "human",
                "protocols": members(builder.PROTOCOLS, str(platform(name)))
                if entry["split"] == "test"
                else [],
            },
        )
        if record["identity"] != int(entry["id"]):
            raise ValueError(
                f"{where}: {name} is of identity {entry['id']} here and of {record['identity']} above"
            )
        record["captions"] += captions
        record["pair_image_ids"] += [""] * len(captions)
    paths = [image_id for by_id in records.values() for image_id in by_id]
    builder.check_images(root, paths, file)
    return {name: list(by_id.values()) for name, by_id in records.items()}
