"""Opens a model: a folder, a run, a repository of the Hugging Face hub, or a public file of weights."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from flax import nnx
from jax.sharding import Mesh

from g2ajax.interop import model_folder
from g2ajax.interop.hub import fetch
from g2ajax.interop.load import CLASSIFIER, InitOptions, initialise, open_weights
from g2ajax.interop.model_folder import Card
from g2ajax.interop.readers import read_checkpoint
from g2ajax.interop.state_dict import NOT_WEIGHTS, load_state_dict
from g2ajax.methods import DataFacts, Method, build, resolved
from g2ajax.models.architectures import ARCHITECTURES, choose, num_cameras, num_classes
from g2ajax.models.model import Model
from g2ajax.training import card as cards
from g2ajax.training import loop
from g2ajax.training.checkpoint import Checkpoints
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import RunOptions, run_options
from g2ajax.training.setup import Run
from g2ajax.training.workdir import stored_config


def load(
    source: str | os.PathLike,
    *,
    architecture: str = "",
    checkpoint: str = "best",
    dtype: str = "",
    devices: list | None = None,
) -> Model:
    """Opens a model; nothing of its training data is needed.

    Args:
      source: folder of a model (`model.json`), folder of a run, `hf:org/repo` (or `hf:org/repo/file`),
        or a file of weights of a public codebase.
      architecture: name of a file's architecture (`models.architectures`); by default the one that the
        file's tensors fit.
      checkpoint: `best` or `latest`, of a run.
      dtype: type of the computation, "float32" or "bfloat16"; by default the model's own, for files
        float32.
      devices: JAX devices that share the batches; by default all.

    Raises FileNotFoundError for a missing file, and ValueError, saying what is wrong and what to do, for
    one that is damaged, incomplete, of a later version, or of another architecture.
    """
    text = os.fspath(source)
    if checkpoint not in ("best", "latest"):
        raise ValueError(f"no checkpoint {checkpoint!r}; a run has 'best' and 'latest'")
    mesh = make_mesh(devices=devices)
    if text.startswith("hf:"):
        path = _fetched(text)
    else:
        path = pathlib.Path(text).expanduser()
    if path.is_file() and path.name == model_folder.CARD:
        path = path.parent
    if not path.exists() and not path.suffix:
        raise FileNotFoundError(
            f"there is no {path}; expected the folder of a run or of a model, or a file of weights"
        )
    if not path.is_dir():
        return _from_file(path, architecture, dtype, mesh)
    if architecture:
        raise ValueError(
            f"{path} is a folder, which says its own architecture; leave architecture={architecture!r} out"
        )
    if (path / "config.json").is_file():
        if not (path / "checkpoints").is_dir() and model_folder.is_model(path / "model"):
            path = path / "model"  # the run was moved without its checkpoints
        else:
            return _from_run(path, checkpoint, dtype, mesh)
    if model_folder.is_model(path):
        return _from_folder(path, dtype, mesh)
    raise FileNotFoundError(
        f"{path} is a folder with neither a model ({model_folder.CARD}) nor a run (config.json)"
    )


def _fetched(address: str) -> pathlib.Path:
    """The local copy of a repository's model, or of its file of weights."""
    parts = address.removeprefix("hf:").strip("/").split("/")
    if len(parts) == 2:
        try:
            described = fetch(f"{address}/{model_folder.CARD}")
        except ValueError:
            return fetch(address)  # without a card, or says why nothing can be fetched
        fetch(f"{address}/{model_folder.WEIGHTS}")
        return described.parent
    return fetch(address)


def empty(method: Mapping[str, Any], facts: DataFacts) -> Method:
    """A method with zeros for weights, to be filled. Nothing is drawn and nothing compiled."""
    module = nnx.eval_shape(lambda: build(method, facts, rngs=nnx.Rngs(params=0)))

    def zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            key = jax.random.key(0)
            return jax.random.split(key, leaf.shape) if leaf.shape else key
        return jnp.asarray(np.zeros(leaf.shape, leaf.dtype))

    nnx.update(module, jax.tree.map(zeros, nnx.state(module)))
    return module


def _with_dtype(facts: DataFacts, dtype: str) -> DataFacts:
    return dataclasses.replace(facts, dtype=jnp.dtype(dtype)) if dtype else facts


def _from_folder(path: pathlib.Path, dtype: str, mesh: Mesh) -> Model:
    card, weights = model_folder.read_card(path)
    tensors = model_folder.read_weights(path, weights)
    facts = _with_dtype(DataFacts.from_dict(card.facts), dtype)
    method = empty(card.method, facts)
    try:
        load_state_dict(method, tensors, allow_missing=_exactly(weights.get("left_out", ())))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Model(method, card, facts, mesh, home=path)


