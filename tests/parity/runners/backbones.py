"""Runners for backbones, necks, poolings and normalisations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.backbones import resnet, vit
from g2ajax.interop.state_dict import load_state_dict, to_state_dict
from g2ajax.nn.heads import BNNeck, EmbeddingHead
from g2ajax.nn.norm import IBN
from g2ajax.nn.patches import resize_pos_embed
from g2ajax.nn.pooling import MaxPool, build_pool, generalized_mean


def loaded(constructor, weights, **options):
    """The module `constructor(rngs)` with `weights`; its random initial values are never drawn."""
    module = nnx.eval_shape(lambda: constructor(nnx.Rngs(params=0)))
    load_state_dict(module, weights, **options)
    return module


def nhwc(image: np.ndarray) -> jax.Array:
    return jnp.asarray(image, jnp.float32).transpose(0, 2, 3, 1)


def nchw(feature_map: jax.Array) -> np.ndarray:
    return np.asarray(feature_map).transpose(0, 3, 1, 2)


def evaluation(module: nnx.Module) -> nnx.Module:
    return nnx.view(module, deterministic=True, use_running_average=True, raise_if_not_found=False)


def run(module: nnx.Module, mode: str, forward, *inputs):
    """`forward(module, *inputs)` in "eval" or "train" mode, jitted, and the state dict after it."""
    module = evaluation(module) if mode == "eval" else nnx.clone(module)
    graph, state = nnx.split(module)

    @jax.jit
    def call(state, *inputs):
        module = nnx.merge(graph, state)
        out = forward(module, *inputs)
        return out, nnx.state(module)

    out, state = call(state, *inputs)
    return out, nnx.merge(graph, state)


def _resnet(args, rngs, **options):
    return resnet.ResNet(
        tuple(args["depths"]),
        block=args.get("block", "bottleneck"),
        last_stride=args["last_stride"],
        pool=MaxPool(**args["max_pool"]),
        stem_relu=args.get("stem_relu", True),
        with_ibn=args.get("with_ibn", False),
        with_se=args.get("with_se", False),
        se_reduction=args.get("se_reduction") or 16,
        non_local=tuple(args.get("non_local_per_stage", (0, 0, 0, 0))),
        non_local_inner=args.get("non_local_inner_channels") or 1,
        bn_momentum=args.get("bn_momentum", 0.1),
        rngs=rngs,
        **options,
    )


def resnet_features(args, inputs, weights):
    module = loaded(functools.partial(_resnet, args), weights)
    results = {}
    for mode in args["modes"]:
        out, after = run(module, mode, lambda m, x: m(x), nhwc(inputs["in_image"]))
        statistics = to_state_dict(after)
        for name, wanted in args["outputs"].items():
            if wanted["mode"] != mode:
                continue
            if "after_step" in wanted:
                results[name] = statistics[wanted["after_step"]]
            elif wanted["what"] == "gap":
                results[name] = np.asarray(out.mean((1, 2)))
            else:
                results[name] = nchw(out)
    return results


class _Baseline(nnx.Module):
    """reid-strong-baseline's network under its own names."""

    def __init__(self, args, rngs):
        self.base = _resnet(args, rngs)
        self.neck = BNNeck(
            self.base.feature_dim,
            args["num_classes"],
            with_norm=args["neck"] == "bnneck",
            rngs=rngs,
        )

    def __call__(self, image):
        pooled = self.base(image).mean((1, 2))
        after, score = self.neck(pooled)
        return {"before": pooled, "after": after, "pooled feature": pooled, "score": score}


def strong_baseline(args, inputs, weights):
    module = loaded(
        functools.partial(_Baseline, args),
        weights,
        rename=[(r"^(bottleneck|classifier)\.", r"neck.\1.")],
        ignore=[r"^base\.fc\."],
    )
    results = {}
    for mode in args["modes"]:
        out, _ = run(module, mode, lambda m, x: m(x), nhwc(inputs["in_image"]))
        for name, wanted in args["outputs"].items():
            if wanted["mode"] == mode:
                results[name] = out[wanted.get("neck_feat", wanted.get("what"))]
    return results


