"""Learning-rate schedules and optimizers."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax.training.optimizer import (
    OptimizerOptions,
    build_optimizer,
    clip_by_norm,
    group_of,
    update_rule,
)
from g2ajax.training.schedules import ScheduleOptions, learning_rates


def _schedule(entry: dict) -> tuple[ScheduleOptions, int]:
    """The options of one schedule of the index and its steps an epoch."""
    common = {"milestones": tuple(entry.get("milestones", ())), "gamma": entry.get("gamma", 0.1)}
    if entry["type"] == "fastreid":
        assert entry["warmup_method"] == "linear"
        kind = {"MultiStepLR": "fastreid_multistep", "CosineAnnealingLR": "fastreid_cosine"}
        options = ScheduleOptions(
            kind[entry["scheduler"]],
            warmup_steps=entry["warmup_iters"],
            warmup_factor=entry["warmup_factor"],
            floor=entry.get("eta_min", 0.0),
            delay_epochs=entry["delay_epochs"],
            **common,
        )
        return options, entry["iters_per_epoch"]
    if entry["type"] == "warmup_multistep":
        assert entry["warmup_method"] == "linear"
        options = ScheduleOptions(
            "epoch_multistep",
            warmup_epochs=entry["warmup_epochs"],
            warmup_factor=entry["warmup_factor"],
            first_epoch=entry["first_index"],
            **common,
        )
        return options, 1
    if entry["type"] == "cosine_epoch":
        options = ScheduleOptions(
            "epoch_cosine",
            warmup_epochs=entry["warmup_epochs"],
            warmup_start=entry["warmup_lr_init"],
            floor=entry["lr_min"],
            first_epoch=entry["first_index"],
        )
        return options, 1
    if entry["type"] == "irra":
        assert entry["first_index"] == 0
        options = ScheduleOptions(
            f"irra_{entry['mode']}",
            warmup_epochs=entry["warmup_epochs"],
            warmup_factor=entry["warmup_factor"],
            warmup_constant=entry["warmup_method"] == "constant",
            floor=entry["target_lr"],
            power=entry.get("power", 0.9),
            **common,
        )
        return options, 1
    raise NotImplementedError(f"schedules of type {entry['type']}")


def _epochs(entry: dict) -> int:
    return entry["total_epochs"] if entry["type"] == "irra" else entry["epochs"]


def run_lr_schedules(args, inputs, weights):
    results = {}
    for entry in args["schedules"]:
        options, steps = _schedule(entry)
        rates = learning_rates(options, entry["base_lr"], steps, _epochs(entry))
        results |= dict.fromkeys(entry["outputs"].values(), rates * args.get("multiplier", 1.0))
    return results


def run_torch_optimizers(args, inputs, weights):
    results = {}
    for v in args["variants"]:
        beta1, beta2 = v.get("betas", (0.9, 0.999))
        options = OptimizerOptions(
            name="amsgrad" if v.get("amsgrad") else v["optimizer"],
            momentum=v.get("momentum", 0.0),
            beta1=beta1,
            beta2=beta2,
            eps=v.get("eps", 1e-8),
        )
        rule = update_rule(options, v["weight_decay"])
        if "clip_norm" in v:
            rule = optax.chain(clip_by_norm(v["clip_norm"], v["clip_eps"]), rule)
        rule = optax.chain(rule, optax.scale_by_learning_rate(v["lr"]))
        param = jnp.asarray(inputs[args["initial"]])
        state, after = rule.init(param), []
        for gradient in inputs[args["gradients"]]:
            update, state = rule.update(
                jnp.asarray(gradient) * v.get("gradient_factor", 1.0), state, param
            )
            param = optax.apply_updates(param, update)
            after.append(param)
        results[v["output"]] = np.stack(after)
    return results


def run_irra_optimizer(args, inputs, weights):
    assert (args["optimizer"], args["weight_decay_form"]) == ("adam", "coupled")
    rules = [(part, args[r["lr"]]) for r in args["rules"] for part in r["contains"]]
    options = OptimizerOptions(
        "adam",
        args["lr"],
        beta1=args["betas"][0],
        beta2=args["betas"][1],
        eps=args["eps"],
        weight_decay=args["weight_decay"],
        weight_decay_bias=args["weight_decay_bias"],
        rules=tuple(rules),
    )
    schedule, _ = _schedule({"first_index": 0, **args["schedule"]})
    paths = {name: tuple(name.split(".")) for name in weights}
    params = nnx.from_flat_state(
        [(paths[name], nnx.Param(jnp.asarray(value))) for name, value in weights.items()]
    )
    steps = args["iterations_per_epoch"]
    optimizer = build_optimizer(
        options, schedule, params, steps_per_epoch=steps, epochs=_epochs(args["schedule"])
    )
    state, start = optimizer.transform.init(params), params
    for k in range(args["epochs"] * steps):
        gradient = nnx.from_flat_state(
            [(path, nnx.Param(jnp.asarray(inputs[f"in_grad.{n}"][k]))) for n, path in paths.items()]
        )
        update, state = optimizer.transform.update(gradient, state, params)
        params = optax.apply_updates(params, update)
    groups = [group_of(path, {"weight", "bias"}, options) for path in paths.values()]
    flat, first = (dict(nnx.to_flat_state(tree)) for tree in (params, start))
    return {
        "out_lr_multiplier": [group.factor for group in groups],
        "out_weight_decay": [group.weight_decay for group in groups],
        **{f"out_delta.{n}": flat[p][...] - first[p][...] for n, p in paths.items()},
    }


RUNNERS = {
    "lr_schedules": run_lr_schedules,
    "torch_optimizers": run_torch_optimizers,
    "irra_optimizer": run_irra_optimizer,
}
