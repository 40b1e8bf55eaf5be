"""Runners of VDT: tokens of each block, losses with gradients, a training step."""

from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

from g2ajax.backbones import vit
from g2ajax.backbones.tokens import Hook
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.losses.views import orthogonal, view_cross_entropy
from g2ajax.methods import DataFacts, Preprocessing, vdt
from tests.parity.runners.backbones import loaded, nhwc, run

NETWORK = "vit of the case"
# The cases' names of the terms, and whether λ multiplies them.
TERMS = {
    "out_loss_cls_id": ("identity", False),
    "out_loss_triplet_id": ("triplet", False),
    "out_loss_cls_view": ("view", True),
    "out_loss_oreg": ("orthogonal", True),
}


def _variant(args):
    names = ("embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias")
    return vit.Variant(
        **{name: args[name] for name in names},
        patch_size=args["patch_size"],
        layer_norm_eps=args["layer_norm_eps"],
    )


def _platform(views):
    """Codes of the platforms: the case's label is 1 for aerial."""
    return jnp.where(jnp.asarray(views) == 1, 0, 1)


def backbone(args, inputs, weights):
    model = loaded(
        lambda rngs: vit.ViT(
            _variant(args),
            image_size=tuple(args["img_size"]),
            stride=tuple(args["stride"]),
            tokens=("view",),
            rngs=rngs,
        ),
        weights,
    )
    layout = model.layout

    def subtract(tokens):
        difference = layout.token(tokens, "cls") - layout.token(tokens, "view")
        return layout.replace(tokens, "cls", difference)

    def forward(hooks):
        def call(model, image):
            tokens, pairs = model.embed_patches(image), []
            for i in range(len(model.blocks)):
                tokens = model.run_blocks(tokens, start=i, stop=i + 1, hooks=hooks)
                pairs.append(tokens[:, :2])
            whole = model(image, only_first=2, hooks=hooks)
            return layout.token(whole, "cls"), layout.token(whole, "view"), jnp.stack(pairs)

        return call

    image = nhwc(inputs["in_images"])
    cls, view, pairs = run(model, "eval", forward([Hook(subtract)]), image)[0]
    plain_cls, plain_view, _ = run(model, "eval", forward([]), image)[0]
    return {
        "out_cls": cls,
        "out_view": view,
        "out_first_two_tokens_per_block": pairs,
        "out_cls_no_inner_sub": plain_cls,
        "out_view_no_inner_sub": plain_view,
    }


def losses(args, inputs, weights):
    names = ("in_logits", "in_view_logits", "in_feat", "in_view_feat")
    arrays = {name: jnp.asarray(inputs[name]) for name in names}
    label, platform = jnp.asarray(inputs["in_targets"]), _platform(inputs["in_view_targets"])
    ranking = args["triplet"]

    def identity(x, eps):
        return cross_entropy(x["in_logits"], label, smoothing=eps, form="fastreid")

    terms = {
        "out_ce": lambda x: identity(x, 0.0),
        "out_ce_eps0.1": lambda x: identity(x, args["label_smoothing"]),
        "out_view_ce": lambda x: view_cross_entropy(x["in_view_logits"], platform),
        "out_triplet_soft": lambda x: triplet(
            x["in_feat"],
            label,
            margin=ranking["margin"],
            hard_mining=ranking["hard_mining"],
            normalise_feature=ranking["norm_feat"],
        ),
        "out_orthogonal": lambda x: orthogonal(
            x["in_feat"], x["in_view_feat"], eps=args["cosine_eps"]
        ),
    }
    terms["out_total"] = lambda x: (
        terms["out_ce"](x)
        + terms["out_triplet_soft"](x)
        + args["view_lambda"] * (terms["out_view_ce"](x) + terms["out_orthogonal"](x))
    )

    @jax.jit
    def compute(arrays):
        values = {name: term(arrays) for name, term in terms.items()}
        return values, {name: jax.grad(term)(arrays) for name, term in terms.items()}

    results, gradients = compute(arrays)
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = gradients[wanted["gradient_of"]][wanted["wrt"]]
    return results


def train_step(args, inputs, weights):
    options = vdt.Options(
        backbone={
            "name": NETWORK,
            "stride": tuple(args["stride"]),
            "drop_path": args["drop_path"],
        },
        preprocessing=Preprocessing(tuple(args["pixel_mean"]), tuple(args["pixel_std"])),
        hierarchical=args["inner_sub"],
        second_update="twice" in args["identity_bn_updates"],
        smoothing=args["ce"]["eps"],
        margin=args["triplet"]["margin"],
        view_weight=args["view_lambda"],
    )
    facts = DataFacts(args["num_classes"], tuple(args["img_size"]), num_platforms=2)
    with mock.patch.dict(vit.VARIANTS, {NETWORK: _variant(args)}):
        model = loaded(lambda rngs: vdt.VDT(options, facts, rngs=rngs), weights)
    batch = {
        "image": nhwc(inputs["in_images"]),
        "label": jnp.asarray(inputs["in_targets"]),
        "platform": _platform(inputs["in_view_labels"]),
    }

    def step(model, batch):
        return nnx.value_and_grad(lambda m: m.loss(batch, nnx.Rngs(0)), has_aux=True)(model)

    ((total, terms), gradient), after = run(model, "train", step, batch)
    gradients = nnx.clone(model)
    nnx.update(gradients, gradient)
    gradients, statistics = to_state_dict(gradients), to_state_dict(after)
    weight = args["view_lambda"]
    results = {name: terms[own] * (weight if lam else 1.0) for name, (own, lam) in TERMS.items()}
    results["out_total"] = total
    for name, wanted in args["outputs"].items():
        if "gradient_of" in wanted:
            results[name] = gradients[wanted["wrt"]]
        elif "after_step" in wanted:
            results[name] = statistics[wanted["after_step"]]
    results["out_eval_features"] = run(after, "eval", lambda m, x: m.embed(x), batch["image"])[0]
    return results


RUNNERS = {"vdt_backbone": backbone, "vdt_losses": losses, "vdt_train_step": train_step}
