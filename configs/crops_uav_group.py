"""Your own crops, the UAV network (ResNet-50): triplet loss and large-margin Gaussian mixtures.

    python run.py --config=configs/crops_uav_group.py --config.init.file=/path/to/market1501_workdir/checkpoints

The second stage of Grigorev et al., EURASIP JASP 2019:54, for a data set from a drone described by a
table (`crops_from_csv`). `init.file` is the result of the first stage (`market1501_uav_group.py`, or
the same with --config.dataset=cuhk03), or ImageNet's weights to do without it.
Published: DRHIT01 (not public; 101 people, about 459 images each, 25 m above ground).
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("UAV network, triplet + L-GM (ResNet-50)")
    config.dataset = "crops_from_csv"
    common.uav_group(config, constant_steps=8_000, steps=16_000)
    return common.shrink(config, variant, **common.small_resnet(pool="torchvision"))
