"""G2APS, Faster R-CNN (ResNet-50): a detector of people alone, such as cuts crops for others to compare.

    python run.py --config=configs/g2aps_faster_rcnn.py --config.init.file=/path/to/resnet50-19c8e357.pth

Optimised as SeqNet is on PRW. Scored by detection AP and recall; nobody is ranked.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.base(
        "Faster R-CNN (ResNet-50)",
        "g2aps",
        batch_size=5,
        learning_rate=0.003,
        epochs=18,
        milestones=(16,),
    )
    frames.faster_rcnn(config)
    return frames.shrink(config, variant)
