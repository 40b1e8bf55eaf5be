"""SeCap: VDT with prompts that adapt to the image and gather a local feature from its patches.

Wang et al., "SeCap: Self-Calibrating and Adaptive Prompts for Cross-view Person Re-Identification
in Aerial-Ground Networks", CVPR 2025, following its code. The encoder is VDT's, except that nothing
is subtracted after its last block. The view-invariant feature, class token minus view token,
recalibrates learnt prompts (PRM); these read the patches that enter the last block, in a two-way
decoder (LFRM), and the token in front of them becomes the local feature. The test feature joins the
view-invariant with the local one. The platform is needed in training alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones.vit import Mlp
from g2ajax.config import options
from g2ajax.config.ranges import Count
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import DataFacts, vdt
from g2ajax.nn.attention import Attention
from g2ajax.nn.cross_attention import CrossAttention
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.init import redraw_as_torch, token_init

Terms = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Options(vdt.Options):
    """Options of the method; the defaults are the published code's, which gave the numbers."""

    prompts: Count = 64
    """Learnt prompts; 128 in the published configuration of AG-ReID."""
    decoder_depth: Count = 2
    """Layers of the two-way decoder."""
    decoder_heads: Count | None = None
    """Heads of prompt block and decoder; None: as many as the encoder has."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "SeCap":
    """Builds the method. Raises ValueError for unknown options and another backbone than a ViT."""
    return SeCap(options(Options, config, "method"), facts, rngs=rngs)


class LocalVDT(vdt.VDT):
    """VDT up to its last block, and a third head, `local_heads`, on a local feature of the patches.

    The published code copies the last block and the final norm (`b1`), and leaves the originals
    unused. Here they are those of `backbone`, and a published file's copies are loaded into them.
    """

    in_batch_terms = ("triplet", "local_triplet")
    feature_name = "after neck, class token without view token, joined with the local feature"

    def __init__(self, options: vdt.Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        width = self.backbone.feature_dim
        self.local_heads = EmbeddingHead(width, facts.num_classes, pool="Identity", rngs=rngs)

    def encode(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"], Float[Array, "B N D"]]:
        """Class and view token after the final norm, and the patches that enter the last block.

        There is no subtraction after the last block, unlike in VDT.
        """
        network = self.backbone
        tokens = network.embed_patches(self.preprocessing(images))
        tokens = network.run_blocks(tokens, stop=-1, hooks=self.hooks, rngs=rngs)
        last = network.norm(network.run_blocks(tokens, start=-1, only_first=2, rngs=rngs))
        return *self.read(last), network.layout.patches(tokens)

    def local(
        self,
        whole: Float[Array, "B D"],
        view: Float[Array, "B D"],
        patches: Float[Array, "B N D"],
    ) -> tuple[Float[Array, "B D"], Terms]:
        """The local feature, float32, and further terms of the loss."""
        raise NotImplementedError

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], Terms]:
        """VDT's four losses, and identity and triplet loss of the local feature."""
        label, options = batch["label"], self.options
        whole, view, patches = self.encode(batch["image"], rngs)
        terms = self.losses(whole, view, label, batch["platform"])
        local, more = self.local(whole, view, patches)
        logits = self.local_heads(local, label)["cls_outputs"]
        terms["local_identity"] = cross_entropy(
            logits, label, smoothing=options.smoothing, form="fastreid"
        )
        terms["local_triplet"] = triplet(local, label, margin=options.margin)
        terms |= more
        return self.total(terms), terms

    def total(self, terms: Mapping[str, Float[Array, ""]]) -> Float[Array, ""]:
        """VDT's total + identity + triplet loss of the local feature."""
        return super().total(terms) + terms["local_identity"] + terms["local_triplet"]

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: view-invariant and local feature, each
        after its neck and not normalised, in a row."""
        whole, view, patches = self.encode(images)
        local, _ = self.local(whole, view, patches)
        return jnp.concatenate([self.heads.embed(whole - view), self.local_heads.embed(local)], -1)


class SeCap(LocalVDT):
    """VDT with prompts (`prompt`), their recalibration (`prm`) and the decoder (`lfrm`) with its
    output token (`out_token`) and positions of the patches (`image_pe`): names of the code."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        network, dtype = self.backbone, facts.dtype
        width, heads = network.feature_dim, options.decoder_heads
        heads = network.blocks[0].attn.num_heads if heads is None else heads
        places = network.grid[0] * network.grid[1]
        self.prompt = nnx.Param(token_init(rngs.params(), (1, options.prompts, width)))
        self.image_pe = nnx.Param(token_init(rngs.params(), (1, places, width)))
        self.out_token = nnx.Param(token_init(rngs.params(), (1, width)))
        self.prm = PromptBlock(width, heads, dtype=dtype, rngs=rngs)
        # The recalibration keeps PyTorch's initial values, the decoder has a ViT's.
        redraw_as_torch(self.prm, rngs=rngs)
        self.lfrm = TwoWayDecoder(width, heads, options.decoder_depth, dtype=dtype, rngs=rngs)

    def local(
        self,
        whole: Float[Array, "B D"],
        view: Float[Array, "B D"],
        patches: Float[Array, "B N D"],
    ) -> tuple[Float[Array, "B D"], Terms]:
        """The output token after the decoder, float32."""
        batch, _, width = patches.shape
        dtype = patches.dtype
        invariant = (whole - view)[:, None].astype(dtype)
        prompts = jnp.tile(self.prompt[...].astype(dtype), (batch, 1, 1))
        prompts = self.prm(prompts, invariant, invariant)
        first = jnp.broadcast_to(self.out_token[...].astype(dtype), (batch, 1, width))
        prompts = jnp.concatenate([first, prompts], axis=1)
        positions = jnp.tile(self.image_pe[...].astype(dtype), (batch, 1, 1))
        prompts, _ = self.lfrm(prompts, patches, positions)
        return prompts[:, 0].astype(jnp.float32), {}


