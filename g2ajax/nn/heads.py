"""Necks and classifiers on top of a backbone; float32, whatever the dtype of the backbone."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.nn.init import normal_linear
from g2ajax.nn.norm import BatchNorm
from g2ajax.nn.pooling import build_pool

CLASSIFIERS = ("Linear", "ArcSoftmax", "ArcFace", "CosSoftmax", "CircleSoftmax")
HIGHEST = jax.lax.Precision.HIGHEST


def unit(x: Float[Array, "N D"], eps: int | float = 1e-12) -> Float[Array, "N D"]:
    """Rows divided by max(norm, eps), with a finite gradient at a row of zeros."""
    square = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, eps * eps))


def margin_logits(
    kind: str,
    cosine: Float[Array, "B C"],
    label: Int[Array, " B"],
    scale: int | float,
    margin: int | float,
) -> Float[Array, "B C"]:
    """Training logits of a classifier from cosines c ("Linear": from plain logits).

    Linear: s c. CosSoftmax: s (c - m [true class]). ArcSoftmax: s cos(acos(c) + m) for the true
    class, s c elsewhere. CircleSoftmax: s max(1 + m - c, 0) (c - 1 + m) for the true class,
    s max(c + m, 0) (c - m) elsewhere, no gradient through the two weights. A row labelled -1 has
    no true class. These four are fast-reid's.

    ArcFace: TransReID's form of ArcSoftmax (Deng et al., CVPR 2019). Where acos(c) + m passes pi the
    true class gets s (c - m sin m), which keeps falling; the cosine alone would rise again.

    The references have a NaN gradient at |c| = 1; here c is kept 1e-7 inside.
    """
    true = jax.nn.one_hot(label, cosine.shape[-1], dtype=jnp.bool_)
    if kind == "Linear":
        return scale * cosine
    if kind == "CosSoftmax":
        return scale * (cosine - jnp.where(true, margin, 0.0))
    if kind in ("ArcSoftmax", "ArcFace"):
        inside = jnp.clip(cosine, -1.0 + 1e-7, 1.0 - 1e-7)
        moved = inside * math.cos(margin) - jnp.sqrt(1.0 - jnp.square(inside)) * math.sin(margin)
        if kind == "ArcFace":
            fallback = cosine - margin * math.sin(margin)
            moved = jnp.where(cosine > math.cos(math.pi - margin), moved, fallback)
        return scale * jnp.where(true, moved, cosine)
    if kind == "CircleSoftmax":
        frozen = jax.lax.stop_gradient(cosine)
        positive = jnp.maximum(1.0 + margin - frozen, 0.0) * (cosine - (1.0 - margin))
        negative = jnp.maximum(frozen + margin, 0.0) * (cosine - margin)
        return scale * jnp.where(true, positive, negative)
    raise ValueError(f"classifier {kind!r} is unknown; expected one of {', '.join(CLASSIFIERS)}")


class PooledHead(nnx.Module):
    """Base of heads on a map: `pool_layer`, then `neck`; all features are float32."""

    def features(
        self, x: Float[Array, "B h w C"] | Float[Array, "B C"]
    ) -> tuple[Float[Array, "B C"], Float[Array, "B D"]]:
        """Pooled feature and feature after the neck."""
        pooled = self.pool_layer(x)
        return pooled, self.neck(pooled)

    def embed(self, x: Float[Array, "B h w C"] | Float[Array, "B C"]) -> Float[Array, "B D"]:
        """Test feature: the feature after the neck."""
        return self.features(x)[1]


class EmbeddingHead(PooledHead):
    """fast-reid's head (arXiv 2006.02631, §3.3): pool, optional 1x1 reduction, BNNeck, classifier.

    Names in the state dict: `pool_layer.p` (learnable GeM only), `bottleneck.0` (the reduction if
    `embedding_dim` > 0, else the batch norm), `bottleneck.1`, `weight` [num_classes, D]. The batch
    norm's bias is zero: stored, but never trained (a `Buffer`).

    Called with labels, for training, it returns `cls_outputs` [B,C] (scaled, with margin, for the
    cross-entropy), `pred_class_logits` [B,C] (scaled, without margin, for the accuracy), `features`
    [B,D] for the metric losses, before or after the neck by `neck_feature`, and `after` [B,D], always
    after the neck, which is also the test feature, the result of `embed`.

    Raises:
      ValueError: for an unknown pooling, classifier or neck feature.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        embedding_dim: int = 0,
        with_bnneck: bool = True,
        neck_feature: str = "before",
        pool: str = "GlobalAvgPool",
        classifier: str = "Linear",
        scale: int | float = 1.0,
        margin: int | float = 0.0,
        gem_p: int | float = 3.0,
        gem_eps: int | float = 1e-6,
        bn_momentum: int | float = 0.1,
        rngs: nnx.Rngs,
    ):
        if classifier not in CLASSIFIERS:
            raise ValueError(
                f"classifier {classifier!r} is unknown; expected one of {', '.join(CLASSIFIERS)}"
            )
        if neck_feature not in ("before", "after"):
            raise ValueError(f"neck_feature {neck_feature!r}: expected 'before' or 'after'")
        self.neck_feature = neck_feature
        self.classifier = classifier
        self.scale = scale
        self.margin = margin
        self.pool_layer = build_pool(pool, p=gem_p, eps=gem_eps)
        layers, width = [], feature_dim
        if embedding_dim > 0:
            width = embedding_dim
            layers.append(
                nnx.Conv(
                    feature_dim,
                    width,
                    (1, 1),
                    use_bias=False,
                    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
                    precision=HIGHEST,
                    rngs=rngs,
                )
            )
        if with_bnneck:
            layers.append(BatchNorm(width, momentum=bn_momentum, train_bias=False))
        self.bottleneck = nnx.List(layers)
        self.weight = nnx.Param(0.01 * jax.random.normal(rngs.params(), (num_classes, width)))
        self.feature_dim = width

    def neck(self, pooled: Float[Array, "B C"]) -> Float[Array, "B D"]:
        """Applies the reduction and the batch norm, if there are any, to a pooled feature."""
        after = pooled
        for layer in self.bottleneck:
            if isinstance(layer, nnx.Conv):
                after = layer(after[:, None, None])[:, 0, 0]
            else:
                after = layer(after)
        return after

    def __call__(
        self, x: Float[Array, "B h w C"] | Float[Array, "B C"], label: Int[Array, " B"]
    ) -> dict[str, Array]:
        pooled, after = self.features(x)
        if self.classifier == "Linear":
            logits = jnp.matmul(after, self.weight[...].T, precision=HIGHEST)
        else:
            logits = jnp.matmul(unit(after), unit(self.weight[...]).T, precision=HIGHEST)
        return {
            "cls_outputs": margin_logits(self.classifier, logits, label, self.scale, self.margin),
            "pred_class_logits": self.scale * logits,
            "features": pooled if self.neck_feature == "before" else after,
            "after": after,
        }


