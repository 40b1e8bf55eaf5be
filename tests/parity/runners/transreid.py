"""Runners of TransReID's jigsaw form."""

import dataclasses
from unittest import mock

import jax.numpy as jnp

from g2ajax.backbones import vit
from g2ajax.interop import families
from g2ajax.methods import DataFacts, Preprocessing, transreid
from tests.parity.runners.backbones import loaded, nhwc, run

FAMILY = families.family("TransReID with jigsaw patches")
NETWORK = "vit of the case"
ASIS = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _network(args, rngs):
    variant = vit.Variant(
        embed_dim=args["embed_dim"],
        depth=args["depth"],
        num_heads=args["num_heads"],
        mlp_ratio=args["mlp_ratio"],
        qkv_bias=args["qkv_bias"],
        attention_scale=args.get("attention_scale"),
        patch_size=args["patch_size"],
        layer_norm_eps=args["layer_norm_eps"],
    )
    loss = args["loss"]
    options = transreid.Options(
        backbone={
            "name": NETWORK,
            "stride": args["stride"],
            "sie_coefficient": args["sie_coefficient"],
            "drop_path": args["drop_path"],
        },
        preprocessing=ASIS,
        camera_embedding=args["cameras"] > 0,
        platforms=args["views"],
        stripes=args["divide_length"],
        rearrange=args["rearrange"],
        shift=args["shift_num"],
        shuffle_groups=args["shuffle_groups"],
        identity_weight=loss["id_weight"],
        triplet_weight=loss["triplet_weight"],
        global_share=loss["global_share"],
    )
    task = DataFacts(args["num_classes"], tuple(args["img_size"]), num_cameras=args["cameras"])
    with mock.patch.dict(vit.VARIANTS, {NETWORK: variant}):
        return transreid.TransReID(options, task, rngs=rngs)


def jigsaw(args, inputs, weights):
    if args["local_feature_divisor"] != args["divide_length"] or args["drop_path"]:
        raise NotImplementedError("another divisor than the number of stripes, or drop path")
    rules = families.with_last_block(FAMILY, weights)
    to_neck = (
        (r"^heads\.bottleneck\.0\.", "neck.bottleneck."),
        (r"^heads\.weight$", "neck.classifier.weight"),
    )
    model = loaded(
        lambda rngs: _network(args, rngs),
        weights,
        rename=(*rules.rename, *to_neck),
        ignore=rules.ignore,
    )
    image = nhwc(inputs["in_image"])
    camera = jnp.asarray(inputs["in_cam"], jnp.int32) if args["cameras"] else None
    platform = jnp.asarray(inputs["in_view"], jnp.int32) if args["views"] else None
    label = jnp.asarray(inputs["in_targets"], jnp.int32)

    def train(model, image):
        features = model.features(image, camera, platform)
        logits = [neck(one)[1] for neck, one in zip(model.necks, features, strict=True)]
        identity, ranking = model.losses(features, logits, label)
        chosen = model.options
        loss = chosen.identity_weight * identity + chosen.triplet_weight * ranking
        return {"feature": features, "score": logits}, loss

    def embed(model, image):
        return model.embed(image, camera=camera, platform=platform)

    results = {}
    if "train" in args["modes"]:
        parts, results["out_train_loss"] = run(model, "train", train, image)[0]
    for name, wanted in args["outputs"].items():
        if wanted["mode"] == "eval":
            model.options = dataclasses.replace(model.options, test_feature=wanted["neck_feat"])
            results[name] = run(model, "eval", embed, image)[0]
        elif "index" in wanted:
            results[name] = parts[wanted["what"]][wanted["index"]]
    return results


def shuffle_unit(args, inputs, weights):
    return {
        case["output"]: transreid.shuffle_patches(
            jnp.asarray(inputs[case["tokens"]])[:, case["begin"] :], case["shift"], case["group"]
        )
        for case in args["cases"]
    }


RUNNERS = {"transreid_jpm": jigsaw, "shuffle_unit": shuffle_unit}
