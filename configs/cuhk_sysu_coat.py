"""CUHK-SYSU, COAT (ResNet-50): people searched in whole street and film frames.

    python run.py --config=configs/cuhk_sysu_coat.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of the published command; the published file says batches of 4, drops at 10 and 14.
Published: gallery size 100: mAP 94.2 / rank-1 94.7. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "COAT (ResNet-50)",
        "cuhk_sysu",
        batch_size=3,
        learning_rate=0.003,
        epochs=14,
        milestones=(11,),
    )
    frames.coat(config, softmax=0.1)
    return frames.shrink(config, variant)
