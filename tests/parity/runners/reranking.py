"""k-reciprocal re-ranking and average query expansion."""

import numpy as np

from g2ajax.retrieval import expand, rerank, rerank_distances


def run_rerank(args, inputs, weights):
    query, gallery = np.split(inputs["in_feat"], [args["num_query"]])
    matrices = [inputs[f"in_dist_{pair}"] for pair in ("qg", "qq", "gg")]
    results = {}
    for case in args["variants"]:
        options = {name: case[name] for name in ("k1", "k2", "lambda_value")}
        form = case["form"]
        if form == "krnn":
            result = rerank_distances(*matrices, **options)
        elif form == "transreid":
            result = rerank(query, gallery, **options)
        elif form == "fastreid_final":
            result = rerank(query, gallery, variant="fastreid", **options)
        elif form == "fastreid_jaccard":
            options["lambda_value"] = 0.0
            result = rerank(query, gallery, variant="fastreid", **options)
        else:
            raise NotImplementedError(f"form {form}")
        results[case["output"]] = result
    return results


def run_expansion(args, inputs, weights):
    query, gallery = np.split(inputs["in_feat"], [args["num_query"]])
    results = {}
    for case in args["variants"]:
        expanded = expand(query, gallery, k=case["k"], alpha=case["alpha"], times=case["times"])
        for side, features in zip(("query", "gallery"), expanded, strict=True):
            results[case["outputs"][side]] = features
    return results


RUNNERS = {"rerank": run_rerank, "average_query_expansion": run_expansion}
