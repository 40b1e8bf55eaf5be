"""Public architectures by name: a file of weights becomes a model with the numbers of its own codebase.

Each entry sets the resize, interpolation, normalisation, feature and distance of the codebase that
trains such files; what a file decides (width, depth, IBN, stride, cameras, classes) is read from its
tensors.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from g2ajax.backbones import clip, osnet
from g2ajax.config import nearest
from g2ajax.interop.load import WeightFile
from g2ajax.recipes import blocks, captions, crops, person_search, prompts, view_aware

Shapes = Mapping[str, tuple[int, ...]]
"""Our name → shape."""
Read = Callable[[Shapes], ConfigDict]
VIEW_TOKEN = "backbone.view_token"
FASTREID = ("fast-reid", "fast-reid, model zoo v0.1.1")
# A recipe asks for a dataset; nothing of it is used.
DATASET = "market1501"
SEARCH = {"batch_size": 1, "learning_rate": 0.0, "epochs": 1, "milestones": ()}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One public architecture."""

    title: str
    """The network, and the codebase whose embeddings it reproduces."""
    families: tuple[str, ...]
    """Families of files that hold it (`interop.families`)."""
    fits: Callable[[Shapes], bool]
    """True for the tensors of such a file."""
    read: Read
    """The configuration of a file's model."""
    part: str = "all"
    """Part of a file that is loaded, as `init.part`."""


def _has(shapes: Shapes, pattern: str) -> bool:
    return any(re.search(pattern, name) for name in shapes)


def _blocks(shapes: Shapes, prefix: str) -> int:
    """Number of blocks `<prefix><number>.` among the names."""
    return len({m[1] for name in shapes if (m := re.match(rf"{prefix}(\d+)\.", name))})


# torchreid


def _osnet_name(shapes: Shapes) -> str:
    """The OSNet of a file, "" for none."""
    first = shapes.get("backbone.conv1.conv.weight")
    kind = "none"
    if _has(shapes, r"^backbone\.conv2\.0\.conv2\.0\.layers\."):
        kind = "ain"
    elif _has(shapes, r"^backbone\.conv2\.\d+\.IN\."):
        kind = "ibn"
    for name, variant in osnet.VARIANTS.items():
        if first and variant.widths[0] == first[0] and variant.instance_norm == kind:
            return name
    return ""


def _osnet(shapes: Shapes) -> ConfigDict:
    name = _osnet_name(shapes)
    config = _torchreid(crops.bot_osnet(DATASET), shapes)
    blocks.set_network(config.method, name=name)
    config.method.metric = "cosine" if "_ain_" in name else "squared_euclidean"
    config.name = f"OSNet, torchreid's {name}"
    return config


def _resnet_fc(shapes: Shapes) -> ConfigDict:
    config = _torchreid(crops.bot_resnet50(DATASET), shapes)
    config.name = "ResNet-50 with fc512, torchreid"
    blocks.set_network(config.method, name="resnet50", last_stride=1, pool="torchvision")
    config.method.metric = "squared_euclidean"
    return config


def _torchreid(config: ConfigDict, shapes: Shapes) -> ConfigDict:
    config.method.fc_dim = shapes["heads.fc.0.weight"][0]
    config.data.test_interpolation = "bilinear"
    return config


# fast-reid


def _learned_pool(shapes: Shapes) -> bool:
    return _has(shapes, r"heads?\.pool_layer\.p$")


def _non_local(shapes: Shapes) -> bool:
    return _has(shapes, r"^backbone\.NL_")


def _resnet_name(shapes: Shapes) -> str:
    third = _blocks(shapes, r"backbone\.layer3\.") or 1 + _blocks(shapes, r"b2\.layer3\.")
    return {6: "resnet50", 23: "resnet101"}.get(third, "resnet50")


def _fastreid_resnet(recipe: Callable[[str], ConfigDict]) -> Read:
    def read(shapes: Shapes) -> ConfigDict:
        config = recipe(DATASET)
        backbone = config.method.backbone
        backbone.name = _resnet_name(shapes)
        backbone.with_ibn = _has(shapes, r"^backbone\.layer1\.0\.bn1\.(IN|BN)\.")
        backbone.with_se = _has(shapes, r"^backbone\.layer1\.0\.se\.")
        if "with_nl" in backbone:
            backbone.with_nl = _non_local(shapes)
        config.name = f"{config.name}, fast-reid's file"
        return config

    return read


def _is_resnet(shapes: Shapes) -> bool:
    return _has(shapes, r"^backbone\.layer4\.0\.conv3\.weight$")


def _vit(recipe: Callable[[str], ConfigDict]) -> Read:
    def read(shapes: Shapes) -> ConfigDict:
        config = recipe(DATASET)
        _set_vit(config, shapes)
        return config

    return read


