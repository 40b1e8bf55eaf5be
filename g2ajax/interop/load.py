"""Initialises a model from a public checkpoint: strict loading, with a report of every tensor."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
from flax import nnx

from g2ajax.backbones.clip import CLIP
from g2ajax.backbones.vit import ViT
from g2ajax.interop import families
from g2ajax.interop.clip_files import check_towers
from g2ajax.interop.hub import fetch
from g2ajax.interop.positions import fit_positions
from g2ajax.interop.readers import read_tensors
from g2ajax.interop.state_dict import Report, guess_family, load_state_dict, public_shapes

CLASSIFIER = (
    r"^((heads|b\d+_head)\.weight|((heads|neck(_\w+)?)\.)?classifier\.(weight|bias)"
    r"|prompt_learner\.cls_ctx)$"
)
"""Tensors whose first axis is the identities."""
USUAL = {"ResNet": "resnet50", "ViT": "vit_base", "OSNet": "osnet", "CLIP": "clip"}

Shapes = Mapping[str, tuple[int, ...]]
"""Public name → shape in the public layout."""


@dataclasses.dataclass(frozen=True)
class InitOptions:
    """The file a model starts from, and how to read it."""

    file: str = ""
    """Path of a file of weights or of a checkpoint folder of this package, or `hf:org/repo[/file]`;
    empty: parameters are drawn from the seed."""
    family: str = ""
    """Name of the file's family (see `families.FAMILIES`); empty: recognised from tensor names."""
    part: Literal["backbone", "all"] = "backbone"
    """`backbone`: neck and classifier keep the values drawn from the seed."""
    entry: str = ""
    """Key (dotted) of the state dictionary inside a PyTorch checkpoint; empty: the usual ones."""
    allow_classifier_mismatch: bool = False
    """With `part=all`: leave out a classifier for another number of classes."""
    position_grid: tuple[Annotated[int, (1, None)], ...] = ()
    """(rows, columns) of the file's position table, where it is not square and must be resized."""
    ignore: tuple[str, ...] = ()
    """Patterns of further tensors of the file to leave out."""
    allow_missing: tuple[str, ...] = ()
    """Patterns of further tensors of the model (public names) that may keep their values."""
    report: str = ""
    """Path to write the report of every tensor to."""
    teacher: str = ""
    """File, as `file`, of a teacher trained on crops, for head distillation; empty: drawn from the
    seed."""


@dataclasses.dataclass(frozen=True)
class InitReport(Report):
    """Status of every tensor, and why the file was read the way it was."""

    source: str = ""
    family: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Counts, and every tensor that was not simply loaded, by group."""
        lines = [f"init: {self.source} ({self.family}: {self.why}): {self.summary()}"]
        lines += [f"  {note}" for note in self.notes]
        lines += [
            f"  {label}: {', '.join(_shortened(self.names(status)))}"
            for status, label in (("kept", "not in the file, kept"), ("ignored", "left out"))
            if self.names(status)
        ]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file of weights whose family is known."""

    path: pathlib.Path
    tensors: Mapping[str, np.ndarray]
    family: families.Family
    why: str
    """Reason for the choice of the family."""
    names: Mapping[str, str]
    """Name in the file → our name."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our name → shape in the file."""
        return {our: np.shape(self.tensors[name]) for name, our in self.names.items()}

    def __str__(self) -> str:
        return f"{self.path} (read as {self.family.name}: {self.why})"


@dataclasses.dataclass
class _Plan:
    """Exceptions to strict loading, as patterns, and notes on them for the report."""

    ignore: list[str]
    allow_missing: list[str]
    notes: list[str] = dataclasses.field(default_factory=list)

    def leave_out(self, names: Iterable[str]) -> None:
        """Ignores tensors of the file by name."""
        self.ignore += [f"^{re.escape(name)}$" for name in names]


