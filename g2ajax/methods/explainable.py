"""The explainable two-stream system of AG-ReID (Nguyen et al., ICME 2023, arXiv 2303.08597).

It is Attribute-guided Metric Distillation (AMD; Chen et al., ICCV 2021, arXiv 2103.01451) on other
backbones. Stream 1 is a finished re-identification model and stays unchanged. Stream 2 shares its
lower stages, has upper stages of its own and an attribute decomposition head (ADH) that gives one
attention map for each attribute. Pooling stream 1's map under each attention gives one feature per
attribute, and their distances d^k are trained to add up to stream 1's distance d.

AG-ReID released no code; AMD's code decides whatever AG-ReID's paper leaves open.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from g2ajax import backbones, methods
from g2ajax.backbones import split as cut
from g2ajax.backbones.vit import ViT
from g2ajax.config import options
from g2ajax.config.ranges import Natural, NonNegative, Positive, Range
from g2ajax.losses.attribute_distillation import (
    Terms,
    attribute_distances,
    attribute_distillation,
    contributions,
    exclusive_mask,
)
from g2ajax.losses.attribute_pieces import (
    at_size,
    attribute_cross_entropy,
    draw_pieces,
    log_odds,
    mix,
    piece_logits,
)
from g2ajax.methods import DataFacts, Explained, Explains, Method, PredictsAttributes
from g2ajax.nn.attribute_head import AttributeDecompositionHead, activation
from g2ajax.nn.heads import EmbeddingHead, FCHead
from g2ajax.nn.norm import BatchNorm
from g2ajax.nn.pooling import guided
from g2ajax.retrieval.attributes import signed

PREDICTOR_WEIGHT = 100.0  # of the attribute predictor's loss in AMD's code


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are AMD's."""

    stream1: Mapping[str, Any]
    """`name` of the re-identification method, which has `backbone` and `heads`, and its options."""
    split: Annotated[int, Range(1, also=-1)] = -1
    """Place where stream 2 leaves stream 1: blocks of a ViT, or the stage (3: stem and stages 1 and
    2 are shared); −1: half of the blocks, or 3."""
    hidden: Natural = 0
    """Channels inside the attribute decomposition head; 0: an eighth of the map's."""
    k: Positive = 1.0
    """Factor K of the attention's activation."""
    t: Positive = 0.5
    """Exponent T of the attention's activation."""
    alpha: NonNegative = 10.0
    """Weight of L_p1."""
    beta: NonNegative = 100.0
    """Weight of L_p2."""
    v: NonNegative = 0.5
    """Exponent of the share that exclusive attributes must explain, (M_E/M)^v."""
    reduction: Literal["mean", "sum"] = "mean"
    """Reduction of the d^k to d: their mean (AMD's code), or their sum (as printed; take k =
    1/M)."""
    predictor: bool = False
    """Let a third copy of the upper stages learn to predict the attributes (AMD's code only). The
    ranking `reweighted_exclusive` needs it."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "Explainable":
    """Builds the method. Raises ValueError for unknown options, and for data without attributes."""
    method_options = options(Options, config, "method")
    method = PredictingExplainable if method_options.predictor else Explainable
    return method(method_options, facts, rngs=rngs)


class Explainable(Method, Explains):
    """Stream 1, stream 2's own upper stages, the attribute decomposition head.

    Two losses for two phases: `reid_loss` trains stream 1 (`trainable=("stream1",)`),
    `explain_loss` trains the rest (`trainable=("stream2", "adh")`), with stream 1 frozen. Between
    them `attribute_loss` may prepare the rest.

    Raises ValueError for data without attributes and for a stream 1 whose head does not pool a map
    by an average or a generalised mean.
    """

    learns_from_attributes = True

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        if not facts.attribute_groups:
            raise ValueError(
                "the explainable stream learns from annotated attributes, and this dataset has "
                "none; agreid, agreid_v2 and skyground have them, and so has crops_from_csv with "
                "attribute columns"
            )
        try:
            self.stream1 = methods.build(options.stream1, facts, rngs=rngs)
        except ValueError as error:
            raise ValueError(f"in method.stream1: {error}") from None
        for part in ("backbone", "heads"):
            if not hasattr(self.stream1, part):
                raise ValueError(
                    f"method.stream1 = {options.stream1['name']!r} has no {part!r}; the explainable "
                    "stream stands on a method with a backbone and an embedding head"
                )
        backbone = self.stream1.backbone
        self.split = cut.default_split(backbone) if options.split < 0 else options.split
        cut.check_split(backbone, self.split)
        self.options = options
        self.sizes = tuple(len(names) for _, names in facts.attribute_groups)
        width, attributes = backbone.feature_dim, sum(self.sizes)

        def upper_stages() -> nnx.Module:
            spec = dict(options.stream1["backbone"])
            own = backbones.build(
                spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
            )
            return cut.keep_upper(own, self.split)

        self.stream2 = upper_stages()
        self.tokens = isinstance(backbone, ViT)
        self.adh = AttributeDecompositionHead(
            width,
            options.hidden or width // 8,
            attributes,
            tokens=self.tokens,
            dtype=facts.dtype,
            rngs=rngs,
        )
        if options.predictor:
            self.attribute_groups = facts.attribute_groups
            self.predictor = upper_stages()
            self.predictor_head = nnx.Linear(
                width,
                attributes,
                use_bias=False,
                kernel_init=nnx.initializers.normal(0.001),
                rngs=rngs,
            )
        self.attribute_rates = facts.attribute_rates
        _check_pooling(self.stream1.heads, self.tokens)
        self.preprocessing = self.stream1.preprocessing
        self.metric = self.stream1.metric
        self.feature_name = self.stream1.feature_name
        self.needs_camera = self.stream1.needs_camera
        self.platforms = self.stream1.platforms
        self.in_batch_terms = (*self.stream1.in_batch_terms, "attribute distillation")

    @property
    def pretrained(self) -> nnx.Module:
        """The part that a file of weights fills: stream 1."""
        return self.stream1

    def reid_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Stream 1's own loss."""
        return self.stream1.loss(batch, rngs)

    def attribute_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Teaches stream 2 and its head what the attributes look like, and where (`attribute_pieces`).

        Our own phase before `explain`, for a stream 2 trained from scratch: the loss of `explain`
        constrains the height of an attention far more than its place, so that from scratch most
        maps settle on the middle of the body.
        """
        attributes = signed(batch["attributes"], self.sizes)
        pieces = draw_pieces(rngs.pieces(), len(attributes))
        images, other = mix(batch["image"], pieces)
        low = self._lower(images, batch["camera"])
        logits = self.adh(cut.upper(self.stream2, low, self.split, rngs))
        inside = at_size(pieces, logits.shape[1:3])
        area = jnp.mean(inside, (1, 2))
        mask = batch["mask"]
        rates = jnp.asarray(self.attribute_rates, jnp.float32)
        scores = jnp.concatenate([piece_logits(logits, inside), piece_logits(logits, ~inside)])
        loss = attribute_cross_entropy(
            scores + log_odds(rates)[None],
            jnp.concatenate([attributes, attributes[other]]),
            rates,
            jnp.concatenate([area * mask, (1.0 - area) * mask[other]]),
        )
        return loss, {"attributes": loss}

    def explain_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """L_d + α L_p1 + β L_p2 over the pairs of the batch.

        Gradients reach the attention only, and through it the head of stream 2 and its upper stages.
        AMD also adds stream 1's classification loss, which affects frozen parameters only.
        """
        attributes = signed(batch["attributes"], self.sizes)
        terms, explained = self.explained_terms(batch, attributes, rngs)
        metrics = {
            "distillation": terms.distillation,
            "group": terms.group,
            "single": terms.single,
            **self._progress(explained, attributes, batch),
        }
        if not self.options.predictor:
            return terms.total, metrics
        metrics["attributes"] = self._predictor_loss(batch, attributes, rngs)
        return terms.total + PREDICTOR_WEIGHT * metrics["attributes"], metrics

    def explained_terms(
        self, batch: Mapping[str, jax.Array], attributes: Num[Array, "B M"], rngs: nnx.Rngs
    ) -> tuple[Terms, Explained]:
        """The loss terms and the explained embeddings; `attributes` are +1, −1, 0 (unknown)."""
        options = self.options
        explained = self.explain(batch["image"], camera=batch["camera"], rngs=rngs)
        terms = attribute_distillation(
            attribute_distances(explained.embedding[:, None])[..., 0],
            attribute_distances(explained.attribute_embedding),
            attributes,
            batch["mask"],
            batch["index"],
            alpha=options.alpha,
            beta=options.beta,
            v=options.v,
            reduction=options.reduction,
        )
        return terms, explained

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """Stream 1's test feature of images with pixels 0..255, independent of stream 2."""
        return self.stream1.embed(images, camera=camera, platform=platform)

    def explain(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Explained:
        """Embedding, attribute embeddings and attention of images with pixels 0..255.

        Distances between them are Euclidean, of features that are not normalised.
        """
        low, features, embedding = self._stream1(images, camera)
        attention = self.attention_of(low, rngs)
        return Explained(embedding, self.attribute_features(features, attention), attention)

    def distance_gradient(
        self,
        images: Float[Array, "B H W 3"],
        other: Float[Array, "B D"],
        *,
        camera: Int[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B h w C"], Float[Array, "B h w C"]]:
        """Stream 1's map of each image, and the gradient there of the distance to an `other`
        embedding, as Grad-CAM needs them.
        """
        _, features, _ = self._stream1(images, camera)

        def distance(features: Float[Array, "B h w C"]) -> Float[Array, ""]:
            apart = self.stream1.heads.embed(features) - other
            return jnp.sum(jnp.sqrt(jnp.maximum(jnp.sum(apart * apart, -1), 1e-12)))

        return features, jax.grad(distance)(features)

    def _lower(
        self, images: Float[Array, "B H W 3"], camera: Int[Array, " B"] | None
    ) -> Float[Array, "B ..."]:
        """Output of the blocks or stages that the streams share."""
        camera = camera if self.needs_camera else None
        return cut.lower(self.stream1.backbone, self.preprocessing(images), self.split, camera)

    def _stream1(
        self, images: Float[Array, "B H W 3"], camera: Int[Array, " B"] | None
    ) -> tuple[Float[Array, "B ..."], Float[Array, "B h w C"], Float[Array, "B D"]]:
        """The streams' shared output, stream 1's map F and its feature f after the neck."""
        low = self._lower(images, camera)
        features = cut.upper(self.stream1.backbone, low, self.split)
        return low, features, self.stream1.heads.embed(features)

    def attention_of(
        self, low: Float[Array, "B ..."], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "B h w M"]:
        """Stream 2's attention maps, from the streams' shared output."""
        logits = self.adh(cut.upper(self.stream2, low, self.split, rngs))
        return activation(logits, self.options.k, self.options.t)

    def attribute_features(
        self, features: Float[Array, "B h w C"], attention: Float[Array, "B h w M"]
    ) -> Float[Array, "B M D"]:
        """f^k: stream 1's map under each attention, through the head that gave f.

        AMD multiplies maps that are never negative, where 0 means "nothing seen". The tokens of a
        ViT have a sign and a mean far larger than the differences between people; any change of an
        attention's height moves f^k along that mean, so the only cheap attention is the same for
        everybody. For tokens the neck's running mean μ replaces 0: f^k = neck(μ + pool((F − μ)
        A^k)). Attention 1 still gives f, attention 0 gives the average person. (The papers do not
        say how a ViT's tokens are pooled.)
        """
        heads = self.stream1.heads
        if not self.tokens:
            pooled = guided(heads.pool_layer, features, attention)
        else:
            mean = jax.lax.stop_gradient(heads.bottleneck[0].mean[...])
            deviation = guided(heads.pool_layer, features - mean[None, None, None], attention)
            pooled = deviation + mean[None, None]
        rows, attributes, width = pooled.shape
        return heads.neck(pooled.reshape(-1, width)).reshape(rows, attributes, -1)

    def _progress(
        self, result: Explained, attributes: Num[Array, "B M"], batch: Mapping[str, jax.Array]
    ) -> dict[str, Float[Array, ""]]:
        """Measures of how true the explanations are, over pairs of different images."""
        distance = attribute_distances(result.embedding[:, None])[..., 0]
        attribute_distance = attribute_distances(result.attribute_embedding)
        same = batch["index"][:, None] == batch["index"][None, :]
        pairs = batch["mask"][:, None] & batch["mask"][None, :] & ~same
        exclusive = exclusive_mask(attributes)
        share = jnp.sum(contributions(attribute_distance, same) * exclusive, -1)
        uniform = jnp.mean(exclusive, -1)

        def mean(values: Float[Array, "B B"], pair_mask: Array) -> Float[Array, ""]:
            return jnp.sum(jnp.where(pair_mask, values, 0.0)) / jnp.maximum(jnp.sum(pair_mask), 1)

        gap = jnp.abs(distance - jnp.mean(attribute_distance, -1)) / distance
        differ = pairs & (uniform > 0)
        return {
            "gap": mean(gap, pairs),
            "exclusive_share": mean(share, differ),
            "exclusive_share_uniform": mean(uniform, differ),
            "attention_variance": jnp.mean(jnp.var(result.attention, axis=(1, 2))),
        }

    def _predict(
        self, low: Float[Array, "B ..."], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "B M"]:
        features = cut.upper(self.predictor, low, self.split, rngs).astype(jnp.float32)
        return self.predictor_head(jnp.mean(features, (1, 2)))

    def _predictor_loss(
        self, batch: Mapping[str, jax.Array], attributes: Num[Array, "B M"], rngs: nnx.Rngs
    ) -> Float[Array, ""]:
        logits = self._predict(self._lower(batch["image"], batch["camera"]), rngs)
        rates = jnp.asarray(self.attribute_rates, jnp.float32)
        return attribute_cross_entropy(logits, attributes, rates, batch["mask"].astype(jnp.float32))


class PredictingExplainable(Explainable, PredictsAttributes):
    """The explainable system with AMD's predictor of attributes (`Options.predictor`)."""

    attribute_threshold = 0.5  # as in AMD's code

    def attribute_logits(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B M"]:
        """The predictor's logits of images with pixels 0..255."""
        return self._predict(self._lower(images, camera))


def _check_pooling(heads: EmbeddingHead | FCHead, tokens: bool) -> None:
    """Raises ValueError for a head that pools no map, or by something that does not factor."""
    pool = heads.pool_layer
    kind = getattr(pool, "kind", "GeneralizedMeanPoolingP")
    if tokens:
        average = kind in ("GlobalAvgPool", "FastGlobalAvgPool")
        neck = getattr(heads, "bottleneck", None)
        if not (average and neck and isinstance(neck[0], BatchNorm)):
            raise ValueError(
                f"method.stream1.head.pool = {kind!r}: the explainable stream of a ViT pools its patch "
                "tokens by GlobalAvgPool, with the batch norm right after it (embedding_dim=0); a class "
                "token has no map that attention could weigh"
            )
        return
    try:
        probe = jnp.ones((1, 1, 1, 1))
        guided(pool, probe, probe)
    except ValueError as error:
        raise ValueError(f"method.stream1.head.pool: {error}") from None
