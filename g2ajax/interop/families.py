"""Families of public checkpoints: how to recognise them, and rules that map their names to ours.

The rules of every family map to `backbone.*`, and to fast-reid's names for the head (`heads.weight`,
`heads.bottleneck.0.*`), which this package's methods use. Layouts are converted in `state_dict.py`.
"""

import dataclasses
import re
from collections.abc import Iterable

Rename = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of public checkpoint. `{last}` in a pattern stands for the number of the last block."""

    name: str
    marks: tuple[str, ...]
    """Patterns that must all occur among the tensor names."""
    rename: Rename = ()
    ignore: tuple[str, ...] = ()
    """Patterns of tensors that no network here uses."""
    optional: tuple[str, ...] = ()
    """Patterns (our names) of tensors that only some methods use; ignored by the others."""
    allow_missing: tuple[str, ...] = ()
    """Patterns (our names) of the network's tensors that such files never contain."""
    head: bool = True
    """True if such files contain the neck and classifier of a re-identification model."""
    head_needs: str = ""
    """Our name of a tensor that marks models with this kind of head."""
    square_grid: bool = False
    """True if the position table belongs to a square image."""
    distilled: bool = False
    """True if row 1 of the position table belongs to a distillation token."""


_BASE: Rename = (
    (r"^base\.", "backbone."),
    (r"^bottleneck\.", "heads.bottleneck.0."),
    (r"^classifier\.weight$", "heads.weight"),
)
_PIXELS = (r"^pixel_(mean|std)$",)
_VIT_BLOCK = r"^blocks\.0\.attn\.qkv\.weight$"
_IMAGENET_VIT = {
    "rename": ((r"^", "backbone."),),
    # ImageNet's classifiers, the distillation token, and the decoder of a masked autoencoder.
    "ignore": (r"head", r"dist", r"pre_logits", r"^decoder_", r"^mask_token$"),
    # Side information and the view token are learned on the re-identification dataset.
    "allow_missing": (r"^backbone\.(sie_embed|view_token)$",),
    "head": False,
    "square_grid": True,
}
_CLIP = {
    # The temperature belongs to the loss; sizes and the causal mask are not weights.
    "ignore": (
        r"(^|\.)(logit_scale|logit_bias|attn_mask|input_resolution|context_length|vocab_size)$",
    ),
    "head": False,
    "square_grid": True,
}

_TORCHREID = {
    "rename": (
        (r"^module\.", ""),
        (r"^(?=(fc|classifier)\.)", "heads."),
        (r"^(?!heads\.)", "backbone."),
    ),
    # Linear map, batch norm and a classifier with bias: another head than fast-reid's.
    "head_needs": "heads.fc.0.weight",
}

# fast-reid's MGN numbers the parts of its trunk, which includes the first block of layer3.
_MGN: Rename = (
    (r"^backbone\.0\.", "backbone.conv1."),
    (r"^backbone\.1\.", "backbone.bn1."),
    (r"^backbone\.4\.", "backbone.layer1."),
    (r"^backbone\.5\.", "backbone.layer2."),
    (r"^backbone\.6\.", "backbone.layer3.0."),
    *((rf"^(b\d)\.0\.{i}\.", rf"\1.layer3.{i + 1}.") for i in range(22)),
    (r"^(b\d)\.1\.", r"\1.layer4."),
    # Trunk and branch 1 are one network in this package.
    (r"^b1\.", "backbone."),
)

# Person search. Recent torchvision wraps the convolution of the proposal network. A teacher's file
# also contains its trunk, which is not used.
_SEARCH = {
    "rename": ((r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),),
    "ignore": (r"^roi_heads\.teacher_head\d?\.(backbone|rpn)\.",),
    "optional": (r"^roi_heads\.teacher_head\d?\.",),
}
# The file stores one parameter under two names, an unused convolution, and projections that the
# first head and a head's teacher do not use.
_COAT = {
    **_SEARCH,
    "ignore": (
        *_SEARCH["ignore"],
        r"^roi_heads\.(box_head|box_predictor)\.",
        r"\.transblock\.",
        r"\.transformer_encoder\.output_linear\.",
        r"^roi_heads\.box_head_1st\.conv0\.",
        r"^roi_heads\.teacher_head3\.roi_heads\.embedding_head_2nd\.",
    ),
    # Identity classifiers are used in training and stored in no file.
    "allow_missing": (r"^roi_heads\.softmax_",),
}