def _secap(shapes: Shapes) -> ConfigDict:
    config = view_aware.secap(DATASET)
    _set_vit(config, shapes)
    config.method.prompts = shapes["prompt"][1]
    return config


def _set_vit(config: ConfigDict, shapes: Shapes) -> None:
    """Width, image size's stride and side information of a ViT's file, at 256 x 128."""
    special = 1 + (VIEW_TOKEN in shapes)
    width, places = shapes["backbone.cls_token"][-1], shapes["backbone.pos_embed"][1] - special
    name = {768: "vit_base", 384: "vit_small"}.get(width)
    if name is None:
        raise ValueError(
            f"a ViT of width {width} is not built here; 768 (base) and 384 (small) are"
        )
    if name == "vit_base" and _blocks(shapes, r"backbone\.blocks\.") == 8:
        name = "vit_small_transreid"
    # Patches of 16 pixels on 256 x 128, by stride; a square table is another size and is resized.
    stride = {128: 16, 210: 12}.get(places, 16)
    config.method.backbone.update(name=name, stride=stride)


# TransReID and reid-strong-baseline


def _transreid(shapes: Shapes) -> ConfigDict:
    config = crops.transreid(DATASET)
    _set_vit(config, shapes)
    config.method.camera_embedding = "backbone.sie_embed" in shapes
    return config


def _transreid_baseline(shapes: Shapes) -> ConfigDict:
    config = crops.bot_vit(DATASET)
    config.name = "ViT baseline of TransReID"
    config.data.test_interpolation = "bilinear"
    _set_vit(config, shapes)
    config.method.update(
        camera_embedding="backbone.sie_embed" in shapes, test_feature="before", margin=0.0
    )
    return config


def _strong_baseline(shapes: Shapes) -> ConfigDict:
    config = crops.bot_resnet50(DATASET)
    config.name = "BoT (ResNet-50), reid-strong-baseline"
    config.data.test_interpolation = "bilinear"
    ibn = _has(shapes, r"^backbone\.layer1\.0\.bn1\.(IN|BN)\.")
    blocks.set_network(
        config.method,
        name=_resnet_name(shapes),
        last_stride=1,
        pool="torchvision",
        with_ibn=ibn,
        stem_relu=ibn,
    )
    return config


# Sentences


def _clip_name(shapes: Shapes) -> str:
    try:
        variant = clip.variant_of({k.removeprefix("backbone."): v for k, v in shapes.items()})
    except ValueError:
        return ""
    return next((name for name, one in clip.VARIANTS.items() if one == variant), "")


def _clip(shapes: Shapes) -> ConfigDict:
    """CLIP as published, on whole images: its centre crop would cut head and feet of a person."""
    config = captions.contrastive(DATASET)
    name = _clip_name(shapes)
    config.name = f"CLIP, {name}"
    stride = clip.VARIANTS[name].patch_size
    blocks.set_network(config.method, name=name, stride=stride)
    config.data.update(image_size=(224, 224), test_interpolation="bicubic")
    return config


def _irra(shapes: Shapes) -> ConfigDict:
    config = captions.irra(DATASET)
    losses = [("mlm", "cross_attn.in_proj_weight"), ("id", "classifier.weight")]
    further = tuple(loss for loss, name in losses if name in shapes)
    config.method.losses = ("sdm", *further)
    blocks.set_network(config.method, name=_clip_name(shapes), stride=16)
    return config


def _clip_reid(shapes: Shapes) -> ConfigDict:
    config = prompts.clip_reid(DATASET)
    places = shapes["backbone.visual.positional_embedding"][0] - 1
    config.method.backbone.stride = {128: 16, 210: 12}.get(places, 16)
    config.method.camera_embedding = "cv_embed" in shapes
    return config


# Person search


def _search(recipe: Callable[..., ConfigDict], **own: float) -> Read:
    def read(shapes: Shapes) -> ConfigDict:
        config = recipe("cuhk_sysu", **own, **SEARCH)
        queues = [shape[0] for name, shape in shapes.items() if name.endswith(".cq")]
        if queues:
            config.method.matching.queue_size = queues[0]
        return config

    return read


def _any(shapes: Shapes) -> bool:
    return True


def _exactly(name: str) -> Callable[[Shapes], bool]:
    return lambda shapes: _osnet_name(shapes) == name


def _resnet_of(depth: str, *, non_local: bool | None, learned: bool) -> Callable[[Shapes], bool]:
    def fits(shapes: Shapes) -> bool:
        return (
            _is_resnet(shapes)
            and _resnet_name(shapes) == depth
            and _learned_pool(shapes) == learned
            and non_local in (None, _non_local(shapes))
        )

    return fits


