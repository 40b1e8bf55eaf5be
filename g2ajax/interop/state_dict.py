"""State dicts: strict conversion between public names and layouts and our modules.

Our attribute names are those of the public checkpoints, so that the public name of a parameter is its
path. Only the last word and the layout depend on the kind of layer:

  convolution   kernel [kh,kw,in,out]  <->  weight [out,in,kh,kw]
  linear        kernel [in,out]        <->  weight [out,in]
  embedding     embedding              <->  weight, unchanged
  norm          scale, bias, mean, var <->  weight, bias, running_mean, running_var
  anything else (tokens, tables)       <->  same name, unchanged
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.nn.memory import Memory

# State without weights: random streams, caches, recorded activations, queues of features.
NOT_WEIGHTS = (nnx.RngState, nnx.Cache, nnx.Intermediate, Memory)
SHOWN = 8
"""Most tensors of another shape that an error lists."""
ALWAYS_IGNORED = r"(^|\.)num_batches_tracked$"

# Guesses for error messages: the first family whose patterns all occur in the names. Families that
# can be loaded by their own rules are in `families.py`.
FAMILIES = (
    ("TransReID", (r"^base\.blocks\.0\.attn\.qkv\.weight$", r"^base\.sie_embed$|^bottleneck")),
    ("TransReID or other wrapped ViT", (r"^base\.blocks\.0\.attn\.qkv\.weight$",)),
    ("reid-strong-baseline", (r"^base\.layer1\.0\.conv1\.weight$",)),
    ("fast-reid, model zoo v0.1.1", (r"^heads\.(bnneck\.|classifier\.weight)",)),
    ("fast-reid", (r"^backbone\.", r"^heads\.")),
    ("OSNet (torchreid)", (r"conv2\.0\.conv2a\.",)),
    ("OSNet-AIN (torchreid)", (r"conv2\.0\.conv2\.0\.layers\.",)),
    ("CLIP", (r"visual\.class_embedding$", r"token_embedding\.weight$")),
    ("timm ViT", (r"^blocks\.0\.attn\.qkv\.weight$", r"^patch_embed\.proj\.weight$")),
    ("Google ViT", (r"^Transformer/encoderblock_0/",)),
    ("torchvision/timm ResNet with IBN (IBN-Net)", (r"layer1\.0\.bn1\.(IN|BN)\.weight$",)),
    ("torchvision/timm ResNet", (r"^layer1\.0\.conv1\.weight$", r"^bn1\.running_mean$")),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A tensor of the report. Shapes are in the public layout; None if it is missing there."""

    name: str
    status: str  # loaded, missing, unexpected, shape, ignored, kept
    file_shape: tuple[int, ...] | None = None
    module_shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """Status of every tensor of the file and of the module.

    "loaded"; "missing" (in the module, not in the file); "unexpected" (in the file, not in the
    module); "shape" (in both, with different shapes); "ignored" (in the file, left out by `ignore`);
    "kept" (in the module, allowed to be missing: keeps its value).
    """

    rows: tuple[Row, ...]

    def names(self, status: str) -> list[str]:
        """Names of the tensors with a status, in order."""
        return [row.name for row in self.rows if row.status == status]

    @property
    def loaded(self) -> list[str]:
        return self.names("loaded")

    @property
    def missing(self) -> list[str]:
        return self.names("missing")

    @property
    def unexpected(self) -> list[str]:
        return self.names("unexpected")

    @property
    def mismatched(self) -> list[str]:
        return self.names("shape")

    @property
    def ok(self) -> bool:
        """True if nothing is missing, unexpected or of another shape."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """Count of each status, in one line."""
        statuses = ("loaded", "kept", "ignored", "missing", "unexpected", "shape")
        counts = {status: len(self.names(status)) for status in statuses}
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count)

    def table(self) -> str:
        """A line for each tensor: status, name, shape in the file, shape in the module."""
        width = max([len(row.name) for row in self.rows], default=0)

        def cell(shape):
            return "-" if shape is None else "x".join(map(str, shape)) or "scalar"

        lines = [
            f"{row.status:10} {row.name:{width}}  {cell(row.file_shape):>14}  "
            f"{cell(row.module_shape):>14}".rstrip()
            for row in self.rows
        ]
        head = f"{'status':10} {'tensor':{width}}  {'file':>14}  {'module':>14}"
        return "\n".join([head, *lines, self.summary()])


def _parent(module: nnx.Module, path: tuple) -> object:
    for step in path[:-1]:
        module = getattr(module, step) if isinstance(step, str) else module[step]
    return module


@dataclasses.dataclass(frozen=True)
class _Slot:
    """A variable, its public name, and the axes that convert our layout to the public one."""

    name: str
    variable: nnx.Variable
    axes: tuple[int, ...]  # public = transpose(ours, axes)

    @property
    def public_shape(self) -> tuple[int, ...]:
        shape = self.variable.get_value().shape
        return tuple(shape[axis] for axis in self.axes)


NORM_NAMES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def _slot(parent: object, path: tuple, variable: nnx.Variable) -> _Slot:
    leaf, rank = path[-1], len(variable.get_value().shape)
    axes = tuple(range(rank))
    if leaf == "kernel":
        if not isinstance(parent, nnx.Conv | nnx.Linear):
            raise TypeError(
                f"{'.'.join(map(str, path))}: no public layout is known for the kernel of a "
                f"{type(parent).__name__}; build it of Conv and Linear"
            )
        leaf, axes = "weight", (rank - 1, rank - 2, *range(rank - 2))
    elif isinstance(parent, nnx.Embed) and leaf == "embedding":
        leaf = "weight"
    elif leaf in NORM_NAMES and hasattr(parent, "scale"):
        leaf = NORM_NAMES[leaf]
    return _Slot(".".join([*map(str, path[:-1]), str(leaf)]), variable, axes)


def _slots(module: nnx.Module) -> dict[str, _Slot]:
    slots = {}
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        if not isinstance(variable, nnx.Variable) or isinstance(variable, NOT_WEIGHTS):
            continue
        slot = _slot(_parent(module, path), path, variable)
        slots[slot.name] = slot
    return slots


def to_state_dict(module: nnx.Module) -> dict[str, np.ndarray]:
    """Weights of the module under public names, in the public layout, as NumPy arrays.

    The inverse of `load_state_dict`, for those who take a trained model to PyTorch.
    """
    return {
        name: np.ascontiguousarray(
            np.transpose(jax.device_get(slot.variable.get_value()), slot.axes)
        )
        for name, slot in _slots(module).items()
    }


def public_shapes(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Public name -> shape in the public layout; the module may be abstract."""
    return {name: slot.public_shape for name, slot in _slots(module).items()}


