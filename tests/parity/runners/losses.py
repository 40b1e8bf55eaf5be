"""Identity, triplet and center losses, with gradients."""

import jax
import jax.numpy as jnp

from g2ajax.losses.center import center
from g2ajax.losses.cross_entropy import cross_entropy, focal
from g2ajax.losses.triplet import triplet, triplet_transreid


def run_cross_entropy(args, inputs, weights):
    logits, label = jnp.asarray(inputs["in_logits"]), jnp.asarray(inputs["in_targets"])
    results = {}
    for variant in args["variants"]:

        def loss(x, v=variant):
            if v["form"] == "focal":
                return focal(x, label, alpha=v["alpha"], gamma=v["gamma"])
            return cross_entropy(
                x,
                label,
                smoothing=float(v["eps"]),
                form="uniform" if v["form"] == "uniform" else "fastreid",
                adaptive_share=v.get("alpha", 0.2),
            )

        value, gradient = jax.value_and_grad(loss)(logits)
        results |= {variant["outputs"]["loss"]: value, variant["outputs"]["grad"]: gradient}
    return results


def run_triplet_fastreid(args, inputs, weights):
    feature, label = jnp.asarray(inputs["in_feat"]), jnp.asarray(inputs["in_targets"])
    results = {}
    for v in args["variants"]:
        value, gradient = jax.value_and_grad(triplet)(
            feature,
            label,
            margin=v["margin"],
            hard_mining=v["hard_mining"],
            normalise_feature=v["norm_feat"],
        )
        results |= {v["outputs"]["loss"]: value, v["outputs"]["grad"]: gradient}
    return results


def run_triplet_transreid(args, inputs, weights):
    feature, label = jnp.asarray(inputs["in_feat"]), jnp.asarray(inputs["in_targets"])
    results = {}
    for v in args["variants"]:
        (value, mined), gradient = jax.value_and_grad(triplet_transreid, has_aux=True)(
            feature,
            label,
            margin=v["margin"],
            hard_factor=v["hard_factor"],
            normalise_feature=v["normalize_feature"],
        )
        names = v["outputs"]
        results |= {
            names["loss"]: value,
            names["grad"]: gradient,
            names["dist_ap"]: mined.positive,
            names["dist_an"]: mined.negative,
        }
    return results


def run_center(args, inputs, weights):
    centers = jnp.asarray(weights.get("centers", inputs.get("in_centers")))
    value, (of_feature, of_centers) = jax.value_and_grad(center, argnums=(0, 1))(
        jnp.asarray(inputs["in_feat"]), centers, jnp.asarray(inputs["in_targets"])
    )
    return {"out_loss": value, "out_grad_feat": of_feature, "out_grad_centers": of_centers}


RUNNERS = {
    "cross_entropy": run_cross_entropy,
    "triplet_fastreid": run_triplet_fastreid,
    "triplet_transreid": run_triplet_transreid,
    "center_loss": run_center,
}
