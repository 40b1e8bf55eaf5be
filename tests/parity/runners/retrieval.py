"""Distances, the Market-1501 evaluation and its ROC."""

import jax.numpy as jnp
import numpy as np

from g2ajax.retrieval import evaluate_distances, pairwise, roc
from g2ajax.retrieval.roc import pairs


def run_feature_distances(args, inputs, weights):
    query, gallery = np.split(inputs["in_feat"], [args["num_query"]])
    names = {"squared_euclidean": "squared_euclidean", "one_minus_cosine": "cosine"}
    return {
        output: pairwise(jnp.asarray(query), jnp.asarray(gallery), names[entry["metric"]])
        for output, entry in args["outputs"].items()
    }


def run_market_eval(args, inputs, weights):
    distance = inputs["in_dist"]
    labels = [inputs[f"in_{name}"] for name in ("q_pids", "g_pids", "q_camids", "g_camids")]
    result = evaluate_distances(distance, *labels)
    results = {
        "out_order": np.argsort(distance, axis=1, kind="stable"),
        "out_cmc": result.cmc[: min(args["max_rank"], distance.shape[1])],
        "out_AP": result.average_precision[result.valid],
        "out_INP": result.inverse_negative_penalty[result.valid],
        "out_mAP": result.mAP,
        "out_mINP": result.mINP,
        "out_num_valid": result.valid.sum(),
    }
    if args["roc"]:
        values, same = pairs(distance, *labels)
        curve = roc(values, same, convention="fastreid")
        results |= {
            "out_roc_scores_sorted_same_id": np.sort(values[same]),
            "out_roc_scores_sorted_diff_id": np.sort(values[~same]),
            "out_roc_tpr_at_fpr": np.array([curve.tpr_at(x) for x in args["roc"]["fpr"]]),
            "out_roc_auc": curve.auc,
        }
    return results


RUNNERS = {"feature_distances": run_feature_distances, "market_eval": run_market_eval}
