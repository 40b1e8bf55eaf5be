"""The explainable stream: activation, thresholds, losses, attention head and a training step."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax import methods
from g2ajax.backbones import resnet
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.attribute_distillation import (
    attribute_distances,
    attribute_distillation,
    contributions,
    thresholds,
)
from g2ajax.nn.attribute_head import AttributeDecompositionHead, activation
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.pooling import MaxPool, guided
from tests.parity.runners.backbones import evaluation, loaded, nchw, nhwc

TERMS = {
    "l_d": "distillation",
    "l_p1": "group",
    "l_p2": "single",
    "p1_exclusive": "group_exclusive",
    "p1_common": "group_common",
    "p2_exclusive": "single_exclusive",
    "p2_common": "single_common",
    "total": "total",
}


def run_thresholds(args, inputs, weights):
    results = {}
    for case in args["cases"]:
        count = jnp.asarray(inputs[case["input"]], jnp.float32)
        found = thresholds(count, case["attributes"], args["v"], args["guard"])
        named = {
            "lambda": found.log_ratio,
            "group_share": found.group_share,
            "low": found.low,
            "high": found.high,
        }
        results |= {output: named[name] for name, output in case["outputs"].items()}
    return results


def run_losses(args, inputs, weights):
    distance, dk = jnp.asarray(inputs["in_d"]), jnp.asarray(inputs["in_dk"])
    attributes = jnp.asarray(inputs["in_attributes"])

    def term(dk, name, reduction=args["reduction"]):
        terms = attribute_distillation(
            distance,
            dk,
            attributes,
            alpha=args["alpha"],
            beta=args["beta"],
            v=args["v"],
            reduction=reduction,
            guard=args["guard"],
        )
        return getattr(terms, TERMS[name])

    results = {f"out_{name}": term(dk, name) for name in TERMS}
    results["out_shares"] = contributions(dk, jnp.eye(len(dk), dtype=bool))
    for output, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[output] = jax.grad(term)(dk, wanted["gradient_of"])
        else:
            results[output] = term(dk, wanted["term"], wanted["reduction"])
    return {name: np.asarray(value) for name, value in results.items()}


def run_delta(args, inputs, weights):
    x = jnp.asarray(inputs[args["input"]])
    results = {}
    for variant in args["variants"]:
        k, t = variant["K"], variant["T"]
        names = variant["outputs"]
        results[names["value"]] = activation(x, k, t)
        results[names["grad"]] = jax.vmap(jax.grad(lambda x, k=k, t=t: activation(x, k, t)))(x)
    return results


def without_diagonal(distance):
    off = 1.0 - jnp.eye(len(distance))
    return distance * (off if distance.ndim == 2 else off[..., None])


def pairwise(feature):
    """Distances of features [n,D]."""
    return attribute_distances(feature[:, None])[..., 0]


def pool_name(args):
    """The exponent is the reference's parameter; it is not among the drawn weights."""
    return {"pool": "GeneralizedMeanPooling", "gem_p": args["gem_p"], "gem_eps": args["gem_eps"]}


def run_attention_head(args, inputs, weights):
    if args["conv_biases"]:
        raise NotImplementedError("an attribute decomposition head with biases")

    class Parts(nnx.Module):
        def __init__(self, rngs):
            sizes = args["channels"], args["hidden"], args["attributes"]
            self.adh = AttributeDecompositionHead(*sizes, dtype=jnp.float32, rngs=rngs)
            self.heads = EmbeddingHead(args["channels"], 1, **pool_name(args), rngs=rngs)

    parts = evaluation(
        loaded(
            Parts,
            weights,
            rename=((r"^backbone_4\.", "adh."), (r"^heads\.bnneck\.", "heads.bottleneck.0.")),
            ignore=(r"classifier",),
            allow_missing=(r"^heads\.weight$",),
        )
    )
    x = nhwc(inputs["in_feature"])

    def forward(parts, x):
        logits = parts.adh(x)
        attention = activation(logits, args["activation"]["K"], args["activation"]["T"])
        pooled = guided(parts.heads.pool_layer, x, attention)
        rows, attributes, width = pooled.shape
        feature = parts.heads.neck(pooled.reshape(-1, width)).reshape(rows, attributes, -1)
        distance = without_diagonal(attribute_distances(feature))
        whole = jnp.mean if args["reduction"] == "mean" else jnp.sum
        return logits, attention, parts.heads.embed(x), feature, distance, whole(distance, -1)

    logits, attention, embedding, feature, distance, mean = jax.jit(forward)(parts, x)
    graph, kernel, rest = nnx.split(parts, nnx.PathContains("conv2"), ...)
    gradient = jax.jit(
        jax.grad(lambda kernel: jnp.sum(forward(nnx.merge(graph, kernel, rest), x)[-1]))
    )(kernel)
    return {
        "out_logits": nchw(logits),
        "out_attention": nchw(attention),
        "out_embedding": embedding,
        "out_attribute_embedding": feature,
        "out_d": without_diagonal(pairwise(embedding)),
        "out_dk": distance,
        "out_mean_dk": mean,
        "out_grad_conv2": np.asarray(gradient["adh"]["conv2"]["kernel"][...]).transpose(3, 2, 0, 1),
    }


