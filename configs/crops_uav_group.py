"""Your own crops, the UAV network (ResNet-50): triplet loss and large-margin Gaussian mixtures.

    python run.py --config=configs/crops_uav_group.py --config.init.file=/path/to/market1501_workdir/checkpoints

The second stage of Grigorev et al., EURASIP JASP 2019:54, for a data set from a drone described by a
table (`crops_from_csv`). `init.file` is the result of the first stage (`market1501_uav_group.py`, or
the same with --config.dataset=cuhk03), or ImageNet's weights to do without it.
Published: DRHIT01 (not public; 101 people, about 459 images each, 25 m above ground).
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.uav_group("triplet + L-GM", "crops_from_csv", constant_steps=8_000, steps=16_000)
    if variant:
        crops.small_bot(config, variant, crops.small_resnet(pool="torchvision"))
    return config
