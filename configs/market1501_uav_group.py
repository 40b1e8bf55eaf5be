"""Market-1501, the UAV network's pretraining (ResNet-50): triplet loss alone.

    python run.py --config=configs/market1501_uav_group.py --config.init.file=/path/to/resnet50-19c8e357.pth

The first stage of Grigorev et al., EURASIP JASP 2019:54; `crops_uav_group.py` goes on from its result.
Published: no result of this stage by itself.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("UAV network, triplet (ResNet-50)")
    config.dataset = "market1501"
    common.uav_group(config, constant_steps=15_000, steps=25_000)
    config.method.mixture_weight = 0.0
    return common.shrink(config, variant, **common.small_resnet(pool="torchvision"))
