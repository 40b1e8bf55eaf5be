"""Captions: crops of people with sentences about them; sentences rank crops and the reverse."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from g2ajax.data.captioned import CaptionedImages, TextOptions, captioned_images
from g2ajax.data.crop_source import Dataset
from g2ajax.data.text import (
    ATTRIBUTE_SENTENCES,
    MaskOptions,
    mask_words,
    sentence_counts,
    sentence_ids,
)
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.methods import DataFacts, EmbedsCaptions, Method, require
from g2ajax.tasks import crop_checks, crop_options, crops
from g2ajax.tasks.base import Batch, Phase
from g2ajax.tasks.embedder import Embedder, make_embedder


@dataclasses.dataclass(frozen=True)
class Options(crop_options.Options):
    """Blocks of the configuration of a run on images with sentences."""

    text: TextOptions = TextOptions()


class Task(crops.Task):
    """Crops with captions: a training row is an (image, caption) pair."""

    noun = "images with sentences"
    Options = Options

    @functools.cached_property
    def examples(self) -> CaptionedImages:
        paired = self.model.uses_pairs
        split = self.dataset.splits["train"]
        return captioned_images(split, self.options.text, paired=paired, name=self.dataset.name)

    @property
    def facts(self) -> DataFacts:
        ids, counts = attribute_sentences(self.dataset)
        return dataclasses.replace(
            super().facts,
            sentences=ids,
            sentence_counts=counts,
            caption_length=self.options.text.length,
        )

    def use(self, model: Method) -> None:
        crop_checks.check_sides(model, self.dataset, self.protocols)
        require(model, EmbedsCaptions, f"{self.dataset.name}, of images with sentences,")
        check_text(model, self.options.text)
        super().use(model)

    def _embedder(self, model: Method) -> Embedder:
        length = self.options.text.length
        return make_embedder(model, self.dataset, self.options, self.info.mesh, text_length=length)

    def prepare(self, phase: Phase) -> Callable[[jax.Array, Batch, Any], Batch]:
        """Prepares images as for crops, then masks words of the captions."""
        crop, text = super().prepare(phase), self.options.text

        def prepare(key: jax.Array, batch: Batch, store: Any) -> Batch:
            result = crop(key, batch, store)
            if text.mask:
                caption, result["masked_word"] = mask_words(
                    jax.random.fold_in(key, 2), batch["caption"], MaskOptions(probability=text.mask)
                )
                result["masked_caption" if text.clean_copy else "caption"] = caption
            return result

        return prepare


def check_text(model: EmbedsCaptions, text: TextOptions) -> None:
    """Raises ValueError for captions longer than the text tower, and for a loss of masked words
    without masked words."""
    if text.length > model.caption_length:
        raise ValueError(
            f"text.length = {text.length}, but the text tower has {model.caption_length} places"
        )
    if model.guesses_words and not text.mask:
        raise ValueError(
            "method.losses names 'mlm', the masked words, but text.mask = 0 masks none; 0.15 is "
            "usual"
        )


def attribute_sentences(
    dataset: Dataset,
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """The ids and numbers of the sentences that describe the dataset's attributes; none unless its
    groups and classes are TBAGPR's, the only ones with sentences."""
    sizes = {group: len(names) for group, names in dataset.attribute_groups}
    if sizes != {group: len(classes) for group, classes in ATTRIBUTE_SENTENCES.items()}:
        return (), ()
    return tuple(map(tuple, sentence_ids(Tokenizer()).tolist())), sentence_counts()
