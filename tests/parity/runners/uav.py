"""Runners for the losses of recipes beyond the baseline: L-GM, pairs of a batch, margins."""

import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.gaussian_mixture import large_margin_gaussian_mixture
from g2ajax.losses.pairwise import pairwise_circle, pairwise_cosface
from g2ajax.nn.heads import margin_logits, unit
from g2ajax.report.activation import activation_map, to_bytes
from tests.parity.runners.backbones import nhwc

PAIRWISE = {"circle": pairwise_circle, "cosface": pairwise_cosface}
# TransReID's names; all but Arcface compute what fast-reid's do.
CLASSIFIERS = {
    "Arcface": "ArcFace",
    "Cosface": "CosSoftmax",
    "AMSoftmax": "CosSoftmax",
    "CircleLoss": "CircleSoftmax",
}


def label_of(inputs, name="in_targets"):
    return jnp.asarray(inputs[name], jnp.int32)


def run_lgm(args, inputs, weights):
    if args["prior"] != "uniform":
        raise NotImplementedError(f"prior {args['prior']}")
    label = label_of(inputs)
    parameters = {"in_feat": jnp.asarray(inputs["in_feat"])}
    parameters |= {name: jnp.asarray(value) for name, value in weights.items()}

    def terms(parameters, scaled):
        return large_margin_gaussian_mixture(
            parameters["in_feat"],
            parameters["centers"],
            label,
            log_variance=parameters.get("log_covs"),
            alpha=float(args["alpha"]),
            likelihood_weight=float(args["likelihood_weight"]),
            scaled_likelihood=scaled,
        )

    wanted = args["outputs"]
    likelihoods = {
        n: w["inverse_covariance"] for n, w in wanted.items() if "inverse_covariance" in w
    }
    results = {name: terms(parameters, scaled).likelihood for name, scaled in likelihoods.items()}
    scaled = likelihoods[wanted["out_loss"]["likelihood"]]
    gradients = jax.grad(lambda p: terms(p, scaled).loss)(parameters)
    out = terms(parameters, scaled)
    results |= {
        "out_loss": out.loss, "out_logits": out.logits, "out_margin_logits": out.margin_logits
    }  # fmt: skip
    return results | {n: gradients[w["wrt"]] for n, w in wanted.items() if "wrt" in w}


def run_pairwise(args, inputs, weights):
    results = {}
    for v in args["variants"]:
        value, gradient = jax.value_and_grad(PAIRWISE[v["loss"]])(
            jnp.asarray(inputs["in_feat"]),
            label_of(inputs),
            margin=float(v["margin"]),
            gamma=float(v["gamma"]),
        )
        results |= {v["outputs"]["loss"]: value, v["outputs"]["grad"]: gradient}
    return results


def run_margin_logits(args, inputs, weights):
    cosine, label = jnp.asarray(inputs[args["input"]]), label_of(inputs, args["targets"])
    results = {}
    for v in args["variants"]:

        def loss(cosine, v=v):
            logits = margin_logits(v["classifier"], cosine, label, v["scale"], v["margin"])
            return cross_entropy(logits, label), logits

        (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(cosine)
        names = v["outputs"]
        results |= {names["ce"]: value, names["logits"]: logits, names["grad"]: gradient}
    return results


def run_margin_classifier(args, inputs, weights):
    label = label_of(inputs)
    name, (scale, margin) = args["classifier"], (args["scale"], args["margin"])

    def loss(feature, weight):
        weight = weight.T if args["weight_layout"] == "(in, classes)" else weight
        cosine = jnp.matmul(unit(feature), unit(weight).T, precision=jax.lax.Precision.HIGHEST)
        logits = margin_logits(CLASSIFIERS[name], cosine, label, scale, margin)
        return cross_entropy(logits, label), logits

    (value, logits), (of_feature, of_weight) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        jnp.asarray(inputs["in_feat"]), jnp.asarray(weights[args["weight_name"]])
    )
    return {
        "out_ce": value,
        "out_logits": logits,
        "out_grad_feat": of_feature,
        "out_grad_weight": of_weight,
    }


def run_activation_map(args, inputs, weights):
    if (args["channel_reduction"], args["spatial_norm"]) != ("sum_of_squares", "l2"):
        raise NotImplementedError(f"{args['channel_reduction']}, {args['spatial_norm']}")
    activation = activation_map(np.asarray(nhwc(inputs["in_map"])))
    return {
        "out_activation": activation,
        "out_uint8_before_resize": to_bytes(activation, float(args["minmax_eps"])),
    }


RUNNERS = {
    "lgm_loss": run_lgm,
    "pairwise_losses": run_pairwise,
    "margin_logits": run_margin_logits,
    "margin_classifier": run_margin_classifier,
    "activation_map": run_activation_map,
}