def guess_family(names: Sequence[str]) -> str | None:
    """Guesses from tensor names which family a checkpoint belongs to; None if unknown."""
    for family, patterns in FAMILIES:
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return family
    return None


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns for name in names)


def _rename(
    tensors: Mapping[str, np.ndarray], rename: Sequence[tuple[str, str]]
) -> dict[str, tuple[str, np.ndarray]]:
    """Applies the rules: new name -> (name in the file, tensor)."""
    out = {}
    for original, tensor in tensors.items():
        name = original
        for pattern, replacement in rename:
            name = re.sub(pattern, replacement, name)
        if name in out:
            raise ValueError(
                f"the rename rules give both {out[name][0]!r} and {original!r} the name {name!r}; "
                "ignore one of them before renaming"
            )
        out[name] = (original, tensor)
    return out


def _error(report: Report, names: Sequence[str], kind: str) -> str:
    parts = [f"the checkpoint does not fit this {kind} ({report.summary()})."]
    if report.missing:
        parts.append("Missing in the file: " + ", ".join(report.missing) + ".")
    if report.unexpected:
        parts.append("Unexpected in the file: " + ", ".join(report.unexpected) + ".")
    others = [row for row in report.rows if row.status == "shape"]
    for row in others[:SHOWN]:
        parts.append(f"{row.name}: {row.file_shape} in the file, expected {row.module_shape}.")
    if len(others) > SHOWN:
        parts.append(
            f"{len(others) - SHOWN} more tensors have other shapes: the file is of a network of another "
            "width, depth or variant; `g2ajax weights --check=FILE` says of which."
        )
    if any("fc_norm." in name for name in report.unexpected):
        parts.append(
            "The file's network pools its patches and then normalises them (fc_norm, MAE's fine-tuned "
            "ViTs): it has no norm for the class token. To start from its blocks, give "
            "init.ignore=('fc_norm',) and init.allow_missing=('backbone.norm',)."
        )
    family = guess_family(names)
    if family:
        parts.append(f"The file looks like a {family} checkpoint.")
    parts.append("Name exceptions by `ignore` (file) and `allow_missing` (module), if meant.")
    return "\n".join(parts)


