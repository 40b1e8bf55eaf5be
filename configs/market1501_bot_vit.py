"""Market-1501, BoT (ViT-B/16).

    python run.py --config=configs/market1501_bot_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

fast-reid's recipe (its traps included: see `g2ajax/training/schedules.py`).
Published: TransReID's ViT baseline, a like recipe: mAP 87.1, rank-1 94.6. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("BoT (ViT-B/16)")
    config.dataset = "market1501"
    common.bot_vit(config)
    return common.shrink(config, variant, **common.small_vit())