def _exactly(names: Iterable[str]) -> list[str]:
    """Patterns of these names and no others."""
    return [f"^{re.escape(name)}$" for name in names]


def _from_run(path: pathlib.Path, kind: str, dtype: str, mesh: Mesh) -> Model:
    config = stored_config(path)
    options = run_options(config)
    absl_logging.set_verbosity(absl_logging.ERROR)  # orbax warns of every folder opened read-only
    store = Checkpoints(path, read_only=True)
    try:
        meta = store.meta(kind)
    finally:
        store.close()
    if meta is None:
        raise ValueError(f"{path} has no {kind} checkpoint; train with this --workdir first")
    trained = cards.read_data(path, options.phase_dataset(meta["phase"]))
    step = meta["total_step"]
    if trained is None:  # a run of an earlier version kept nothing of its data
        config = {**config, "dtype": dtype or options.dtype}
        return of_run(loop.reopen(config, path, kind)[0], meta["phase"], kind, step, home=path)
    facts = _with_dtype(trained.facts, dtype)
    method = empty(options.method, facts)
    tensors = read_checkpoint(path / "checkpoints" / kind)
    try:
        load_state_dict(method, tensors, ignore=_exactly(_not_weights(method)))
    except ValueError as error:
        raise ValueError(f"{path}, checkpoint {kind}: {error}") from None
    return _of_checkpoint(options, meta["phase"], trained, method, facts, mesh, kind, step, path)


def of_run(
    run: Run, phase: str, checkpoint: str, step: int, *, home: pathlib.Path | None = None
) -> Model:
    """The model of a run that is open, with its present weights."""
    trained, facts = cards.trained_by(run), run.task.facts
    return _of_checkpoint(
        run.options, phase, trained, run.model, facts, run.mesh, checkpoint, step, home
    )


def _of_checkpoint(
    options: RunOptions,
    phase: str,
    trained: cards.Trained,
    method: Method,
    facts: DataFacts,
    mesh: Mesh,
    kind: str,
    step: int,
    home: pathlib.Path | None,
) -> Model:
    described = loop.describe(kind)
    results = _results(home, described) if home else []
    card = cards.make_card(
        options, phase, trained, method, checkpoint=described, step=step, results=results
    )
    data = options.task_options.data
    folders = {"data_dir": data.dir, "manual_dir": data.manual_dir}
    return Model(method, card, facts, mesh, home=home, **folders)


def _not_weights(method: Method) -> set[str]:
    """Names in a checkpoint of state that no public file has: random streams, queues."""
    state = nnx.to_flat_state(nnx.state(method, NOT_WEIGHTS))
    return {".".join(map(str, path)) for path, _ in state}


def _results(path: pathlib.Path, checkpoint: str) -> list[dict[str, Any]]:
    file = path / "results.json"
    rows = json.loads(file.read_text())["results"] if file.is_file() else []
    return [row for row in rows if row["checkpoint"] == checkpoint]


def _from_file(path: pathlib.Path, name: str, dtype: str, mesh: Mesh) -> Model:
    opened = open_weights(InitOptions(file=str(path)))
    name = choose(opened, name)
    architecture = ARCHITECTURES[name]
    shapes = opened.shapes
    config = architecture.read(shapes)
    config.dtype = dtype or "float32"
    options = run_options(config.to_dict())
    blocks = options.task_options
    size = (
        blocks.data.image_size if hasattr(blocks.data, "image_size") else blocks.frames.canvases[0]
    )
    facts = DataFacts(
        num_classes=num_classes(shapes),
        image_size=tuple(size),
        num_cameras=num_cameras(shapes),
        caption_length=blocks.text.length if options.task == "captions" else 0,
        dtype=jnp.dtype(options.dtype),
    )
    method = empty(options.method, facts)
    missing = CLASSIFIER if num_classes(shapes) == 1 else "^$"
    report = initialise(
        method,
        InitOptions(file=str(path), part=architecture.part, allow_missing=(missing,)),
        opened=opened,
    )
    digest = model_folder.sha256(path)
    card = Card(
        name=config.name,
        task=options.task,
        method=resolved(options.method),
        facts=facts.as_dict(),
        options=cards.portable(blocks),
        metric=method.metric,
        feature=method.feature_name,
        preprocessing=dataclasses.asdict(method.preprocessing),
        origin=(
            f"weights of {path.name}, sha256 {digest}, as {name} ({report.summary()}); trained on: "
            "unknown"
        ),
        initial_weights={"file": path.name, "sha256": digest, "family": opened.family.name},
        checkpoint=f"weights of {path.name}, sha256 {digest[:8]}, trained on: unknown",
        rankings=options.phase[options.phases[-1]].task_options.rankings,
        versions={package: importlib.metadata.version(package) for package in cards.PACKAGES},
    )
    return Model(method, card, facts, mesh)
