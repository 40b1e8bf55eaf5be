"""Recipes of tracklet re-identification. None has been run on real data; the cost of a full run is
unknown."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small

CLIP = {"identities": 8, "images": 4}
"""P tracklets of K identities, VSLA-CLIP's batch of 32 clips."""


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
        f"Temporal baseline (ResNet-50, {temporal})",
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
    small.embedded(config, variant, dataset, network=network["name"])
    config.data.update(image_size=(48, 24) if tiny else (128, 64), residency="device")
    config.clip.frames = 3 if tiny else 8
    config.sampler.update(identities=4 if tiny else 8, images=2 if tiny else 4)
    config.evaluate.update(
        protocols=("A2G", "G2A"), every_epochs=1 if tiny else 10, batch_size=8 if tiny else 32
    )
    blocks.set_network(config.method, **network)
    reid = config.phase.reid
    reid.update(epochs=2 if tiny else 60, steps_per_epoch=3 if tiny else 0)
    reid.optimizer = small.adamw(1e-3, 0.05)
    reid.schedule = small.cosine(2 if tiny else 50)
