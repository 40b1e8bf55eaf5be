"""Runner for torchreid's ResNet with a fully connected feature, as in `resnet50_fc512`."""

import jax
from flax import nnx

from g2ajax.nn.heads import FC
from tests.parity.runners.backbones import _resnet, loaded, nhwc, run


class _ResNetFC(nnx.Module):
    """The backbone, the average of its map, `fc` and a classifier with a bias."""

    def __init__(self, args, rngs):
        self.backbone = _resnet(args, rngs)
        (width,) = args["fc_dims"]
        self.fc = FC(self.backbone.feature_dim, width, rngs=rngs)
        self.classifier = nnx.Linear(
            width, args["num_classes"], precision=jax.lax.Precision.HIGHEST, rngs=rngs
        )

    def __call__(self, image):
        feature = self.fc(self.backbone(image).mean((1, 2)))
        return {"feature": feature, "logits": self.classifier(feature)}


def resnet_fc512(args, inputs, weights):
    if len(args["fc_dims"]) != 1 or args["dropout"]:
        raise NotImplementedError(f"fc_dims {args['fc_dims']}, dropout {args['dropout']}")
    module = loaded(
        lambda rngs: _ResNetFC(args, rngs),
        weights,
        rename=[(r"^(?!fc\.|classifier\.)", "backbone.")],
    )
    image, results = nhwc(inputs["in_image"]), {}
    for mode in args["modes"]:
        out, _ = run(module, mode, lambda m, x: m(x), image)
        for name, wanted in args["outputs"].items():
            if wanted["mode"] == mode:
                results[name] = out[wanted["what"]]
    return results


RUNNERS = {"resnet_fc512": resnet_fc512}
