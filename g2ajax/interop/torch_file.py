"""Reads files of `torch.save` and `torch.jit.save` without PyTorch.

There are three layouts: the zip archive (`<name>/data.pkl`, and a member `<name>/data/<key>` for each
storage); the older stream of five pickles followed by the storages (most torchvision files); and
TorchScript archives, whose `data.pkl` holds the module as records of attributes.
"""

import functools
import io
import pathlib
import struct
import sys
import zipfile
from typing import Any

import numpy as np

from g2ajax.interop.storage import Storage, Tensor, storage_dtype
from g2ajax.interop.unpickler import Global, Inert, plain, unpickle

MAGIC = 0x1950A86A20F9469CFC6C
"""First number of a file in the older format."""
CONTAINERS = (
    *("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema"),
    *("net", "network", "module", "params", "weights", "backbone", "teacher", "student"),
)
"""Usual keys of the model's state dictionary in a checkpoint, tried in this order."""
WRAPPERS = (
    *("module.", "_orig_mod.", "model.module.", "model.", "net.", "network."),
    *("teacher.backbone.", "student.backbone."),
)
"""Prefixes that data-parallel, compiled and training modules add to the names."""
STRAYS = 0.05
"""Largest share of the tensors that may stand beside a wrapped network, such as a loss's centre."""


def read_zip(path: pathlib.Path, entry: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch or TorchScript zip archive. Raises ValueError if it cannot."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(
                f"{path} is a zip archive without a PyTorch checkpoint in it (no data.pkl); it has "
                f"{', '.join(names[:4])}{', …' if len(names) > 4 else ''}. Unpack it and name the "
                "checkpoint inside"
            )
        root = pickles[0].removesuffix("data.pkl")
        order = "little"
        if root + "byteorder" in names:
            order = archive.read(root + "byteorder").decode().strip()

        def persistent(record: Any) -> Storage:
            kind, cls, key, _location, numel = record
            if kind != "storage" or not isinstance(cls, Global):
                raise ValueError(f"a persistent object {kind!r}")
            return Storage(storage_dtype(cls.name), str(key), int(numel))

        content = unpickle(io.BytesIO(archive.read(pickles[0])), persistent)

        @functools.cache
        def data(storage: Storage) -> bytes:
            member = f"{root}data/{storage.key}"
            expected = storage.numel * storage.dtype.itemsize
            if member not in names or archive.getinfo(member).file_size != expected:
                stored = archive.getinfo(member).file_size if member in names else "no"
                raise ValueError(
                    f"{path}: storage {storage.key} should have {expected} bytes, but {stored} "
                    "are stored; the file is damaged, get it again"
                )
            return archive.read(member)

        tensors = model_tensors(content, path, entry)
        return {
            n: t.array(data(t.storage), swap=order != sys.byteorder) if isinstance(t, Tensor) else t
            for n, t in tensors.items()
        }


