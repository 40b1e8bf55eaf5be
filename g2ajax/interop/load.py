"""A model's first parameters from someone else's file, strictly, with a report of every tensor."""

import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from flax import nnx

from g2ajax.backbones.clip import CLIP
from g2ajax.backbones.vit import ViT, resize_pos_embed
from g2ajax.interop import families
from g2ajax.interop.clip_files import check_towers
from g2ajax.interop.readers import read_tensors
from g2ajax.interop.state_dict import Report, guess_family, load_state_dict, public_shapes

CLASSIFIER = r"^((heads|b\d+_head)\.weight|((heads|neck(_\d+)?)\.)?classifier\.(weight|bias))$"
USUAL = {"ResNet": "resnet50", "ViT": "vit_base", "OSNet": "osnet", "CLIP": "clip"}
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


@dataclasses.dataclass(frozen=True)
class InitOptions:
    """What a model starts from."""

    file: str = ""
    """Path of a file of weights or of a checkpoint folder of ours, or `hf:org/repo[/file]`; empty:
    drawn from the seed."""
    family: str = ""
    """Family of the file, a name of `families.FAMILIES`; empty: recognised from its tensor
    names."""
    part: Literal["backbone", "all"] = "backbone"
    """`backbone`: neck and classifier keep the values drawn from the seed."""
    entry: str = ""
    """Key (dotted) of the state dictionary inside a PyTorch checkpoint; empty: the usual ones."""
    allow_classifier_mismatch: bool = False
    """With `part=all`: leave out a classifier for another number of classes."""
    position_grid: tuple[int, ...] = ()
    """(rows, columns) of the file's position table, where it is not square and must be resized."""
    ignore: tuple[str, ...] = ()
    """Patterns of further tensors of the file to leave out."""
    allow_missing: tuple[str, ...] = ()
    """Patterns of further tensors of the model (public names) that may keep their values."""
    report: str = ""
    """File to write the report of every tensor to."""
    teacher: str = ""
    """File, as `file`, of a teacher trained on crops, for head distillation; empty: drawn from the
    seed."""


