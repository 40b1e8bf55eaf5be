"""TBAGPR, AEA-FIRM (CLIP ViT-B/16): aerial images found by sentences.

    python run.py --config=configs/tbagpr_aea_firm.py --config.init.file=/path/to/ViT-B-16.pt

The published recipe; the weights are OpenAI's CLIP.
Published (the best of 60 epochs on the test split): T2A rank-1 44.75 / mAP 36.28. Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import captions, common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("AEA-FIRM (CLIP ViT-B/16)")
    config.dataset = "tbagpr"
    captions.aea_firm(config)
    return captions.shrink(config, variant)
