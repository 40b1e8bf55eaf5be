"""Checkpoints: the latest state of a run, and the best by its evaluation, kept apart.

Layout of a workdir:

    checkpoints/latest/<step>/{params,stats,optimizer,ema,meta}
    checkpoints/best/<step>/{params,stats,ema,meta}

`params` and `stats` are flat dictionaries under the public tensor names ("backbone.conv1.kernel"),
so that a checkpoint can be read without this package. `meta` is JSON: phase, step, best value.
A save is whole or absent: Orbax writes to a temporary folder and renames it.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import nnx

Flat = dict[str, jax.Array]

ITEMS = ("params", "stats", "optimizer", "ema")
"""The items that hold arrays."""


def flat_state(state: nnx.State) -> Flat:
    """An NNX state as a dictionary with dotted names."""
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def with_values(state: nnx.State, flat: Mapping[str, jax.Array]) -> nnx.State:
    """`state` with the arrays of `flat`, which has exactly its names and shapes.

    Raises ValueError naming every tensor that is missing, unexpected or of another shape.
    """
    names = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    wrong = [f"missing: {name}" for name in sorted(names.keys() - flat.keys())]
    wrong += [f"unexpected: {name}" for name in sorted(flat.keys() - names.keys())]
    wrong += [
        f"{name}: {flat[name].shape} in the file, {leaf.shape} in the model"
        for name, leaf in names.items()
        if name in flat and flat[name].shape != leaf.shape
    ]
    if wrong:
        raise ValueError("the checkpoint is of another model:\n  " + "\n  ".join(wrong[:20]))
    pairs = [
        (path, leaf.replace(flat[".".join(map(str, path))]))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(pairs)


def numbered(tree: Any) -> Flat:
    """An optimizer state as numbered leaves; the configuration guarantees their meaning."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _processes(kind: str) -> ocp.options.MultiprocessingOptions:
    return ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=kind)


def _handlers(kind: str) -> dict[str, ocp.CheckpointHandler]:
    """The writers of the items. Each array is written by one of the devices that hold it.

    By Orbax's default they write a slice each, and a slice is a program for each shape and device:
    with eight devices the first checkpoint of a ResNet-50 and Adam took 7.3 s, where this takes 0.3 s.
    """
    arrays = ocp.PyTreeCheckpointHandler(
        multiprocessing_options=_processes(kind),
        type_handler_registry=ocp.type_handlers.create_type_handler_registry(
            (jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False))
        ),
    )
    return dict.fromkeys(ITEMS, arrays) | {
        "meta": ocp.JsonCheckpointHandler(multiprocessing_options=_processes(kind))
    }


class Checkpoints:
    """The checkpoint folder of one run."""

    def __init__(self, workdir: pathlib.Path, *, read_only: bool = False) -> None:
        self.folder = workdir.absolute() / "checkpoints"
        self.managers = {
            kind: ocp.CheckpointManager(
                self.folder / kind,
                item_handlers=_handlers(kind),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1,
                    create=not read_only,
                    read_only=read_only,
                    cleanup_tmp_directories=not read_only,
                    multiprocessing_options=_processes(kind),
                ),
            )
            for kind in ("latest", "best")
            if not read_only or (self.folder / kind).exists()
        }

    def steps(self) -> dict[str, int | None]:
        """The step of each kind of checkpoint that is stored."""
        return {kind: manager.latest_step() for kind, manager in self.managers.items()}

    def save(self, kind: str, step: int, items: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Saves flat `items` (name → dictionary of arrays) beside `meta`; a stored step is kept."""
        manager = self.managers[kind]
        if manager.latest_step() == step:
            return
        # One save at a time: with several processes, the two managers' barriers would mix.
        self.wait()
        arguments = {name: ocp.args.PyTreeSave(item) for name, item in items.items() if item}
        manager.save(
            step,
            args=ocp.args.Composite(**arguments, meta=ocp.args.JsonSave(dict(meta))),
            force=True,
        )

    def meta(self, kind: str) -> dict[str, Any] | None:
        """Metadata stored with the newest checkpoint of `kind`, or None."""
        step = self.managers[kind].latest_step() if kind in self.managers else None
        if step is None:
            return None
        restored = self.managers[kind].restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        )
        return dict(restored.meta)

    def restore(self, kind: str, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Flat]:
        """Reads the items named by `targets` straight into their targets' shapes and shardings.

        Raises ValueError when there is no such checkpoint, or its tensors are not those of targets.
        """
        manager = self.managers.get(kind)
        step = manager.latest_step() if manager else None
        if step is None:
            raise ValueError(f"{self.folder} has no checkpoint of kind {kind!r}")
        where = f"the {kind} checkpoint of step {step} in {self.folder}"
        arguments = {
            name: ocp.args.PyTreeRestore(
                target, restore_args=ocp.checkpoint_utils.construct_restore_args(target)
            )
            for name, target in targets.items()
            if target
        }
        try:
            restored = manager.restore(step, args=ocp.args.Composite(**arguments))
        except (ValueError, KeyError) as error:
            _check_shapes(where, self.folder / kind / str(step), targets)
            raise ValueError(f"{where} is of another model or configuration: {error}") from error
        return {name: dict(restored[name]) if targets[name] else {} for name in targets}

    def wait(self) -> None:
        """Returns when every save has reached the disk."""
        for manager in self.managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        for manager in self.managers.values():
            manager.close()


def _check_shapes(
    where: str, stored: pathlib.Path, targets: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raises ValueError naming the tensors whose stored shape is not the target's."""
    differing = []
    for item, target in targets.items():
        if not (stored / item).exists():
            continue
        with ocp.PyTreeCheckpointer() as reader:
            metadata = reader.metadata(stored / item).item_metadata.tree
        for name, leaf in target.items():
            shape = getattr(metadata.get(name), "shape", None)
            if shape is not None and tuple(shape) != tuple(leaf.shape):
                differing.append(f"{name} is {tuple(shape)} there and {tuple(leaf.shape)} here")
    if differing:
        rest = f", and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise ValueError(
            f"{where} is of another model or configuration: {'; '.join(differing[:5])}{rest}"
        )


def from_numbered(tree: Any, flat: Flat) -> Any:
    """The inverse of `numbered`, given a tree of the same structure."""
    return jax.tree.unflatten(jax.tree.structure(tree), [flat[key] for key in sorted(flat)])
