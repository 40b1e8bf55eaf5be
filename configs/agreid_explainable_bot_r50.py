"""AG-ReID, BoT (ResNet-50) + Explainable.

    python run.py --config=configs/agreid_explainable_bot_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe and AMD's.
Published: BoT R50 + Explainable of the paper's Table III: A->G mAP 56.64 / rank-1 71.35, G->A 59.72 / 72.45. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("BoT (ResNet-50)")
    config.dataset = "agreid"
    common.bot_resnet50(config)
    config.phase.reid.optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    common.explainable(config)
    return common.shrink(config, variant, **common.small_resnet())
