"""Learning-rate schedules and optimizers."""

import jax.numpy as jnp
import numpy as np
import optax

from g2ajax.training.optimizer import OptimizerOptions, clip_by_norm, update_rule
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
    raise NotImplementedError(f"schedules of type {entry['type']}")


def run_lr_schedules(args, inputs, weights):
    results = {}
    for entry in args["schedules"]:
        options, steps = _schedule(entry)
        rates = learning_rates(options, entry["base_lr"], steps, entry["epochs"])
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


RUNNERS = {"lr_schedules": run_lr_schedules, "torch_optimizers": run_torch_optimizers}
