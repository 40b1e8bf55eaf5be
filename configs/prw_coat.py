"""PRW, COAT (ResNet-50): people searched in whole frames of six cameras.

    python run.py --config=configs/prw_coat.py --config.init.file=/path/to/resnet50-19c8e357.pth

Published: mAP 53.3 / rank-1 87.4. Not reached here: no data at hand.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "COAT (ResNet-50)", "prw", batch_size=3, learning_rate=0.003, epochs=13, milestones=(10,)
    )
    frames.coat(config, softmax=0.5)
    return frames.shrink(config, variant)
