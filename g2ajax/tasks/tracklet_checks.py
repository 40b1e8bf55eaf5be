"""Checks of a dataset of tracklets before anything is computed."""

from collections.abc import Sequence

import numpy as np

from g2ajax.data import readable
from g2ajax.data.crop_source import Dataset
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
    splits = {}
    for name in sorted({*tested, *(("train",) if options.skip_unreadable else ())}):
        split = dataset.splits[name]
        frames = split.frames()
        bad = readable.unreadable(frames, num_threads=options.num_threads)
        if not bad:
            continue
        noun = "test frames" if name in tested else "frames"
        text = readable.describe(dataset.name, name, bad, noun)
        if not options.skip_unreadable:
            raise ValueError(f"{text}; {readable.advice('data.skip_unreadable')}")
        unreadable = np.isin(frames.image_id, list(bad))
        if unreadable.all():
            raise ValueError(f"{text}; no other is left")
        splits[name] = split.without(unreadable)
        warn(f"{text}; they are left out{_without_frames(split, splits[name])}")
    return dataset.with_splits(splits)


def _without_frames(before: TrackletSplit, after: TrackletSplit) -> str:
    """The end of a sentence about tracklets that have no frame left."""
    names = np.setdiff1d(before.image_id, after.image_id).tolist()
    if not names:
        return ""
    return f", and with them {len(names)} tracklets without another frame, the first: {names[0]}"
