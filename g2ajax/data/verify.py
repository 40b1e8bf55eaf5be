"""Checks of a built dataset: its counts, its content hashes, and that every image decodes."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence

import numpy as np

from g2ajax.data.crop_source import CropSplit, Dataset
from g2ajax.data.images import decode

PERSON = 0


@dataclasses.dataclass(frozen=True)
class Count:
    """One line of the table of counts. `expected`: None if nothing is published."""

    name: str
    images: int
    expected_images: int | None
    identities: int
    expected_identities: int | None

    @property
    def as_expected(self) -> bool:
        pairs = (
            (self.images, self.expected_images),
            (self.identities, self.expected_identities),
        )
        return all(expected in (None, count) for count, expected in pairs)


@dataclasses.dataclass(frozen=True)
class Content:
    """Result of reading every image of a split."""

    split: str
    digest: str
    """SHA-256 of all image_ids and encoded images."""
    recorded: str | None
    """The same digest when the dataset was built; None if the builder did not record it."""
    unreadable: tuple[tuple[str, str], ...]
    """image_id and reason of each image that is empty or does not decode."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The findings about a dataset."""

    dataset: Dataset
    counts: tuple[Count, ...]
    contents: tuple[Content, ...]

    @property
    def errors(self) -> list[str]:
        """Faults that make results on this copy meaningless."""
        lines = [] if self._counts_warn else self._count_lines
        for content in self.contents:
            if content.recorded not in (None, content.digest):
                lines.append(
                    f"{content.split}: the images are not those that were built (content hash "
                    f"{content.digest[:12]}, recorded {content.recorded[:12]}); build it again"
                )
            lines += [
                f"{content.split}: {image_id}: {reason}" for image_id, reason in content.unreadable
            ]
        return lines

    @property
    def warnings(self) -> list[str]:
        """Remarks on this copy that do not invalidate results."""
        return self._count_lines if self._counts_warn else []

    @property
    def _counts_warn(self) -> bool:
        return self.dataset.metadata.get("count_level") == "warning"

    @property
    def _count_lines(self) -> list[str]:
        lines = []
        for c in self.counts:
            if c.expected_images not in (None, c.images):
                lines.append(f"{c.name}: {c.images} images, expected {c.expected_images}")
            if c.expected_identities not in (None, c.identities):
                lines.append(
                    f"{c.name}: {c.identities} identities, expected {c.expected_identities}"
                )
        return lines


def verify(dataset: Dataset) -> Verification:
    """Counts the records of a built dataset, and reads and decodes every image of it."""
    return Verification(
        dataset=dataset,
        counts=tuple(_counts(dataset)),
        contents=tuple(
            _content(split, dataset.metadata.get(f"content_{name}"))
            for name, split in sorted(dataset.splits.items())
        ),
    )


def _counts(dataset: Dataset) -> list[Count]:
    """Lines of the splits, and of each folder and side of a protocol with a published count."""
    expected = json.loads(dataset.metadata.get("expected", "{}"))
    names = [name for name in ("train", "query", "gallery") if name in dataset.splits]
    names += [name for name in dataset.splits if name not in names]
    names += [name for name in expected if name not in names]
    counts = []
    for name in names:
        images, identities = _numbers(_parts(dataset, name))
        expected_images, expected_identities = expected.get(name, (None, None))
        counts.append(Count(name, images, expected_images, identities, expected_identities))
    return counts


def _parts(dataset: Dataset, name: str) -> list[tuple[CropSplit, slice | np.ndarray]]:
    """The splits and rows that make up a split, a side of a protocol ("A2C query") or a folder."""
    if name in dataset.splits:
        return [(dataset.splits[name], slice(None))]
    protocol, _, side = name.rpartition(" ")
    names = [row["name"] for row in dataset.protocols]
    if protocol in names and side in dataset.splits:
        split = dataset.splits[side]
        return [(split, split.protocols[:, names.index(protocol)])]
    return [
        (split, np.char.startswith(split.image_id, f"{name}/")) for split in dataset.splits.values()
    ]


def _numbers(parts: Sequence[tuple[CropSplit, slice | np.ndarray]]) -> tuple[int, int]:
    """Number of images in the parts, and of identities among the images of persons."""
    images = sum(len(split.identity[rows]) for split, rows in parts)
    persons = [split.identity[rows][split.kind[rows] == PERSON] for split, rows in parts]
    return images, len(np.unique(np.concatenate(persons)))


def _content(split: CropSplit, recorded: str | None) -> Content:
    digest, unreadable = hashlib.sha256(), []
    for row, image_id in enumerate(split.image_id.tolist()):  # sorted, as the recorded hash is
        images = split.encoded(row)
        digest.update(f"{image_id} {hashlib.sha256(b''.join(images)).hexdigest()}\n".encode())
        for number, data in enumerate(images):
            reason = defect(data)
            if reason:
                where = f"{image_id} frame {number}" if len(images) > 1 else image_id
                unreadable.append((where, reason))
    return Content(split.name, digest.hexdigest(), recorded, tuple(unreadable))


def defect(data: bytes) -> str:
    """The reason an encoded image cannot be used; empty if it can. Its reader is that of training."""
    if not data:
        return "empty file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of metadata, which no pixel depends on
            pixels = decode(data)
    except ValueError as error:
        return f"does not decode ({str(error.__cause__).split(' <')[0]})"
    return "" if pixels.size else "has no pixels"


def table(counts: Sequence[Count]) -> str:
    """Counts in aligned columns; the last column compares them with the published ones."""
    rows = [("", "images", "expected", "identities", "expected", "")]
    for c in counts:
        published = (c.expected_images, c.expected_identities) != (None, None)
        rows.append(
            (
                c.name,
                f"{c.images:,}",
                "-" if c.expected_images is None else f"{c.expected_images:,}",
                f"{c.identities:,}",
                "-" if c.expected_identities is None else f"{c.expected_identities:,}",
                ("ok" if c.as_expected else "differs") if published else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
