"""Market-1501, TransReID (ViT-B/16): camera embedding, jigsaw branch, overlapping patches.

    python run.py --config=configs/market1501_transreid.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

TransReID's recipe.
Published: the code's results page: mAP 89.0, rank-1 95.1. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("TransReID (ViT-B/16)")
    config.dataset = "market1501"
    common.transreid(config)
    return common.shrink(config, variant, **common.small_vit(stride=12))
