"""CUHK-SYSU, COAT (ResNet-50) + HKD: people searched in whole street and film frames.

    python run.py --config=configs/cuhk_sysu_coat_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: mAP 93.86 / rank-1 94.76, at its default gallery size 50. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "COAT (ResNet-50)",
        "cuhk_sysu",
        batch_size=2,
        learning_rate=0.001,
        epochs=25,
        milestones=(10, 20),
    )
    frames.coat(config, softmax=0.1)
    frames.distil(
        config, logits=0.7, both_ways=False, similarities=100.0, matching=0.6, softmax=0.5
    )
    return frames.shrink(config, variant)
