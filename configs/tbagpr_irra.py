"""TBAGPR, IRRA (CLIP ViT-B/16): aerial images found by sentences, ground images not used.

    python run.py --config=configs/tbagpr_irra.py --config.init.file=/path/to/ViT-B-16.pt

IRRA's recipe on the aerial images alone, as in the comparison of AEA-FIRM's authors.
Published by them (the best of 60 epochs on the test split): T2A rank-1 39.63 / mAP 35.31. Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import captions, common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("IRRA (CLIP ViT-B/16)")
    config.dataset = "tbagpr"
    captions.irra(config)
    return captions.shrink(config, variant)
