"""PRW, COAT (ResNet-50) + HKD: people searched in whole frames of six cameras.

    python run.py --config=configs/prw_coat_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: mAP 53.49 / rank-1 86.63. Not reached here: no data at hand.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "COAT (ResNet-50)", "prw", batch_size=2, learning_rate=0.003, epochs=21, milestones=(10, 14)
    )
    frames.coat(config, softmax=0.5)
    frames.distil(config, logits=0.7, both_ways=True, similarities=400.0, matching=0.5, softmax=0.5)
    return frames.shrink(config, variant)
