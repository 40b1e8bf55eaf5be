"""The state of a phase as one flat list of arrays, and the jitted step that updates it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from g2ajax.data.sharding import replicated
from g2ajax.methods import Method, evaluated
from g2ajax.training.mesh import state_sharding
from g2ajax.training.options import PhaseOptions

Leaves = list[jax.Array]


def under(path: tuple, prefixes: tuple[str, ...]) -> bool:
    """True if a module path is at or below one of the dotted `prefixes`; `*` matches every path."""
    names = tuple(map(str, path))
    for prefix in prefixes:
        parts = tuple(prefix.split("."))
        if prefix == "*" or names[: len(parts)] == parts:
            return True
    return False


def trainable_filter(phase: PhaseOptions) -> Callable[[tuple, Any], bool]:
    """An NNX filter: the parameters that the phase trains."""

    def trained(path: tuple, value: Any) -> bool:
        if not isinstance(value, nnx.Param):
            return False
        return under(path, phase.trainable) and not under(path, phase.frozen)

    return trained


def check_paths(model: nnx.Module, name: str, phase: PhaseOptions) -> None:
    """Raises ValueError when a path of the phase names no parameter, or nothing is left to train."""
    for field in ("trainable", "frozen"):
        for prefix in getattr(phase, field):
            check_prefix(model, prefix, f"phase.{name}.{field}")
    if not nnx.to_flat_state(nnx.state(model, trainable_filter(phase))):
        raise ValueError(f"phase.{name} leaves nothing to train")


def check_prefix(model: nnx.Module, prefix: str, where: str) -> None:
    """Raises ValueError unless a parameter lies at or below the path `prefix` that `where` names."""
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]
    if not any(under(path, (prefix,)) for path in paths):
        tops = sorted({str(path[0]) for path in paths})
        raise ValueError(
            f"{where} names {prefix!r}, which has no parameter; the model's parts are "
            f"{', '.join(tops)}"
        )


def check_copies(model: nnx.Module, name: str, phase: PhaseOptions) -> None:
    """Raises ValueError unless every copied tensor has a source of equal name and shape."""
    _copied(model, name, phase.copy)


def copy_parts(model: nnx.Module, name: str, phase: PhaseOptions) -> None:
    """Copies the parts that a phase lists under `copy`, in place."""
    for path, value in _copied(model, name, phase.copy).items():
        nnx.update(model, nnx.State.from_flat_path({path: value}))


def begin_phase(model: Method, loss: str) -> None:
    """Lets the model compute the state that the loss of a phase reads, in place (`Method.begin_phase`)."""
    if type(model).begin_phase is Method.begin_phase:
        return
    graphdef, state = evaluated(model)

    @jax.jit
    def run(state: nnx.State) -> nnx.State:
        other = nnx.merge(graphdef, state, copy=True)
        other.begin_phase(loss)
        return nnx.state(other, nnx.Not(nnx.Param))

    nnx.update(model, run(state))


def _copied(model: nnx.Module, name: str, copies: Mapping[str, str]) -> dict[tuple, Any]:
    """Maps the path of each variable to the variable whose value it takes."""
    flat = dict(nnx.to_flat_state(nnx.state(model)))
    twins = {}
    for target, source in copies.items():
        check_prefix(model, target, f"phase.{name}.copy")
        check_prefix(model, source, f"phase.{name}.copy")
        start = tuple(target.split("."))
        for path, variable in flat.items():
            if not under(path, (target,)):
                continue
            twin = _twin(path, start, tuple(source.split(".")), flat)
            if twin is None or flat[twin].shape != variable.shape:
                raise ValueError(
                    f"phase.{name}.copy: {'.'.join(map(str, path))} has no counterpart of its shape "
                    f"below {source}"
                )
            twins[path] = flat[twin]
    return twins


def _twin(path: tuple, target: tuple, source: tuple, flat: Mapping[tuple, Any]) -> tuple | None:
    rest = path[len(target) :]
    names = [
        candidate for candidate in flat if tuple(map(str, candidate)) == (*source, *map(str, rest))
    ]
    return names[0] if names else None


def set_modes(model: nnx.Module, phase: PhaseOptions) -> None:
    """Sets training mode for trained modules; evaluation mode (statistics too) for frozen ones."""
    model.train()
    for path, module in nnx.iter_modules(model):
        inside = under(path, phase.trainable) and not under(path, phase.frozen)
        has_own = bool(nnx.to_flat_state(nnx.state(module, nnx.Param)))
        if path and has_own and not inside and not _holds_trainable(path, phase):
            module.eval()


def _holds_trainable(path: tuple, phase: PhaseOptions) -> bool:
    names = ".".join(map(str, path))
    return any(prefix == "*" or prefix.startswith(names + ".") for prefix in phase.trainable) and (
        not under(path, phase.frozen)
    )


@dataclasses.dataclass(frozen=True)
class Program:
    """Static part of a phase: the model's structure and the tree of its state."""

    graphdef: nnx.GraphDef
    treedef: Any
    shardings: list[jax.sharding.Sharding]

    def tree(self, leaves: Leaves) -> dict[str, Any]:
        """`{trainable, frozen, rest, optimizer, ema, step}`."""
        return jax.tree.unflatten(self.treedef, leaves)

    def model(self, leaves: Leaves, *, averaged: bool = False) -> nnx.Module:
        """The model with the state's arrays (the averaged parameters if requested and kept)."""
        tree = self.tree(leaves)
        trainable = tree["ema"] if averaged and tree["ema"] is not None else tree["trainable"]
        return nnx.merge(self.graphdef, trainable, tree["frozen"], tree["rest"], copy=True)


