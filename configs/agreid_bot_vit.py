"""AG-ReID, BoT (ViT-B/16).

    python run.py --config=configs/agreid_bot_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe.
Published: BoT VIT of the paper's Table III: A->G mAP 72.38 / rank-1 81.28, G->A 73.35 / 82.64. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("BoT (ViT-B/16)")
    config.dataset = "agreid"
    common.bot_vit(config)
    config.phase.reid.optimizer.learning_rate = 1e-3  # the paper: SGD 1e-3 for ViT
    return common.shrink(config, variant, **common.small_vit())