@dataclasses.dataclass(frozen=True)
class InitReport(Report):
    """What became of every tensor, and why the file was read the way it was."""

    source: str = ""
    family: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Counts, and every tensor that was not simply loaded, by group."""
        lines = [f"init: {self.source} ({self.family}: {self.why}): {self.summary()}"]
        lines += [f"  {note}" for note in self.notes]
        lines += [
            f"  {label}: {', '.join(_grouped(self.names(status)))}"
            for status, label in (("kept", "not in the file, kept"), ("ignored", "left out"))
            if self.names(status)
        ]
        return "\n".join(lines)


def initialise(module: nnx.Module, init: InitOptions) -> InitReport:
    """Loads `init.file` into a method's module (or a bare backbone), in place.

    The family of the file is told by its names; its rules give our names; a ViT's position table
    is resized to the model's grid and 2-D patch weights become a convolution's. Loading is strict:
    nothing of the chosen part may be missing, unexpected or of another shape, except what the
    family's rules and `init` name.

    Raises FileNotFoundError for an absent file, and ValueError when the file cannot be read, is of
    another architecture or does not fit; nothing has been changed then.
    """
    path = (
        _fetch(init.file) if init.file.startswith("hf:") else pathlib.Path(init.file).expanduser()
    )
    tensors = read_tensors(path, entry=init.entry)
    if not tensors:
        raise ValueError(f"{path} has no tensors")
    if init.family:
        name, why = init.family, "as asked"
    elif path.is_dir():
        name, why = "g2ajax", "a checkpoint folder"
    else:
        name, why = _detect(path, tensors)
    family = families.with_last_block(families.family(name), tensors)
    wanted = public_shapes(module)
    _check_architecture(path, family.name, why, tensors, wanted)
    trunk = _trunk(module)
    rename = _rename(family, module, trunk)
    ours = {n: families.our_name(family, n) for n in tensors}
    left_out = (*family.ignore, *init.ignore)
    unknown = [
        n
        for n, our in ours.items()
        if our not in wanted and any(re.search(pattern, our) for pattern in family.optional)
    ]
    left_out += tuple(f"^{re.escape(n)}$" for n in unknown)
    prefix = rf"{trunk}\." if trunk else ""
    kept = [p.replace(r"backbone\.", prefix) for p in family.allow_missing]
    kept += init.allow_missing
    notes = []
    network = getattr(module, trunk) if trunk else module
    if isinstance(network, CLIP):
        shapes = {our.removeprefix("backbone."): tensors[n].shape for n, our in ours.items()}
        try:
            check_towers(shapes, network.variant)
        except ValueError as error:
            raise ValueError(f"{path} (read as {family.name}: {why}): {error}") from None
        notes.append(f"the activation is {network.variant.activation}; no file says its own")
    if init.part == "backbone":
        others = [n for n, our in ours.items() if not our.startswith("backbone.")]
        left_out += tuple(f"^{re.escape(n)}$" for n in others)
        if trunk:
            kept.append(rf"^(?!{prefix})")
            notes.append("only the backbone is read; neck and classifier keep their init")
            last = {
                our.removeprefix("backbone."): tensors[n]
                for n, our in ours.items()
                if our.startswith("backbone.layer4.")
            }
            if last and not any(name.startswith(f"{trunk}.layer4.") for name in wanted):
                left_out += tuple(
                    f"^{re.escape(n)}$"
                    for n, our in ours.items()
                    if our.startswith("backbone.layer4.")
                )
                notes += _last_stage(path, module, last)
    elif not family.head:
        raise ValueError(
            f"{path} is a {family.name} file ({why}) and has no neck or classifier for a "
            "re-identification model; use init.part='backbone'"
        )
    elif family.head_needs and family.head_needs not in wanted:
        raise ValueError(
            f"{path} is a {family.name} file ({why}), whose head is of another kind than the model's; "
            "use init.part='backbone', or give strong_baseline torchreid's head (method.fc_dim=512)"
        )
    else:
        called = dataclasses.replace(family, rename=rename)
        ours = {n: families.our_name(called, n) for n in tensors}
        dropped = _other_classes(path, init, tensors, ours, wanted)
        left_out += tuple(f"^{re.escape(n)}$" for n in dropped)
        if dropped:
            kept.append(CLASSIFIER)
            notes.append("the classifier is for other classes and keeps its init")
    try:
        report = load_state_dict(
            module,
            tensors,
            rename=rename,
            ignore=left_out,
            allow_missing=kept,
            transform=_transforms(
                network, f"{trunk}." if trunk else "", family, init, wanted, notes
            ),
        )
    except ValueError as error:
        raise ValueError(f"{path} (read as {family.name}: {why}): {error}") from error
    result = InitReport(report.rows, str(init.file), family.name, why, tuple(notes))
    if init.report:
        target = pathlib.Path(init.report)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{result}\n\n{result.table()}\n")
    return result


def initialise_teacher(teacher: nnx.Module | None, init: InitOptions) -> InitReport:
    """Loads the head and the table of `init.teacher` into the teacher of head distillation.

    The file's trunk, and the identity classifier that only its own training needs, are left out.
    The rows of its table must be the identities of the run: a table of another size is refused.

    Raises ValueError for a method without a teacher, and as `initialise`.
    """
    if teacher is None:
        raise ValueError(
            f"init.teacher = {init.teacher!r}: only a method of head distillation has a teacher "
            "(method.name 'head_distillation', the configurations `seqnet.py:hkd` and `coat.py:hkd`)"
        )
    alone = (r"^backbone\.", r"^roi_heads\.softmax\.")
    return initialise(teacher, InitOptions(init.teacher, part="all", ignore=alone))


def _last_stage(
    path: pathlib.Path, module: nnx.Module, tensors: Mapping[str, np.ndarray]
) -> list[str]:
    """Gives `layer4` of a file to every head over regions, which have it in the trunk's place."""
    found = {
        ".".join(map(str, place)): part
        for place, part in nnx.iter_modules(module)
        if hasattr(part, "layer4")
    }
    for name, head in found.items():
        try:
            load_state_dict(head, tensors)
        except ValueError as error:
            raise ValueError(f"{path}, its layer4 in {name}: {error}") from error
    names = ", ".join(sorted(found)) or "nothing: the model has none"
    return [f"layer4 goes to {names}"]


