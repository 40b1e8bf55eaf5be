"""Runner of Uni-Prompt's sentences."""

import jax.numpy as jnp
import numpy as np

from g2ajax.methods.uni_prompt import IDENTITY, MODALITY, PLATFORM, REDUCTION, PromptLearner
from tests.parity.runners.backbones import loaded


def sentences(args, inputs, weights):
    tokens = (args["identity_tokens"], args["modality_tokens"], args["platform_tokens"])
    width, hidden = args["width"], weights["visual_enhanced_net.linear1.bias"].shape[0]
    if tokens != (IDENTITY, MODALITY, PLATFORM) or hidden * REDUCTION != width:
        raise NotImplementedError("another sentence")
    learner = loaded(
        lambda rngs: PromptLearner(
            args["num_identities"], 2, width, width, length=args["context_length"], rngs=rngs
        ),
        weights,
    )
    label, view = jnp.asarray(inputs["in_labels"]), inputs["in_views"]

    def among(*names):
        ranges = [args["views"][name] for name in names]
        return jnp.asarray(
            np.any([(view >= first) & (view <= last) for first, last in ranges], axis=0), jnp.int32
        )

    found = {
        "zeros": learner.alone(label),
        "by view": learner.in_domain(label, among("cctv_ir", "uav_ir"), among("uav_rgb", "uav_ir")),
        "mean": learner(label),
    }
    results = {"out_lengths": np.array([found["mean"].shape[1]])}
    for name, wanted in args["outputs"].items():
        if "domain" in wanted:
            results[name] = found[wanted["domain"]]
    return results


RUNNERS = {"mpreid_prompt": sentences}
