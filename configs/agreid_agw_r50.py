"""AG-ReID, AGW (ResNet-50).

    python run.py --config=configs/agreid_agw_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

The paper does not score AGW; this is fast-reid's recipe with the paper's learning rate.
Published: nothing on these data. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("AGW (ResNet-50)")
    config.dataset = "agreid"
    common.agw_resnet50(config)
    config.phase.reid.optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    return common.shrink(config, variant, **common.small_resnet(non_local=True))
