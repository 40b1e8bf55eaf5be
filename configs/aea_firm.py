"""TBAGPR, AEA-FIRM (CLIP ViT-B/16): aerial images found by sentences.

    python run.py --config=configs/aea_firm.py --config.init.file=/path/to/ViT-B-16.pt

The published recipe; the weights are OpenAI's CLIP.
Published (the best of 60 epochs on the test split): T2A rank-1 44.75 / mAP 36.28. Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import captions
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = captions.aea_firm("tbagpr")
    if variant:
        captions.small_aea_firm(config, variant)
    return config