def initialise(
    module: nnx.Module, init: InitOptions, *, opened: WeightFile | None = None
) -> InitReport:
    """Loads `init.file` into a method's module (or a bare backbone), in place.

    The family of the file is recognised from its tensor names; the family's rules map them to our
    names. A ViT's position table is resized to the model's grid, and 2-D patch weights become a
    convolution's. Loading is strict: within the part to load nothing may be missing, unexpected or
    of another shape, except for what the family's rules and `init` name. `opened`: the file, if it has been
    read.

    Raises FileNotFoundError for a missing file, and ValueError when the file cannot be read, has
    another architecture or does not fit. The module is unchanged then.
    """
    file = opened or open_weights(init)
    shapes = public_shapes(module)
    _check_architecture(file, shapes)
    trunk = _trunk(module)
    prefix = f"{trunk}." if trunk else ""
    rename = _rename(file.family, module, prefix)
    plan = _Plan(
        [*file.family.ignore, *init.ignore],
        [
            *(p.replace(r"backbone\.", re.escape(prefix)) for p in file.family.allow_missing),
            *init.allow_missing,
        ],
    )
    plan.leave_out(
        name
        for name, our in file.names.items()
        if our not in shapes and any(re.search(pattern, our) for pattern in file.family.optional)
    )
    network = getattr(module, trunk) if trunk else module
    if isinstance(network, CLIP):
        _check_clip(file, network, plan)
    if init.part == "backbone":
        _plan_backbone(file, module, prefix, shapes, plan)
    else:
        _plan_all(file, init, rename, shapes, plan)
    try:
        report = load_state_dict(
            module,
            file.tensors,
            rename=rename,
            ignore=plan.ignore,
            allow_missing=plan.allow_missing,
            transform=_transforms(network, prefix, file, init, shapes, plan.notes),
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    result = InitReport(report.rows, str(init.file), file.family.name, file.why, tuple(plan.notes))
    if init.report:
        target = pathlib.Path(os.path.expanduser(init.report))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{result}\n\n{result.table()}\n")
    return result


def open_weights(init: InitOptions) -> WeightFile:
    """Reads `init.file` and recognises its family.

    Raises FileNotFoundError for a missing file, and ValueError for one that cannot be read or is of no
    known family.
    """
    path = fetch(init.file) if init.file.startswith("hf:") else pathlib.Path(init.file).expanduser()
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
    return WeightFile(
        path, tensors, family, why, {n: families.our_name(family, n) for n in tensors}
    )


def _check_clip(file: WeightFile, network: CLIP, plan: _Plan) -> None:
    """Raises ValueError unless the file's towers have the model's sizes."""
    shapes = {
        our.removeprefix("backbone."): file.tensors[name].shape for name, our in file.names.items()
    }
    if any(re.search(p, "backbone.token_embedding.weight") for p in file.family.allow_missing):
        shapes.setdefault("token_embedding.weight", (network.variant.vocabulary_size, 0))
    try:
        check_towers(shapes, network.variant)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    plan.notes.append(f"the activation is {network.variant.activation}; no file says its own")


def _plan_backbone(
    file: WeightFile, module: nnx.Module, prefix: str, shapes: Shapes, plan: _Plan
) -> None:
    """Plans to load the backbone only; a last stage that the heads own goes to them at once."""
    plan.leave_out(name for name, our in file.names.items() if not our.startswith("backbone."))
    if not prefix:
        return
    plan.allow_missing.append(rf"^(?!{re.escape(prefix)})")
    plan.notes.append("only the backbone is read; neck and classifier keep their init")
    last_stage = {
        our.removeprefix("backbone."): name
        for name, our in file.names.items()
        if our.startswith("backbone.layer4.")
    }
    if last_stage and not any(name.startswith(f"{prefix}layer4.") for name in shapes):
        plan.leave_out(last_stage.values())
        tensors = {our: file.tensors[name] for our, name in last_stage.items()}
        plan.notes += _load_last_stage(file.path, module, tensors)


def _plan_all(
    file: WeightFile, init: InitOptions, rename: families.Rename, shapes: Shapes, plan: _Plan
) -> None:
    """Plans to load backbone, neck and classifier. Raises ValueError for a file without them."""
    family = file.family
    if not family.head:
        raise ValueError(
            f"{file.path} is a {family.name} file ({file.why}) and has no neck or classifier for a "
            "re-identification model; use init.part='backbone'"
        )
    if family.head_needs and family.head_needs not in shapes:
        raise ValueError(
            f"{file.path} is a {family.name} file ({file.why}), whose head is of another kind than "
            "the model's; use init.part='backbone', or give strong_baseline torchreid's head "
            "(method.fc_dim=512)"
        )
    renamed = dataclasses.replace(family, rename=rename)
    names = {name: families.our_name(renamed, name) for name in file.tensors}
    classifiers = _mismatched_classifiers(file, init, names, shapes)
    plan.leave_out(classifiers)
    if classifiers:
        plan.allow_missing.append(CLASSIFIER)
        plan.notes.append("the classifier is for other classes and keeps its init")


def initialise_teacher(teacher: nnx.Module | None, init: InitOptions) -> InitReport:
    """Loads head and lookup table of `init.teacher` into the teacher of head distillation.

    The file's trunk and its identity classifier (used in its own training only) are left out. The
    rows of its table must be the identities of the run: a table of another size is refused.

    Raises ValueError for a method without a teacher, and what `initialise` raises.
    """
    if teacher is None:
        raise ValueError(
            f"init.teacher = {init.teacher!r}: only a method of head distillation has a teacher "
            "(method.name 'head_distillation', the configurations `seqnet.py:hkd` and `coat.py:hkd`)"
        )
    unused = (r"^backbone\.", r"^roi_heads\.softmax\.")
    return initialise(teacher, InitOptions(init.teacher, part="all", ignore=unused))


def _load_last_stage(
    path: pathlib.Path, module: nnx.Module, tensors: Mapping[str, np.ndarray]
) -> list[str]:
    """Loads `layer4` into every head over regions, which own it instead of the trunk."""
    heads = {
        ".".join(map(str, place)): part
        for place, part in nnx.iter_modules(module)
        if hasattr(part, "layer4")
    }
    for name, head in heads.items():
        try:
            load_state_dict(head, tensors)
        except ValueError as error:
            raise ValueError(f"{path}, its layer4 in {name}: {error}") from error
    names = ", ".join(sorted(heads)) or "nothing: the model has none"
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


def _check_architecture(file: WeightFile, shapes: Shapes) -> None:
    file_kind, own_kind = _kind(file.tensors), _kind(shapes)
    if file_kind and own_kind and file_kind != own_kind:
        raise ValueError(
            f"{file.path} is a {file.family.name} file ({file.why}), so of a {file_kind}; the "
            f"model's backbone is a {own_kind}. {families.usual_files(USUAL[own_kind])}"
        )


def _trunk(module: nnx.Module) -> str:
    """Attribute that holds a method's backbone (IRRA's CLIP is `base_model`); "" for a bare one."""
    return next((name for name in ("backbone", "base_model") if hasattr(module, name)), "")


def _rename(family: families.Family, module: nnx.Module, prefix: str) -> families.Rename:
    """The family's rules with this module's names for the trunk (`prefix`) and the head."""
    to_trunk = ((r"^backbone\.", prefix),)
    if prefix and hasattr(module, "neck"):
        to_trunk += (
            (r"^heads\.bottleneck\.0\.", "neck.bottleneck."),
            (r"^heads\.weight$", "neck.classifier.weight"),
        )
    return (*family.rename, *to_trunk)


def _mismatched_classifiers(
    file: WeightFile, init: InitOptions, names: Mapping[str, str], shapes: Shapes
) -> list[str]:
    """Classifier tensors with another number of classes. Raises ValueError unless `init` allows it."""
    classifiers = [
        name
        for name, our in names.items()
        if re.search(CLASSIFIER, our)
        and our in shapes
        and file.tensors[name].shape[1:] == shapes[our][1:]
        and file.tensors[name].shape != shapes[our]
    ]
    if classifiers and not init.allow_classifier_mismatch:
        name = classifiers[0]
        raise ValueError(
            f"{file.path}: {name} is for {file.tensors[name].shape[0]} classes, the model has "
            f"{shapes[names[name]][0]}; set init.allow_classifier_mismatch to leave it out"
        )
    return classifiers


def _transforms(
    network: nnx.Module,
    prefix: str,
    file: WeightFile,
    init: InitOptions,
    shapes: Shapes,
    notes: list[str],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Functions that adapt a transformer's tensors before shapes are compared; by public name."""
    if not isinstance(network, ViT | CLIP):
        return {}
    is_clip = isinstance(network, CLIP)
    special = () if is_clip else network.layout.special[1:]

    def positions(table: np.ndarray) -> np.ndarray:
        return fit_positions(
            table,
            (network.visual if is_clip else network).grid,
            [f"backbone.{name}_token" for name in special],
            family=file.family,
            names=set(file.names.values()),
            old_grid=init.position_grid,
            notes=notes,
        )

    def patches(weight: np.ndarray) -> np.ndarray:
        shape = shapes[f"{prefix}patch_embed.proj.weight"]
        flat = weight.ndim == 2 and weight.size == int(np.prod(shape))
        return weight.reshape(shape) if flat else weight

    if is_clip:
        return {f"{prefix}visual.positional_embedding": lambda table: positions(table[None])[0]}
    return {f"{prefix}pos_embed": positions, f"{prefix}patch_embed.proj.weight": patches}


def _shortened(names: list[str], limit: int = 12) -> list[str]:
    """The first `limit` names and the number of others."""
    first = names[:limit]
    return [*first, f"and {len(names) - limit} more"] if len(names) > limit else first
