"""Reads files of weights as NumPy arrays under public names; formats are recognised by content."""

import pathlib
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

from g2ajax.interop.clip_files import is_huggingface_clip, openai_names
from g2ajax.interop.families import usual_files
from g2ajax.interop.google_vit import is_google_vit, timm_names
from g2ajax.interop.torch_file import read_stream, read_zip, without_wrapper
from g2ajax.interop.unpickler import RefusedPickle

SAFETENSORS_DTYPES = {
    **{"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"},
    **{"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?"},
    **{"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn},
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
# First bytes of files that hold no weights, or hold them in a form that is not read here.
FOREIGN = (
    (b"\x89HDF", "an HDF5 file (Keras); save its weights as .npz or .safetensors"),
    (b"\x93NUMPY", "a single NumPy array; weights are a .npz of arrays by name"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"\x1f\x8b", "a gzip archive; unpack it and name the file inside"),
    (b"BZh", "a bzip2 archive; unpack it and name the file inside"),
    (b"\xfd7zXZ", "an xz archive; unpack it and name the file inside"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it and name the file inside"),
    (b"Rar!", "a rar archive; unpack it and name the file inside"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
)
MAX_EXPANSION = 64
"""Maximum ratio of an archive's unpacked to its packed size; weights hardly compress."""


def read_tensors(path: str | pathlib.Path, *, entry: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of a file under their public names, in PyTorch's layout.

    Reads PyTorch files (zip archive, the older stream, TorchScript), `.safetensors`, `.npz` and this
    package's folders of runs and models, recognised by content, whatever the extension. A Google ViT is
    converted to timm's names and layouts, transformers' CLIP to OpenAI's. From a PyTorch checkpoint
    only the model's state dictionary is read: `entry` is its (dotted) key, "" tries the usual keys.
    Arrays may be read-only; 16-bit arrays keep their type (bfloat16 from `ml_dtypes`).

    Raises FileNotFoundError for a missing file, with suggestions; ValueError, naming the file and what
    to do, for a damaged, empty or foreign file, and for a pickle with anything but tensors and plain
    containers (`unpickler.RefusedPickle`).
    """
    path = pathlib.Path(path).expanduser()
    if (path / "model.safetensors").is_file():
        return read_safetensors(path / "model.safetensors")
    if path.is_dir():
        return read_checkpoint(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no file of weights at {path.absolute()}. {usual_files(path.name)}"
        )
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip().lower()
    if size == 0:
        raise ValueError(f"{path} is empty; get it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ValueError(
            f"{path} is a web page, not weights: the download wanted a login or a confirmation. "
            "Open the address in a browser, save the file itself and put it there"
        )
    if text.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull`")
    reader = _reader(head)
    if reader is None:
        kind = _foreign(path, head)
        if kind:
            raise ValueError(f"{path} is {kind}; it is no file of weights")
        raise ValueError(
            f"{path} is no known file of weights; it begins with {head[:12]!r}. Read are PyTorch "
            "files (the tar format of its first releases excepted: load such a file with PyTorch "
            "and save it again), .safetensors, .npz and this package's checkpoint folders"
        )
    try:
        tensors = reader(path, entry)
        return openai_names(tensors) if is_huggingface_clip(tensors) else tensors
    except OSError:
        raise
    except RefusedPickle as error:
        raise RefusedPickle(f"{path}: {error}") from None
    except Exception as error:  # a damaged file may raise anything
        text = str(error) or type(error).__name__
        if "CRC" in text:
            text += " (torch.save writes such files, too, when its checksums are switched off)"
        message = text if str(path) in text else f"{path} is truncated or damaged: {text}"
        raise ValueError(message) from error


def _foreign(path: pathlib.Path, head: bytes) -> str:
    """The name of a format that holds no weights for us, "" for an unknown one."""
    # An ONNX file begins with its version's number, then names its writer.
    if head[:1] == b"\x08" and (path.suffix == ".onnx" or b"onnx" in head or b"pytorch" in head):
        return (
            "an ONNX program, whose weights have lost their names; ask for the checkpoint behind it"
        )
    return next((kind for start, kind in FOREIGN if head.startswith(start)), "")


def _reader(head: bytes) -> Callable[[pathlib.Path, str], dict[str, np.ndarray]] | None:
    if head.startswith(b"PK\x03\x04"):
        return _read_archive
    if head[8:10] == b'{"':
        return lambda path, _entry: without_wrapper(read_safetensors(path))
    return read_stream if head[:1] == b"\x80" else None


def _read_archive(path: pathlib.Path, entry: str) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > MAX_EXPANSION * size:
        raise ValueError(
            f"{path} has {size} bytes and claims to unpack to {total}; that is no file of weights"
        )
    if members and all(member.filename.endswith(".npy") for member in members):
        return _read_npz(path)
    return read_zip(path, entry)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        # NumPy writes bfloat16 as two raw bytes.
        tensors = {
            name: value.view(ml_dtypes.bfloat16) if value.dtype == np.dtype("V2") else value
            for name, value in stored.items()
        }
    return timm_names(tensors) if is_google_vit(tensors) else tensors


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    The library checks the file; its own NumPy reader is not used because it lacks bfloat16. Raises
    ValueError for a damaged or truncated file, and for a type that NumPy lacks.
    """
    import safetensors  # here: a training step on given arrays needs none

    try:
        specs = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: the safetensors header is damaged or the file is truncated ({error}); get it again"
        ) from error
    tensors = {}
    for name, spec in specs:
        if spec["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{path}: {name} is of type {spec['dtype']}, which is not read here")
        values = np.frombuffer(spec["data"], SAFETENSORS_DTYPES[spec["dtype"]])
        tensors[name] = values.reshape(spec["shape"])
    return tensors


def read_checkpoint(path: str | pathlib.Path, *, averaged: bool = True) -> dict[str, np.ndarray]:
    """Reads parameters and statistics of this package's checkpoint, under public names and layouts.

    `path` is a workdir, its `checkpoints` folder, `latest` or `best` in it, or a step. The newest step
    is read, from `best` rather than `latest`. `averaged`: averaged parameters, if stored, replace
    the others. Raises ValueError if there is no checkpoint.
    """
    import orbax.checkpoint as ocp

    root = pathlib.Path(path).absolute()
    step = _newest_step(root)
    if step is None:
        raise ValueError(
            f"{root} holds no checkpoint of this package (no <step>/params in it or in its "
            "checkpoints/best or checkpoints/latest)"
        )
    flat: dict[str, np.ndarray] = {}
    for item in ("params", "stats", *(["ema"] if averaged else [])):
        if (step / item).exists():
            with ocp.PyTreeCheckpointer() as reader:
                names = reader.metadata(step / item).item_metadata.tree
                arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
                flat |= reader.restore(step / item, restore_args=arguments)
    return _public(flat)


def _newest_step(root: pathlib.Path) -> pathlib.Path | None:
    if (root / "params").is_dir():
        return root
    for folder in (root, root / "best", root / "latest", root / "checkpoints"):
        steps = [p for p in folder.glob("*/params") if p.parent.name.isdigit()]
        if steps:
            return max(steps, key=lambda p: int(p.parent.name)).parent
    return _newest_step(root / "checkpoints") if (root / "checkpoints").is_dir() else None


def _public(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts our names and layouts to the public ones; the inverse of the loader's rules."""
    norm = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    tensors = {}
    for name, value in flat.items():
        parent, _, leaf = name.rpartition(".")
        prefix = f"{parent}." if parent else ""
        if leaf == "kernel":
            leaf = "weight"
            value = np.moveaxis(value, (-1, -2), (0, 1))
        elif leaf in norm and f"{prefix}scale" in flat:
            leaf = norm[leaf]
        elif leaf == "embedding":
            leaf = "weight"
        tensors[prefix + leaf] = value
    return tensors
