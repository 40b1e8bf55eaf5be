"""Runners of CLIP-ReID: the image tower's three class tokens, texts of prompts, losses of both stages."""

from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

from g2ajax.backbones import clip, clip_blocks
from g2ajax.backbones.clip_image import ImageTower
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.contrast import supcon
from g2ajax.losses.triplet import normalise
from g2ajax.methods.clip_reid import PromptLearner, stage_two
from tests.parity.runners.backbones import loaded, nhwc, run


def image_tower(args, rngs) -> ImageTower:
    """The image tower of a case, whose heads may be of any width."""
    if args["layer_norm_eps"] != 1e-5:
        raise NotImplementedError(f"layer_norm_eps {args['layer_norm_eps']}")
    variant = clip.Variant(
        embed_dim=args["output_dim"],
        patch_size=args["patch_size"],
        vision_width=args["width"],
        vision_layers=args["layers"],
        activation=args["activation"],
    )
    size, stride = tuple(args["img_size"]), args["stride"]
    with mock.patch.object(clip_blocks, "HEAD_DIM", args["width"] // args["num_heads"]):
        return ImageTower(variant, image_size=size, stride=stride, rngs=rngs)


def image_encoder(args, inputs, weights):
    model = loaded(lambda rngs: image_tower(args, rngs), weights)
    side = jnp.asarray(inputs[args["camera_embedding"]["input"]])

    def forward(model, image, side):
        results = {}
        for with_side in (False, True):
            extra = side if with_side else None
            features = model.features(image, side=extra)
            patches = model.run_blocks(model.embed_patches(image, side=extra))
            patches = model.layout.patches(model.project(model.ln_post(patches)))
            results[with_side] = {
                "input of the last block": features.entering,
                "after last block and ln_post": features.normed,
                "times proj": features.projected,
                "mean over patches": jnp.mean(patches, axis=1),
            }
        return results

    found = run(model, args["mode"], forward, nhwc(inputs["in_images"]), side)[0]
    results = {}
    for name, wanted in args["outputs"].items():
        what = wanted["what"] if wanted["token"] == "class" else wanted["token"]
        results[name] = found[wanted["camera_embedding"]][what]
    return results


class Texts(nnx.Module):
    """Prompts and text tower, under the case's names but for the tower's."""

    def __init__(self, args, rngs):
        variant = clip.Variant(
            embed_dim=args["output_dim"],
            vision_layers=1,
            vision_width=clip.HEAD_DIM,
            text_width=args["width"],
            text_layers=args["layers"],
            context_length=args["context_length"],
            vocabulary_size=1,
        )
        with mock.patch.object(clip_blocks, "HEAD_DIM", args["width"] // args["num_heads"]):
            self.text_encoder = clip.CLIP(variant, image_size=(16, 16), rngs=rngs)
        self.prompt_learner = PromptLearner(
            args["num_classes"], args["width"], length=args["context_length"], rngs=rngs
        )


def prompt_text(args, inputs, weights):
    learner = loaded(lambda rngs: Texts(args, rngs), weights, allow_missing=["visual", "embedding"])
    own = learner.prompt_learner
    if (own.start, own.count) != (args["context_position"], args["context_tokens"]):
        raise NotImplementedError("another sentence")
    end, ids = own.end, inputs["in_token_ids"].reshape(-1)
    if not args["causal"] or end != ids.argmax():
        raise NotImplementedError("another sentence")
    label, cotangent = jnp.asarray(inputs["in_labels"]), jnp.asarray(inputs["in_cotangent"])

    @jax.jit
    def compute(state):
        def total(state):
            model = nnx.merge(graph, state)
            words = model.prompt_learner(label)
            text = model.text_encoder.encode_embedded(words)[:, end]
            return jnp.sum(text * cotangent), (words, text)

        return jax.grad(total, has_aux=True)(state)

    graph, state = nnx.split(learner)
    gradient, (words, text) = compute(state)
    gradients = to_state_dict(nnx.merge(graph, gradient))
    results = {"out_prompts_tokens_3_to_11": words, "out_text_features": text}
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = gradients[wanted["wrt"]]
    return results


def supervised_contrast(args, inputs, weights):
    results = {}
    for variant in args["variants"]:
        labels = [inputs[variant[name]] for name in ("anchor_labels", "other_labels")]

        def loss(anchors, others, labels=labels):
            if args["normalize"]:
                anchors, others = normalise(anchors, 1e-12), normalise(others, 1e-12)
            return supcon(
                anchors, others, *map(jnp.asarray, labels), temperature=args["temperature"]
            )

        arrays = [jnp.asarray(inputs[variant[name]]) for name in ("anchors", "others")]
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*arrays)
        names = variant["outputs"]
        results[names["loss"]] = value
        results |= dict(zip((names["grad_anchors"], names["grad_others"]), gradients, strict=True))
    return results


def stage_two_loss(args, inputs, weights):
    ranking = args["triplet"]
    plain = ranking["distance"] == "euclidean" and not ranking["normalize_feature"]
    if not plain or ranking["mining"] != "batch_hard" or args["off_class"] != "eps/C":
        raise NotImplementedError("another triplet or smoothing")
    label = jnp.asarray(inputs["in_labels"])
    arrays = {name: jnp.asarray(x) for name, x in inputs.items() if x.ndim > 1}

    def loss(arrays):
        terms = stage_two(
            [arrays[name] for name in args["features"]],
            [arrays[name] for name in args["scores"]],
            arrays["in_i2t_logits"],
            label,
            smoothing=args["label_smoothing"],
            margin=ranking["margin"],
        )
        weighted = {
            "identity": args["id_weight"],
            "triplet": args["triplet_weight"],
            "text": args["i2t_weight"],
        }
        return sum(weight * terms[name] for name, weight in weighted.items()), terms

    (total, terms), gradients = jax.value_and_grad(loss, has_aux=True)(arrays)
    results = {
        "out_total": total,
        "out_id": terms["identity"],
        "out_triplet": terms["triplet"],
        "out_i2t": terms["text"],
    }
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = gradients[wanted["wrt"]]
    return results


RUNNERS = {
    "clipreid_image_encoder": image_encoder,
    "clipreid_prompt_text": prompt_text,
    "clipreid_stage2_loss": stage_two_loss,
    "supcon_loss": supervised_contrast,
}
