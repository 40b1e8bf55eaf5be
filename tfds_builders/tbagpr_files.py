"""The annotation files of TBAGPR: pairs of an aerial and a ground image with a sentence.

Published with AEA-FIRM (Wang et al., TCSVT 2025); its images are those of AG-ReID and G2APS. Every
file is asked for by its path in the folder, so that a folder, an archive or a dictionary will do.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

SOURCES = (("AG-ReID", "agtext"), ("G2APS-AG", "g2aps"))
"""Folder and name of the annotations; identities of the second are numbered after the first's."""
ATTRIBUTES = ("gender", "age", "light", "weight", "height", "angle", "altitude")
VOTED = 5
"""So many attributes, from the first, are settled for an identity by all its training images. The
light is one of them, although it belongs to the image; so has the published code."""
G2APS_KEY = 22
"""Characters of the file name by which a G2APS image is looked up."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One training item; paths are relative to the folder."""

    identity: int
    number: int
    """Of the item in its own file."""
    aerial: str
    ground: str
    caption: str
    aerial_attributes: tuple[int, ...] = ()
    ground_attributes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Captions and the images they are to find. `ground` is the partner of `aerial` at the same
    place; the official protocol ranks the aerial images alone."""

    identity: tuple[int, ...]
    aerial: tuple[str, ...]
    ground: tuple[str, ...]
    caption_identity: tuple[int, ...]
    captions: tuple[str, ...]


def read_train(read: Callable[[str], Any], *, attributes: bool = True) -> list[Pair]:
    """The training pairs of both sources. `read(path)` gives the content of a JSON file.

    `attributes` reads `attrs.json` too and votes: an identity's first five attributes are the most
    frequent among its aerial images and then its ground images, the one met first where two are
    equal; an image in several items counts each time.

    Raises ValueError, naming the file and item, for a malformed item, an empty caption, and an
    image without attributes.
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
    """The captions and images of `split`, "test" or "val".

    The identities of the published "val" are those of "test": it is no independent split.

    Raises ValueError, naming the file, for lists of unequal length, an empty caption, and a caption
    of an identity without an image.
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
    """Under which name `attrs.json` lists an image."""
    source, *_, folder, file = path.split("/")
    return f"{folder}_{file.rpartition('.')[0]}" if source == SOURCES[0][0] else file[-G2APS_KEY:]


def _caption(caption: Any, where: str) -> str:
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"{where}: the caption is {caption!r}; expected a sentence")
    return caption


def _with_attributes(pairs: list[Pair], listed: list[dict[str, list[int]]]) -> list[Pair]:
    known = {key: values for entry in listed for key, values in entry.items()}

    def of(path: str) -> list[int]:
        values = known.get(attribute_key(path))
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
    voted = {identity: tuple(_votes(labels)) for identity, labels in images.items()}
    return [
        dataclasses.replace(
            pair,
            aerial_attributes=(*voted[pair.identity], *of(pair.aerial)[VOTED:]),
            ground_attributes=(*voted[pair.identity], *of(pair.ground)[VOTED:]),
        )
        for pair in pairs
    ]


def _votes(labels: list[list[int]]) -> Iterator[int]:
    for column in list(zip(*labels, strict=True))[:VOTED]:
        yield collections.Counter(column).most_common(1)[0][0]
