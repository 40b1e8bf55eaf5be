"""Runners of video methods: the frames of a clip, and VSLA-CLIP."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.backbones import clip, clip_blocks
from g2ajax.backbones.clip_blocks import Block
from g2ajax.backbones.tokens import at
from g2ajax.data.clips import first_clips, padded
from g2ajax.losses.triplet import triplet_cosine
from g2ajax.methods import DataFacts, Preprocessing, vsla_clip
from tests.parity.runners.backbones import loaded, run


def run_frame_sampling(args, inputs, weights):
    first, last = args["tracklet_lengths"]
    lengths, size = np.arange(first, last + 1), args["clip_size"]
    loop = np.full((len(lengths), args["padded_width"]), args["fill"], np.int64)
    for row, length in zip(loop, lengths.tolist(), strict=True):
        frames = padded(length, size)
        row[: len(frames)] = frames
    return {"out_begin_indices": first_clips(lengths, size).frame, "out_loop_padded": loop}


class AdaptedBlock(nnx.Module):
    """A block of CLIP with its adapters."""

    def __init__(self, args, rngs):
        width = args["d_model"]
        self.block = Block(width, args["num_heads"], args["activation"], None, rngs=rngs)
        sizes = (width, args["adapter_width"], args["temporal_heads"])
        self.adapters = vsla_clip.BlockAdapters(*sizes, dtype=jnp.float32, rngs=rngs)


def run_block(args, inputs, weights):
    named = {
        ("adapters." if name.startswith("dat") else "block.") + name: value
        for name, value in weights.items()
    }
    model = loaded(lambda rngs: AdaptedBlock(args, rngs), named)
    index = args["block_index"]
    tokens, cotangent = (
        jnp.asarray(inputs[name]).swapaxes(0, 1) for name in ("in_tokens", "in_cotangent")
    )
    # [blocks, length, frames, width]: one frame as one platform.
    prompt, platform = jnp.asarray(inputs["in_prompt"]), jnp.arange(tokens.shape[0])
    mask = jnp.ones((args["batch"], args["frames"]), bool)

    def forward(model, tokens, adapters, prompts):
        hooks = model.adapters.hooks(index, mask) if adapters else []
        hooks += vsla_clip.bridge_hooks(prompt, platform)[:1] if prompts else []
        inside = at(hooks, "beside_attention", "beside_mlp", "context")
        return model.block(tokens, hooks=inside)

    def slope(model, tokens):
        return jax.grad(lambda x: jnp.sum(forward(model, x, True, True) * cotangent))(tokens)

    results = {}
    for name, wanted in args["outputs"].items():
        if "adapters" in wanted:
            call = lambda m, x, w=wanted: forward(m, x, w["adapters"], w["prompt"])  # noqa: E731
        elif "gradient_of" in wanted:
            call = slope
        else:
            call = lambda m, x: m.adapters.dat_cross(x, mask)  # noqa: E731
        results[name] = run(model, args["mode"], call, tokens)[0].swapaxes(0, 1)
    return results


NAMES = (
    ("image_encoder.", "base_model.visual."),
    ("bottleneck_proj.", "neck_proj.bottleneck."),
    ("bottleneck.", "neck.bottleneck."),
    ("classifier_proj.", "neck_proj.classifier."),
    ("classifier.", "neck.classifier."),
)


def _renamed(name):
    for old, new in NAMES:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    head, dot, tail = name.partition(".dat")
    if not dot:
        return name
    return f"adapters.{head.rpartition('.')[2]}.dat{tail}"


def _filled(leaf):
    missing = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.zeros(leaf.shape, leaf.dtype) if missing else leaf


def run_model(args, inputs, weights):
    variant = clip.Variant(
        embed_dim=args["output_dim"],
        patch_size=args["patch_size"],
        vision_width=args["width"],
        vision_layers=args["layers"],
        text_layers=1,
        activation=args["activation"],
    )
    options = vsla_clip.Options(
        backbone={"name": "case", "stride": args["stride"]},
        preprocessing=Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        adapters=args["adapters"],
        adapter_width=args["adapter_width"],
        temporal_heads=args["temporal_heads"],
        bridge_blocks=args["prompt_depth"],
        bridge_length=args["prompt_length"],
    )
    facts = DataFacts(args["num_classes"], tuple(args["img_size"]), num_platforms=args["platforms"])
    head = args["width"] // args["num_heads"]
    text = ["base_model.", "prompt_learner", "texts"]
    with (
        mock.patch.dict(clip.VARIANTS, {"case": variant}),
        mock.patch.object(clip_blocks, "HEAD_DIM", head),
    ):
        model = loaded(
            lambda rngs: vsla_clip.VSLACLIP(options, facts, rngs=rngs),
            {_renamed(name): value for name, value in weights.items()},
            allow_missing=text,
        )
    # The case has no text tower.
    nnx.update(model, jax.tree.map(_filled, nnx.state(model)))
    clips = jnp.asarray(inputs["in_video"]).transpose(0, 2, 3, 4, 1)
    mask, platform = jnp.ones(clips.shape[:2], bool), jnp.asarray(inputs["in_platform"])

    def forward(model, clips):
        plain = model.clip_features(clips, mask, adapted=False)
        found = model.clip_features(clips, mask, platform)
        scores = model.neck(found.normed)[1], model.neck_proj(found.projected)[1]
        return plain, found, scores

    results = {}
    for mode in ("eval", "train"):
        plain, found, scores = run(model, mode, forward, clips)[0]
        if mode == "eval":
            results["out_eval_features"] = jnp.concatenate([found.normed, found.projected], -1)
            results["out_stage1_features"] = plain.projected
        else:
            results["out_train_feat_last"] = found.entering
            results["out_train_score"], results["out_train_score_proj"] = scores
    return results


def run_prompt(args, inputs, weights):
    if args["identity_tokens"] != vsla_clip.WORDS:
        raise NotImplementedError("another number of words")
    model = loaded(
        lambda rngs: vsla_clip.LearnedPrompt(
            args["num_identities"],
            args["width"],
            shared=args["prompt_length"],
            length=args["context_length"],
            rngs=rngs,
        ),
        weights,
    )
    if model.end != inputs["in_token_ids"].argmax():
        raise NotImplementedError("another sentence")
    words = model(jnp.asarray(inputs["in_labels"]))
    return {"out_prompts": words, "out_length": words.shape[1]}


def run_losses(args, inputs, weights):
    ranking, contrast = args["triplet"], args["supcon"]
    known = (ranking["distance"], ranking["mining"], args["off_class"])
    if known != ("negative cosine", "batch_hard", "eps/C"):
        raise NotImplementedError(known)
    if contrast["temperature"] != 1.0 or contrast["normalize"]:
        raise NotImplementedError("another contrast")
    label = jnp.asarray(inputs["in_labels"])
    arrays = {name: jnp.asarray(x) for name, x in inputs.items() if x.ndim > 1}

    def total(arrays):
        terms = vsla_clip.stage_two(
            [arrays[name] for name in args["triplet_features"]],
            [arrays["in_score"], arrays["in_score_proj"]],
            arrays["in_i2t_logits"],
            arrays[contrast["features"]],
            arrays[contrast["texts"]],
            label,
            smoothing=args["label_smoothing"],
            margin=ranking["margin"],
        )
        weighted = args["id_weight"] * terms["identity"] + args["i2t_weight"] * terms["text"]
        return weighted + terms["triplet"] + terms["contrast"]

    def triplet(arrays):
        feature = arrays[args["outputs"]["out_triplet_cosine"]["feature"]]
        return triplet_cosine(feature, label, margin=ranking["margin"])

    results, slopes = {}, {}
    for name, loss in (("out_total", total), ("out_triplet_cosine", triplet)):
        results[name], slopes[name] = jax.jit(jax.value_and_grad(loss))(arrays)
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = slopes[wanted["gradient_of"]][wanted["wrt"]]
    return results


RUNNERS = {
    "vsla_block": run_block,
    "vsla_frame_sampling": run_frame_sampling,
    "vsla_losses": run_losses,
    "vsla_model": run_model,
    "vsla_prompt": run_prompt,
}
