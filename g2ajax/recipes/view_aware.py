"""Recipes of view-aware crop re-identification. Learning rates are the codebases' own; the cost of a
full run is unknown: none has been run on the real data."""

from typing import Any

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops

PROTOCOLS = {
    "cargo": ("ALL", "AG-pooled", "A2A", "G2G"),
    "agreid": ("A2G", "G2A"),
    "agreid_v2": ("A2C", "C2A", "A2W", "W2A"),
    "lagper": ("A2G", "G2A", "G2AG"),
    "g2aps_reid": ("A2G", "G2A"),
}
"""Dataset → the protocols of the papers' tables."""
BOTH_PROTOCOLS = {**PROTOCOLS, "cargo": ("ALL", "AG-pooled", "A2G", "A2A", "G2G")}
"""The same, for papers whose "A<->G" of CARGO is `A2G`: scored beside `AG-pooled`."""


def _vit(name: str, stride: int | tuple[int, int] = 16, **options: Any) -> ConfigDict:
    """The block of a method on ViT-B/16, with pixels in -1..1."""
    return blocks.method(
        {
            "name": name,
            "backbone": {"name": "vit_base", "stride": stride, "drop_path": 0.1, "remat": False},
            "preprocessing": {"mean": crops.HALF, "std": crops.HALF},
            **options,
        }
    )


def vdt(dataset: str) -> ConfigDict:
    """VDT on ViT-B/16 (Zhang et al., CVPR 2024; VDT.yml): `crops.bot_vit` in batches of 32 x 4.

    Warm-up of 2000 steps, gradients clipped tensor by tensor, and norms and biases decayed by 5e-4,
    a default of its codebase that the file does not change. The code computes in float16 with loss
    scaling, here in bfloat16; it chooses the best checkpoint by (mAP + rank-1) / 2 of the first test
    set, here by mAP over the protocols. Cost unknown.
    """
    config = crops.bot_vit(dataset)
    config.name = "VDT"
    config.method = _vit("vdt", view_weight=0.001)
    config.sampler.update(name="naive_identity", identities=32, images=4)
    config.evaluate.every_epochs = 5
    reid = config.phase.reid
    reid.optimizer.clip_by = "tensor"
    reid.schedule.update(floor=1.6e-6, warmup_steps=2000, warmup_factor=0.01)
    return config


def secap(dataset: str) -> ConfigDict:
    """SeCap on ViT-B/16 (Wang et al., CVPR 2025; secap.yml): VDT's recipe, patches of stride 12 (16
    on LAGPeR). AG-ReID has 128 prompts and view losses of weight 10. Cost unknown."""
    config = vdt(dataset)
    config.name = "SeCap"
    config.method = _vit("secap", 16 if dataset == "lagper" else 12, prompts=64, view_weight=0.001)
    if dataset == "agreid":
        config.method.update(prompts=128, view_weight=10.0)
    return config


def dts(dataset: str) -> ConfigDict:
    """DTS on ViT-B/16: VDT's recipe and the selector of tokens, in float32 as its code. Cost
    unknown."""
    config = vdt(dataset)
    config.update(name="DTST", dtype="float32")
    config.method = _vit("dts", view_weight=0.001)
    return config


def gsalign(dataset: str) -> ConfigDict:
    """GSAlign on ViT-B/16 (NeurIPS 2025; gsalign.yml): VDT's recipe for 150 epochs (AG-ReID.v2: 120).

    AG-ReID and AG-ReID.v2 erase less, have AugMix, hold the angles back, and are scored with flipped
    images added and average query expansion. CARGO has turns of up to 30 degrees. Cost unknown.
    """
    config = vdt(dataset)
    config.name = "GSAlign"
    config.method = _vit("gsalign", view_weight=0.001)
    if dataset in ("cargo", "agreid"):
        config.phase.reid.epochs = 150
    if dataset in ("agreid", "agreid_v2"):
        config.method.angle_weight = 0.5
        config.augment.erase.probability = 0.3
        config.evaluate.update(flip=True, rankings=("query_expansion",))
        config.augment.augmix = 0.3
    if dataset == "cargo":
        config.augment.rotation = 30.0
    return config


def sd_reid(dataset: str) -> ConfigDict:
    """The first stage of SD-ReID on ViT-B/16 (TIP 2026; base_stage1.yml): VDT's recipe. Cost
    unknown."""
    config = vdt(dataset)
    config.name = "SD-ReID, stage 1"
    config.method = _vit("sd_reid", view_weight=0.001)
    return config


def visa(dataset: str) -> ConfigDict:
    """ViSA on ViT-B/16 (CVPR 2026; visa.yml): VDT's recipe, patches of stride 12, view losses of
    weight 1. LAGPeR has patches of stride (12, 10), 16 x 8 images in a batch, three active experts and
    eight queries. The paper has batches of 64 x 4, the code of 32 x 4. Cost unknown."""
    config = vdt(dataset)
    config.name = "ViSA"
    config.method = _vit("visa", (12, 10) if dataset == "lagper" else 12, view_weight=1.0)
    if dataset == "lagper":
        config.method.update(active=3, queries=8)
        config.sampler.update(identities=16, images=8)
    return config
