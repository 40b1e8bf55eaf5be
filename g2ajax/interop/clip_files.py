"""CLIP files: converts Hugging Face's names to OpenAI's, and checks the sizes of the towers."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from g2ajax.backbones.clip import Variant, variant_of

_MARKS = ("vision_model.embeddings.class_embedding", "text_model.embeddings.token_embedding.weight")
_RENAME = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.weight$", "visual.conv1.weight"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # sic
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_PROJECTIONS = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}


def is_huggingface_clip(names: Iterable[str]) -> bool:
    """True if the names are those of transformers' CLIPModel."""
    names = set(names)
    return all(mark in names for mark in _MARKS)


def openai_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts the tensors of transformers' CLIPModel to OpenAI's names and layouts.

    Packs queries, keys and values, transposes projections and drops `position_ids`. Unknown tensors
    keep their names. Raises ValueError if queries, keys or values are missing.
    """
    out = {}
    for name, value in tensors.items():
        if name.endswith(".position_ids"):
            continue
        if name in _PROJECTIONS:
            out[_PROJECTIONS[name]] = value.T
            continue
        for pattern, replacement in _RENAME:
            name = re.sub(pattern, replacement, name)
        out[name] = value
    for name in [n for n in out if re.search(r"\.attn\.q_proj\.(weight|bias)$", n)]:
        parts = [name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        missing = [part for part in parts if part not in out]
        if missing:
            raise ValueError(f"{name} is there, but {', '.join(missing)} not; the file is damaged")
        packed = name.replace(".q_proj.", ".in_proj_")
        out[packed] = np.concatenate([out.pop(part) for part in parts])
    return out


def check_towers(shapes: Mapping[str, tuple[int, ...]], variant: Variant) -> None:
    """Compares the towers of a file (OpenAI's names) with the model's; the image size may differ.

    Raises ValueError naming every size that differs.
    """
    file_variant = variant_of(shapes, activation=variant.activation)
    sizes = [
        (field.name, getattr(file_variant, field.name), getattr(variant, field.name))
        for field in dataclasses.fields(variant)
    ]
    wrong = [
        f"{name} {in_file} (the model's: {in_model})"
        for name, in_file, in_model in sizes
        if in_file != in_model
    ]
    if wrong:
        raise ValueError(
            f"its towers are of another size: {', '.join(wrong)}. Choose the model of the file, "
            "or a file of the model"
        )
