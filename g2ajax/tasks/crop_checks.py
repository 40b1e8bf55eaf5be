"""Checks of a dataset of crops, and of a model on it, before anything is computed."""

from collections.abc import Sequence

import numpy as np

from g2ajax.data import readable
from g2ajax.data.crop_source import KINDS, Dataset
from g2ajax.evaluation import rankings
from g2ajax.methods import EmbedsCaptions, Method, method_name, require
from g2ajax.tasks.base import warn
from g2ajax.tasks.crop_options import DataOptions, SamplerOptions


def check_codes(dataset: Dataset) -> None:
    """Raises ValueError for attribute codes outside the known classes."""
    if not dataset.attribute_groups:
        return
    sizes = np.array([len(names) for _, names in dataset.attribute_groups])
    for name, split in dataset.splits.items():
        people = split.kind == KINDS.index("person")
        codes = split.attributes[people]
        if codes.shape[1] != len(sizes):
            raise ValueError(
                f"{dataset.name} {name}: {codes.shape[1]} attributes an image, but "
                f"{len(sizes)} groups are named; build the dataset again"
            )
        wrong = (codes < -1) | (codes >= sizes[None])
        if wrong.any():
            row, group = map(int, np.argwhere(wrong)[0])
            raise ValueError(
                f"{dataset.name} {name}: {split.image_id[people][row]} has code {codes[row, group]} "
                f"for {dataset.attribute_groups[group][0]!r}; expected 0 to {sizes[group] - 1}, or "
                "-1 (not annotated)"
            )


def with_readable_tests(
    dataset: Dataset, protocols: Sequence[str], options: DataOptions
) -> Dataset:
    """The dataset without the test images that cannot be read, each split of which a line names.

    Raises ValueError for such images unless `options.skip_unreadable`, and for those that sentences
    describe.
    """
    splits = {}
    for name in {split.name for row in protocols for _, split in dataset.sides(row)}:
        split = dataset.splits[name]
        bad = readable.unreadable(split, num_threads=options.num_threads)
        if not bad:
            continue
        text = readable.describe(dataset.name, name, bad)
        if not options.skip_unreadable or split.captions is not None:
            option = "data.skip_unreadable" if split.captions is None else ""
            raise ValueError(f"{text}; {readable.advice(option)}")
        warn(f"{text}; they are left out")
        splits[name] = split.take(np.flatnonzero(~np.isin(split.image_id, list(bad))))
    return dataset.with_splits(splits)


def check_annotated(dataset: Dataset) -> None:
    """Raises ValueError for training identities without any attribute."""
    train = dataset.splits["train"]
    people = train.kind == KINDS.index("person")
    bare = (train.attributes[people] == -1).all(axis=1)
    if bare.any():
        identities = np.unique(train.identity[people][bare])
        raise ValueError(
            f"{dataset.name}: {len(identities)} training identities have no attribute annotated "
            f"(the first: {identities[:5].tolist()}); give them attributes or leave them out"
        )


def check_triplet(model: Method, phase: str, sampler: SamplerOptions) -> None:
    """Raises ValueError when a triplet loss would find no positive in any batch."""
    grouped = sampler.name != "shuffled"
    if "triplet" in model.in_batch_terms and grouped and sampler.images < 2:
        raise ValueError(
            f"phase.{phase}: {sampler.images} image of each identity in a batch, but the triplet loss "
            "compares images of one identity; set sampler.images to 2 or more (4 is usual)"
        )


def check_platforms(model: Method, dataset: Dataset) -> None:
    """Raises ValueError when a method that learns from views would see a single one, or images of
    an unknown platform."""
    if not model.learns_from_platforms:
        return
    train = dataset.splits["train"]
    codes = train.platform[train.label >= 0]
    unknown = int((codes < 0).sum())
    if unknown:
        raise ValueError(
            f"{dataset.name}: the platform of {unknown} training images is unknown, but the view loss "
            f"of the method {method_name(model)} learns it from every image; give their platforms or "
            "leave them out"
        )
    aerial = int((codes == 0).sum())
    if aerial in (0, len(codes)):
        only = "only aerial" if aerial else "no aerial"
        raise ValueError(
            f"{dataset.name} has {only} training images, so the view loss of the method "
            f"{method_name(model)} has nothing to tell apart; take data from both sides, or a method "
            "without views (strong_baseline)"
        )


def check_rankings(model: Method, where: str, names: Sequence[str]) -> None:
    """Raises ValueError for an unknown ranking, or one the method cannot give."""
    for ranking in names:
        capability = rankings.requirement(ranking)
        if capability:
            require(model, capability, f"{where}.rankings names {ranking!r}, which")


def check_cameras(model: Method, own: Dataset, dataset: Dataset) -> None:
    """Raises ValueError when a model that embeds cameras would see one outside its training set."""
    if not model.needs_camera:
        return
    trained = set(own.splits["train"].camera.tolist())
    for name in ("query", "gallery"):
        unseen = set(dataset.splits[name].camera.tolist()) - trained
        if unseen:
            raise ValueError(
                f"cameras {sorted(unseen)} of the {name} split are not among the training cameras "
                f"{sorted(trained)}, so their side information embedding is untrained; turn it off "
                "(method.camera_embedding=False)"
            )


def check_sides(model: Method, dataset: Dataset, protocols: Sequence[str]) -> None:
    """Raises ValueError if a protocol compares sentences and the method embeds none, or the
    reverse."""
    embeds = isinstance(model, EmbedsCaptions)
    rows = {row["name"]: row for row in dataset.protocols}
    for name in protocols:
        if ("captions" in rows[name]) != embeds:
            ranked, able = ("images by images", "sentences too")
            if not embeds:
                ranked, able = ("images by sentences or the reverse", "images alone")
            raise ValueError(
                f"protocol {name} of {dataset.name} ranks {ranked}, but the method "
                f"{method_name(model)} embeds {able}; choose other data or another method"
            )
