"""The contract of a method: the attributes that callers may read, and the capabilities it may have.

A method is a `Method` with the loss functions that the phases of a run name. It declares further
abilities by inheriting from capabilities (`EmbedsCrops`, `Detects`, ...): a caller asks with
`isinstance(model, EmbedsCaptions)`, or with `require`, and never looks into a method.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from g2ajax.config.ranges import Number, Positive

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
HALF = (127.5, 127.5, 127.5)
"""Mean and deviation that bring pixels 0..255 to -1..1."""
MULTIPLE = 32
"""Height and width of a canvas of frames are multiples of it."""


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Facts of the data that decide a model; enough to rebuild it without its dataset."""

    num_classes: int
    """Identities among the training images."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    num_cameras: int = 0
    """Cameras among the training images."""
    attribute_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Attribute groups and their class names, in the order of the columns."""
    attribute_rates: tuple[float, ...] = ()
    """For each class of each group, the share of the training identities that have it."""
    sentences: tuple[tuple[int, ...], ...] = ()
    """CLIP's ids of sentences about attributes, class by class; for methods that match them."""
    sentence_counts: tuple[tuple[int, ...], ...] = ()
    """Number of sentences of each class of each attribute, in the same order."""
    dtype: DTypeLike = jnp.float32
    """Type of the computation; parameters, statistics and losses stay float32."""
    num_platforms: int = 0
    """Platforms among the training images: the highest code plus one."""
    caption_length: int = 0
    """Tokens of a caption; 0: images come without captions."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the record in JSON's types; `from_dict` reads it back."""
        return {**dataclasses.asdict(self), "dtype": jnp.dtype(self.dtype).name}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataFacts":
        """Builds the record from `as_dict`, also after JSON turned its tuples into lists.

        Raises ValueError for fields that the record does not have.
        """
        unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"facts of the data have no field {unknown[0]!r}: of a later version?")
        fields = {name: _tuples(value) for name, value in values.items()}
        return cls(**{**fields, "dtype": jnp.dtype(fields.get("dtype", "float32"))})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Normalisation of pixels 0..255 to the network's input: `(x - mean) / std`, once."""

    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    """Mean of each channel, subtracted from pixels 0..255."""
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    """Standard deviation of each channel, by which pixels are divided."""

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """Normalises images with pixels 0..255 for the network."""
        mean, std = (jnp.asarray(x, jnp.float32)[None, None, None] for x in (self.mean, self.std))
        return (images - mean) / std


class Detected(NamedTuple):
    """Persons found in a batch of frames, best first, in pixels of the canvas.

    Unused slots come last: zeros, `valid` False.
    """

    boxes: Float[Array, "B M 4"]
    scores: Float[Array, "B M"]
    embeddings: Float[Array, "B M D"] | None
    valid: Bool[Array, "B M"]


class Explained(NamedTuple):
    """Embeddings of a batch of images with the explanation of their distances."""

    embedding: Float[Array, "B D"]
    """f, the feature after the neck."""
    attribute_embedding: Float[Array, "B M D"]
    """f^k, the same feature of the map under each attribute's attention."""
    attention: Float[Array, "B h w M"]


class Method(nnx.Module):
    """The base of every method. A method sets the attributes that differ in `__init__`."""

    preprocessing: Preprocessing = Preprocessing()
    """Normalisation that the method applies to its images; augmentation fills with its mean."""
    metric: str = "cosine"
    """Distance between embeddings: `cosine` or `squared_euclidean`."""
    feature_name: str = "embedding"
    """Name of the test embedding, for the results."""
    in_batch_terms: tuple[str, ...] = ()
    """Terms of the loss that compare the images of a batch, so that micro-batches would change it;
    `triplet` among them needs two images of each identity."""
    needs_camera: bool = False
    """True if an embedding depends on the camera's number, not on the pixels alone."""
    platforms: int = 0
    """Platforms that an embedding may depend on, numbered from 0; 0: on none."""
    learns_from_attributes: bool = False
    """True if every training identity needs an annotated attribute."""
    learns_from_platforms: bool = False
    """True if a loss tells aerial images from others: training needs both, and each one's
    platform."""
    teacher: nnx.Module | None = None
    """Part that `init.teacher` fills; None: the method has no teacher."""

    @property
    def needs_platform(self) -> bool:
        """True if an embedding depends on the platform."""
        return self.platforms > 0

    @property
    def pretrained(self) -> nnx.Module:
        """The part that `init.file` fills; all of it by default."""
        return self

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss of a batch and its terms by name; `batch["image"]` is float32 in 0..255, augmented.

        A phase may name another function of the same form (`phase.loss`).
        """
        raise NotImplementedError

    def check_phases(self, losses: Sequence[str]) -> None:
        """Raises ValueError if phases with these losses, in this order, make no sense for the model.

        Called before a new run, with the weights of `init` in place.
        """

    def begin_phase(self, loss: str) -> None:
        """Computes, once before the first step of a phase, the state that its loss reads.

        Called under jit in evaluation mode, and not when a phase is resumed. It may write any state
        but parameters.
        """

    def function(self, name: str) -> Callable[..., Any]:
        """The public function called `name`. Raises ValueError if the method has none."""
        value = None if name.startswith("_") else getattr(self, name, None)
        if not callable(value):
            raise ValueError(f"{method_name(self)} has no {name!r}")
        return value


class EmbedsCrops:
    """Embeds each image of a person as a vector; images of one person are close to each other."""

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255, float32, not normalised."""
        raise NotImplementedError