ARCHITECTURES: dict[str, Architecture] = {
    **{
        name: Architecture(
            f"OSNet as torchreid trains it ({variant.widths[0]} to {variant.widths[-1]} channels)",
            ("torchreid OSNet", "g2ajax with torchreid's head"),
            _exactly(name),
            _osnet,
        )
        for name, variant in osnet.VARIANTS.items()
        if name != "osnet_test"
    },
    "resnet50_fc512": Architecture(
        "ResNet-50 with a 512-wide layer, torchreid",
        ("torchreid ResNet",),
        lambda shapes: "heads.fc.0.weight" in shapes,
        _resnet_fc,
    ),
    **{
        f"fastreid_{short}_{depth[0]}{depth[6:]}": Architecture(
            f"fast-reid's {short.upper()} on {depth}",
            FASTREID,
            _resnet_of(depth, non_local=non_local, learned=learned),
            _fastreid_resnet(recipe),
        )
        for depth in ("resnet50", "resnet101")
        for short, recipe, non_local, learned in (
            ("bot", crops.bot_resnet50, False, False),
            ("agw", crops.agw_resnet50, True, False),
            ("sbs", crops.sbs_resnet50, None, True),
        )
    },
    "fastreid_mgn_r50": Architecture(
        "fast-reid's MGN on resnet50", ("fast-reid MGN",), _any, _fastreid_resnet(crops.mgn)
    ),
    "fastreid_bot_vit": Architecture(
        "fast-reid's BOT on a ViT",
        FASTREID,
        lambda shapes: "backbone.cls_token" in shapes and VIEW_TOKEN not in shapes,
        _vit(crops.bot_vit),
    ),
    "vdt": Architecture(
        "VDT on a ViT", ("fast-reid",), lambda shapes: VIEW_TOKEN in shapes, _vit(view_aware.vdt)
    ),
    "secap": Architecture("SeCap on a ViT", ("SeCap",), _any, _secap),
    "transreid": Architecture(
        "TransReID with the jigsaw branch", ("TransReID with jigsaw patches",), _any, _transreid
    ),
    "transreid_baseline": Architecture(
        "TransReID's ViT baseline", ("TransReID",), _any, _transreid_baseline
    ),
    "strong_baseline_r50": Architecture(
        "reid-strong-baseline on a ResNet", ("reid-strong-baseline",), _is_resnet, _strong_baseline
    ),
    **{
        name: Architecture(
            "CLIP's two towers as published, images whole at 224 x 224",
            ("CLIP", "open_clip with a text tower apart"),
            lambda shapes, name=name: _clip_name(shapes) == name,
            _clip,
            part="backbone",
        )
        for name in ("clip_vit_b16", "clip_vit_b32", "clip_vit_l14")
    },
    "irra": Architecture("IRRA on CLIP ViT-B/16", ("IRRA",), _any, _irra),
    "clip_reid": Architecture("CLIP-ReID on CLIP ViT-B/16", ("CLIP-ReID",), _any, _clip_reid),
    "seqnet": Architecture("SeqNet on ResNet-50", ("SeqNet",), _any, _search(person_search.seqnet)),
    "coat": Architecture(
        "COAT on ResNet-50", ("COAT",), _any, _search(person_search.coat, softmax=0.0)
    ),
}


def choose(file: WeightFile, name: str = "") -> str:
    """The architecture of a file: `name`, or the only one that it fits.

    Raises ValueError for an unknown name (the nearest), for a file of another architecture (naming
    it), and for a file that fits none or several.
    """
    if name and name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; {nearest(name, ARCHITECTURES)}")
    shapes = file.shapes
    fitting = [
        key
        for key, one in ARCHITECTURES.items()
        if file.family.name in one.families and one.fits(shapes)
    ]
    if name:
        if name in fitting:
            return name
        other = (
            f"this is a file of {fitting[0]}; say architecture={fitting[0]!r}"
            if fitting
            else (f"it is a {file.family.name} file ({file.why}), of no architecture listed here")
        )
        raise ValueError(
            f"{file.path} does not hold {name!r} ({ARCHITECTURES[name].title}): {other}"
        )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"{file.path} fits {' and '.join(fitting)}; say which with architecture=..."
        )
    why = (
        "it has no head of a re-identification model"
        if not file.family.head
        else ("it is of none of these architectures")
    )
    raise ValueError(
        f"{file.path} is a {file.family.name} file ({file.why}), and {why}: training can start from it "
        f"(--config.init.file), searching cannot. Architectures: {', '.join(ARCHITECTURES)}"
    )


def num_classes(shapes: Shapes) -> int:
    """Identities of a file's classifier or look-up table; 1 if it has none."""
    pattern = r"^((heads|b\d+_head)\.weight|((heads|neck(_\d+)?)\.)?classifier\.weight|.*\.lut)$"
    return next((shape[0] for name, shape in shapes.items() if re.match(pattern, name)), 1)


def num_cameras(shapes: Shapes) -> int:
    """Rows of a file's side information; 0 if it has none."""
    tables = (shapes.get(name) for name in ("backbone.sie_embed", "cv_embed"))
    return next((shape[0] for shape in tables if shape), 0)
