"""ViSA: VDT with experts of learnt queries, each spread over a graph of the patches alike to it.

"ViSA" (CVPR 2026), built from the paper and from facts of its released code. The encoder is VDT's up
to its last block (`secap.LocalVDT`). Two groups of experts, for the view-invariant feature (class
token minus view token) and for the view token, turn their learnt queries to the image; a router picks
two of each group. A query and the k patches closest to it form a graph of cosines, over which one
graph convolution passes; the queries, and a token in front of them, go through an attention block,
and the token becomes the local feature.

The released code differs: there aerial and ground images each have their own view token and group of
view experts, picked by the image's platform, in tests too. Here, as in the paper's
outline, one view token and one group serve both, and the platform is needed in training alone. The
published numbers are the code's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones.vit import Mlp
from g2ajax.config import options
from g2ajax.config.ranges import Count, NonNegative
from g2ajax.methods import DataFacts, vdt
from g2ajax.methods.secap import LocalVDT, PromptBlock, Terms
from g2ajax.nn.attention import Attention
from g2ajax.nn.init import redraw_as_torch, token_init, torch_uniform


@dataclasses.dataclass(frozen=True)
class Options(vdt.Options):
    """Options of the method; the defaults are those of the released code and its configuration of
    CARGO, where the paper's outline leaves them open."""

    view_weight: NonNegative = 1.0
    """λ, the weight of the view loss and of the orthogonal loss; VDT has 0.001."""
    experts: Count = 8
    """Experts of each of the two groups."""
    active: Count = 2
    """Experts that the router picks for an image; 3 in the configuration of LAGPeR."""
    queries: Count = 16
    """Learnt queries of an expert; 8 in the configuration of LAGPeR."""
    neighbours: Count = 64
    """k, the patches in the graph of a query."""
    nearest_to: Literal["image", "query"] = "image"
    """`image`, as in the code: the k patches closest to the image's view-invariant feature (to its
    view token for view queries), the same for all queries. `query`, as in the paper: those closest
    to each query."""
    graph_gradient: bool = False
    """Let gradients through the graph into queries and patches. The code has none there: it trains
    only the matrix of the convolution."""
    balance_weight: NonNegative = 0.0001
    """Weight of the experts' balance, E Σ (mean probability of an expert)²; 0.001 in the paper."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "ViSA":
    """Builds the method. Raises ValueError for unknown options, another backbone than a ViT, more
    active experts than there are, and more neighbours than patches."""
    return ViSA(options(Options, config, "method"), facts, rngs=rngs)


class ViSA(LocalVDT):
    """VDT with two groups of experts, the graph convolution, and the fusion of their queries."""

    in_batch_terms = (*LocalVDT.in_batch_terms, "balance")

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        network, dtype = self.backbone, facts.dtype
        width, heads = network.feature_dim, network.blocks[0].attn.num_heads
        patches = network.grid[0] * network.grid[1]
        if options.active > options.experts:
            raise ValueError(
                f"method.active = {options.active}: a group has {options.experts} experts; give at most "
                "as many"
            )
        if options.neighbours > patches:
            raise ValueError(
                f"method.neighbours = {options.neighbours}: images of {facts.image_size[0]}x"
                f"{facts.image_size[1]} have {patches} patches; give at most as many"
            )

        def experts() -> Experts:
            return Experts(width, heads, options, dtype=dtype, rngs=rngs)

        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)

        self.invariant_experts, self.view_experts = experts(), experts()
        self.norm_invariant, self.norm_view = norm(), norm()
        # One matrix for both graphs; the code makes a second and never uses it.
        draw = torch_uniform(width)
        self.gcn_weights = nnx.Param(draw(rngs.params(), (width, width)))
        self.out_token = nnx.Param(token_init(rngs.params(), (1, width)))
        self.fusion = FusionBlock(width, heads, dtype=dtype, rngs=rngs)

    def local(
        self,
        whole: Float[Array, "B D"],
        view: Float[Array, "B D"],
        patches: Float[Array, "B N D"],
    ) -> tuple[Float[Array, "B D"], Terms]:
        """The local feature, float32, and the `balance` of the experts."""
        batch, _, width = patches.shape
        groups = (
            (whole - view, self.invariant_experts, self.norm_invariant),
            (view, self.view_experts, self.norm_view),
        )
        first = jnp.broadcast_to(self.out_token[...].astype(patches.dtype), (batch, 1, width))
        queries, balance = [first], jnp.zeros((), jnp.float32)
        for feature, experts, norm in groups:
            routed = experts(feature, patches.dtype)
            queries.append(routed.queries + norm(self.spread(routed.queries, feature, patches)))
            balance = balance + routed.balance
        fused = self.fusion(jnp.concatenate(queries, axis=1))
        return fused[:, 0].astype(jnp.float32), {"balance": balance}

    def spread(
        self,
        queries: Float[Array, "B Q D"],
        feature: Float[Array, "B D"],
        patches: Float[Array, "B N D"],
    ) -> Float[Array, "B Q D"]:
        """Each query after one graph convolution over itself and its nearest patches."""
        options = self.options
        if not options.graph_gradient:
            queries, patches = jax.lax.stop_gradient((queries, patches))
        rows, anchors = queries, feature[:, None]
        if options.nearest_to == "query":  # each query has a graph of its own: a batch of them
            rows, anchors = queries.reshape(-1, 1, queries.shape[-1]), queries
        index = nearest(anchors, patches, options.neighbours)
        close = jnp.take_along_axis(patches[:, None], index[..., None], axis=2)
        close = close.reshape(len(rows), -1, queries.shape[-1])
        mixed = first_node(rows.astype(jnp.float32), close.astype(jnp.float32))
        mixed = jnp.matmul(mixed.reshape(queries.shape), self.gcn_weights[...])
        return jnp.tanh(mixed).astype(queries.dtype)

    def total(self, terms: Mapping[str, Float[Array, ""]]) -> Float[Array, ""]:
        """The total with a local feature + the experts' balance."""
        return super().total(terms) + self.options.balance_weight * terms["balance"]


