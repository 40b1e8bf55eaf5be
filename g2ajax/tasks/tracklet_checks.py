"""Checks of a dataset of tracklets before anything is computed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from g2ajax.data import readable
from g2ajax.data.crop_source import Dataset, fingerprint
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.tasks.base import warn
from g2ajax.tasks.crop_options import DataOptions


def with_readable_frames(
    dataset: Dataset, protocols: Sequence[str], options: DataOptions
) -> Dataset:
    """The dataset without the frames that cannot be read, which a line for each split names, and
    without the tracklets that have no other.

    Test frames are all decoded, once for a built dataset; those of training only if
    `options.skip_unreadable`. Raises ValueError for unreadable test frames unless it is set, and for a
    split in which nothing can be read.
    """
    tested = {split.name for row in protocols for _, split in dataset.sides(row)}
    kept = {}
    for name in sorted({*tested, *(("train",) if options.skip_unreadable else ())}):
        split = dataset.splits[name]
        frames = split.frames()
        bad = readable.unreadable(frames, num_threads=options.num_threads)
        if not bad:
            continue
        noun = "test frames" if name in tested else "frames"
        text = readable.found(dataset.name, name, bad, noun)
        if not options.skip_unreadable:
            raise ValueError(
                f"{text}; fetch them again (`g2ajax verify` lists all), or leave them out with "
                "config.data.skip_unreadable=True"
            )
        lost = np.isin(frames.image_id, list(bad))
        if lost.all():
            raise ValueError(f"{text}; no other is left")
        kept[name] = split.without(lost)
        warn(f"{text}; they are left out{_without_frames(split, kept[name])}")
    if not kept:
        return dataset
    # Other test frames make another protocol: its results never share a column with the whole one's.
    splits = {**dataset.splits, **kept}
    changed = fingerprint(splits, dataset.metadata.get("source", ""))
    return dataclasses.replace(dataset, splits=splits, fingerprint=changed)


def _without_frames(before: TrackletSplit, after: TrackletSplit) -> str:
    """The end of a sentence about tracklets that have no frame left."""
    names = np.setdiff1d(before.image_id, after.image_id).tolist()
    if not names:
        return ""
    return f", and with them {len(names)} tracklets without another frame, the first: {names[0]}"
