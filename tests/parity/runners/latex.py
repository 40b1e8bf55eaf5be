"""Runners of LATex: the prompted image tower, words and classifiers of the attributes."""

import jax
import jax.numpy as jnp
from flax import nnx

from g2ajax.methods.latex import Attributes, read_attributes
from tests.parity.runners.backbones import loaded, nhwc, run
from tests.parity.runners.clip_reid import image_tower


class Prompted(nnx.Module):
    """The tower and its prompts, [1,P,D] as the code stores them."""

    def __init__(self, args, rngs):
        self.tower = image_tower(args, rngs)
        shape = (1, args["prompts_per_layer"], args["width"])
        self.prompt = nnx.List([nnx.Param(jnp.zeros(shape)) for _ in range(args["layers"])])


def image_encoder(args, inputs, weights):
    if args["apply_ln_post"]:
        raise NotImplementedError("a last norm")
    model = loaded(
        lambda rngs: Prompted(args, rngs), weights, rename=[(r"^(?!prompt\.)", "tower.")]
    )

    def forward(model, image):
        return read_attributes(model.tower, [p[0] for p in model.prompt], image)

    image, tokens = run(model, args["mode"], forward, nhwc(inputs["in_images"]))[0]
    return {"out_global": image, "out_attribute_tokens": tokens}


def attributes(args, inputs, weights):
    if args["off_class"] != "eps/(C-1)":
        raise NotImplementedError("another smoothing")
    width, heads = args["width"], args["attention_heads"]
    model = loaded(
        lambda rngs: Attributes(width, width, args["classes"], heads=heads, rngs=rngs),
        weights,
        rename=[
            (r"^CFs\.CF_list\.", "classifiers."),
            (r"\.ffn\.1\.", ".norm."),
            (r"\.ffn\.2\.", ".classifier."),
            (r"^proj\.", "words."),
        ],
        ignore=[r"^proj\.\d+\.bn\."],
    )
    codes = jnp.asarray(inputs["in_labels"])
    across = args["attention"].startswith("over the batch")

    def forward(model, visual, tokens):
        def loss(visual, tokens):
            own = nnx.merge(graph, state, copy=True)
            total = own.losses(
                visual, tokens, codes, across_batch=across, smoothing=args["label_smoothing"]
            )[0]
            return total, own(visual, tokens)

        graph, state = nnx.split(model)
        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(visual, tokens)

    arrays = {name: jnp.asarray(inputs[name]) for name in ("in_visual", "in_attribute_tokens")}
    (total, words), gradients = run(model, args["mode"], forward, *arrays.values())[0]
    gradients = dict(zip(arrays, gradients, strict=True))
    results = {"out_pseudo_words": words, "out_loss": total}
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = gradients[wanted["wrt"]]
    return results


RUNNERS = {"latex_image_encoder": image_encoder, "latex_attributes": attributes}