STREAMS = (
    (r"^backbone_1\.", "stream1.backbone."),
    (r"^backbone_2\.", "stream1.backbone."),
    (r"^backbone_3\.", "stream2."),
    (r"^backbone_4\.", "adh."),
    (r"^heads\.bnneck\.", "stream1.heads.bottleneck.0."),
)


def _explainable(args, rngs):
    spec = args["backbone"]
    shape = (spec["block"], tuple(spec["depths"]))
    names = [n for n, v in resnet.VARIANTS.items() if (v.block, tuple(v.depths)) == shape]
    names = [n for n in names if resnet.VARIANTS[n].width == 64]
    if not names or spec["with_nl"]:
        raise NotImplementedError(f"backbone {spec}")
    backbone = {
        "name": names[0],
        "last_stride": spec["last_stride"],
        "pool": MaxPool(**spec["max_pool"]),
        "with_ibn": spec["with_ibn"],
        "with_se": spec["with_se"],
        "bn_momentum": args["bn_momentum"],
    }
    config = {
        "name": "explainable",
        "stream1": {
            "name": "strong_baseline",
            "backbone": backbone,
            "head": {"pool": "GeneralizedMeanPooling"},
            "preprocessing": {
                "mean": tuple(args["pixel_mean"]),
                "std": tuple(args["pixel_std"]),
            },
        },
        "split": args["share_layer"],
        "hidden": args["hidden"],
        "k": args["activation"]["K"],
        "t": args["activation"]["T"],
        **{name: args[name] for name in ("alpha", "beta", "v", "reduction")},
    }
    groups = tuple((f"a{i}", ("yes",)) for i in range(args["attributes"]))
    task = methods.DataFacts(num_classes=2, image_size=(64, 32), attribute_groups=groups)
    return methods.build(config, task, rngs=rngs)


def run_step(args, inputs, weights):
    if args["gem_p"] != 3.0 or args["gem_eps"] != 1e-6 or not args["guard"]:
        raise NotImplementedError("a pooling exponent other than 3, or no guards")
    model = loaded(
        lambda rngs: _explainable(args, rngs),
        weights,
        rename=STREAMS,
        allow_missing=(r"^stream1\.heads\.weight$",),
    )
    # The classifier has no part in this step and no drawn values.
    heads = model.stream1.heads
    heads.weight = nnx.Param(jnp.zeros(heads.weight.shape))
    model.train()
    model.stream1.eval()
    images = nhwc(inputs["in_images"])
    attributes = jnp.asarray(inputs["in_attributes"])
    rows = len(images)
    batch = {
        "image": images,
        "camera": jnp.zeros(rows, jnp.int32),
        "index": jnp.arange(rows),
        "mask": jnp.ones(rows, bool),
    }

    def trained(path, value):
        return isinstance(value, nnx.Param) and path[0] in ("stream2", "adh")

    graph, own, rest = nnx.split(model, trained, ...)

    @jax.jit
    def step(own, rest):
        def loss(own):
            model = nnx.merge(graph, own, rest, copy=True)
            terms, found = model.explained_terms(batch, attributes, nnx.Rngs(0))
            return terms.total, (terms, found, nnx.state(model))

        (_, (terms, found, state)), gradient = jax.value_and_grad(loss, has_aux=True)(own)
        return terms, found, state, gradient

    terms, found, state, gradient = step(own, rest)
    gradient_model = nnx.clone(model)
    nnx.update(gradient_model, gradient)
    gradients = to_state_dict(gradient_model)
    nnx.update(model, state)
    statistics = to_state_dict(model)
    results = {
        "out_embedding": found.embedding,
        "out_attention": nchw(found.attention),
        "out_d": without_diagonal(pairwise(found.embedding)),
        "out_dk": without_diagonal(attribute_distances(found.attribute_embedding)),
        **{f"out_{name}": getattr(terms, TERMS[name]) for name in ("l_d", "l_p1", "l_p2", "total")},
    }

    def ours(name):
        return name.replace("backbone_3", "stream2").replace("backbone_4", "adh")

    for output, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[output] = gradients[ours(wanted["wrt"])]
        elif "after_step" in wanted:
            results[output] = statistics[ours(wanted["after_step"])]
    return results


RUNNERS = {
    "agreid_delta": run_delta,
    "agreid_attention_head": run_attention_head,
    "agreid_stage2_step": run_step,
    "agreid_thresholds": run_thresholds,
    "agreid_losses": run_losses,
}
