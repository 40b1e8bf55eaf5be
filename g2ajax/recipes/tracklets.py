"""Recipes of tracklet re-identification. None has been run on real data; the cost of a full run is
unknown."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small
from g2ajax.recipes.prompts import SMALL_CLIP, TEXT_PARTS, set_prompt_phase
from g2ajax.tasks.tracklets import SamplerOptions

CLIP = {"identities": 8, "images": 4}
"""VSLA-CLIP's batch of 32 clips."""
LEARNED = ("attention", "granular")
"""Poolings over frames that have parameters."""
TEMPORAL = ("mean", "max", *LEARNED)


def temporal_baseline(dataset: str, temporal: str = "mean") -> ConfigDict:
    """The strong baseline on ResNet-50 with its features pooled over 8 frames.

    Optimizer, schedule, smoothing and margin are those of `crops.bot_resnet50`; clips of 8 frames in
    batches of 8 x 4, without padding and random crop, as VSLA-CLIP draws them. A choice of ours, not a
    published recipe.
    """
    image = crops.bot_resnet50(dataset)
    method = {
        "name": "temporal_baseline",
        "backbone": {"name": "resnet50", "last_stride": 1, "pool": "fastreid"},
        "head": {"pool": "GlobalAvgPool", "neck_feature": "before"},
        "smoothing": 0.1,
        "smoothing_form": "fastreid",
        "margin": 0.3,
        "temporal": temporal,
    }
    config = blocks.experiment(
        f"Temporal baseline, {temporal}",
        task="tracklets",
        dataset=dataset,
        method=method,
        phases=("reid",),
    )
    config.sampler.update(name="naive_identity", **CLIP)
    config.augment.pad = 0
    config.evaluate.update(every_epochs=20, batch_size=32)
    reid = config.phase.reid
    reid.epochs = 120
    reid.optimizer = image.phase.reid.optimizer
    reid.schedule = image.phase.reid.schedule
    return config


def small_tracklets(config: ConfigDict, variant: str, network: dict) -> None:
    """The small variant of a recipe whose phase `reid` trains everything, on `tracklets_small`."""
    tiny = variant == "tiny"
    dataset = f"skyground/tracklets_{'tiny' if tiny else 'small'}"
    small.embedded(config, variant, dataset)
    config.data.update(image_size=(48, 24) if tiny else (128, 64), residency="device")
    config.clip.frames = 3 if tiny else 8
    config.sampler.update(identities=4 if tiny else 8, images=2)
    config.evaluate.update(
        protocols=("A2G", "G2A"), every_epochs=1 if tiny else 10, batch_size=8 if tiny else 32
    )
    blocks.set_network(config.method, **network)
    reid = config.phase.reid
    reid.update(epochs=2 if tiny else 25, steps_per_epoch=3 if tiny else 0)
    reid.optimizer = small.adamw(1e-3, 0.05)
    reid.schedule = small.cosine(2 if tiny else 50)


def vsla_clip(dataset: str, *, bridge_blocks: int = 0, temporal: str = "mean") -> ConfigDict:
    """VSLA-CLIP on ViT-B/16 (Zhang et al., ECCV 2024): 120 epochs of the texts, then 120 of adapters,
    bridge prompts, necks and classifiers in batches of 8 x 4 clips of 8 frames. A pooling (`temporal`)
    with parameters is trained, too; the paper has the mean.

    The code reads each clip's features for the texts once, ours draws clips anew in every batch. Its form
    of random erasing is not known to us: fast-reid's stands for it, decided once a clip.
    """
    method = {
        "name": "vsla_clip",
        "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
        "bridge_blocks": bridge_blocks,
        "temporal": temporal,
    }
    config = blocks.experiment(
        "VSLA-CLIP",
        task="tracklets",
        dataset=dataset,
        method=method,
        phases=("prompts", "reid"),
    )
    config.sampler.update(name="random_identity", **CLIP)
    config.augment.pad = 0
    config.evaluate.update(every_epochs=60, batch_size=32)
    prompts = config.phase.prompts
    set_prompt_phase(prompts, "prompt_loss", ("prompt_learner",), sampler=SamplerOptions)
    reid = config.phase.reid
    own = ("cv_embed",) if bridge_blocks else ()
    own += ("frame_pools",) if temporal in LEARNED else ()
    reid.update(epochs=120, trainable=("adapters", "neck", "neck_proj", *own))
    reid.optimizer.update(
        name="adam",
        learning_rate=1e-4,
        weight_decay=2.5e-4,
        weight_decay_bias=1e-4,
        rules=(("bias", 2.0),),
    )
    reid.schedule.update(
        type="epoch_multistep", milestones=(60, 90), warmup_epochs=10, warmup_factor=0.1
    )
    return config


def ft_clip(dataset: str, *, temporal: str = "mean") -> ConfigDict:
    """FT-CLIP, the baseline of VSLA-CLIP: no adapters, the whole image tower is trained, rate 5e-6."""
    config = vsla_clip(dataset, temporal=temporal)
    config.name = "FT-CLIP"
    config.method.adapters = False
    config.phase.reid.update(trainable=("*",), frozen=TEXT_PARTS)
    config.phase.reid.optimizer.learning_rate = 5e-6
    return config


def small_vsla_clip(config: ConfigDict, variant: str) -> None:
    """The small variant of `vsla_clip` and `ft_clip`: small towers from scratch, so the whole image tower
    is trained beside the adapters, and the texts know nothing that CLIP has learned from sentences."""
    tiny = variant == "tiny"
    small_tracklets(config, variant, SMALL_CLIP[variant])
    config.method.adapter_width = 8 if tiny else 64
    prompts = config.phase.prompts
    prompts.sampler.identities = 8 if tiny else 32
    prompts.update(epochs=1 if tiny else 5, steps_per_epoch=2 if tiny else 0)
    prompts.optimizer = small.adamw(1e-3, 1e-4)
    prompts.schedule = small.cosine(2)
    config.phase.reid.update(trainable=("*",), frozen=TEXT_PARTS)
    if config.method.bridge_blocks:
        config.method.bridge_blocks = 2
