"""G2APS, COAT (ResNet-50) + HKD: people seen from the ground, searched in whole aerial frames.

    python run.py --config=configs/g2aps_coat_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: gallery size 50: mAP 41.41 / rank-1 51.94. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "COAT (ResNet-50)",
        "g2aps",
        batch_size=2,
        learning_rate=0.003,
        epochs=19,
        milestones=(8, 11),
    )
    frames.coat(config, softmax=3.0)
    frames.distil(config, logits=3.0, both_ways=True, similarities=350.0, matching=0.5, softmax=3.0)
    return frames.shrink(config, variant)
