"""Recipes of crop re-identification: fast-reid's, TransReID's, and that of the UAV network.

Learning rates are the codebases' own; an experiment sets its paper's. The cost of a full run is
unknown: none has been run on the real data.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.methods.base import HALF
from g2ajax.recipes import blocks, small
from g2ajax.training.schedules import ScheduleOptions

RESNET50 = {"name": "resnet50", "last_stride": 1, "pool": "fastreid"}
# CircleSoftmax on the feature after the neck.
CIRCLE_HEAD = {
    "neck_feature": "after",
    "classifier": "CircleSoftmax",
    "scale": 64.0,
    "margin": 0.35,
}
# The embedding heads of MGN, which train before the rest.
MGN_HEADS = tuple(f"{name}_head" for name in ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33"))


def _experiment(
    name: str, dataset: str, method: Mapping[str, Any], phases: tuple[str, ...] = ("reid",)
) -> ConfigDict:
    config = blocks.experiment(name, task="crops", dataset=dataset, method=method, phases=phases)
    config.evaluate.every_epochs = 20
    return config


def bot_resnet50(dataset: str) -> ConfigDict:
    """fast-reid's BoT on ResNet-50 (Base-bagtricks.yml, bagtricks_R50.yml). Cost unknown."""
    method = {
        "name": "strong_baseline",
        "backbone": RESNET50,
        "head": {"pool": "GlobalAvgPool", "neck_feature": "before"},
        "smoothing": 0.1,
        "smoothing_form": "fastreid",
        "margin": 0.3,
    }
    config = _experiment("BoT", dataset, method)
    reid = config.phase.reid
    reid.epochs = 120
    reid.optimizer.update(name="adam", learning_rate=3.5e-4, weight_decay=5e-4)
    reid.schedule.update(
        type="fastreid_multistep", milestones=(40, 90), warmup_steps=2000, warmup_factor=0.1
    )
    return config


def bot_osnet(dataset: str) -> ConfigDict:
    """`bot_resnet50` with OSNet x1.0 in place of the ResNet. Cost unknown."""
    config = bot_resnet50(dataset)
    blocks.set_network(config.method, name="osnet_x1_0")
    return config


def bot_vit(dataset: str) -> ConfigDict:
    """fast-reid's BoT on ViT-B/16 (bagtricks_vit.yml): no smoothing, soft-margin triplet, SGD.

    Cost unknown.
    """
    method = {
        "name": "strong_baseline",
        "backbone": {"name": "vit_base", "stride": 16, "drop_path": 0.1, "remat": False},
        "head": {"pool": "Identity", "neck_feature": "before"},
        "preprocessing": {"mean": HALF, "std": HALF},
        "smoothing": 0.0,
        "margin": 0.0,
    }
    config = _experiment("BoT", dataset, method)
    reid = config.phase.reid
    reid.epochs = 120
    reid.optimizer.update(
        name="sgd",
        learning_rate=0.008,
        momentum=0.9,
        weight_decay=1e-4,
        weight_decay_norm=5e-4,
        weight_decay_bias=5e-4,
        clip_norm=5.0,
        clip_by="group",
    )
    reid.schedule.update(
        type="fastreid_cosine", floor=1.6e-5, warmup_steps=1000, warmup_factor=0.01
    )
    return config


def agw_resnet50(dataset: str) -> ConfigDict:
    """fast-reid's AGW on ResNet-50 (Base-AGW.yml, AGW_R50.yml; Ye et al., TPAMI 2021).

    BoT with non-local blocks, generalised-mean pooling (p = 3, not learned) and the weighted triplet
    loss with a soft margin. Cost unknown.
    """
    config = bot_resnet50(dataset)
    config.name = "AGW"
    config.method.backbone.with_nl = True
    config.method.head.pool = "GeneralizedMeanPooling"
    config.method.update(margin=0.0, hard_mining=False)
    return config