def nearest(
    anchors: Float[Array, "B A D"], patches: Float[Array, "B N D"], k: int
) -> Int[Array, "B A k"]:
    """Indices of the k patches of the highest cosine with each anchor."""
    cosine = jnp.einsum("bad,bnd->ban", unit(anchors), unit(patches))
    return jax.lax.top_k(jax.lax.stop_gradient(cosine), k)[1]


def first_node(
    queries: Float[Array, "B Q D"], patches: Float[Array, "B k D"]
) -> Float[Array, "B Q D"]:
    """Node 0 of D^-½ A D^-½ X in the graph of each query with all the patches: X the nodes, the
    query first, A their cosines, at least 0, plus the identity, D the row sums of A.

    A gets no gradient, as in the code.
    """
    query, patch = unit(jax.lax.stop_gradient(queries)), unit(jax.lax.stop_gradient(patches))
    own = jnp.sum(jnp.square(query), axis=-1) + 1.0
    edges = jnp.maximum(jnp.einsum("bqd,bkd->bqk", query, patch), 0.0)
    others = jnp.maximum(jnp.einsum("bkd,bjd->bkj", patch, patch), 0.0).sum(axis=-1) + 1.0
    first, rest = own + edges.sum(axis=-1), others[:, None] + edges
    weights = edges * jax.lax.rsqrt(rest) * jax.lax.rsqrt(first)[..., None]
    return (own / first)[..., None] * queries + jnp.einsum("bqk,bkd->bqd", weights, patches)


def unit(x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """Vectors divided by max(norm, 1e-12), float32."""
    x = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-24))


class Routed(NamedTuple):
    """Queries of an image's experts, and the balance of the batch's routing."""

    queries: Float[Array, "B Q D"]
    balance: Float[Array, ""]


class Experts(nnx.Module):
    """A group of experts and its router (`gate`): the sum of the active experts' queries, weighted by
    a softmax over their logits.

    All experts are computed for every image and the others weighted by 0: an expert is small, and
    shapes do not depend on the routing. They are one batched program: their parameters are stacked
    in every step, and stored separately.
    """

    def __init__(
        self, dim: int, heads: int, options: Options, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        self.active = options.active
        self.gate = nnx.Linear(dim, options.experts, rngs=rngs)
        self.experts = nnx.List(
            [
                Expert(dim, heads, options.queries, dtype=dtype, rngs=rngs)
                for _ in range(options.experts)
            ]
        )
        redraw_as_torch(self, rngs=rngs)

    def __call__(self, feature: Float[Array, "B D"], dtype: Any) -> Routed:
        logits = self.gate(feature)
        best, index = jax.lax.top_k(logits, self.active)
        choice = jax.nn.one_hot(index, logits.shape[-1])
        weights = jnp.einsum("bk,bke->be", jax.nn.softmax(best), choice).astype(dtype)
        queries = jnp.einsum("be,ebqd->bqd", weights, self.each(feature[:, None].astype(dtype)))
        mean = jax.nn.softmax(logits).mean(axis=0)
        return Routed(queries, logits.shape[-1] * jnp.sum(jnp.square(mean)))

    def each(self, key: Float[Array, "B 1 D"]) -> Float[Array, "E B Q D"]:
        """The queries of every expert."""
        graphdef, shape = nnx.graphdef(self.experts[0]), nnx.state(self.experts[0])
        states = [nnx.to_pure_dict(nnx.state(expert)) for expert in self.experts]

        def one(values: Any) -> Float[Array, "B Q D"]:
            state = jax.tree.map(lambda leaf: leaf, shape)
            nnx.replace_by_pure_dict(state, values)
            return nnx.merge(graphdef, state)(key)

        return jax.vmap(one)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))


class Expert(nnx.Module):
    """Learnt queries (`prompt`) turned to a feature, their single key, by SeCap's block (`prm`)."""

    def __init__(self, dim: int, heads: int, queries: int, *, dtype: Any, rngs: nnx.Rngs):
        self.prompt = nnx.Param(token_init(rngs.params(), (1, queries, dim)))
        self.prm = PromptBlock(dim, heads, mlp_ratio=2.0, dtype=dtype, rngs=rngs)

    def __call__(self, key: Float[Array, "B 1 D"]) -> Float[Array, "B Q D"]:
        queries = jnp.tile(self.prompt[...].astype(key.dtype), (len(key), 1, 1))
        return self.prm(queries, key, key)


class FusionBlock(nnx.Module):
    """Post-norm block: LN(q + self-attention), LN(q + MLP)."""

    def __init__(self, dim: int, heads: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.attn = Attention(dim, heads, qkv_bias=False, kernel="xla", dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(dim, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(dim, 4 * dim, dtype=dtype, rngs=rngs)
        self.norm3 = nnx.LayerNorm(dim, epsilon=1e-5, dtype=dtype, rngs=rngs)
        redraw_as_torch(self, rngs=rngs)

    def __call__(self, queries: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        queries = self.norm2(queries + self.attn(queries))
        return self.norm3(queries + self.mlp(queries))
