"""Runners of CLIP's towers."""

import jax.numpy as jnp
import numpy as np

from g2ajax.backbones import clip
from tests.parity.runners.backbones import loaded, nhwc, run


def variant(args) -> clip.Variant:
    """The towers of a case, checked against what is fixed here."""
    for tower, heads in (("vision", "vision_heads"), ("transformer", "transformer_heads")):
        if args[heads] * clip.HEAD_DIM != args[f"{tower}_width"]:
            raise NotImplementedError(f"heads that are not {clip.HEAD_DIM} wide")
    if args["layer_norm_eps"] != 1e-5:
        raise NotImplementedError(f"layer_norm_eps {args['layer_norm_eps']}")
    return clip.Variant(
        embed_dim=args["embed_dim"],
        patch_size=args["vision_patch_size"],
        vision_width=args["vision_width"],
        vision_layers=args["vision_layers"],
        text_width=args["transformer_width"],
        text_layers=args["transformer_layers"],
        context_length=args["context_length"],
        vocabulary_size=args["vocab_size"],
        activation=args["activation"],
    )


def towers(args, rngs) -> clip.CLIP:
    return clip.CLIP(
        variant(args),
        image_size=tuple(args["image_resolution"]),
        stride=args["stride_size"],
        rngs=rngs,
    )


def _image(args, inputs):
    preprocess, image = args["preprocess"], inputs[args["image"]]
    if preprocess is None:
        return nhwc(image)
    if preprocess["layout"] != "NHWC to NCHW":
        raise NotImplementedError(f"layout {preprocess['layout']}")
    mean, std = np.float32(preprocess["mean"]), np.float32(preprocess["std"])
    return jnp.asarray((np.float32(image) / np.float32(preprocess["divide"]) - mean) / std)


def run_clip_towers(args, inputs, weights):
    model = loaded(lambda rngs: towers(args, rngs), weights)
    ids = jnp.asarray(inputs[args["text"]], jnp.int32)

    def forward(model, image, ids):
        text = model.encode_text(ids)
        return {
            "convolution output as tokens": model.visual.embed_patches(image),
            "all image tokens": model.encode_image(image),
            "all projected text tokens": text,
            "projected text token": clip.text_feature(text, ids),
        }

    found = run(model, args["mode"], forward, _image(args, inputs), ids)[0]
    return {
        name: next(value for what, value in found.items() if wanted["what"].startswith(what))
        for name, wanted in args["outputs"].items()
    }


RUNNERS = {"clip_towers": run_clip_towers}