def sbs_resnet50(dataset: str) -> ConfigDict:
    """fast-reid's SBS on ResNet-50 (Base-SBS.yml, sbs_R50.yml). Cost unknown.

    Its first 1000 steps train the head alone. Here that is a phase of its own, `head`, so Adam's
    moments start again after it; the warm-up of 2000 steps continues.
    """
    method = {
        "name": "strong_baseline",
        "backbone": {**RESNET50, "with_nl": True},
        "head": {"pool": "GeneralizedMeanPoolingP", **CIRCLE_HEAD},
        "smoothing": 0.1,
        "margin": 0.0,
    }
    config = _experiment("SBS", dataset, method, ("head", "reid"))
    _sbs_batches(config)
    config.data.image_size = (384, 128)
    for phase in (config.phase.head, config.phase.reid):
        phase.optimizer.update(name="adam", learning_rate=3.5e-4, weight_decay=5e-4)
    head, reid = config.phase.head, config.phase.reid
    head.update(epochs=1, steps_per_epoch=1000, trainable=("heads",))
    head.schedule.update(type="constant", warmup_steps=2000, warmup_factor=0.1)
    reid.epochs = 55
    reid.schedule.update(
        type="fastreid_cosine",
        floor=7e-7,
        delay_epochs=25,
        warmup_steps=1000,
        warmup_factor=0.55,
    )
    return config


def _sbs_batches(config: ConfigDict) -> None:
    config.augment.auto_augment = 0.1
    config.sampler.update(identities=4, images=16)


def sbs_osnet(dataset: str) -> ConfigDict:
    """`sbs_resnet50` with OSNet x1.0 in place of the ResNet. Cost unknown."""
    config = sbs_resnet50(dataset)
    blocks.set_network(config.method, name="osnet_x1_0")
    return config


def sbs_vit(dataset: str) -> ConfigDict:
    """SBS's head, losses, batches and AutoAugment on BoT's ViT recipe; fast-reid has no such file.

    Cost unknown.
    """
    config = bot_vit(dataset)
    config.name = "SBS"
    _sbs_batches(config)
    config.method.smoothing = 0.1
    config.method.head.update(CIRCLE_HEAD)
    return config


def mgn(dataset: str) -> ConfigDict:
    """fast-reid's MGN (Base-MGN.yml). Cost unknown.

    The reference freezes the heads as well for 1000 steps, so nothing trains; here the phase `head`
    trains the heads, as intended. The three branches start alike: `copy`.
    """
    config = sbs_resnet50(dataset)
    config.name = "MGN"
    config.method = blocks.method(
        {"name": "mgn", "backbone": {**RESNET50, "with_ibn": False}, "smoothing": 0.1}
    )
    config.phase.head.trainable = MGN_HEADS
    config.phase.head.copy = ConfigDict({"b2": "backbone", "b3": "backbone"})
    return config


def transreid(dataset: str) -> ConfigDict:
    """TransReID with overlapping patches, side information and the jigsaw branch, on ViT-B/16.

    Cost unknown.
    """
    method = {
        "name": "transreid",
        "backbone": {"name": "vit_base", "stride": 12, "drop_path": 0.1, "remat": False},
        "preprocessing": {"mean": HALF, "std": HALF},
        "camera_embedding": True,
        "jigsaw": True,
    }
    config = _experiment("TransReID", dataset, method)
    config.data.test_interpolation = "bilinear"
    config.augment.erase.update(area=(0.02, 1 / 3), aspect=(0.3, 3.33), fill="noise")
    config.sampler.name = "random_identity"
    config.evaluate.batch_size = 256
    reid = config.phase.reid
    reid.epochs = 120
    reid.copy = ConfigDict({"b2": "backbone"})
    reid.optimizer.update(
        name="sgd", learning_rate=0.008, momentum=0.9, weight_decay=1e-4, bias_factor=2.0
    )
    reid.schedule.update(type="epoch_cosine", warmup_epochs=5, warmup_start=8e-5, floor=1.6e-5)
    return config


