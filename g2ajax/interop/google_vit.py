"""`.npz` files of Google's Vision Transformers, converted to timm's names and PyTorch's layouts.

Dosovitskiy et al., ICLR 2021; Steiner et al., TMLR 2022. The files hold queries, keys and values
separately, by head; here they are packed into `attn.qkv`.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(\w+)/(.+)")
# The numbers in the names differ between releases.
PARTS = (
    (r"LayerNorm_0", "norm1"),
    (r"LayerNorm_[12]", "norm2"),
    (r"MultiHeadDotProductAttention_[01]", "attn"),
    (r"MlpBlock_[0-3]", "mlp"),
)
LAYERS = {"Dense_0": "fc1", "Dense_1": "fc2", "out": "proj"}
TOP = {
    "cls": "cls_token",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "pre_logits/kernel": "pre_logits.fc.weight",
    "pre_logits/bias": "pre_logits.fc.bias",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}
PREFIXES = ("opt/target/", "params/")


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def is_google_vit(names: Iterable[str]) -> bool:
    """True if the names are those of Google's Vision Transformers."""
    return any(_bare(name).startswith("Transformer/encoderblock_0/") for name in names)


def timm_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts tensors to timm's names and layouts; unknown tensors keep their names.

    Raises ValueError for a block without queries, keys or values.
    """
    result: dict[str, np.ndarray] = {}
    packed: dict[str, dict[str, np.ndarray]] = {}
    for original, value in tensors.items():
        name = _bare(original)
        match = BLOCK.fullmatch(name)
        if not match:
            result[TOP.get(name, name)] = _layout(name, value)
            continue
        number, part, rest = match.groups()
        part = next((name for pattern, name in PARTS if re.fullmatch(pattern, part)), part)
        layer, _, kind = rest.rpartition("/")
        prefix = f"blocks.{number}.{part}."
        word = "bias" if kind == "bias" else "weight"
        if part == "attn" and layer in ("query", "key", "value"):
            # kernel [D, heads, head width], bias [heads, head width]
            matrix = value.reshape(-1) if word == "bias" else value.reshape(value.shape[0], -1).T
            packed.setdefault(f"{prefix}qkv.{word}", {})[layer] = matrix
        elif part == "attn":  # the output: kernel [heads, head width, D]
            result[f"{prefix}proj.{word}"] = (
                value if word == "bias" else value.reshape(-1, value.shape[-1]).T
            )
        else:
            layer = f"{LAYERS.get(layer, layer)}." if layer else ""
            result[f"{prefix}{layer}{word}"] = _layout(name, value)
    for name, parts in packed.items():
        if len(parts) != 3:
            raise ValueError(f"{name} has only {', '.join(sorted(parts))}; the file is damaged")
        result[name] = np.concatenate([parts["query"], parts["key"], parts["value"]])
    return result


def _layout(name: str, value: np.ndarray) -> np.ndarray:
    """Converts [in, out] to [out, in] and [h, w, in, out] to [out, in, h, w]; others are unchanged."""
    return np.moveaxis(value, (-1, -2), (0, 1)) if name.endswith("/kernel") else value