class EmbedsCaptions(EmbedsCrops):
    """Embeds images and sentences in one space, and learns from pairs of them."""

    caption_length: int = 0
    """Most tokens of a caption, start and end included."""
    uses_pairs: bool = False
    """True if a caption comes with two images, from two views (`paired_image`)."""
    guesses_words: bool = False
    """True if a loss needs masked words (`masked_word`)."""

    def embed_text(self, caption: Int[Array, "B L"]) -> Float[Array, "B D"]:
        """Features of captions (CLIP's ids), float32, not normalised."""
        raise NotImplementedError


class EmbedsTracklets:
    """Embeds each tracklet, the images of one person in order of time, as a vector."""

    def embed_tracklet(
        self,
        images: Float[Array, "B T H W 3"],
        frame_mask: Bool[Array, "B T"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of tracklets with pixels 0..255; `frame_mask` is False for padding."""
        raise NotImplementedError


class Detects:
    """Finds the persons in whole frames (the batch: see `methods/faster_rcnn.py`)."""

    def detect(
        self,
        batch: Mapping[str, jax.Array],
        query_boxes: Float[Array, "B 4"] | None = None,
    ) -> Detected:
        """The persons in a batch of frames.

        `query_boxes`, for methods that search persons: one box for each frame, returned first.
        """
        raise NotImplementedError


class SearchesPersons(Detects):
    """Finds the persons in whole frames and embeds them."""

    def embed_queries(self, batch: Mapping[str, jax.Array]) -> Float[Array, "B N D"]:
        """The embeddings of the batch's `boxes`; 0 where `box_mask` is False."""
        raise NotImplementedError


class Explains(EmbedsCrops):
    """Splits the distance of two images into one part for each attribute."""

    attribute_rates: tuple[float, ...] = ()
    """`DataFacts.attribute_rates`: a group in which all people of the training are alike is learned by
    nobody and explains nothing. Empty: unknown."""

    def explain(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Explained:
        """Embedding, attribute embeddings and attention of images with pixels 0..255."""
        raise NotImplementedError

    def distance_gradient(
        self,
        images: Float[Array, "B H W 3"],
        other: Float[Array, "B D"],
        *,
        camera: Int[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B h w C"], Float[Array, "B h w C"]]:
        """The feature map of each image, and the gradient there of the distance to `other`."""
        raise NotImplementedError


class PredictsAttributes:
    """Says which attributes an image shows."""

    attribute_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Groups and classes of the columns: `DataFacts.attribute_groups`."""
    attribute_threshold: float = 0.0
    """Logit above which an image counts as showing a class."""

    def attribute_logits(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B M"]:
        """The logit of each class of each attribute, for images with pixels 0..255."""
        raise NotImplementedError

    def attributes_of(self, logits: Float[Array, "B M"]) -> Float[Array, "B M"]:
        """1 if the image of these logits shows the attribute's class, else 0."""
        return (logits > self.attribute_threshold).astype(jnp.float32)


CAPABILITIES: dict[type, str] = {
    EmbedsCrops: "embeds crops",
    EmbedsCaptions: "embeds captions",
    EmbedsTracklets: "embeds tracklets",
    Detects: "finds persons in whole frames",
    SearchesPersons: "finds persons in whole frames and tells them apart",
    Explains: "explains its distances",
    PredictsAttributes: "predicts attributes (method.predictor=True)",
}


def method_name(model: nnx.Module | type) -> str:
    """The name of a method in a configuration: its module, dotted outside the package."""
    module = (model if isinstance(model, type) else type(model)).__module__
    own = __package__ + "."
    return module.removeprefix(own)
