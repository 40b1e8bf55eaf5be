"""Online instance matching and head distillation; the heads of person search; its recipe."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from g2ajax.losses import head_distillation
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.oim import oim_loss, update_tables, zero_tables
from g2ajax.nn.norm_aware import NormAwareEmbedding, SoftmaxIdentityHead
from g2ajax.training.optimizer import OptimizerOptions, clip_by_norm, update_rule
from g2ajax.training.schedules import ScheduleOptions, learning_rates
from tests.parity.runners.backbones import loaded, run


def run_oim_steps(args, inputs, weights):
    if args["initial_tables"] != "zeros":
        raise NotImplementedError(f"initial tables {args['initial_tables']}")
    tables = zero_tables(args["num_pids"], args["cq_size"], args["dims"])
    tables = tables._replace(header=jnp.asarray(args["initial_header"], jnp.int32))
    # Every quirk of the references: pids beyond the table are targets in the queue's columns.
    quirks = {"unlabelled": args["unlabelled_pid"], "overflow": "queue_column"}
    without = "advance_header" if args["nan_loss_replaced_by_zero"] else "update"

    @jax.jit
    def one(x, pid, mask, tables):
        def loss(x):
            return oim_loss(x, pid, tables, mask, scale=args["scalar"], **quirks)

        after = update_tables(
            tables, x, pid, mask, momentum=args["momentum"], without_target=without, **quirks
        )
        return jax.value_and_grad(loss, has_aux=True)(x), after

    # Padded to one number of rows, so that it compiles once.
    room = max(len(inputs[f"in_pid_{step}"]) for step in range(args["steps"]))
    results = {}
    for step in range(args["steps"]):
        x, pid = inputs[f"in_x_{step}"], inputs[f"in_pid_{step}"].astype(np.int32)
        count = len(pid)
        padding = (0, room - count)
        ((value, rows), gradient), tables = one(
            np.pad(x, (padding, (0, 0)), constant_values=np.nan),
            np.pad(pid, padding, constant_values=1),
            np.arange(room) < count,
            tables,
        )
        if args["returns_rows"]:
            person, label = np.asarray(rows.person), np.asarray(rows.label)
            named = person & (label != args["unlabelled_pid"] - 1)
            results |= {
                f"out_pid_inputs_{step}": x[named[:count]],
                f"out_pid_label_{step}": label[named],
                f"out_pid_logits_{step}": np.asarray(rows.logits)[named, : args["num_pids"]],
            }
        results |= {
            f"out_loss_{step}": value,
            f"out_grad_{step}": gradient[:count],
            f"out_lut_{step}": tables.lookup,
            f"out_cq_{step}": tables.queue,
            f"out_header_{step}": tables.header,
        }
    return results


LOSSES = {
    "logits_kl": head_distillation.logit_divergence,
    "one_minus_dot": head_distillation.feature_distance,
    "similarity_kl": head_distillation.similarity_divergence,
    "similarity_l2": head_distillation.similarity_distance,
    "pkt": head_distillation.probability_transfer,
}


def run_distillation_losses(args, inputs, weights):
    results = {}
    for v in args["variants"]:
        if v.get("normalize") is True:
            raise NotImplementedError("normalisation of features inside the loss")
        options = {k: v[k] for k in ("temperature", "bidirectional", "eps") if k in v}
        loss = functools.partial(LOSSES[v["loss"]], **options)
        sides = jnp.asarray(inputs[v["student"]]), jnp.asarray(inputs[v["teacher"]])
        value, (of_student, of_teacher) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*sides)
        names = v["outputs"]
        results |= {
            names["loss"]: value,
            names["grad_student"]: of_student,
            names["grad_teacher"]: of_teacher,
        }
    return results


def run_norm_aware_embedding(args, inputs, weights):
    features = {
        name.removeprefix("in_"): jnp.asarray(inputs[name]).reshape(len(inputs[name]), -1)
        for name in args["inputs"]
    }
    channels = dict(zip(features, args["in_channels"], strict=True))
    module = loaded(lambda rngs: NormAwareEmbedding(channels, args["dim"], rngs=rngs), weights)
    results = {}
    for mode in args["modes"]:
        (embedding, logit), after = run(module, mode, lambda m, x: m(x), features)
        results |= {f"out_{mode}_embeddings": embedding, f"out_{mode}_logits": logit}
        if mode != "train":
            continue
        for name in features:
            norm = after.projectors[name][1]
            short = name.removeprefix("feat_")
            results[f"out_train_running_mean_{short}"] = norm.mean[...]
            results[f"out_train_running_var_{short}"] = norm.var[...]
        rescaler = after.rescaler
        results["out_train_rescaler_stats"] = jnp.concatenate(
            [rescaler.mean[...], rescaler.var[...]]
        )
    return results


def run_softmax_id_loss(args, inputs, weights):
    classes = args["num_classes"]
    module = loaded(lambda rngs: SoftmaxIdentityHead(args["dims"], classes, rngs=rngs), weights)
    label = jnp.asarray(inputs["in_labels"].astype(np.int32))

    features = jnp.asarray(inputs["in_features"])

    def value_of(module, x):
        return cross_entropy(module(x), label, mask=label < classes)

    value, after = run(module, args["mode"], value_of, features)
    gradient = jax.grad(lambda x: run(module, args["mode"], value_of, x)[0])(features)
    return {
        "out_loss": value,
        "out_grad": gradient,
        "out_running_mean": after.bottleneck.mean[...],
    }


def run_search_lr_sgd(args, inputs, weights):
    results = {}
    for entry in args["schedules"]:
        options = ScheduleOptions(
            "detection_multistep",
            warmup_steps=entry["loader_length"] - 1,
            warmup_factor=entry["warmup_factor"],
            milestones=tuple(entry["milestones"]),
            gamma=entry["gamma"],
            unfinished_warmup=True,
        )
        steps, epochs = entry["iterations_per_epoch"], entry["epochs"]
        rates = learning_rates(options, entry["base_lr"], steps, epochs)
        results[entry["output"]] = rates.reshape(epochs, steps)
    sgd = args["sgd"]
    options = OptimizerOptions(name="sgd", momentum=sgd["momentum"])
    rule = optax.chain(
        clip_by_norm(sgd["clip_norm"], sgd["clip_eps"]),
        update_rule(options, sgd["weight_decay"]),
        optax.scale_by_learning_rate(sgd["lr"]),
    )
    param = jnp.asarray(inputs[sgd["initial"]])
    state, after = rule.init(param), []
    for gradient in inputs[sgd["gradients"]]:
        update, state = rule.update(jnp.asarray(gradient), state, param)
        param = optax.apply_updates(param, update)
        after.append(param)
    results[sgd["output"]] = np.stack(after)
    return results


RUNNERS = {
    "oim_steps": run_oim_steps,
    "distillation_losses": run_distillation_losses,
    "norm_aware_embedding": run_norm_aware_embedding,
    "softmax_id_loss": run_softmax_id_loss,
    "search_lr_sgd": run_search_lr_sgd,
}
