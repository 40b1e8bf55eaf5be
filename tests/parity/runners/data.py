"""Identity samplers and the host's resize."""

import numpy as np

from g2ajax.data.images import resize
from g2ajax.data.samplers import make_sampler


def declared_length(label, images):
    """Length of an epoch as the references define it, which no run reads: an upper bound of a pass."""
    counts = np.maximum(np.unique(label[label >= 0], return_counts=True)[1], images)
    return int((counts - counts % images).sum())


def run_identity_samplers(args, inputs, weights):
    results = {"out_declared_length": declared_length(inputs["in_pids"], args["num_instances"])}
    for output, entry in args["outputs"].items():
        if "sampler" not in entry:
            continue
        sampler = make_sampler(
            entry["sampler"],
            inputs["in_pids"],
            inputs["in_camids"],
            identities=args["identities_per_batch"],
            images=args["num_instances"],
            allow_single_image=True,
        )
        if entry["length"] == "one epoch":
            drawn = sampler.batches_of_pass(0)
        else:
            steps = entry["length"] // args["batch_size"]
            drawn = np.stack([sampler.batch_indices(step) for step in range(steps)])
        results[output] = drawn.ravel()
    return results


def run_image_resize(args, inputs, weights):
    image = inputs[args["input"]]
    return {v["output"]: resize(image, tuple(args["size"]), v["method"]) for v in args["variants"]}


RUNNERS = {"identity_samplers": run_identity_samplers, "image_resize": run_image_resize}
