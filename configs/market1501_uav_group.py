"""Market-1501, the UAV network's pretraining (ResNet-50): triplet loss alone.

    python run.py --config=configs/market1501_uav_group.py --config.init.file=/path/to/resnet50-19c8e357.pth

The first stage of Grigorev et al., EURASIP JASP 2019:54; `crops_uav_group.py` goes on from its result.
Published: no result of this stage by itself.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.uav_group("triplet", "market1501", constant_steps=15_000, steps=25_000)
    config.method.mixture_weight = 0.0  # the triplet loss alone
    if variant:
        crops.small_bot(config, variant, crops.small_resnet(pool="torchvision"))
    return config