def abstract_state(
    model: nnx.Module, phase: PhaseOptions, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[Program, list[jax.ShapeDtypeStruct]]:
    """The program of a phase, and the shapes of its state with their places on the mesh.

    Needs no arrays: the model may be one of `nnx.eval_shape`.
    """
    graphdef, *parts = _parts(model, phase)
    shapes = jax.eval_shape(functools.partial(_state, phase, optimizer), *parts)
    leaves, treedef = jax.tree.flatten(shapes)
    shardings = [state_sharding(leaf, mesh) for leaf in leaves]
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for leaf, sharding in zip(leaves, shardings, strict=True)
    ]
    return Program(graphdef, treedef, shardings), placed


def begin(
    model: nnx.Module, phase: PhaseOptions, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[Program, Leaves]:
    """The state at the first step of a phase, placed on the mesh."""
    program, _ = abstract_state(model, phase, optimizer, mesh)
    _, *parts = _parts(model, phase)
    start = jax.jit(
        lambda *parts: jax.tree.leaves(_state(phase, optimizer, *parts)),
        out_shardings=program.shardings,
    )
    return program, start(*parts)


def _parts(model: nnx.Module, phase: PhaseOptions) -> tuple[nnx.GraphDef, *tuple[nnx.State, ...]]:
    """The model in the modes of a phase: its structure, trained and frozen parameters, the rest."""
    set_modes(model, phase)
    return nnx.split(model, trainable_filter(phase), nnx.Param, ...)


def _state(
    phase: PhaseOptions,
    optimizer: optax.GradientTransformation,
    trainable: nnx.State,
    frozen: nnx.State,
    rest: nnx.State,
) -> dict[str, Any]:
    return {
        "trainable": trainable,
        "frozen": frozen,
        "rest": rest,
        "optimizer": optimizer.init(trainable),
        "ema": jax.tree.map(jnp.copy, trainable) if phase.ema else None,
        "step": jnp.zeros((), jnp.int32),
    }


def make_step(
    program: Program,
    phase: PhaseOptions,
    optimizer: optax.GradientTransformation,
    prepare: Callable[[jax.Array, Any, Any], dict[str, jax.Array]],
    mesh: Mesh,
    seed: int,
) -> Callable[[Leaves, Any, Any], tuple[Leaves, dict[str, jax.Array]]]:
    """The jitted training step `(leaves, batch, store) -> (leaves, metrics)`; `leaves` are donated.

    `prepare(key, batch, store)` gives the augmented batch. All randomness of a step comes from
    (seed, step), so a resumed run repeats it.
    """

    def step(leaves: Leaves, batch: Any, store: Any) -> tuple[Leaves, dict[str, jax.Array]]:
        tree = program.tree(leaves)
        key = jax.random.fold_in(jax.random.key(seed), tree["step"])
        augment_key, model_key = jax.random.split(key)
        batch = prepare(augment_key, batch, store)
        gradient = jax.value_and_grad(_loss(program, phase), has_aux=True)
        if phase.accumulate == 1:
            (loss, (metrics, rest)), gradients = gradient(
                tree["trainable"], tree["frozen"], tree["rest"], batch, model_key
            )
        else:
            loss, metrics, rest, gradients = _accumulated(
                gradient, tree, batch, model_key, phase.accumulate
            )
        updates, optimizer_state = optimizer.update(gradients, tree["optimizer"], tree["trainable"])
        trainable = optax.apply_updates(tree["trainable"], updates)
        ema = tree["ema"]
        if ema is not None:
            ema = optax.incremental_update(trainable, ema, 1.0 - phase.ema)
        new = {
            "trainable": trainable,
            "frozen": tree["frozen"],
            "rest": rest,
            "optimizer": optimizer_state,
            "ema": ema,
            "step": tree["step"] + 1,
        }
        metrics = {"loss": loss, **metrics, "gradient_norm": optax.global_norm(gradients)}
        return jax.tree.leaves(new), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(program.shardings, replicated(mesh)))


def _loss(program: Program, phase: PhaseOptions) -> Callable:
    def loss(trainable, frozen, rest, batch, key):
        model = nnx.merge(program.graphdef, trainable, frozen, rest, copy=True)
        value, metrics = model.function(phase.loss)(batch, nnx.Rngs(key))
        _, _, _, rest = nnx.split(model, trainable_filter(phase), nnx.Param, ...)
        return value, (metrics, rest)

    return loss


def _accumulated(gradient, tree, batch, key, parts):
    """Mean gradient over `parts` slices of the batch, one after another."""
    slices = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)

    def one(carry, step):
        rest, total = carry
        piece, index = step
        (loss, (metrics, rest)), grads = gradient(
            tree["trainable"], tree["frozen"], rest, piece, jax.random.fold_in(key, index)
        )
        return (rest, jax.tree.map(jnp.add, total, grads)), (loss, metrics)

    zeros = jax.tree.map(jnp.zeros_like, tree["trainable"])
    (rest, total), (loss, metrics) = jax.lax.scan(
        one, (tree["rest"], zeros), (slices, jnp.arange(parts))
    )
    gradients = jax.tree.map(lambda g: g / parts, total)
    return loss.mean(), jax.tree.map(jnp.mean, metrics), rest, gradients