class FC(nnx.Module):
    """torchreid's `fc` after the global average: linear map (`0`), batch norm (`1`), ReLU; float32.

    Its output is torchreid's 512-d feature, used in the losses and at test.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int = 512,
        *,
        bn_momentum: int | float = 0.1,
        rngs: nnx.Rngs,
    ):
        setattr(self, "0", normal_linear(features_in, features_out, 0.01, rngs=rngs))
        setattr(self, "1", BatchNorm(features_out, momentum=bn_momentum))

    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B D2"]:
        linear, norm = getattr(self, "0"), getattr(self, "1")
        return jax.nn.relu(norm(linear(x.astype(jnp.float32))))


class FCHead(PooledHead):
    """torchreid's head: pool, `fc` (see `FC`), and `classifier`, a linear map with a bias; float32.

    Same interface as `EmbeddingHead`: called with labels it returns `cls_outputs`, the identical
    `pred_class_logits`, and `features` and `after`, the `fc` feature, also the result of `embed`.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        fc_dim: int = 512,
        *,
        pool: str = "GlobalAvgPool",
        rngs: nnx.Rngs,
    ):
        self.pool_layer = build_pool(pool)
        self.fc = FC(feature_dim, fc_dim, rngs=rngs)
        self.classifier = normal_linear(fc_dim, num_classes, 0.01, rngs=rngs)
        self.feature_dim = fc_dim

    def neck(self, pooled: Float[Array, "B C"]) -> Float[Array, "B D"]:
        """`fc` feature of a pooled feature."""
        return self.fc(pooled)

    def __call__(
        self, x: Float[Array, "B h w C"] | Float[Array, "B C"], label: Int[Array, " B"]
    ) -> dict[str, Array]:
        feature = self.embed(x)
        logits = self.classifier(feature)
        outputs = {"cls_outputs": logits, "pred_class_logits": logits}
        return {**outputs, "features": feature, "after": feature}


class BNNeck(nnx.Module):
    """Neck and classifier of reid-strong-baseline (Luo et al., CVPRW 2019) and TransReID.

    Names: `bottleneck` (batch norm; its zero bias is stored but never trained, a `Buffer`) and
    `classifier` (no bias). `with_norm=False` is the baseline's "no neck": no `bottleneck`, and a
    classifier with bias.

    Maps a feature [B,D] to the feature after the norm and the logits [B,C], both float32.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        with_norm: bool = True,
        classifier_std: int | float = 0.001,
        bn_momentum: int | float = 0.1,
        rngs: nnx.Rngs,
    ):
        self.with_norm = with_norm
        if with_norm:
            self.bottleneck = BatchNorm(dim, momentum=bn_momentum, train_bias=False)
        self.classifier = normal_linear(
            dim, num_classes, classifier_std, use_bias=not with_norm, rngs=rngs
        )

    def normalize(self, x: Float[Array, "B D"]) -> Float[Array, "B D"]:
        """Feature after the neck."""
        x = x.astype(jnp.float32)
        return self.bottleneck(x) if self.with_norm else x

    def __call__(self, x: Float[Array, "B D"]) -> tuple[Float[Array, "B D"], Float[Array, "B C"]]:
        after = self.normalize(x)
        return after, self.classifier(after)
