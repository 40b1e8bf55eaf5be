"""One phase of a run: the loop over steps, with its evaluations, checkpoints and ways to stop."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from g2ajax.data.augment import augment
from g2ajax.data.captioned import CaptionedImages
from g2ajax.data.pipeline import index_table, train_batches
from g2ajax.data.residency import gather_batch, load_resident
from g2ajax.data.text import MaskOptions, mask_words
from g2ajax.evaluation.results import Result
from g2ajax.training import checkpoint as checkpoints
from g2ajax.training import frames
from g2ajax.training.inference import score
from g2ajax.training.journal import Journal, Progress
from g2ajax.training.mesh import batch_sharding
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.setup import Setup
from g2ajax.training.state import (
    Leaves,
    Program,
    begin,
    copy_parts,
    make_step,
    put_batch,
    trainable_filter,
)


class NonFiniteLoss(FloatingPointError):
    """A loss term became NaN or infinite; says where, and which images were in the batch."""


class Stopped(SystemExit):
    """The run was asked to stop, has saved its state and ends with exit status 0."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Within it SIGTERM does not kill: `stop(step)` says whether it has come.

    With several processes they agree on the step at which they stop.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked = []
    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    except ValueError:  # not in the main thread, as in a notebook's server: nothing to catch
        yield lambda step: False
        return
    try:
        yield lambda step: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, previous)


@dataclasses.dataclass
class Best:
    """The best evaluation so far of the phase: another phase may have other rankings."""

    value: float = -1.0
    step: int = -1
    phase: str = ""


def train_phase(
    setup: Setup,
    index: int,
    start: int,
    before: int,
    best: Best,
    store: checkpoints.Checkpoints,
    journal: Journal,
    stop: Callable[[int], bool],
) -> list[Result]:
    """Trains phase number `index` from step `start` to its end; `setup.model` then holds the trained
    parameters (not the averaged ones: the next phase goes on from what was trained).

    `before` counts the steps of earlier phases. Returns the results of the last evaluation. Raises
    NonFiniteLoss, and Stopped when `stop` says so (after saving).
    """
    options = setup.options
    name = options.phases[index]
    phase = options.phase[name]
    per_epoch = setup.steps_per_epoch(name)
    total = setup.phase_steps(name)
    if start >= total:
        return []
    if not start:
        copy_parts(setup.model, name, phase)
    optimizer = build_optimizer(
        phase.optimizer,
        phase.schedule,
        nnx.state(setup.model, trainable_filter(phase)),
        steps_per_epoch=per_epoch,
        epochs=phase.epochs,
    )
    program, leaves = begin(setup.model, phase, optimizer.transform, setup.mesh)
    if start:
        leaves = _with_optimizer(program, leaves, store, start)
    sampler = setup.sampler(index)
    batches, resident = _batches(setup, index, start, index_table(sampler, start, total), journal)
    step_fn = make_step(
        program, phase, optimizer.transform, _preparation(setup), setup.mesh, options.seed + index
    )

    def save(kind: str, step: int) -> None:
        tree = program.tree(leaves)
        averaged = kind == "best"
        model = program.model(leaves, averaged=averaged)
        items = {
            "params": checkpoints.flat_state(nnx.state(model, nnx.Param)),
            "stats": checkpoints.flat_state(nnx.state(model, nnx.Not(nnx.Param))),
        }
        if kind == "latest":
            items["optimizer"] = checkpoints.numbered(tree["optimizer"])
            items["ema"] = checkpoints.flat_state(tree["ema"]) if tree["ema"] is not None else {}
        meta = {"phase": name, "step": step, "total_step": before + step, "best": vars(best)}
        store.save(kind, before + step, items, meta)

    def assess(step: int) -> list[Result]:
        model = program.model(leaves, averaged=True)
        results = score(
            model, setup, checkpoint="last", step=before + step, rankings=phase.rankings
        )
        known = [r.scalars() for r in results]
        by = options.evaluate.best
        value = float(np.mean([scores[by] for scores in known if by in scores]))
        for result in results:
            place = (
                result.protocol
                if result.ranking == "reid"
                else f"{result.protocol}-{result.ranking}"
            )
            journal.scalars(before + step, f"evaluation/{place}", result.scalars())
            journal.say(f"{name}  {step}/{total}  {result.line()}")
        if value > best.value or best.phase != name:
            best.value, best.step, best.phase = value, before + step, name
            save("best", step)
        return results

    progress = Progress(start, total, setup.batch_size(name))
    pending: list[tuple[int, Mapping[str, jax.Array]]] = []
    results: list[Result] = []
    with contextlib.closing(batches):
        for step in range(start + 1, total + 1):
            leaves, metrics = step_fn(leaves, next(batches), resident)
            pending.append((step, metrics))
            last = step == total
            due = options.evaluate.every_epochs * per_epoch
            evaluates = last or (due and step % due == 0)
            stops = stop(before + step)
            saves = stops or evaluates or step % options.checkpoint.every_steps == 0
            if saves or step % options.log.every_steps == 0:
                values = _settle(pending, setup, sampler, name)
                pending = []
                progress.advance(step)
                rates = optimizer.learning_rates(step - 1)
                journal.scalars(before + step, f"train/{name}", {**values, **rates})
                journal.say(progress.line(name, step, values, max(rates.values())))
            if evaluates:
                results = assess(step)
            if saves:
                save("latest", step)
                progress.pause()
            if stops:
                store.wait()
                journal.say(f"stopped at step {step} of {name}; start again to go on from here")
                raise Stopped(0)
    nnx.update(setup.model, nnx.state(program.model(leaves)))
    return results


