"""Runner of the multiple granularity network."""

from unittest import mock

import jax.numpy as jnp
import numpy as np

from g2ajax.backbones import resnet
from g2ajax.interop import families
from g2ajax.methods import DataFacts, Preprocessing, mgn
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.pooling import MaxPool
from tests.parity.runners.backbones import loaded, nhwc, run

RULES = families.family("fast-reid MGN")
NETWORK = "resnet of the case"


def _network(args, image_size, rngs):
    options = mgn.Options(
        backbone={
            "name": NETWORK,
            "last_stride": args["last_stride"],
            "pool": MaxPool(**args["max_pool"]),
            "with_ibn": args["with_ibn"],
            "with_se": args["with_se"],
        },
        preprocessing=Preprocessing(tuple(args["pixel_mean"]), tuple(args["pixel_std"])),
        smoothing=args["ce"]["eps"],
        margin=args["triplet"]["margin"],
    )
    variant = resnet.Variant("bottleneck", tuple(args["depths"]))
    with mock.patch.dict(resnet.VARIANTS, {NETWORK: variant}):
        network = mgn.MGN(options, DataFacts(args["num_classes"], image_size), rngs=rngs)
    for name in mgn.HEADS:
        head = EmbeddingHead(
            network.backbone.feature_dim,
            args["num_classes"],
            embedding_dim=args["embedding_dim"],
            with_bnneck=args["with_bnneck"],
            neck_feature=args["neck_feat"],
            pool=args["pool_type"],
            classifier=args["cls_type"],
            scale=args["scale"],
            margin=args["margin"],
            gem_p=args["gem_p"],
            gem_eps=args["gem_eps"],
            rngs=rngs,
        )
        setattr(network, f"{name}_head", head)
    return network


def multiple_granularities(args, inputs, weights):
    chosen = args["triplet"]
    if args["with_nl"] or chosen["norm_feat"] or not chosen["hard_mining"]:
        raise NotImplementedError("non-local blocks, normalised or weighted triplet")
    parts = {name: count for name, count in args["stripes"].items() if name != "split"}
    assert (tuple(args["eval_order"]), parts) == (mgn.HEADS, mgn.STRIPES)
    image = nhwc(inputs["in_image"])
    label = jnp.asarray(inputs["in_targets"], jnp.int32)
    exponents = {}
    if args["pool_type"] == "GeneralizedMeanPoolingP":
        # The exponent of a learnable GeM is an argument, never drawn.
        names = (f"{name}_head.pool_layer.p" for name in mgn.HEADS)
        exponents = {name: np.float32([args["gem_p"]]) for name in names}
    model = loaded(
        lambda rngs: _network(args, image.shape[1:3], rngs),
        weights | exponents,
        rename=RULES.rename,
        ignore=RULES.ignore,
    )
    results = {}
    if "eval" in args["modes"]:
        results["out_eval"], _ = run(model, "eval", lambda m, x: m.embed(x), image)
    if "train" in args["modes"]:

        def step(model, image):
            outputs = model.outputs(image, label)
            return outputs, model.terms(outputs, label)

        (outputs, (identity, ranking)), _ = run(model, "train", step, image)
        for name in mgn.HEADS:
            for what in ("cls_outputs", "features"):
                results[f"out_train_{name}_head_{what}"] = outputs[name][what]
            results[f"out_train_loss_cls_{name}"] = args["ce"]["weight"] * identity[name]
        for name, value in ranking.items():
            results[f"out_train_loss_triplet_{name}"] = chosen["weight"] * value
    return results


RUNNERS = {"mgn": multiple_granularities}