def read_stream(path: pathlib.Path, entry: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of PyTorch's older format, or of a plain pickle of NumPy arrays."""
    with path.open("rb") as stream:
        first = unpickle(stream, _no_storage)
        if first != MAGIC:
            return model_tensors(first, path, entry)
        version, _system = unpickle(stream, _no_storage), unpickle(stream, _no_storage)
        if version != 1001:
            raise ValueError(f"{path}: version {version} of PyTorch's older format; 1001 is read")
        roots: dict[str, np.dtype] = {}

        def persistent(record: Any) -> Any:
            kind, cls, *rest = record
            if kind != "storage":  # "module": the source text of a pickled class
                return cls
            key, _location, numel, view = rest
            roots[str(key)] = storage_dtype(cls.name)
            start, numel = (view[1], view[2]) if view else (0, numel)
            return Storage(roots[str(key)], str(key), int(numel), int(start))

        content = unpickle(stream, persistent)
        data = {}
        for key in unpickle(stream, _no_storage):
            head = stream.read(8)
            size = struct.unpack("<q", head)[0] if len(head) == 8 else 0
            length = size * roots[str(key)].itemsize
            data[str(key)] = stream.read(length) if size >= 0 else b""
            if len(head) < 8 or len(data[str(key)]) != length:
                raise ValueError(f"{path} is truncated (storage {key}); get it again")
        tensors = model_tensors(content, path, entry)
        return {
            n: t.array(data[t.storage.key], swap=sys.byteorder != "little")
            if isinstance(t, Tensor)
            else t
            for n, t in tensors.items()
        }


def _no_storage(_record: Any) -> Any:
    raise ValueError("a tensor before the header's end")


def model_tensors(content: Any, path: pathlib.Path, entry: str = "") -> dict[str, Any]:
    """Finds the model's state dictionary in the content of a checkpoint.

    `entry` is its (dotted) key; without it the usual keys are tried. Non-tensors are dropped, and
    prefixes of wrappers (`module.`) removed if every name has one. Raises ValueError if there are no
    tensors, or several groups of them.
    """
    for part in entry.split(".") if entry else ():
        if not isinstance(content, dict) or part not in content:
            keys = sorted(map(str, content)) if isinstance(content, dict) else "no dictionary"
            raise ValueError(f"{path} has no entry {entry!r}; there: {keys}")
        content = content[part]
    content = plain(content)
    if isinstance(content, Inert) and content.name.startswith("__torch__"):
        return _attributes(content, set())
    tensors = _state_dict(content, path, set())
    if not tensors:
        kind = (
            f"keys {sorted(map(str, content))[:8]}"
            if isinstance(content, dict)
            else (f"a {type(content).__name__}")
        )
        raise ValueError(f"{path} holds no state dictionary; got {kind}")
    return without_wrapper(tensors)


def without_wrapper(tensors: dict[str, Any]) -> dict[str, Any]:
    """Removes the prefixes that a wrapping module adds to all names; a few others may stand beside."""
    for prefix in WRAPPERS:
        wrapped = sum(name.startswith(prefix) for name in tensors)
        if tensors and wrapped >= (1.0 - STRAYS) * len(tensors):
            bare = {n.removeprefix(prefix): t for n, t in tensors.items()}
            if len(bare) == len(tensors):
                return without_wrapper(bare)
    return tensors


def _tensors(content: dict) -> dict[str, Any]:
    values = {key: plain(value) for key, value in content.items() if isinstance(key, str)}
    return {k: v for k, v in values.items() if isinstance(v, Tensor | np.ndarray)}


def _state_dict(content: Any, path: pathlib.Path, seen: set[int]) -> dict[str, Any]:
    if not isinstance(content, dict) or id(content) in seen:
        return {}
    seen.add(id(content))
    for key in CONTAINERS:
        inner = _state_dict(content.get(key), path, seen)
        if inner:
            return inner
    own = _tensors(content)
    if own:
        return own
    groups = {
        key: inner
        for key, value in content.items()
        if key not in ("optimizer", "optim", "scheduler", "optimizer_state_dict", "ema", "loss")
        and (inner := _state_dict(value, path, seen))
    }
    if len(groups) > 1:
        raise ValueError(
            f"{path} holds several groups of tensors, {', '.join(sorted(map(str, groups)))}; "
            "name the one to read: init.entry"
        )
    return next(iter(groups.values()), {})


def _attributes(record: Inert, seen: set[int], prefix: str = "") -> dict[str, Any]:
    """Tensors of a TorchScript module under dotted names."""
    tensors: dict[str, Any] = {}
    if not isinstance(record.state, dict) or id(record) in seen:
        return tensors
    seen.add(id(record))
    for name, value in record.state.items():
        if isinstance(plain(value), Tensor):
            tensors[f"{prefix}{name}"] = plain(value)
        elif isinstance(value, Inert):
            tensors |= _attributes(value, seen, f"{prefix}{name}.")
    return tensors