def _batches(
    setup: Setup, index: int, start: int, table: np.ndarray, journal: Journal
) -> tuple[Iterator[dict[str, jax.Array]], jax.Array | None]:
    """Batches of phase number `index` from step `start` on and, if the images live on the device,
    the images."""
    if setup.frames:
        return frames.train_batches(setup, index, start, table), None
    data, train = setup.options.data, setup.examples
    sharding = batch_sharding(setup.mesh)
    images = {"image_size": data.image_size, "interpolation": data.interpolation}
    if data.residency == "device":
        resident = load_resident(
            train.images if isinstance(train, CaptionedImages) else train,
            sharding=sharding,
            parts=setup.mesh.size,
            num_threads=data.num_threads,
            progress=lambda done, of: journal.say(f"images on the device: {done} of {of}"),
            **images,
        )
        return train_batches(train, table, sharding=sharding, image_size=None), resident
    batches = train_batches(
        train,
        table,
        sharding=sharding,
        num_workers=data.num_workers,
        num_threads=data.num_threads,
        **images,
    )
    return batches, None


def _preparation(setup: Setup) -> Callable[[jax.Array, Any, Any], dict[str, jax.Array]]:
    """What a step does with a batch first: its images from the device's store, augmented (paired
    images on their own), and the words of its captions masked. Whole frames are ready as they are."""
    if setup.frames:
        return lambda key, batch, store: batch
    options, network = setup.options.augment, setup.model.preprocessing
    text = setup.options.text

    def images(key: jax.Array, batch: dict[str, jax.Array], store: Any, kind: str) -> jax.Array:
        if store is None:
            image = batch[f"{kind}image"]
        else:
            image = gather_batch(store, batch[f"{kind}index"])
        image = put_batch({"image": image}, setup.mesh)["image"]
        return augment(key, image, options, network.mean, network.std, shards=setup.mesh.size)

    def prepare(key: jax.Array, batch: dict[str, jax.Array], store: Any) -> dict[str, jax.Array]:
        made = {"image": images(key, batch, store, "")}
        if "paired_index" in batch:
            made["paired_image"] = images(jax.random.fold_in(key, 1), batch, store, "paired_")
        if "caption" in batch and text.mask:
            masked, made["masked_word"] = mask_words(
                jax.random.fold_in(key, 2), batch["caption"], MaskOptions(probability=text.mask)
            )
            made["masked_caption" if text.clean_copy else "caption"] = masked
        return {**batch, **made}

    return prepare


def _settle(
    pending: list[tuple[int, Mapping[str, jax.Array]]], setup: Setup, sampler: Any, phase: str
) -> dict[str, float]:
    """The mean of each metric over the pending steps. Raises NonFiniteLoss naming the first bad one."""
    fetched = jax.device_get([metrics for _, metrics in pending])
    for (step, _), metrics in zip(pending, fetched, strict=True):
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            ids = [str(setup.examples.image_id[i]) for i in sampler.batch_indices(step - 1)]
            raise NonFiniteLoss(
                f"{', '.join(bad)} not finite at step {step} of phase {phase}; the last checkpoint "
                f"is from before it. Images of the batch: {', '.join(ids)}"
            )
    return {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}


def _with_optimizer(
    program: Program, leaves: Leaves, store: checkpoints.Checkpoints, start: int
) -> Leaves:
    """The state of a resumed phase: optimizer, averages and step from the latest checkpoint."""
    tree = program.tree(leaves)
    ema = checkpoints.flat_state(tree["ema"]) if tree["ema"] is not None else {}
    restored = store.restore(
        "latest", {"optimizer": checkpoints.numbered(tree["optimizer"]), "ema": ema}
    )
    tree["optimizer"] = checkpoints.from_numbered(tree["optimizer"], restored["optimizer"])
    if tree["ema"] is not None:
        tree["ema"] = checkpoints.with_values(tree["ema"], restored["ema"])
    tree["step"] = jax.device_put(np.int32(start), tree["step"].sharding)
    return jax.tree.leaves(tree)
