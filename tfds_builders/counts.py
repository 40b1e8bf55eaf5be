"""Counts of splits, for comparison with published ones, and hashes of their content."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


def content_hash(digests: Mapping[str, str]) -> str:
    """SHA-256 of a split from image_id → SHA-256 of its encoded image, independent of the order."""
    lines = "".join(f"{image_id} {digests[image_id]}\n" for image_id in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def images_and_identities(records: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Number of records, and of identities among the records of known persons."""
    records = list(records)
    persons = {r["identity"] for r in records if r.get("kind", "person") == "person"}
    return len(records), len(persons)


def part(
    splits: Mapping[str, list[dict[str, Any]]], protocols: list[str], name: str
) -> list[dict[str, Any]]:
    """Records of a split, of a side of a protocol ("A2C query") or of a folder."""
    if name in splits:
        return splits[name]
    row, _, side = name.rpartition(" ")
    if row in protocols and side in splits:
        index = protocols.index(row)
        return [record for record in splits[side] if index in record["protocols"]]
    all_records = [record for records in splits.values() for record in records]
    return [record for record in all_records if record["image_id"].startswith(f"{name}/")]


def count_differences(
    expected: Mapping[str, tuple[int | None, int | None]],
    counts: Mapping[str, tuple[int, int]],
    counted: str = "images",
) -> list[str]:
    """A line for each split whose images or identities differ from the expected counts."""
    lines = []
    for split, (images, identities) in expected.items():
        got_images, got_identities = counts.get(split, (0, 0))
        if images is not None and got_images != images:
            lines.append(f"{split}: {got_images} {counted}, expected {images}")
        if identities is not None and got_identities != identities:
            lines.append(f"{split}: {got_identities} identities, expected {identities}")
    return lines