def _detect(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> tuple[str, str]:
    try:
        return families.detect_family(tensors)
    except ValueError as error:
        guess = guess_family(list(tensors))
        looks = f" It looks like {guess}, for which there are no rules here." if guess else ""
        raise ValueError(f"{path}: {error}.{looks}") from None


def _kind(names: Mapping[str, object]) -> str | None:
    for kind, mark in (
        ("CLIP", r"\btoken_embedding\."),
        ("ResNet", r"\blayer1\.0\.conv1\."),
        ("ViT", r"\bblocks\.0\.attn\."),
        ("OSNet", r"\bconv2\.0\.conv2(a|\.0\.layers)\."),
    ):
        if any(re.search(mark, name) for name in names):
            return kind
    return None


def _check_architecture(
    path: pathlib.Path,
    family: str,
    why: str,
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    file_kind, own_kind = _kind(tensors), _kind(wanted)
    if file_kind and own_kind and file_kind != own_kind:
        raise ValueError(
            f"{path} is a {family} file ({why}), so of a {file_kind}; the model's backbone is a "
            f"{own_kind}. {families.usual_files(USUAL[own_kind])}"
        )


def _trunk(module: nnx.Module) -> str:
    """The attribute that holds a method's backbone (IRRA calls its CLIP `base_model`); "": bare."""
    return next((name for name in ("backbone", "base_model") if hasattr(module, name)), "")


def _rename(family: families.Family, module: nnx.Module, trunk: str) -> families.Rename:
    """The family's rules with this module's names for the trunk and the head."""
    to_trunk = ((r"^backbone\.", f"{trunk}." if trunk else ""),)
    if trunk and hasattr(module, "neck"):
        to_trunk += (
            (r"^heads\.bottleneck\.0\.", "neck.bottleneck."),
            (r"^heads\.weight$", "neck.classifier.weight"),
        )
    return (*family.rename, *to_trunk)


def _other_classes(
    path: pathlib.Path,
    init: InitOptions,
    tensors: Mapping[str, np.ndarray],
    ours: Mapping[str, str],
    wanted: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Classifier tensors whose number of classes differs, if that is allowed."""
    found = [
        name
        for name, our in ours.items()
        if re.search(CLASSIFIER, our)
        and our in wanted
        and tensors[name].shape[1:] == wanted[our][1:]
        and tensors[name].shape != wanted[our]
    ]
    if found and not init.allow_classifier_mismatch:
        name = found[0]
        raise ValueError(
            f"{path}: {name} is for {tensors[name].shape[0]} classes, the model has "
            f"{wanted[ours[name]][0]}; set init.allow_classifier_mismatch to leave it out"
        )
    return found


def _transforms(
    network: nnx.Module,
    prefix: str,
    family: families.Family,
    init: InitOptions,
    wanted: Mapping[str, tuple[int, ...]],
    notes: list[str],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is done to a transformer's tensors before their shapes are compared."""
    if not isinstance(network, ViT | CLIP):
        return {}
    of_clip = isinstance(network, CLIP)
    rows, columns = (network.visual if of_clip else network).grid

    def positions(table: np.ndarray) -> np.ndarray:
        table = np.asarray(table, np.float32)
        if family.distilled:
            table = np.concatenate([table[:, :1], table[:, 2:]], 1)
        places = table.shape[1] - 1
        old = init.position_grid
        if not old and family.square_grid:
            old = (round(places**0.5),) * 2
        if tuple(old) == (rows, columns) or (not old and places == rows * columns):
            return table
        try:
            resized = resize_pos_embed(table, (rows, columns), old_grid=tuple(old) or None)
        except ValueError as error:
            raise ValueError(f"{error}; say so in init.position_grid") from error
        shown = "x".join(map(str, old)) if old else f"{places} places"
        notes.append(f"positions resized from {shown} to {rows}x{columns}")
        return np.asarray(resized)

    def patches(weight: np.ndarray) -> np.ndarray:
        shape = wanted[f"{prefix}patch_embed.proj.weight"]
        flat = weight.ndim == 2 and weight.size == int(np.prod(shape))
        return weight.reshape(shape) if flat else weight

    if of_clip:
        return {f"{prefix}visual.positional_embedding": lambda table: positions(table[None])[0]}
    return {f"{prefix}pos_embed": positions, f"{prefix}patch_embed.proj.weight": patches}


def _grouped(names: list[str], limit: int = 12) -> list[str]:
    """At most `limit` names, the rest counted."""
    shown = names[:limit]
    return [*shown, f"and {len(names) - limit} more"] if len(names) > limit else shown


def _fetch(address: str) -> pathlib.Path:
    """The local copy of `hf:org/repo` (its usual weights) or `hf:org/repo/file`."""
    parts = address.removeprefix("hf:").strip("/").split("/")
    if len(parts) < 2:
        raise ValueError(f"{address!r}: expected hf:org/repo or hf:org/repo/file")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(
            f"{address}: reading from the Hugging Face hub needs huggingface_hub; install it "
            "(pip install 'g2ajax[hub]'), or download the file and name its path"
        ) from error
    repository, files = "/".join(parts[:2]), ["/".join(parts[2:])] if parts[2:] else HUB_FILES
    failures = []
    for file in files:
        try:
            return pathlib.Path(hub.hf_hub_download(repository, file))
        except Exception as error:  # the hub has a dozen kinds: offline, gated, absent, …
            failures.append(f"{file}: {type(error).__name__}: {error}")
    raise ValueError(
        f"{address} could not be fetched ({'; '.join(failures)}). Check the name and the network, "
        "or download the file elsewhere and name its path"
    )
