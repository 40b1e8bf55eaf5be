"""CUHK-PEDES, IRRA (CLIP ViT-B/16): pedestrians found by sentences.

    python run.py --config=configs/cuhk_pedes_irra.py --config.init.file=/path/to/ViT-B-16.pt

IRRA's published recipe; the weights are OpenAI's CLIP.
Published (the best of 60 epochs on the test split): T2I rank-1 73.38 / mAP 66.13 / mINP 50.24. Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import captions, common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("IRRA (CLIP ViT-B/16)")
    config.dataset = "cuhk_pedes"
    captions.irra(config)
    return captions.shrink(config, variant)
