"""The options of runs on crops, blocks of a configuration and fields of a phase."""

import dataclasses
from typing import Literal

from g2ajax.config.ranges import Count, Natural, NonNegative
from g2ajax.data.augment import AugmentOptions
from g2ajax.evaluation.embedded import ExpansionOptions, RerankOptions
from g2ajax.tasks import base


@dataclasses.dataclass(frozen=True)
class DataOptions(base.DataOptions):
    """Options of the source of images and their path to the device."""

    image_size: tuple[Count, Count] = (256, 128)
    """Height and width in pixels."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation used to resize training images."""
    test_interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation used to resize test images."""
    residency: Literal["host", "device"] = "host"
    """`device` keeps the whole resized training split in device memory."""
    skip_unreadable: bool = False
    """Name unreadable test images and leave them out, instead of refusing to start; of tracklets
    unreadable frames, those of training too."""


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """Options of batch sampling: P identities with K images each, or a plain shuffle."""

    name: str = "naive_identity"
    """`random_identity`, `naive_identity`, `balanced_identity`, `balanced_platform` or `shuffled`."""
    identities: Count = 16
    """Identities in a batch, P."""
    images: Count = 4
    """Images of each identity, K."""
    allow_single_image: bool = False
    """Let identities with one image take part; it is repeated K times."""

    @property
    def batch_size(self) -> int:
        return self.identities * self.images


@dataclasses.dataclass(frozen=True)
class RankingOptions(base.EvaluateOptions):
    """Options of scoring a run whose rows are ranked by their embeddings."""

    best: Literal["mAP", "rank1"] = "mAP"
    """Score that chooses the best checkpoint of a phase, averaged over protocols and rankings."""
    flip: bool = False
    """Embed each test image (or clip) and its mirror, and take the mean of the two."""
    rerank: RerankOptions = RerankOptions()
    expansion: ExpansionOptions = ExpansionOptions()


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(RankingOptions):
    """Options of scoring a run; rankings are those of `evaluation.rankings`."""

    explained_images: Natural = 200
    """Test images whose attention maps are measured if parts are known (SkyGround); 0: none."""
    reweight: NonNegative = 1.0
    """Weight w of the re-weighted rankings; never choose it on the test split."""


@dataclasses.dataclass(frozen=True)
class Options(base.Options):
    """Blocks of the configuration of a run on crops."""

    data: DataOptions = DataOptions()
    sampler: SamplerOptions = SamplerOptions()
    augment: AugmentOptions = AugmentOptions()
    evaluate: EvaluateOptions = EvaluateOptions()


@dataclasses.dataclass(frozen=True)
class PhaseOptions(base.PhaseOptions):
    """Options of a phase on crops."""

    sampler: SamplerOptions | None = None
    """Batches of this phase; not set: those of the run."""
    augment: AugmentOptions | None = None
    """Augmentation of this phase; None: the run's."""
    source: Literal["images", "features"] = "images"
    """`features`: every training image is embedded once, before the first step, and a batch has
    `feature` [B,D] instead of `image`. The parameters trained must not change the features."""
    feature: str = "embed"
    """Method's function that computes the features, with the signature of `EmbedsCrops.embed`."""
