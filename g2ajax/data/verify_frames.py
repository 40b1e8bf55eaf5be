"""Checks of a built dataset of frames: counts, content hashes, images, queries and galleries."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from g2ajax.data.frame_source import FrameDataset, FrameSplit
from g2ajax.data.verify import Content, defect

WHAT = ("frames", "boxes", "identities")
SPLITS = ("train", "gallery", "query")


@dataclasses.dataclass(frozen=True)
class FrameVerification:
    """The findings about a dataset of frames."""

    counts: dict[str, tuple[int, int, int]]
    """Split → frames, boxes, identities."""
    contents: tuple[Content, ...]
    errors: list[str]
    """Faults that make results on this copy meaningless."""
    warnings: list[str]
    """Remarks on this copy that do not invalidate results."""


def verify_frames(dataset: FrameDataset) -> FrameVerification:
    """Counts the records of a built dataset, reads and decodes every frame, and looks for each
    query's person in its galleries."""
    counts = {name: _numbers(dataset.splits[name]) for name in SPLITS}
    errors, warnings = _count_lines(dataset, counts)
    contents = []
    for name in SPLITS:
        recorded = dataset.metadata.get(f"content_{name}")
        content = _content(dataset.splits[name], recorded)
        contents.append(content)
        if recorded not in (None, content.digest):
            errors.append(
                f"{name}: the images are not those that were built (content hash "
                f"{content.digest[:12]}, recorded {recorded[:12]}); build it again"
            )
        errors += [f"{name}: {image_id}: {reason}" for image_id, reason in content.unreadable]
    for row in dataset.protocols:
        queries, _ = dataset.protocol(row["name"])
        absent = [query for query in queries.tolist() if not _shown(dataset, query, row["name"])]
        if absent:
            warnings.append(
                f"{row['name']}: the person of {len(absent)} of {len(queries)} queries is in no "
                f"gallery frame (the first: query {absent[0]}); such a query scores 0"
            )
    return FrameVerification(counts, tuple(contents), errors, warnings)


def _shown(dataset: FrameDataset, query: int, protocol: str) -> bool:
    split, gallery = dataset.splits["query"], dataset.splits["gallery"]
    identity = split.identity[split.people(query)][0]
    rows = dataset.gallery(query, protocol)
    frames = np.repeat(np.arange(len(gallery)), np.diff(gallery.offsets))
    return bool(np.isin(frames[gallery.identity == identity], rows).any())


def _numbers(split: FrameSplit) -> tuple[int, int, int]:
    identities = np.unique(split.identity[split.identity >= 0])
    return len(split), len(split.boxes), len(identities)


def _count_lines(
    dataset: FrameDataset, counts: dict[str, tuple[int, int, int]]
) -> tuple[list[str], list[str]]:
    """Differences from the published counts: the certain ones, and the others."""
    sure = set(json.loads(dataset.metadata.get("sure", "[]")))
    lines: dict[bool, list[str]] = {True: [], False: []}
    for split, expected in json.loads(dataset.metadata.get("expected_frames", "{}")).items():
        for what, want, count in zip(WHAT, expected, counts[split], strict=True):
            if want not in (None, count):
                line = f"{split}: {count} {what}, expected {want}"
                lines[f"{split} {what}" in sure].append(line)
    return lines[True], lines[False]


def _content(split: FrameSplit, recorded: str | None) -> Content:
    """Reads every frame; keys and order as the builder's."""
    keys = [
        f"{image_id}:{split.identity[split.people(row)][0]}" if split.name == "query" else image_id
        for row, image_id in enumerate(split.image_id.tolist())
    ]
    digest, unreadable = hashlib.sha256(), []
    for row in sorted(range(len(split)), key=keys.__getitem__):
        data = split.read(row)
        digest.update(f"{keys[row]} {hashlib.sha256(data).hexdigest()}\n".encode())
        reason = defect(data)
        if reason:
            unreadable.append((keys[row], reason))
    return Content(split.name, digest.hexdigest(), recorded, tuple(unreadable))


def frame_table(counts: dict[str, tuple[int, int, int]]) -> str:
    """Counts in aligned columns."""
    rows: list[Sequence[str]] = [("", *WHAT)]
    rows += [(name, *(f"{number:,}" for number in counts[name])) for name in counts]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
