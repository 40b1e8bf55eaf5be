"""PRW, SeqNet (ResNet-50) + HKD: people searched in whole frames of six cameras.

    python run.py --config=configs/prw_seqnet_hkd.py --config.init.file=/path/to/resnet50-19c8e357.pth

The recipe of head distillation's commands; they chose the epoch reported on the test set.
Published: mAP 51.49 / rank-1 85.12. Not reached here: no data at hand.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "SeqNet (ResNet-50)", "prw", batch_size=4, learning_rate=0.0018, epochs=25, milestones=(16,)
    )
    frames.seqnet(config)
    frames.distil(config, logits=3.0, both_ways=False, similarities=150.0, temperature=2.0)
    return frames.shrink(config, variant)