def uav_group(name: str, dataset: str, *, constant_steps: int, steps: int) -> ConfigDict:
    """The UAV network on ResNet-50 (Grigorev et al., EURASIP JASP 2019:54): Adam, batches of 32 x 4.

    The rate stays for `constant_steps`, then falls exponentially to its thousandth at `steps`; here
    it falls once every 100 steps. The paper crops from images enlarged 1.125 times; here they are
    padded by 10 pixels before the crop, as in the other recipes. Cost unknown.
    """
    method = {
        "name": "uav_group",
        "backbone": {"name": "resnet50", "last_stride": 1, "pool": "torchvision"},
    }
    config = _experiment(f"UAV network, {name}", dataset, method)
    config.sampler.update(identities=32, images=4)
    config.augment.erase.probability = 0.0
    first, last = constant_steps // 100, steps // 100
    reid = config.phase.reid
    reid.update(epochs=last, steps_per_epoch=100)
    reid.optimizer.update(name="adam", learning_rate=1e-4, eps=1e-3, weight_decay=0.0)
    reid.schedule.update(
        type="epoch_multistep",
        milestones=tuple(range(first + 1, last + 1)),
        gamma=0.001 ** (1.0 / (last - first)),
    )
    return config


# The networks of the small variants, from scratch.


def small_resnet(pool: str = "fastreid", *, non_local: bool = False) -> dict[str, dict[str, Any]]:
    """The backbones that stand for a ResNet-50, by variant."""
    rest = {"last_stride": 1, "pool": pool}
    minutes, tiny = {"name": "resnet18", "width": 32, **rest}, {"name": "resnet_tiny", **rest}
    if non_local:
        minutes["non_local"], tiny["with_nl"] = (0, 1, 1, 0), True
    return {"skyground": minutes, "tiny": tiny}


def small_osnet() -> dict[str, dict[str, Any]]:
    """The backbones that stand for an OSNet, by variant."""
    return {"skyground": {"name": "osnet_x0_25"}, "tiny": {"name": "osnet_test"}}


def small_vit(stride: int = 16) -> dict[str, dict[str, Any]]:
    """The backbones that stand for a ViT, by variant."""
    rest = {"stride": stride, "drop_path": 0.1}
    return {"skyground": {"name": "vit_tiny", **rest}, "tiny": {"name": "vit_test", **rest}}


def small_bot(
    config: ConfigDict,
    variant: str,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    method: ConfigDict | None = None,
) -> None:
    """The small variant of a recipe whose phase `reid` trains everything: 25 epochs of `crops_small`.

    With the small ViT, on two cores of an AMD EPYC: 7 minutes. The others: unknown.

    `networks`: the backbones by variant; `method`: the block with the backbone, if not the run's.
    """
    tiny, network = variant == "tiny", networks[variant]
    dataset = "skyground/crops_tiny" if tiny else "skyground/crops_small"
    small.embedded(config, variant, dataset)
    config.data.update(image_size=(64, 32) if tiny else (128, 64), residency="device")
    # Small networks are compared by their method alone; and AugMix is long to compile.
    config.augment.update(pad=2 if tiny else 5, rotation=0.0, augmix=0.0)
    if tiny:
        config.augment.auto_augment = 0.0  # it adds about six seconds of compilation to each phase
    config.sampler.update(identities=4 if tiny else 16, images=2 if tiny else 4)
    config.evaluate.update(
        protocols=("A2G", "G2A"),
        every_epochs=1 if tiny else 5,
        batch_size=16 if tiny else 64,
    )
    blocks.set_network(method or config.method, **network)
    reid = config.phase.reid
    reid.update(epochs=2 if tiny else 25, steps_per_epoch=3 if tiny else 0)
    reid.optimizer = small.adamw(1e-3, 0.05)
    reid.schedule = small.cosine(2 if tiny else 100)


def small_sbs(
    config: ConfigDict,
    variant: str,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    method: ConfigDict | None = None,
) -> None:
    """`small_bot` for a recipe with a phase `head` before `reid`."""
    small_bot(config, variant, networks, method=method)
    head = config.phase.head
    head.steps_per_epoch = 3 if variant == "tiny" else 62
    head.optimizer = small.adamw(1e-3, 5e-4)
    head.schedule = blocks.of(ScheduleOptions(type="constant", warmup_steps=2))


def small_mgn(config: ConfigDict, variant: str) -> None:
    """The small variant of MGN."""
    small_sbs(config, variant, small_resnet())
    if variant == "tiny":
        # Three stripes: a map of four rows gives only two of ceil(4/3).
        config.data.image_size = (96, 32)
