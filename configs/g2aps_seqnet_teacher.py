"""G2APS, the teacher of SeqNet's head: people cut out of the training frames, ResNet-50.

    python run.py --config=configs/g2aps_seqnet_teacher.py --config.init.file=/path/to/resnet50-19c8e357.pth
    python run.py --config=configs/g2aps_seqnet_hkd.py ... --config.init.teacher=runs/g2aps_seqnet_teacher/checkpoints/latest

The recipe of head distillation's code; its warm-up is finished and identity 0 learns too.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.teacher(
        "SeqNet's teacher (ResNet-50)",
        "g2aps",
        head="seqnet",
        learning_rate=0.0036,
        epochs=300,
        matching=1.0,
    )
    return frames.shrink_teacher(config, variant)
