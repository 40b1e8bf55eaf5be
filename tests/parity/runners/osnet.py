"""Runners for OSNet: the omni-scale block, and the whole network with torchreid's head."""

import jax
import numpy as np
from flax import nnx

from g2ajax.backbones.osnet import OSBlock, OSNet
from g2ajax.nn.heads import FC
from g2ajax.nn.pooling import MaxPool
from tests.parity.runners.backbones import loaded, nchw, nhwc, run


def osnet_block(args, inputs, weights):
    def constructor(rngs):
        return OSBlock(
            args["in_channels"],
            args["out_channels"],
            instance_norm=args["instance_norm"],
            ain_names=any(name.startswith("conv2.0.layers.") for name in weights),
            streams=args["streams"],
            bottleneck_reduction=args["bottleneck_reduction"],
            gate_reduction=args["gate_reduction"],
            rngs=rngs,
        )

    module, x = loaded(constructor, weights), nhwc(inputs["in_x"])
    out = {mode: run(module, mode, lambda m, x: m(x), x)[0] for mode in args["modes"]}
    return {name: nchw(out[wanted["mode"]]) for name, wanted in args["outputs"].items()}


class _Torchreid(nnx.Module):
    """torchreid's network: the backbone, the average of its map, `fc` and a classifier."""

    def __init__(self, args, rngs):
        self.backbone = OSNet(
            tuple(args["widths"]),
            tuple(args["blocks_per_stage"]),
            instance_norm=args["instance_norm"],
            pool=MaxPool(**args["max_pool"]),
            rngs=rngs,
        )
        self.fc = FC(self.backbone.feature_dim, args["feature_dim"], rngs=rngs)
        self.classifier = nnx.Linear(
            args["feature_dim"],
            args["num_classes"],
            precision=jax.lax.Precision.HIGHEST,
            rngs=rngs,
        )

    def __call__(self, image):
        feature_map = self.backbone(image)
        feature = self.fc(feature_map.mean((1, 2)))
        return {"map": feature_map, "feature": feature, "logits": self.classifier(feature)}


def osnet_features(args, inputs, weights):
    module = loaded(
        lambda rngs: _Torchreid(args, rngs),
        weights,
        rename=[(r"^(?!fc\.|classifier\.)", "backbone.")],
    )
    image = nhwc(inputs["in_image"])
    results = {}
    for mode in args["modes"]:
        out, _ = run(module, mode, lambda m, x: m(x), image)
        for name, wanted in args["outputs"].items():
            if wanted["mode"] == mode:
                value = out[wanted["what"]]
                results[name] = nchw(value) if wanted["what"] == "map" else np.asarray(value)
    return results


RUNNERS = {"osnet_block": osnet_block, "osnet_features": osnet_features}
