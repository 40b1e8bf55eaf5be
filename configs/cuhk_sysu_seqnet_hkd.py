"""CUHK-SYSU, SeqNet (ResNet-50) + HKD: people searched in whole street and film frames.

    python run.py --config=configs/cuhk_sysu_seqnet_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: mAP 95.25 / rank-1 96.10, by code that measures gallery size 50. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "SeqNet (ResNet-50)",
        "cuhk_sysu",
        batch_size=3,
        learning_rate=0.0018,
        epochs=21,
        milestones=(16,),
    )
    frames.seqnet(config)
    frames.distil(config, logits=1.0, both_ways=True, similarities=50.0)
    return frames.shrink(config, variant)
