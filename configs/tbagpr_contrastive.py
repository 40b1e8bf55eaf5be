"""TBAGPR, CLIP's contrastive loss alone (CLIP ViT-B/16): the baseline of IRRA and AEA-FIRM.

    python run.py --config=configs/tbagpr_contrastive.py --config.init.file=/path/to/ViT-B-16.pt

IRRA's recipe with CLIP's loss in the place of its own, no words masked. No number is published for this data set; on CUHK-PEDES
IRRA's authors report T2I rank-1 68.19 / mAP 61.12 for it.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import captions, common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("CLIP, contrastive (ViT-B/16)")
    config.dataset = "tbagpr"
    captions.contrastive(config)
    return captions.shrink(config, variant)
