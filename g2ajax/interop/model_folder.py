"""A model as one folder: its weights under public names, and `model.json` with everything else.

    model/model.safetensors
    model/model.json

Nothing in it needs the dataset, and other programs can read both files.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from flax import nnx

from g2ajax.interop.readers import read_safetensors
from g2ajax.interop.state_dict import to_state_dict

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT, VERSION = "g2ajax model", 1
# These decide an embedding; a change by hand is noticed.
DECISIVE = ("task", "method", "facts", "options", "metric", "weights")


@dataclasses.dataclass(frozen=True)
class Card:
    """Everything about a model but its weights, in JSON's types."""

    name: str
    """Name for tables of results."""
    task: str
    """Kind of data: a module of `g2ajax.tasks`."""
    method: Mapping[str, Any]
    """`name` of a method and its options."""
    facts: Mapping[str, Any]
    """Facts of the training data: classes, cameras, attributes, ... (`methods.DataFacts`)."""
    options: Mapping[str, Any]
    """The task's blocks, of which image size, interpolation and token length decide an embedding."""
    metric: str
    """Distance between embeddings."""
    feature: str = ""
    """Name of the embedding."""
    preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Mean and standard deviation of the pixels 0..255; stated for other programs."""
    origin: str = "unknown"
    """Origin of the weights, as part of a sentence."""
    trained_on: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Name, version and fingerprint of the training data; empty: unknown."""
    initial_weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """File, family and licence of the weights from which training started; empty: from a seed."""
    licence: str = "unknown"
    """Licence of these weights."""
    checkpoint: str = ""
    """Checkpoint of the run, for tables of results."""
    step: int = 0
    """Training steps behind the weights."""
    seed: int = 0
    rankings: tuple[str, ...] = ("reid",)
    """Rankings of a gallery that the model was trained for."""
    results: tuple[Mapping[str, Any], ...] = ()
    """Scores with their protocols and intervals, as in `results.json`."""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Versions of the packages that wrote the folder."""


def write_model(
    folder: str | os.PathLike, module: nnx.Module, card: Card, *, leave_out: Collection[str] = ()
) -> pathlib.Path:
    """Writes the folder of a model, whole or not at all; an older one there is replaced.

    `leave_out`: public names of tensors that are not written, such as a classifier's.
    """
    from safetensors.numpy import save_file  # here: a training step on given arrays needs none

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v for k, v in to_state_dict(module).items() if k not in set(leave_out)}
    partial = folder / f"{WEIGHTS}.partial"
    # Public names and layouts: PyTorch's tools read the file as theirs.
    save_file(tensors, partial, metadata={"format": "pt"})
    weights = {
        "file": WEIGHTS,
        "sha256": sha256(partial),
        "bytes": partial.stat().st_size,
        "left_out": sorted(leave_out),
    }
    fields = {**dataclasses.asdict(card), "weights": weights}
    text = json.dumps(
        {"format": FORMAT, "version": VERSION, **fields, "checksum": _checksum(fields)}, indent=2
    )
    (folder / f"{CARD}.partial").write_text(text + "\n")
    partial.replace(folder / WEIGHTS)
    (folder / f"{CARD}.partial").replace(folder / CARD)
    return folder


def is_model(folder: pathlib.Path) -> bool:
    """True if the folder has the description of a model."""
    return (folder / CARD).is_file()


def read_card(folder: pathlib.Path) -> tuple[Card, dict[str, Any]]:
    """The card of a model's folder, and its entry on the weights.

    Raises FileNotFoundError without one, and ValueError for one that is damaged, of a later version or
    changed by hand in what decides an embedding.
    """
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no model ({path} is missing)")
    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; pack or download the model again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} does not describe a model of g2ajax; expected format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {content.get('version')!r}, and this g2ajax reads version "
            f"{VERSION}; it was written by g2ajax {content.get('versions', {}).get('g2ajax')!r}: "
            "update g2ajax, or pack the model again with this one"
        )
    fields = {k: v for k, v in content.items() if k not in ("format", "version", "checksum")}
    missing = sorted({*DECISIVE, "name"} - fields.keys())
    unknown = sorted(fields.keys() - {f.name for f in dataclasses.fields(Card)} - {"weights"})
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"has the unknown field {unknown[0]!r}"
        raise ValueError(f"{path} {wrong}; pack or download the model again")
    if content.get("checksum") != _checksum(fields):
        raise ValueError(
            f"{path} was changed after it was written, in one of {', '.join(DECISIVE)}: the weights would "
            "mean something else. Pack or download the model again; name, licence and results may be "
            "edited"
        )
    weights = fields.pop("weights")
    lists = {name: tuple(fields[name]) for name in ("rankings", "results") if name in fields}
    return Card(**{**fields, **lists}), weights


def read_weights(folder: pathlib.Path, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a model's folder, under public names.

    Raises FileNotFoundError without the file, and ValueError for one that is not the described one.
    """
    path = folder / pathlib.Path(weights["file"]).name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {folder / CARD} describes its weights")
    size = path.stat().st_size
    if size != weights["bytes"]:
        how = "was cut off" if size < weights["bytes"] else "is another file"
        raise ValueError(
            f"{path} {how}: it has {size} bytes, and {CARD} describes {weights['bytes']}; copy or "
            "download it again"
        )
    if sha256(path) != weights["sha256"]:
        raise ValueError(
            f"{path} is not the file that {CARD} describes (its sha256 differs); copy or download "
            "both again"
        )
    return read_safetensors(path)


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(fields: Mapping[str, Any]) -> str:
    text = json.dumps({name: fields[name] for name in DECISIVE}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
