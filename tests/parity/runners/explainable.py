"""The explainable stream: activation, thresholds, losses, attention head and a training step."""

import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.losses.attribute_distillation import (
    attribute_distillation,
    contributions,
    thresholds,
)

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


RUNNERS = {
    "agreid_thresholds": run_thresholds,
    "agreid_losses": run_losses,
}
