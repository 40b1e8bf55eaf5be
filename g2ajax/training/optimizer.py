"""Optimizers that compute as PyTorch's, over groups of parameters with their own rates and decays.

Weight decay is coupled (added to the gradient) for sgd, adam and amsgrad, as in the references; adamw
alone decouples it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax.config.ranges import Decay, NonNegative, Positive
from g2ajax.training.schedules import ScheduleOptions, learning_rates


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """One optimizer for all groups; `None` takes the value of `weight_decay`."""

    name: Literal["sgd", "adam", "amsgrad", "adamw"] = "adam"
    """Update rule, as in PyTorch; `adamw` alone decouples the weight decay."""
    learning_rate: NonNegative = 3.5e-4
    """Base learning rate, which the schedule changes."""
    momentum: Decay = 0.9
    """Momentum of `sgd`."""
    beta1: Decay = 0.9
    """Decay of the first moment of `adam`, `amsgrad` and `adamw`."""
    beta2: Decay = 0.999
    """Decay of their second moment."""
    eps: Positive = 1e-8
    """Constant added to the root of the second moment."""
    weight_decay: NonNegative = 5e-4
    """Weight decay of weights (kernels, tokens, tables)."""
    weight_decay_norm: NonNegative | None = None
    """Weight decay of the scale and bias of normalisation layers; None: `weight_decay`."""
    weight_decay_bias: NonNegative | None = None
    """Weight decay of other biases; None: `weight_decay`."""
    bias_factor: NonNegative = 1.0
    """Multiplies the rate of every bias, those of normalisation layers too (TransReID: 2)."""
    factors: tuple[tuple[str, NonNegative], ...] = ()
    """(module path, factor) pairs that multiply the rate below the path; the last match counts."""
    rules: tuple[tuple[str, NonNegative], ...] = ()
    """(part of a parameter's name, factor) pairs, as in IRRA: the last match gives the factor (1
    without one), instead of `bias_factor` and `factors`; `weight_decay_bias` is then the decay
    of every parameter whose name has "bias", in normalisation layers too."""
    clip_norm: NonNegative = 0.0
    """Largest gradient norm; 0: no clipping."""
    clip_by: Literal["global", "group", "tensor"] = "global"
    """Gradients clipped together: all of them, each group of equal rate and decay by its own norm
    (fast-reid's flat buffers), or each tensor by its own (VDT)."""


class Group(NamedTuple):
    """Parameters that share a rate and a decay."""

    factor: float
    weight_decay: float
    is_bias: bool

    @property
    def name(self) -> str:
        kind = "bias" if self.is_bias else "weight"
        return f"{kind}_x{self.factor:g}_wd{self.weight_decay:g}"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax transformation and the rate of each of its groups at each step."""

    transform: optax.GradientTransformation
    tables: dict[str, np.ndarray]

    def learning_rates(self, step: int) -> dict[str, float]:
        """The rate of every group at a (0-based) step, for the log."""
        return {f"lr/{name}": float(table[step]) for name, table in self.tables.items()}


def group_of(path: tuple, siblings: set[str], options: OptimizerOptions) -> Group:
    """The group of the parameter at `path`, `siblings` being the leaf names of its module.

    A parameter belongs to a normalisation layer if its module has a `scale`.
    """
    *module, leaf = map(str, path)
    if options.rules:
        name = ".".join([*module, leaf])
        factors = [factor for part, factor in options.rules if part in name]
        decay, is_bias = options.weight_decay, "bias" in name
        if is_bias and options.weight_decay_bias is not None:
            decay = options.weight_decay_bias
        return Group(factors[-1] if factors else 1.0, decay, is_bias)
    is_bias = leaf == "bias"
    decay = options.weight_decay
    if "scale" in siblings and options.weight_decay_norm is not None:
        decay = options.weight_decay_norm
    elif "scale" not in siblings and is_bias and options.weight_decay_bias is not None:
        decay = options.weight_decay_bias
    factor = options.bias_factor if is_bias else 1.0
    for prefix, value in reversed(options.factors):
        parts = prefix.split(".")
        if module[: len(parts)] == parts:
            factor *= value
            break
    return Group(factor, decay, is_bias)


def label_groups(params: nnx.State, options: OptimizerOptions) -> tuple[nnx.State, list[Group]]:
    """A tree of group names in place of the parameters, and the groups found."""
    flat = list(nnx.to_flat_state(params))
    siblings: dict[tuple, set[str]] = {}
    for path, _ in flat:
        siblings.setdefault(path[:-1], set()).add(str(path[-1]))
    groups = {path: group_of(path, siblings[path[:-1]], options) for path, _ in flat}
    # A bias with the rate and decay of the weights is in their group, as in the references.
    groups = {path: g._replace(is_bias=g.is_bias and g.factor != 1.0) for path, g in groups.items()}
    labels = nnx.from_flat_state([(path, leaf.replace(groups[path].name)) for path, leaf in flat])
    return labels, sorted(set(groups.values()))


def build_optimizer(
    options: OptimizerOptions,
    schedule: ScheduleOptions,
    params: nnx.State,
    *,
    steps_per_epoch: int,
    epochs: int,
) -> Optimizer:
    """The optimizer of a phase for its trainable `params` (an `nnx.State` or shapes of one)."""
    labels, groups = label_groups(params, options)
    tables = {
        group.name: learning_rates(
            schedule, options.learning_rate * group.factor, steps_per_epoch, epochs
        )
        for group in groups
    }
    transforms = {}
    for group in groups:
        steps = []
        if options.clip_norm and options.clip_by == "group":
            steps.append(clip_by_norm(options.clip_norm))
        elif options.clip_norm and options.clip_by == "tensor":
            steps.append(clip_by_norm(options.clip_norm, each=True))
        steps.append(update_rule(options, group.weight_decay))
        steps.append(optax.scale_by_learning_rate(_looked_up(tables[group.name])))
        transforms[group.name] = optax.chain(*steps)
    # optax wants the labels as a tree of strings with the parameters' structure.
    names = jax.tree.leaves(labels)
    transform = optax.partition(
        transforms, lambda tree: jax.tree.unflatten(jax.tree.structure(tree), names)
    )
    if options.clip_norm and options.clip_by == "global":
        transform = optax.chain(clip_by_norm(options.clip_norm), transform)
    return Optimizer(transform, tables)


def update_rule(options: OptimizerOptions, weight_decay: float) -> optax.GradientTransformation:
    """PyTorch's update direction with its weight decay, before the learning rate."""
    decay = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    if options.name == "sgd":
        rule = optax.trace(options.momentum) if options.momentum else optax.identity()
    elif options.name == "amsgrad":
        rule = amsgrad(options.beta1, options.beta2, options.eps)
    else:
        rule = optax.scale_by_adam(options.beta1, options.beta2, options.eps)
    return optax.chain(rule, decay) if options.name == "adamw" else optax.chain(decay, rule)


class AmsgradState(NamedTuple):
    count: jax.Array
    first: Any
    second: Any
    largest: Any


def amsgrad(beta1: float, beta2: float, eps: float) -> optax.GradientTransformation:
    """PyTorch's amsgrad: the maximum is of the RAW second moment, divided by the current bias
    correction (optax keeps the maximum of the corrected one)."""

    def init(params: Any) -> AmsgradState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(grads: Any, state: AmsgradState, params: Any = None) -> tuple[Any, AmsgradState]:
        count = state.count + 1
        first = optax.tree.update_moment(grads, state.first, beta1, 1)
        second = optax.tree.update_moment_per_elem_norm(grads, state.second, beta2, 2)
        largest = jax.tree.map(jnp.maximum, state.largest, second)
        correct1, correct2 = 1.0 - beta1**count, 1.0 - beta2**count
        updates = jax.tree.map(
            lambda m, v: (m / correct1) / (jnp.sqrt(v) / jnp.sqrt(correct2) + eps), first, largest
        )
        return updates, AmsgradState(count, first, second, largest)

    return optax.GradientTransformation(init, update)


def clip_by_norm(
    limit: float, eps: float = 1e-6, *, each: bool = False
) -> optax.GradientTransformation:
    """PyTorch's clipping: gradients times min(1, limit / (norm + eps)); `each`: every tensor by its
    own norm."""

    def clip(grads: Any) -> Any:
        factor = jnp.minimum(1.0, limit / (optax.global_norm(grads) + eps))
        return jax.tree.map(lambda g: g * factor, grads)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(clip, grads) if each else clip(grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _looked_up(table: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    rates = table.astype(np.float32)
    return lambda count: jnp.asarray(rates)[jnp.minimum(count, len(rates) - 1)]
