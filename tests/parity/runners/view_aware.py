"""Runners of the methods built on VDT, and of the dual memory: modules with their gradients."""

import math
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.backbones import vit
from g2ajax.interop.families import family, with_last_block
from g2ajax.interop.state_dict import load_state_dict, public_shapes, to_state_dict
from g2ajax.losses.channel_mask import channel_mask_loss, masked_prototypes
from g2ajax.losses.cluster_memory import cluster_memory, dual_memory
from g2ajax.methods import DataFacts, Preprocessing, dts, gsalign, secap
from g2ajax.nn.perturbed_topk import perturbed_topk
from g2ajax.nn.warp import regular_points
from tests.parity.runners.backbones import loaded, nhwc, run

NETWORK = "vit of the case"
FAMILY = family("SeCap")


def _arrays(inputs, *names):
    return [jnp.asarray(inputs[f"in_{name}"]) for name in names]


def _variant(args):
    names = ("embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "patch_size")
    return vit.Variant(
        **{name: args[name] for name in names}, layer_norm_eps=args["layer_norm_eps"]
    )


def _ours(name, rename):
    for pattern, replacement in rename:
        name = re.sub(pattern, replacement, name)
    return name


def _heads(make):
    """Zeros for the necks and classifiers, which a case of a backbone has not."""
    shapes = public_shapes(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    return {name: np.zeros(shape) for name, shape in shapes.items() if "heads." in name}


def secap_prm(args, inputs, weights):
    if args["method"] != "attn":
        raise NotImplementedError("only the variant 'attn', which the method uses")
    model = loaded(
        lambda rngs: secap.PromptBlock(
            args["embedding_dim"], args["num_heads"], mlp_ratio=args["mlp_ratio"], rngs=rngs
        ),
        weights,
        ignore=[r"^attn2\."],
    )
    prompts, key, cotangent = _arrays(inputs, "prompts", "key", "cotangent")

    def forward(model, prompts, key):
        out, back = jax.vjp(lambda prompts, key: model(prompts, key, key), prompts, key)
        return out, *back(cotangent)

    out, of_prompts, of_key = run(model, args["mode"], forward, prompts, key)[0]
    return {"out_prompts": out, "out_grad_prompts": of_prompts, "out_grad_key": of_key}


def secap_lfrm(args, inputs, weights):
    if not args["use_two_way"] or args["attention_downsample"] != 2 or args["mlp_ratio"] != 4:
        raise NotImplementedError("only the decoder that the method uses")
    model = loaded(
        lambda rngs: secap.TwoWayDecoder(
            args["embedding_dim"], args["num_heads"], args["depth"], rngs=rngs
        ),
        weights,
        ignore=["^out_token$"],
    )
    *arrays, cotangent = _arrays(inputs, "prompts", "image_tokens", "image_pe", "cotangent")

    def forward(model, *arrays):
        out, back, patches = jax.vjp(model, *arrays, has_aux=True)
        return out, patches, back(cotangent)

    out, patches, gradients = run(model, args["mode"], forward, *arrays)[0]
    names = ("out_grad_prompts", "out_grad_image_tokens", "out_grad_image_pe")
    results = dict(zip(names, gradients, strict=True))
    return {**results, "out_prompts": out, "out_image_tokens": patches}


def secap_backbone(args, inputs, weights):
    options = secap.Options(
        backbone={"name": NETWORK, "stride": tuple(args["stride"]), "drop_path": 0.0},
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3),
        hierarchical=args["inner_sub"],
        prompts=args["prompt_length"],
        decoder_depth=args["decoder_depth"],
        decoder_heads=args["decoder_num_heads"],
    )
    facts = DataFacts(2, tuple(args["img_size"]), num_platforms=2)
    weights = {f"backbone.{name}": value for name, value in weights.items()}
    rules = with_last_block(FAMILY, weights)

    def make(rngs):
        return secap.SeCap(options, facts, rngs=rngs)

    with mock.patch.dict(vit.VARIANTS, {NETWORK: _variant(args)}):
        model = loaded(
            make,
            {**weights, **_heads(make)},
            rename=rules.rename,
            ignore=rules.ignore,
        )

    def forward(model, images):
        whole, view, patches = model.encode(images)
        return whole, view, model.local(whole, view, patches)[0]

    whole, view, local = run(model, args["mode"], forward, nhwc(inputs["in_images"]))[0]
    return {"out_global": whole, "out_view": view, "out_local": local}


SELECTOR = [
    (r"^score_predictor\.in_conv\.0\.", "selector.norm."),
    (r"^score_predictor\.in_conv\.1\.", "selector.project."),
    (r"^score_predictor\.attention\.(query|key|value|out)\.", r"selector.attention.\1_proj."),
    (r"attention\.(.)(?:uery|ey|alue)_proj", r"attention.\1_proj"),
    (r"^score_predictor\.out_conv\.0\.", "selector.hidden."),
    (r"^score_predictor\.out_conv\.2\.", "selector.score."),
]
"""The case's names of the selector's tensors and ours."""


def dts_token_selection(args, inputs, weights):
    if args["max_frames"] != 1 or args["num_special_tokens"] != 2:
        raise NotImplementedError("only class and view token of one image")
    tokens, noise, cotangent = _arrays(inputs, "tokens", "noise", "cotangent")
    options = dts.Options(
        backbone={"name": NETWORK},
        tokens=args["topk"],
        block=0,
        samples=args["num_samples"],
        sigma=args["sigma"],
        selector_heads=args["num_heads"],
    )
    # A grid of one column has as many patches as the case.
    facts = DataFacts(2, (16 * noise.shape[-1], 16), num_platforms=2)
    variant = vit.Variant(embed_dim=args["embed_dim"], depth=2, num_heads=args["num_heads"])
    with mock.patch.dict(vit.VARIANTS, {NETWORK: variant}):
        model = dts.DTS(options, facts, rngs=nnx.Rngs(0))
    rest = [r"^(?!selector)"]
    load_state_dict(model, weights, rename=SELECTOR, allow_missing=rest)

    def forward(model, tokens):
        def chosen(model, tokens):
            return jnp.sum(model.select(tokens, noise) * cotangent)

        scores = model.selector(tokens)
        indicator = perturbed_topk(scores[:, 2:], noise, args["topk"], args["sigma"], "code")
        gradients = nnx.grad(chosen, argnums=(0, 1))(model, tokens)
        return scores, indicator, model.select(tokens, noise), gradients

    scores, indicator, out, (of_model, of_tokens) = run(model, args["mode"], forward, tokens)[0]
    results = {
        "out_scores": scores,
        "out_indicator": indicator,
        "out_tokens": out,
        "out_grad_tokens": of_tokens,
    }
    nnx.update(model, of_model)
    gradients = to_state_dict(model)
    for name, wanted in args["outputs"].items():
        if wanted["wrt"] in weights:
            results[name] = gradients[_ours(wanted["wrt"], SELECTOR)]
    return results


def dts_perturbed_topk(args, inputs, weights):
    scores, noise, cotangent = _arrays(inputs, "scores", "noise", "cotangent")

    @jax.jit
    def compute(scores):
        out, back = jax.vjp(
            lambda scores: perturbed_topk(scores, noise, args["k"], args["sigma"], "code"), scores
        )
        return out, back(cotangent)[0]

    indicator, gradient = compute(scores)
    return {"out_indicator": indicator, "out_grad_scores": gradient}


def gsalign_ltps(args, inputs, weights):
    if args["angle_hidden"] != [256, 128] or args["num_special_tokens"] != 2:
        raise NotImplementedError("only the published angle predictor, behind two tokens")
    if args["kernel_eps"] != 1e-8:
        raise NotImplementedError("only the published kernel")
    tokens, points, cotangent = _arrays(inputs, "tokens", "src_points", "cotangent")
    rows, columns = args["grid"]
    options = gsalign.Options({}, points=args["control_points"], step=args["eta"])
    model = loaded(
        lambda rngs: gsalign.Warp(args["width"], (rows, columns), options, rngs=rngs),
        {**weights, "src_points": np.asarray(points)},
    )

    def forward(model, tokens, points):
        graph, state = nnx.split(model)

        def warp(tokens, points):
            own = nnx.merge(graph, state, copy=True)
            own.src_points[...] = points
            patches, angle = own(tokens[:, 2:])
            return jnp.concatenate([tokens[:, :2], patches], axis=1), angle

        out, back, angle = jax.vjp(warp, tokens, points, has_aux=True)
        turned = model.points(angle)
        return out, angle, turned, model.places(turned), back(cotangent)

    out, angle, turned, places, gradients = run(model, "eval", forward, tokens, points)[0]
    return {
        "out_tokens": out,
        "out_angle": angle[:, None],
        "out_delta": turned - regular_points(math.isqrt(args["control_points"]))[None],
        "out_sampling_grid": places.reshape(-1, rows, columns, 2),
        "out_grad_tokens": gradients[0],
        "out_grad_src_points": gradients[1],
    }


def gsalign_mask_loss(args, inputs, weights):
    model = loaded(lambda rngs: gsalign.ChannelMask(args["width"], rngs=rngs), weights)
    features, labels = _arrays(inputs, "features", "labels")

    def forward(model, features):
        def loss(features):
            mask = model(features)
            value = channel_mask_loss(
                features,
                mask,
                labels,
                entropy_weight=args["entropy_weight"],
                eps=args["entropy_eps"],
            )
            prototypes = masked_prototypes(features, mask, labels)
            return args["loss_weight"] * value, (mask, prototypes)

        return jax.value_and_grad(loss, has_aux=True)(features)

    (loss, (mask, prototypes)), gradient = run(model, args["mode"], forward, features)[0]
    return {
        "out_loss": loss,
        "out_mask": mask,
        "out_masked_prototypes": prototypes,
        "out_grad_features": gradient,
    }


def sas_cluster_memory(args, inputs, weights):
    (memory,) = map(dual_memory, _arrays(inputs, "centroids"))

    @jax.jit
    def step(memory, feature, label):
        def loss(feature):
            return cluster_memory(
                memory,
                feature,
                label,
                temperature=args["temperature"],
                momentum=args["momentum"],
            )

        return jax.value_and_grad(loss, has_aux=True)(feature)

    results = {}
    for number in range(args["steps"]):
        arrays = _arrays(inputs, f"feat{number}", f"labels{number}")
        (loss, memory), gradient = step(memory, *arrays)
        results |= {
            f"out_loss{number}": loss,
            f"out_grad{number}": gradient,
            f"out_memory{number}": memory,
        }
    return results


RUNNERS = {
    "dts_perturbed_topk": dts_perturbed_topk,
    "dts_token_selection": dts_token_selection,
    "gsalign_ltps": gsalign_ltps,
    "gsalign_mask_loss": gsalign_mask_loss,
    "sas_cluster_memory": sas_cluster_memory,
    "secap_backbone": secap_backbone,
    "secap_lfrm": secap_lfrm,
    "secap_prm": secap_prm,
}
