"""CUHK-SYSU, the teacher of COAT's head: people cut out of the training frames, ResNet-50.

    python run.py --config=configs/cuhk_sysu_coat_teacher.py --config.init.file=/path/to/resnet50-19c8e357.pth
    python run.py --config=configs/cuhk_sysu_coat_hkd.py ... --config.init.teacher=runs/cuhk_sysu_coat_teacher/checkpoints/latest

The recipe of head distillation's code; its warm-up is finished and identity 0 learns too.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common, frames


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = frames.teacher(
        "COAT's teacher (ResNet-50)",
        "cuhk_sysu",
        head="coat",
        learning_rate=0.003,
        epochs=351,
        matching=11.0,
        softmax=3.0,
    )
    return frames.shrink_teacher(config, variant)