FAMILIES = (
    Family("COAT", (r"^rpn\.head\.", r"^roi_heads\.box_head_2nd\."), **_COAT),
    Family("SeqNet", (r"^rpn\.head\.", r"^roi_heads\.reid_head\."), **_SEARCH),
    Family(
        "COAT's teacher",
        (r"^roi_heads\.box_head_3rd\.", r"^roi_heads\.embedding_head_3rd\."),
        **{**_COAT, "ignore": (*_COAT["ignore"], r"^roi_heads\.embedding_head_2nd\.")},
    ),
    Family("SeqNet's teacher", (r"^roi_heads\.reid_head\.",), **_SEARCH),
    Family(
        "TransReID with jigsaw patches",
        (r"^base\.blocks\.0\.attn\.qkv\.weight$", r"^b1\.0\.attn\.qkv\.weight$"),
        # `base` ends before its last block. `b1` holds the trained copies of that block and of the
        # final norm; the originals are still those of ImageNet.
        rename=(
            (r"^b1\.0\.", "base.blocks.{last}."),
            (r"^b1\.1\.", "base.norm."),
            (r"^b2\.0\.", "b2.blocks.{last}."),
            (r"^b2\.1\.", "b2.norm."),
            (r"^bottleneck_(\d+)\.", r"neck_\1.bottleneck."),
            (r"^classifier_(\d+)\.", r"neck_\1.classifier."),
            *_BASE,
        ),
        ignore=(r"^base\.fc\.", r"^base\.blocks\.{last}\.", r"^base\.norm\."),
        # The jigsaw branch, which only the method `transreid` has.
        optional=(r"^b2\.", r"^neck_\d"),
    ),
    Family(
        "SeCap",
        (r"^backbone\.b1\.0\.attn\.qkv\.weight$", r"^backbone\.lfrm\."),
        # The same copies as above, inside the backbone. A variant of the prompt block that is not used
        # has an attention of its own.
        rename=(
            (r"^backbone\.b1\.0\.", "backbone.base.blocks.{last}."),
            (r"^backbone\.b1\.1\.", "backbone.base.norm."),
            (r"^backbone\.base\.", "backbone."),
            (r"^backbone\.(?=(prompt|image_pe|out_token)$|(prm|lfrm)\.)", ""),
        ),
        ignore=(
            *_PIXELS,
            r"^backbone\.base\.(blocks\.{last}|norm)\.",
            r"^backbone\.(prm\.attn2\.|lfrm\.out_token$)",
        ),
    ),
    Family(
        "TransReID",
        (r"^base\.blocks\.0\.attn\.qkv\.weight$",),
        rename=_BASE,
        ignore=(r"^base\.fc\.",),  # ImageNet's classifier
    ),
    Family(
        "reid-strong-baseline",
        (r"^base\.layer1\.0\.conv1\.weight$",),
        rename=_BASE,
        ignore=(r"^base\.fc\.",),
    ),
    Family(
        "fast-reid MGN",
        (r"^backbone\.6\.conv1\.weight$", r"^b1_head\.weight$"),
        rename=_MGN,
        ignore=_PIXELS,
    ),
    Family(
        "g2ajax with torchreid's head",
        (r"^backbone\.", r"^heads\.fc\.0\.weight$"),
        head_needs="heads.fc.0.weight",
    ),
    Family(
        "fast-reid, model zoo v0.1.1",
        (r"^backbone\.", r"^heads\.(bnneck\.|classifier\.weight$)"),
        rename=(
            (r"^heads\.bnneck\.", "heads.bottleneck.0."),
            (r"^heads\.classifier\.weight$", "heads.weight"),
        ),
        ignore=_PIXELS,
    ),
    Family(
        "IRRA",
        (r"^base_model\.visual\.class_embedding$", r"^base_model\.token_embedding\.weight$"),
        rename=((r"^base_model\.", "backbone."),),
    ),
    Family(
        "CLIP-ReID",
        (r"^image_encoder\.class_embedding$", r"^prompt_learner\.cls_ctx$"),
        rename=(
            (r"^image_encoder\.", "backbone.visual."),
            (r"^text_encoder\.", "backbone."),
            (r"^(bottleneck|classifier)(_proj)?\.", r"neck\2.\1."),
        ),
        # The code keeps the embedded words of its sentence, not the table they are from.
        allow_missing=(r"^backbone\.token_embedding\.weight$",),
    ),
    Family(
        "open_clip with a text tower apart",
        (r"^visual\.class_embedding$", r"^text\.token_embedding\.weight$"),
        rename=((r"^(text\.)?", "backbone."),),
        **_CLIP,
    ),
    # OpenAI's archives, open_clip's files, and transformers' files after renaming.
    Family(
        "CLIP",
        (
            r"^visual\.(class_embedding|attnpool\.positional_embedding)$",
            r"^token_embedding\.weight$",
        ),
        rename=((r"^", "backbone."),),
        **_CLIP,
    ),
    # Our own names, in the public layout. From an explainable run only stream 1 is read.
    Family(
        "g2ajax",
        (r"^(stream1\.)?backbone\.", r"^(stream1\.)?neck\."),
        rename=((r"^stream1\.", ""), (r"^base_model\.", "backbone.")),
        # The position in a queue is not a weight.
        ignore=(r"^(stream2|adh|predictor|predictor_head|queue)\.", r"\.header$"),
    ),
    Family(
        "fast-reid",
        (r"^backbone\.", r"^heads\."),
        # The selector of DTST's published code, which is built and never called: its files are VDTs.
        ignore=(*_PIXELS, r"^backbone\.token_selector\."),
    ),
    Family("fast-reid backbone", (r"^backbone\.",), ignore=_PIXELS, head=False),
    Family(
        "DeiT distilled",
        (_VIT_BLOCK, r"^patch_embed\.proj\.weight$", r"^dist_token$"),
        **_IMAGENET_VIT,
        distilled=True,
    ),
    Family("timm ViT", (_VIT_BLOCK, r"^patch_embed\.proj\.weight$"), **_IMAGENET_VIT),
    Family(
        "torchreid OSNet",
        # Streams of OSNet and OSNet-IBN, or of OSNet-AIN. Files trained on ImageNet and on
        # re-identification have the same names.
        (
            r"^(module\.)?conv2\.0\.conv2(a|\.0\.layers\.0)\.conv1\.weight$",
            r"^(module\.)?conv5\.conv\.weight$",
        ),
        **_TORCHREID,
    ),
    Family(
        "torchreid ResNet",
        (r"^(module\.)?layer1\.0\.conv1\.weight$", r"^(module\.)?classifier\.weight$"),
        **_TORCHREID,
    ),
    Family(
        "torchvision/timm ResNet",
        (r"^conv1\.weight$", r"^layer1\.0\.conv1\.weight$"),
        rename=((r"^", "backbone."),),
        ignore=(r"^fc\.",),
        head=False,
    ),
)

