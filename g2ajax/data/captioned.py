"""(image, caption) pairs as the rows that training draws."""

import dataclasses
import functools
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Int

from g2ajax.config.ranges import Range
from g2ajax.data.crop_source import CropSplit
from g2ajax.data.tokenizer import CONTEXT_LENGTH, Tokenizer

Views = Literal["image", "pair", "both"]


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """Options of captions in training."""

    length: Annotated[int, Range(2)] = CONTEXT_LENGTH
    """Tokens of a caption, start and end included; longer captions are cut. Padding changes no
    feature of a causal text tower, but IRRA's cross-modal transformer attends to it, so its recipe
    keeps CLIP's 77."""
    mask: Annotated[float, Range(0, below=1, noun="a probability")] = 0.0
    """Probability that a word is masked; 0.15 in the recipes of IRRA and AEA-FIRM."""
    clean_copy: bool = False
    """True: the losses take the original caption, and IRRA's masked-word loss a masked copy (the
    paper). False: all losses take the masked caption (the published code)."""
    views: Views = "image"
    """Image of a pair when captions come with two images: the first, the second, or `both` as two
    pairs. Methods that take both images at once need `image`."""


@dataclasses.dataclass(frozen=True)
class CaptionedImages:
    """Rows (image, caption, and where there is one the paired image) of a split."""

    images: CropSplit
    image_row: Int[np.ndarray, " C"]
    pair_row: Int[np.ndarray, " C"]
    """Row of the paired image; -1: none."""
    ids: Int[np.ndarray, "C L"]
    """Token ids of each caption."""
    paired: bool
    """True if batches hold the paired images too."""

    def __len__(self) -> int:
        return len(self.image_row)

    @property
    def image_id(self) -> np.ndarray:
        return self.images.image_id[self.image_row]

    @property
    def identity(self) -> Int[np.ndarray, " C"]:
        return self.images.identity[self.image_row]

    @property
    def label(self) -> Int[np.ndarray, " C"]:
        return self.images.label[self.image_row]

    @property
    def camera(self) -> Int[np.ndarray, " C"]:
        return self.images.camera[self.image_row]

    @property
    def platform(self) -> Int[np.ndarray, " C"]:
        return self.images.platform[self.image_row]


def captioned_images(
    split: CropSplit, options: TextOptions, *, paired: bool, name: str = "the dataset"
) -> CaptionedImages:
    """All pairs of a split, their captions tokenised once.

    Raises ValueError for a split without captions, an empty caption, and for pairs if a caption has
    none.
    """
    captions = split.captions
    if captions is None or not len(captions):
        raise ValueError(
            f"{name}: the split {split.name!r} has no captions, and the method learns from them; "
            "use a dataset with captions (skyground/captions_small, tbagpr, cuhk_pedes, ...)"
        )
    bare = [row for row, text in enumerate(captions.text) if not text.strip()]
    if bare:
        raise ValueError(
            f"{name}: {len(bare)} captions of {split.name!r} are empty (the first: of "
            f"{split.image_id[captions.row[bare[0]]]}); a caption must say something"
        )
    alone = np.flatnonzero(captions.pair < 0)
    if len(alone) and (paired or options.views == "pair"):
        raise ValueError(
            f"{name}: {len(alone)} captions of {split.name!r} come with one image (the first: of "
            f"{split.image_id[captions.row[alone[0]]]}), but two, from two views, are needed"
        )
    if paired and options.views != "image":
        raise ValueError(
            f"text.views = {options.views!r}: the method takes both images of a pair at once; use "
            "'image'"
        )
    ids = tokens(captions.text, options.length)
    parts = {
        "image": [(captions.row, captions.pair, ids)],
        "pair": [(captions.pair, captions.row, ids)],
        "both": [(captions.row, captions.pair, ids), (captions.pair, captions.row, ids)],
    }[options.views]
    rows, pairs, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    valid = rows >= 0
    return CaptionedImages(split, rows[valid], pairs[valid], ids[valid], paired)


@functools.lru_cache(maxsize=8)
def tokens(texts: tuple[str, ...], length: int = CONTEXT_LENGTH) -> Int[np.ndarray, "C L"]:
    """The ids of captions; each distinct text is encoded once and cached for later evaluations."""
    number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    table = _tokenizer()(list(number_of), context_length=length)
    return table[[number_of[text] for text in texts]]


@functools.cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()