class PromptBlock(nnx.Module):
    """Post-norm block of queries q: LN(q + cross-attention), LN(q + self-attention), LN(q + MLP).

    The self-attention has no biases of queries, keys and values. With a single key, as in the
    recalibration, every query gets the same vector from the cross-attention.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: int | float = 4.0,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.cross_attn = CrossAttention(dim, heads, dtype=dtype, rngs=rngs)
        self.norm1 = _norm(dim, dtype, rngs)
        # Queries are few: cuDNN's kernel gains nothing.
        self.attn = Attention(dim, heads, qkv_bias=False, kernel="xla", dtype=dtype, rngs=rngs)
        self.norm2 = _norm(dim, dtype, rngs)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dtype=dtype, rngs=rngs)
        self.norm3 = _norm(dim, dtype, rngs)

    def __call__(
        self,
        queries: Float[Array, "B T D"],
        keys: Float[Array, "B S D"],
        values: Float[Array, "B S D"],
    ) -> Float[Array, "B T D"]:
        queries = self.norm1(queries + self.cross_attn(queries, keys, values))
        queries = self.norm2(queries + self.attn(queries))
        return self.norm3(queries + self.mlp(queries))


class TwoWayLayer(nnx.Module):
    """Prompts look at themselves and at the patches, then the patches at the prompts.

    The attentions work at half the width. In the first layer the self-attention replaces the
    prompts: no residual, and no positions.
    """

    def __init__(self, dim: int, heads: int, *, first: bool, dtype: Any, rngs: nnx.Rngs):
        self.first = first

        def attention() -> CrossAttention:
            return CrossAttention(dim, heads, inner=dim // 2, dtype=dtype, rngs=rngs)

        self.self_attn = attention()
        self.norm1 = _norm(dim, dtype, rngs)
        self.cross_attn_token_to_image = attention()
        self.norm2 = _norm(dim, dtype, rngs)
        self.mlp = Mlp(dim, 4 * dim, dtype=dtype, rngs=rngs)
        self.norm3 = _norm(dim, dtype, rngs)
        self.cross_attn_image_to_token = attention()
        self.norm4 = _norm(dim, dtype, rngs)

    def __call__(
        self,
        prompts: Float[Array, "B T D"],
        patches: Float[Array, "B N D"],
        prompt_positions: Float[Array, "B T D"],
        patch_positions: Float[Array, "B N D"],
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N D"]]:
        if self.first:
            prompts = self.norm1(self.self_attn(prompts, prompts, prompts))
        else:
            query = prompts + prompt_positions
            prompts = self.norm1(prompts + self.self_attn(query, query, prompts))
        key = patches + patch_positions
        read = self.cross_attn_token_to_image(prompts + prompt_positions, key, patches)
        prompts = self.norm2(prompts + read)
        prompts = self.norm3(prompts + self.mlp(prompts))
        read = self.cross_attn_image_to_token(key, prompts + prompt_positions, prompts)
        return prompts, self.norm4(patches + read)


class TwoWayDecoder(nnx.Module):
    """LFRM: two-way layers, then a prompt block that reads the patches once more.

    The prompts that come in are the positions of the prompts in every layer.
    """

    def __init__(
        self, dim: int, heads: int, depth: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        self.layers = nnx.List(
            [TwoWayLayer(dim, heads, first=i == 0, dtype=dtype, rngs=rngs) for i in range(depth)]
        )
        self.final_attn_token_to_image = PromptBlock(dim, heads, dtype=dtype, rngs=rngs)
        self.norm_final_attn = _norm(dim, dtype, rngs)

    def __call__(
        self,
        prompts: Float[Array, "B T D"],
        patches: Float[Array, "B N D"],
        patch_positions: Float[Array, "B N D"],
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N D"]]:
        positions = prompts
        for layer in self.layers:
            prompts, patches = layer(prompts, patches, positions, patch_positions)
        # The block keeps its query by a residual of its own, so the positions enter the sum too.
        read = self.final_attn_token_to_image(
            prompts + positions, patches + patch_positions, patches
        )
        return self.norm_final_attn(prompts + read), patches


def _norm(dim: int, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(dim, epsilon=1e-5, dtype=dtype, rngs=rngs)