def transreid_vit(args, inputs, weights):
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
    module = loaded(
        lambda rngs: vit.ViT(
            variant,
            image_size=tuple(args["img_size"]),
            stride=args["stride"],
            cameras=args["cameras"],
            views=args["views"],
            sie_coefficient=args["sie_coefficient"],
            drop_path=args.get("drop_path", 0.0),
            rngs=rngs,
        ),
        weights,
        ignore=[r"^fc\."],
    )
    ids = {}
    if args["cameras"]:
        ids["camera"] = jnp.asarray(inputs["in_cam"], jnp.int32)
    if args["views"]:
        ids["view"] = jnp.asarray(inputs["in_view"], jnp.int32)

    def forward(module, image):
        tokens = module.embed_patches(image, **ids)
        tokens = module.run_blocks(tokens, stop=-1)
        return vit.class_token(module.norm(module.run_blocks(tokens, start=-1))), tokens

    (feature, tokens), _ = run(module, args["mode"], forward, nhwc(inputs["in_image"]))
    return {
        name: feature if "class token" in wanted["what"] else tokens
        for name, wanted in args["outputs"].items()
    }


def pos_embed_resize(args, inputs, weights):
    return {
        table["output"]: resize_pos_embed(
            inputs[table["table"]],
            tuple(table["hw"]),
            class_tokens=args["class_tokens"],
            extra_tokens=args["extra_tokens"],
        )
        for table in args["tables"]
    }


def pooling_layers(args, inputs, weights):
    x = nhwc(inputs["in_x"])
    results = {}
    for variant in args["variants"]:
        names = variant["outputs"]
        options = {key: variant[key] for key in ("p", "eps") if key in variant}
        layer = build_pool(variant["pool"], **options)
        results[names["value"]] = layer(x)
        if "cotangent" in variant:
            p = jnp.asarray([variant["p"]], jnp.float32)
            _, vjp = jax.vjp(lambda x, p, eps=variant["eps"]: generalized_mean(x, p, eps), x, p)
            grad_x, grad_p = vjp(jnp.asarray(inputs[variant["cotangent"]]))
            results[names["grad_x"]] = nchw(grad_x)
            results[names["grad_p"]] = grad_p
    return results


def embedding_head(args, inputs, weights):
    module = loaded(
        lambda rngs: EmbeddingHead(
            args["feat_dim"],
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
            bn_momentum=args["bn_momentum"],
            rngs=rngs,
        ),
        # The exponent of a learnable GeM is an argument, never drawn.
        weights | ({"pool_layer.p": np.float32([args["gem_p"]])} if _learns_p(args) else {}),
    )
    x, label = nhwc(inputs["in_x"]), jnp.asarray(inputs["in_targets"], jnp.int32)
    results = {}
    if "eval" in args["modes"]:
        results["out_eval"], _ = run(module, "eval", lambda m, x: m.embed(x), x)
    if "train" not in args["modes"]:
        return results

    def loss(module, x):
        out = module(x, label)
        ce = -jnp.take_along_axis(jax.nn.log_softmax(out["cls_outputs"]), label[:, None], 1).mean()
        return ce, out

    def step(module, x):
        gradient = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (ce, out), (grads, grad_x) = gradient(module, x)
        return ce, out, grads, grad_x

    (ce, out, grads, grad_x), after = run(module, "train", step, x)
    results |= {f"out_train_{name}": value for name, value in out.items()}
    results["out_train_ce"] = ce
    gradients, statistics = nnx.clone(module), to_state_dict(after)
    nnx.update(gradients, grads)
    gradients = to_state_dict(gradients)
    for name, wanted in args["outputs"].items():
        if "after_step" in wanted:
            results[name] = statistics[wanted["after_step"]]
        elif wanted.get("wrt") == "in_x":
            results[name] = nchw(grad_x)
        elif "wrt" in wanted:
            results[name] = gradients[wanted["wrt"]]
    return results


def _learns_p(args) -> bool:
    return args["pool_type"] == "GeneralizedMeanPoolingP"


def _one_layer(constructor, args, inputs, weights):
    module = loaded(constructor, weights)
    x = nhwc(inputs["in_x"])
    return {
        name: nchw(run(module, wanted["mode"], lambda m, x: m(x), x)[0])
        for name, wanted in args["outputs"].items()
    }


def ibn_layer(args, inputs, weights):
    return _one_layer(lambda rngs: IBN(args["channels"], rngs=rngs), args, inputs, weights)


def non_local_block(args, inputs, weights):
    def constructor(rngs):
        return resnet.NonLocal(args["in_channels"], args["inner_channels"], rngs=rngs)

    return _one_layer(constructor, args, inputs, weights)


RUNNERS = {
    "resnet_features": resnet_features,
    "strong_baseline": strong_baseline,
    "transreid_vit": transreid_vit,
    "pos_embed_resize": pos_embed_resize,
    "pooling_layers": pooling_layers,
    "embedding_head": embedding_head,
    "ibn_layer": ibn_layer,
    "non_local_block": non_local_block,
}
