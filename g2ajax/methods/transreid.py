"""TransReID: a ViT with side information of the camera and a jigsaw branch of shuffled patches.

He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, following its code.
Side information (SIE) adds a learned vector of the camera to every token. The jigsaw branch (JPM)
shifts and shuffles the patches before the last block, cuts them into stripes, and gives each with
the class token to a second copy of that block.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax import backbones
from g2ajax.backbones.split import keep_upper
from g2ajax.backbones.vit import ViT, class_token
from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, NonNegative, Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet_transreid
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.methods.base import HALF
from g2ajax.nn.heads import BNNeck


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the paper's."""

    backbone: Mapping[str, Any]
    """`name` of a ViT and its own options (`stride` 12: the paper's overlapping patches)."""
    preprocessing: Preprocessing = Preprocessing(HALF, HALF)
    camera_embedding: bool = True
    """Side information of the camera (SIE)."""
    platforms: Natural = 0
    """Number of platforms (0 aerial, 1 ground, 2 wearable) given as side information, the "view" of
    the code; 0: none."""
    jigsaw: bool = True
    """The jigsaw branch (JPM)."""
    stripes: Count = 4
    """Parts of the jigsaw branch; the test feature divides their features by this number."""
    rearrange: bool = True
    """Shift and shuffle; False: the stripes are consecutive patches."""
    shift: Count = 5
    """Patches by which the sequence is rolled, plus one: the code counts the class token."""
    shuffle_groups: Count = 2
    """Number of interleaved groups."""
    smoothing: Share = 0.0
    """Label smoothing, eps/C to every class."""
    margin: NonNegative | None = None
    """Margin of the batch-hard triplet loss; None or 0: soft margin."""
    identity_weight: NonNegative = 1.0
    """Weight of the identity losses."""
    triplet_weight: NonNegative = 1.0
    """Weight of the triplet losses; 0: none."""
    global_share: Share = 0.5
    """Share of the global feature in both losses; the mean of the stripes has the rest."""
    test_feature: Literal["before", "after"] = "before"
    """Embedding before or after the necks."""
    metric: Literal["cosine", "squared_euclidean"] = "cosine"
    """Distance used in the evaluation. Squared Euclidean of normalised features, as in the code, is
    twice the cosine distance: the ranking is the same."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "TransReID":
    """Builds the method. Raises ValueError for unknown options and whatever `TransReID` refuses."""
    return TransReID(options(Options, config, "method"), facts, rngs=rngs)


def shuffle_patches(
    patches: Float[Array, "B N D"], shift: int, groups: int
) -> Float[Array, "B N2 D"]:
    """The patches rolled by shift − 1 places, cut into `groups` runs, and interleaved.

    Shift − 1, because TransReID's code counts the class token, and its checkpoints need that. If
    the patches cannot be divided by `groups`, the last but one of the rolled sequence is appended
    once.

    Raises ValueError when that does not suffice, or the shift exceeds the patches.
    """
    count = patches.shape[1]
    _check_shuffle(count, shift, groups)
    rolled = jnp.roll(patches, 1 - shift, axis=1)
    if count % groups:
        rolled = jnp.concatenate([rolled, rolled[:, -2:-1]], axis=1)
    batch, count, width = rolled.shape
    runs = rolled.reshape(batch, groups, count // groups, width)
    return runs.transpose(0, 2, 1, 3).reshape(batch, count, width)


def _check_shuffle(count: int, shift: int, groups: int) -> None:
    if not 1 <= shift <= count:
        raise ValueError(f"shift = {shift}: expected 1 to {count}, the number of patches")
    if groups < 1 or (count % groups and (count < 2 or (count + 1) % groups)):
        raise ValueError(
            f"shuffle_groups = {groups}: {count} patches, or {count + 1} with one repeated, cannot "
            "be divided by it; give 2, or a divisor of their number"
        )


class TransReID(Method, EmbedsCrops):
    """ViT, neck and classifier of the global feature, and the jigsaw branch with its own.

    `backbone` is the whole ViT: its last block and final norm are the code's branch `b1`. `b2` is
    the jigsaw branch's copy of the two, under the same names; with `copy = {"b2": "backbone"}` in
    the first phase both start alike, as in the code. `neck`, and `neck_1` ... of the stripes.

    Raises:
      ValueError: for another backbone than a ViT, a grid with fewer patches than stripes, a shuffle
        that the grid does not allow, and camera information with fewer than two cameras.
    """

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        if options.camera_embedding:
            _check_cameras(facts.num_cameras)
            spec["cameras"] = facts.num_cameras
        if options.platforms:
            spec["views"] = options.platforms
        name = spec.pop("name")

        def network() -> nnx.Module:
            return backbones.build(
                name, image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
            )

        self.backbone = network()
        if not isinstance(self.backbone, ViT):
            raise ValueError(
                f"TransReID needs the tokens of a ViT; method.backbone.name = {name!r} is none: "
                "give vit_base or another one"
            )
        width = self.backbone.feature_dim
        self.neck = BNNeck(width, facts.num_classes, rngs=rngs)
        if options.jigsaw:
            _check_grid(self.backbone.grid, options)
            self.b2 = keep_upper(network(), len(self.backbone.blocks) - 1)
            for number in range(1, options.stripes + 1):
                setattr(self, f"neck_{number}", BNNeck(width, facts.num_classes, rngs=rngs))
        self.options = options
        self.metric = options.metric
        self.preprocessing = options.preprocessing
        self.needs_camera = options.camera_embedding
        self.platforms = options.platforms
        parts = f", global and {options.stripes} stripes joined" if options.jigsaw else ""
        self.feature_name = f"{options.test_feature} neck{parts}"
        self.in_batch_terms = ("triplet",) if options.triplet_weight else ()

    @property
    def necks(self) -> list[BNNeck]:
        """The necks of the global feature and of the stripes."""
        count = self.options.stripes if self.options.jigsaw else 0
        return [self.neck, *(getattr(self, f"neck_{i}") for i in range(1, count + 1))]

    def features(
        self,
        images: Float[Array, "B H W 3"],
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> list[Float[Array, "B D"]]:
        """The global feature and those of the stripes before their necks, from pixels 0..255."""
        network = self.backbone
        tokens = network.embed_patches(
            self.preprocessing(images),
            camera=camera if self.needs_camera else None,
            view=platform if self.options.platforms else None,
        )
        tokens = network.run_blocks(tokens, stop=-1, rngs=rngs)
        whole = class_token(network.norm(network.run_blocks(tokens, start=-1, rngs=rngs)))
        return [whole, *self._stripes(tokens, rngs)] if self.options.jigsaw else [whole]

    def _stripes(
        self, tokens: Float[Array, "B T D"], rngs: nnx.Rngs | None
    ) -> list[Float[Array, "B D"]]:
        """The features of the stripes, from the tokens that enter the last block."""
        options = self.options
        batch, _, width = tokens.shape
        patches = tokens[:, 1:]
        # Counts the grid's patches, not the longer row with one repeated; a remainder is left out.
        length = patches.shape[1] // options.stripes
        if options.rearrange:
            patches = shuffle_patches(patches, options.shift, options.shuffle_groups)
        parts = patches[:, : options.stripes * length].reshape(
            batch, options.stripes, length, width
        )
        first = jnp.broadcast_to(tokens[:, None, :1], (batch, options.stripes, 1, width))
        # The stripes are rows of one batch: one pass of the block, not one each.
        rows = jnp.concatenate([first, parts], axis=2).reshape(-1, 1 + length, width)
        rows = self.b2.norm(self.b2.run_blocks(rows, start=-1, rngs=rngs))
        local = class_token(rows).reshape(batch, options.stripes, width)
        return [local[:, i] for i in range(options.stripes)]

    def _shared(self, terms: list[Float[Array, ""]]) -> Float[Array, ""]:
        """The global term and the mean of the stripes' terms, by their shares."""
        if len(terms) == 1:
            return terms[0]
        share = self.options.global_share
        return share * terms[0] + (1.0 - share) * jnp.mean(jnp.stack(terms[1:]))

    def losses(
        self,
        features: list[Float[Array, "B D"]],
        logits: list[Float[Array, "B C"]],
        label: Int[Array, " B"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The identity and the triplet loss; the triplet sees the features before the necks."""
        options = self.options
        identity = [cross_entropy(one, label, smoothing=options.smoothing) for one in logits]
        ranking = [triplet_transreid(one, label, margin=options.margin)[0] for one in features]
        return self._shared(identity), self._shared(ranking)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Identity + triplet loss of a batch."""
        label = batch["label"]
        features = self.features(batch["image"], batch["camera"], batch["platform"], rngs)
        logits = [neck(one)[1] for neck, one in zip(self.necks, features, strict=True)]
        identity, ranking = self.losses(features, logits, label)
        total = self.options.identity_weight * identity + self.options.triplet_weight * ranking
        accuracy = jnp.mean(jnp.argmax(logits[0], -1) == label)
        return total, {"identity": identity, "triplet": ranking, "accuracy": accuracy}

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the global feature joined with the
        stripes' features, which are divided by their number; float32, not normalised."""
        parts = self.features(images, camera, platform)
        if self.options.test_feature == "after":
            parts = [neck.normalize(one) for neck, one in zip(self.necks, parts, strict=True)]
        whole, *local = parts
        return jnp.concatenate([whole, *(one / self.options.stripes for one in local)], axis=-1)


def _check_cameras(count: int) -> None:
    if count < 2:
        raise ValueError(
            f"method.camera_embedding: the training split has {count} camera(s), and side "
            "information needs at least two to tell apart; set method.camera_embedding=False"
        )


def _check_grid(grid: tuple[int, int], options: Options) -> None:
    count = grid[0] * grid[1]
    if options.stripes < 1 or count < options.stripes:
        raise ValueError(
            f"method.stripes = {options.stripes}: the grid of {grid[0]} x {grid[1]} patches is too "
            "small to give each stripe one; use larger images, a smaller stride, or "
            "method.jigsaw=False"
        )
    if options.rearrange:
        _check_shuffle(count, options.shift, options.shuffle_groups)
