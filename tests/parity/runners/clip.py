"""Runners of CLIP's towers and of what is built on them."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.data.text import sentence_counts, sentence_ids
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.methods import DataFacts, Preprocessing, aea_firm, irra
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
            "convolution output as tokens": model.visual.patch_tokens(image),
            "all image tokens": model.encode_image(image),
            "all projected text tokens": text,
            "projected text token": clip.text_feature(text, ids),
        }

    found = run(model, args["mode"], forward, _image(args, inputs), ids)[0]
    return {
        name: next(value for what, value in found.items() if wanted["what"].startswith(what))
        for name, wanted in args["outputs"].items()
    }


NETWORK = "clip of the case"
ASIS = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def method(args, build, weights, classes):
    """The method `build(backbone, task, rngs)` over the towers of a case, with its weights."""
    own = args["clip"]
    task = DataFacts(
        classes,
        tuple(own["image_resolution"]),
        sentences=tuple(map(tuple, sentence_ids(Tokenizer()).tolist())),
        sentence_counts=sentence_counts(),
    )
    backbone = {"name": NETWORK, "stride": own["stride_size"]}
    with mock.patch.dict(clip.VARIANTS, {NETWORK: variant(own)}):
        return loaded(lambda rngs: build(backbone, task, rngs), weights)


def gradients(model, loss, batch):
    """`loss(model, batch)` -> (scalar, extra): the extra, the gradients under public names, and the
    model after it (a queue may have moved)."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def inner(params, rest, batch):
        model = nnx.merge(graph, params, rest, copy=True)
        value, extra = loss(model, batch)
        return value, (extra, nnx.split(model, nnx.Param, ...)[2])

    grads, (extra, moved) = jax.jit(jax.grad(inner, has_aux=True))(params, rest, batch)
    found = to_state_dict(nnx.merge(graph, grads, rest))
    return extra, found, nnx.merge(graph, params, moved)


def gradient_outputs(args, found, weights):
    """The gradients that a case asks for, and the norms of all in the order of the weights."""
    results = {
        name: found[wanted["wrt"]] for name, wanted in args["outputs"].items() if "wrt" in wanted
    }
    norms = [np.linalg.norm(found[name].astype(np.float64)) for name in weights]
    return results | {"out_grad_norms": np.array(norms)}


def run_irra_train_step(args, inputs, weights):
    if args["cmt_heads"] * clip.HEAD_DIM != args["clip"]["embed_dim"] or args["epsilon"] != 1e-8:
        raise NotImplementedError("other heads or another epsilon")
    names = tuple(args["loss_names"].split("+"))

    def build(backbone, task, rngs):
        options = irra.Options(
            backbone,
            losses=names,
            temperature=args["temperature"],
            identity_weight=args["id_loss_weight"],
            word_weight=args["mlm_loss_weight"],
            depth=args["cmt_depth"],
            preprocessing=ASIS,
        )
        return irra.IRRA(options, task, rngs=rngs)

    model = method(args, build, weights, args["num_classes"])
    batch = {
        "image": nhwc(inputs["in_image"]),
        "label": jnp.asarray(inputs["in_pid"], jnp.int32),
        "caption": jnp.asarray(inputs["in_caption_ids"], jnp.int32),
        "masked_caption": jnp.asarray(inputs["in_mlm_ids"], jnp.int32),
        "masked_word": jnp.asarray(inputs["in_mlm_labels"], jnp.int32),
    }

    metrics, found, _ = gradients(model, lambda m, b: m.loss(b, nnx.Rngs(0)), batch)

    def look(model, batch):
        out = {
            "out_image_feature": model.embed(batch["image"]),
            "out_text_feature": model.embed_text(batch["caption"]),
        }
        if "mlm" in names:
            text = model.base_model.encode_text(batch["masked_caption"])
            out["out_cross"] = model.cross(text, model.base_model.encode_image(batch["image"]))
            out["out_mlm_hidden"] = model.mlm_head.hidden(out["out_cross"])
            out["out_mlm_logits"] = model.mlm_head(out["out_cross"])
        return out

    called = {
        "sdm": "sdm_loss",
        "itc": "itc_loss",
        "cmpm": "cmpm_loss",
        "identity": "id_loss",
        "words": "mlm_loss",
        "image_accuracy": "img_acc",
        "text_accuracy": "txt_acc",
        "word_accuracy": "mlm_acc",
    }
    results = {f"out_{called[name]}": value for name, value in metrics.items()}
    results["out_temperature"] = model.options.temperature
    return results | run(model, "eval", look, batch)[0] | gradient_outputs(args, found, weights)


