"""Recipes of view-aware crop re-identification. Learning rates are the codebases' own; the cost of a
full run is unknown: none has been run on the real data."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops


def vdt(dataset: str) -> ConfigDict:
    """VDT on ViT-B/16 (Zhang et al., CVPR 2024; VDT.yml): `crops.bot_vit` in batches of 32 x 4.

    Warm-up of 2000 steps, gradients clipped tensor by tensor, and norms and biases decayed by 5e-4,
    a default of its codebase that the file does not change. The code computes in float16 with loss
    scaling, here in bfloat16; it chooses the best checkpoint by (mAP + rank-1) / 2 of the first test
    set, here by mAP over the protocols. Cost unknown.
    """
    config = crops.bot_vit(dataset)
    config.name = "VDT"
    config.method = blocks.method(
        {
            "name": "vdt",
            "backbone": {"name": "vit_base", "stride": 16, "drop_path": 0.1, "remat": False},
            "preprocessing": {"mean": crops.HALF, "std": crops.HALF},
            "view_weight": 0.001,
        }
    )
    config.sampler.update(name="naive_identity", identities=32, images=4)
    config.evaluate.every_epochs = 5
    reid = config.phase.reid
    reid.optimizer.clip_by = "tensor"
    reid.schedule.update(floor=1.6e-6, warmup_steps=2000, warmup_factor=0.01)
    return config
