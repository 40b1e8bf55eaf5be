"""PRW, SeqNet (ResNet-50): people searched in whole frames of six cameras.

    python run.py --config=configs/prw_seqnet.py --config.init.file=/path/to/resnet50-19c8e357.pth

Published: mAP 46.7 / rank-1 83.4; with context matching 47.6 / 87.6. Not reached here: no data at hand.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "SeqNet (ResNet-50)", "prw", batch_size=5, learning_rate=0.003, epochs=18, milestones=(16,)
    )
    frames.seqnet(config)
    return frames.shrink(config, variant)
