"""G2APS, SeqNet (ResNet-50) + HKD: people seen from the ground, searched in whole aerial frames.

    python run.py --config=configs/g2aps_seqnet_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: gallery size 50: mAP 39.40 / rank-1 49.12. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "SeqNet (ResNet-50)",
        "g2aps",
        batch_size=2,
        learning_rate=0.001,
        epochs=21,
        milestones=(16,),
    )
    frames.seqnet(config)
    frames.distil(config, logits=1.0, both_ways=False, similarities=200.0)
    return frames.shrink(config, variant)
