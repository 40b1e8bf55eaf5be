"""Measures of explanations, and rankings re-weighted by them."""

import jax.numpy as jnp

from g2ajax.evaluation.explanation import pair_metrics, pair_sums
from g2ajax.retrieval import pairwise
from g2ajax.retrieval.decomposition import exclusive_share, largest_share, reweighted


def run_agreid_explain_metrics(args, inputs, weights):
    dk, query, gallery, prediction = (
        jnp.asarray(inputs[f"in_{name}"])
        for name in ("dk", "query_attributes", "gallery_attributes", "gallery_prediction")
    )
    metrics = pair_metrics(pair_sums(dk, query, gallery, overflow=args["overflow"]))
    distance = pairwise(
        jnp.asarray(inputs["in_query_feature"]),
        jnp.asarray(inputs["in_gallery_feature"]),
        args["distance"],
    )
    evidence = {
        "max": lambda: largest_share(dk),
        "exclusive": lambda: exclusive_share(dk, query, prediction),
    }
    results = {f"out_{name}": value for name, value in metrics.items()} | {"out_d": distance}
    for output, entry in args["outputs"].items():
        if entry["mode"] not in evidence:
            raise NotImplementedError(f"mode {entry['mode']!r}")
        results[output] = reweighted(distance, evidence[entry["mode"]](), args["reweight_weight"])
    return results


RUNNERS = {"agreid_explain_metrics": run_agreid_explain_metrics}