# Public files by network: (part of the network's name, usual file, where it is published).
USUAL_FILES = (
    ("resnet18", "resnet18-5c106cde.pth", "torchvision's model zoo"),
    ("resnet34", "resnet34-333f7ec4.pth", "torchvision's model zoo"),
    ("resnet50_ibn", "resnet50_ibn_a-d9d0bb7b.pth", "the releases of XingangPan/IBN-Net"),
    ("resnet101_ibn", "resnet101_ibn_a-59ea0ac6.pth", "the releases of XingangPan/IBN-Net"),
    ("resnet50", "resnet50-19c8e357.pth", "torchvision's model zoo"),
    ("resnet101", "resnet101-5d3b4d8f.pth", "torchvision's model zoo"),
    ("vit_b_16", "ViT-B-16.pt", "openai/CLIP (or hf:openai/clip-vit-base-patch16)"),
    ("clip", "ViT-B-16.pt (or ViT-B-32.pt, ViT-L-14.pt)", "openai/CLIP"),
    ("osnet", "osnet_x1_0_imagenet.pth (or of another width)", "torchreid's model zoo"),
    ("vit_base", "jx_vit_base_p16_224-80ecf9dd.pth", "timm's releases (ImageNet-21k, then 1k)"),
    ("deit_small", "deit_small_distilled_patch16_224-649709d9.pth", "facebookresearch/deit"),
    ("deit_base", "deit_base_distilled_patch16_224-df68dfff.pth", "facebookresearch/deit"),
)


def usual_files(name: str) -> str:
    """Suggests public files, as a sentence: those of the network in the file name, else all."""
    name = name.lower().replace("-", "_").removeprefix("jx_")
    rows = [row for row in USUAL_FILES if row[0] in name] or list(USUAL_FILES)
    suggestions = "; ".join(f"{file} from {origin}" for _, file, origin in rows)
    return (
        f"Usual starting points: {suggestions}. Download one, or name a repository of the Hugging Face "
        "hub: hf:timm/vit_base_patch16_224.augreg_in21k_ft_in1k"
    )


def family(name: str) -> Family:
    """The family called `name`. Raises ValueError, listing all, for an unknown name."""
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"no family {name!r}; known: {', '.join(f.name for f in FAMILIES)}")


def detect_family(names: Iterable[str]) -> tuple[str, str]:
    """Finds the first family whose marks all occur in `names`; returns its name and the reason.

    Raises ValueError if there is none.
    """
    names = list(names)
    for candidate in FAMILIES:
        matches = [next((n for n in names if re.search(m, n)), None) for m in candidate.marks]
        if all(matches):
            return candidate.name, f"it has {', '.join(dict.fromkeys(matches))}"
    first = ", ".join(sorted(names)[:6])
    raise ValueError(
        f"the tensors are of no known family ({len(names)} names: {first}, …). Known: "
        f"{', '.join(f.name for f in FAMILIES)}; name one in init.family if the file is of one"
    )


def with_last_block(family: Family, names: Iterable[str]) -> Family:
    """Replaces `{last}` in the patterns of a family by the number of the last block."""
    numbers = [int(m[1]) for name in names if (m := re.search(r"(?:^|\.)blocks\.(\d+)\.", name))]
    last = str(max(numbers, default=0))
    return dataclasses.replace(
        family,
        rename=tuple((a, b.replace("{last}", last)) for a, b in family.rename),
        ignore=tuple(pattern.replace("{last}", last) for pattern in family.ignore),
    )


def our_name(family: Family, name: str) -> str:
    """Maps the name of a tensor in a file of the family to our name."""
    for pattern, replacement in family.rename:
        name = re.sub(pattern, replacement, name)
    return name
