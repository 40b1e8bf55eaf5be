"""Annotation files of TBAGPR: pairs of an aerial and a ground image with a caption.

Published with AEA-FIRM (Wang et al., TCSVT 2025), on images of AG-ReID and G2APS. Files are read by a
function of their path, so that they may come from a folder, an archive or a dictionary.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

SOURCES = (("AG-ReID", "agtext"), ("G2APS-AG", "g2aps"))
"""Folder and file prefix of both sources; identities of the second follow those of the first."""
ATTRIBUTES = ("gender", "age", "light", "weight", "height", "angle", "altitude")
VOTED = 5
"""Number of attributes, from the first, that are decided by majority over all training images of an
identity. As in the published code this includes the light, although it belongs to the image."""
G2APS_KEY = 22
"""Number of characters, from the end, of the file name of a G2APS image in `attrs.json`."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A training item; paths are relative to the dataset's folder."""

    identity: int
    number: int
    """Number of the item in its file."""
    aerial: str
    ground: str
    caption: str
    aerial_attributes: tuple[int, ...] = ()
    ground_attributes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Captions and the images to find.

    `ground[i]` is the partner of `aerial[i]`; the official protocol ranks only the aerial images.
    """

    identity: tuple[int, ...]
    aerial: tuple[str, ...]
    ground: tuple[str, ...]
    caption_identity: tuple[int, ...]
    captions: tuple[str, ...]


def read_train(read: Callable[[str], Any], *, attributes: bool = True) -> list[Pair]:
    """Reads the training pairs of both sources. `read(path)` returns the content of a JSON file.

    `attributes`: also read `attrs.json` and vote. The first five attributes of an identity are the
    most frequent ones over its aerial images, then its ground images; ties go to the first one met,
    and an image in several items counts each time.

    Raises ValueError, naming file and item, for a malformed item, an empty caption, and an image
    without attributes.
    """
    pairs: list[Pair] = []
    for folder, name in SOURCES:
        file = f"{folder}/{name}_train.json"
        offset = len({pair.identity for pair in pairs})
        for row, item in enumerate(read(file)):
            where = f"{file}, item {row}"
            if len(item) != 5 or len(item[2]) != 2 or len(item[3]) != 2:
                raise ValueError(
                    f"{where}: expected [identity, number, [folder, file] of the aerial image, the "
                    f"same of the ground image, caption], got {str(item)[:120]}"
                )
            identity, number, aerial, ground, caption = item
            aerial, ground = ("/".join((folder, *parts)) for parts in (aerial, ground))
            pairs.append(
                Pair(int(identity) + offset, number, aerial, ground, _caption(caption, where))
            )
    return _with_attributes(pairs, read("attrs.json")) if attributes else pairs


def read_evaluation(read: Callable[[str], Any], split: str = "test") -> Evaluation:
    """Reads the captions and images of `split`, "test" or "val".

    The published "val" has the identities of "test", so it is not independent.

    Raises ValueError, naming the file, for lists of unequal length, an empty caption, and a caption
    of an identity without images.
    """
    columns: dict[str, list] = collections.defaultdict(list)
    for folder, name in SOURCES:
        file = f"{folder}/{name}_{split}.json"
        content, offset = read(file), len(set(columns["image_pids"]))
        for group in (("image_pids", "img_paths", "pair_img_paths"), ("caption_pids", "captions")):
            lengths = {key: len(content[key]) for key in group}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"{file}: lists that belong together differ in length: {lengths}")
        orphans = sorted(set(content["caption_pids"]) - set(content["image_pids"]))
        if orphans:
            raise ValueError(
                f"{file}: {len(orphans)} identities have captions but no image (the first: "
                f"{orphans[:5]}); a caption must have something to find"
            )
        for row, caption in enumerate(content["captions"]):
            columns["captions"].append(_caption(caption, f"{file}, caption {row}"))
        for key in ("image_pids", "caption_pids"):
            columns[key] += [int(identity) + offset for identity in content[key]]
        for key in ("img_paths", "pair_img_paths"):
            columns[key] += ["/".join((folder, *parts)) for parts in content[key]]
    names = ("image_pids", "img_paths", "pair_img_paths", "caption_pids", "captions")
    return Evaluation(*(tuple(columns[name]) for name in names))


def attribute_key(path: str) -> str:
    """Key of an image in `attrs.json`."""
    source, *_, folder, file = path.split("/")
    return f"{folder}_{file.rpartition('.')[0]}" if source == SOURCES[0][0] else file[-G2APS_KEY:]


def _caption(caption: Any, where: str) -> str:
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"{where}: the caption is {caption!r}; expected a sentence")
    return caption


def _with_attributes(pairs: list[Pair], entries: list[dict[str, list[int]]]) -> list[Pair]:
    by_key = {key: values for entry in entries for key, values in entry.items()}

    def of(path: str) -> list[int]:
        values = by_key.get(attribute_key(path))
        if values is None or len(values) != len(ATTRIBUTES):
            raise ValueError(
                f"attrs.json has {values} for {attribute_key(path)} ({path}); expected the classes "
                f"of {', '.join(ATTRIBUTES)}"
            )
        return values

    images: dict[int, list[list[int]]] = collections.defaultdict(list)
    for view in ("aerial", "ground"):
        for pair in pairs:
            images[pair.identity].append(of(getattr(pair, view)))
    majority = {identity: tuple(_votes(labels)) for identity, labels in images.items()}
    return [
        dataclasses.replace(
            pair,
            aerial_attributes=(*majority[pair.identity], *of(pair.aerial)[VOTED:]),
            ground_attributes=(*majority[pair.identity], *of(pair.ground)[VOTED:]),
        )
        for pair in pairs
    ]


def _votes(labels: list[list[int]]) -> Iterator[int]:
    for column in list(zip(*labels, strict=True))[:VOTED]:
        yield collections.Counter(column).most_common(1)[0][0]