TERMS = {"supkl": "aea", "supitc": "contrastive", "match2": "match"}
TERMS |= {name: name for name in ("sdm", "bisdm", "itc", "biitc", "id")}


def run_aea_firm_train_steps(args, inputs, weights):
    if args["epsilon"] != 1e-8 or args["weights_updated"]:
        raise NotImplementedError("another epsilon, or weights that move")
    if args["initial_queue"] != "zeros, identity 0":
        raise NotImplementedError(f"a queue that starts with {args['initial_queue']}")
    if [list(row) for row in sentence_counts()] != args["sentence_counts"]:
        raise NotImplementedError("other sentences")
    words = args["loss_names"].split("+")
    names = [name for name in words if name not in ("queue", "dot", "cat")]

    def build(backbone, task, rngs):
        options = aea_firm.Options(
            backbone,
            losses=tuple(TERMS[name] for name in names),
            temperature=args["temperature"],
            queue_length=args["queue_length"] if "queue" in words else 0,
            pair_bonus=args["pair_bonus"],
            match_weight=args["match_loss_weight"],
            joint="concatenation" if args["match_mode"] == "cat" else "product",
            preprocessing=ASIS,
        )
        return aea_firm.AEAFIRM(options, task, rngs=rngs)

    model = method(args, build, weights, args.get("num_classes", 1))
    # The queue was built abstractly with the rest.
    if model.queue is not None:
        model.queue = aea_firm.FeatureQueue(args["queue_length"], args["clip"]["embed_dim"])
    results = {}
    for k in range(args["steps"]):
        batch = {
            "image": nhwc(inputs[f"in_aerial_{k}"]),
            "paired_image": nhwc(inputs[f"in_ground_{k}"]),
            "label": jnp.asarray(inputs[f"in_pid_{k}"], jnp.int32),
            "caption": jnp.asarray(inputs[f"in_caption_ids_{k}"], jnp.int32),
            "attributes": jnp.asarray(inputs[f"in_attr_aerial_{k}"], jnp.int8),
            "paired_attributes": jnp.asarray(inputs[f"in_attr_ground_{k}"], jnp.int8),
            "pick": jnp.asarray(inputs[f"in_pick_{k}"], jnp.int32),
        }
        metrics, found, model = gradients(model, lambda m, b: m.terms(b, b["pick"]), batch)
        results |= {f"out_{name}_loss_{k}": metrics[TERMS[name]] for name in names}
    results |= gradient_outputs(args, found, weights)
    if model.queue is not None:
        queue = model.queue.read()
        results |= {
            "out_queue_text": queue.text,
            "out_queue_aerial": queue.aerial,
            "out_queue_pid": queue.identity,
        }
    for name, embed in (("out_eval_aerial", "embed"), ("out_eval_text", "embed_text")):
        wanted = args["outputs"][name]["input"]
        value = nhwc(inputs[wanted]) if embed == "embed" else jnp.asarray(inputs[wanted], jnp.int32)
        results[name] = run(model, "eval", lambda m, x, e=embed: getattr(m, e)(x), value)[0]
    return results


RUNNERS = {
    "clip_towers": run_clip_towers,
    "irra_train_step": run_irra_train_step,
    "aea_firm_train_steps": run_aea_firm_train_steps,
}