def load_state_dict(
    module: nnx.Module,
    tensors: Mapping[str, np.ndarray],
    *,
    rename: Sequence[tuple[str, str]] = (),
    ignore: Sequence[str] = (),
    allow_missing: Sequence[str] = (),
    transform: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> Report:
    """Loads `tensors` (public names and layouts) into `module`, in place and strictly.

    Args:
      module: the target; may be abstract (`nnx.eval_shape`), then it becomes concrete.
      tensors: name -> array in the public layout, as PyTorch stores it.
      rename: (regex, replacement) pairs, all applied in order to every name of the file.
      ignore: regexes (`re.search`) of tensors to leave out, matched against the name in the file
        before any renaming. `num_batches_tracked` is always left out.
      allow_missing: regexes of the module's public names that may be absent from the file; they
        keep their value.
      transform: public name (after renaming) -> function of the tensor in the public layout,
        applied before shapes are compared (such as the resize of a position table).

    Every tensor is cast to the dtype of its variable and placed on the devices of the old value.

    Returns:
      A `Report` of every tensor.

    Raises:
      ValueError: when anything is missing, unexpected or of another shape, with all names at once
        and a guess at the file's family. The module is unchanged then.
    """
    slots = _slots(module)
    ignored = [name for name in tensors if _matches((ALWAYS_IGNORED, *ignore), name)]
    others = {name: value for name, value in tensors.items() if name not in set(ignored)}
    by_name = _rename(others, rename)
    values, rows = {}, []
    for name, slot in slots.items():
        if name not in by_name:
            status = "kept" if _matches(allow_missing, name) else "missing"
            rows.append(Row(name, status, None, slot.public_shape))
            continue
        value = by_name[name][1]
        if transform and name in transform:
            value = transform[name](value)
        value = np.asarray(value)
        same = value.shape == slot.public_shape
        rows.append(Row(name, "loaded" if same else "shape", value.shape, slot.public_shape))
        if same:
            values[name] = value
    rows += [
        Row(name, "unexpected", np.shape(value), None)
        for name, (_, value) in by_name.items()
        if name not in slots
    ]
    rows += [Row(name, "ignored", np.shape(tensors[name]), None) for name in ignored]
    report = Report(tuple(rows))
    if not report.ok:
        raise ValueError(_error(report, list(tensors), type(module).__name__))
    for name, value in values.items():
        _store(slots[name], value)
    return report


def _store(slot: _Slot, value: np.ndarray) -> None:
    current = slot.variable.get_value()
    # Copied: on a CPU device_put may otherwise alias the caller's buffer.
    value = np.array(np.transpose(value, np.argsort(slot.axes)), dtype=current.dtype, order="C")
    # An uncommitted array stays uncommitted: a training step may place it on several devices.
    if (
        isinstance(current, jax.Array)
        and not isinstance(current, jax.core.Tracer)
        and current.committed
    ):
        slot.variable.set_value(jax.device_put(value, current.sharding))
    else:
        slot.variable.set_value(jnp.asarray(value))
