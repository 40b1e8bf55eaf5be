"""CUHK-SYSU, SeqNet (ResNet-50): people searched in whole street and film frames.

    python run.py --config=configs/cuhk_sysu_seqnet.py --config.init.file=/path/to/resnet50-19c8e357.pth

Published: gallery size 100: mAP 93.8 / rank-1 94.6; with context matching 94.8 / 95.7. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "SeqNet (ResNet-50)",
        "cuhk_sysu",
        batch_size=5,
        learning_rate=0.003,
        epochs=20,
        milestones=(16,),
    )
    frames.seqnet(config)
    return frames.shrink(config, variant)
