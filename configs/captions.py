"""What the experiments with sentences share: the recipes of IRRA and AEA-FIRM, and small variants.

Published weights start both: --config.init.file=/path/to/ViT-B-16.pt (OpenAI's CLIP).
"""

from ml_collections import ConfigDict

IMAGE_SIZE = (384, 128)
# Parts of parameters' names and the factors of their learning rates; the last that occurs counts.
RULES = (("cross", 5.0), ("bias", 2.0), ("classifier", 5.0), ("mlm_head", 5.0))


def recipe(config: ConfigDict) -> None:
    """What both share: 60 epochs of shuffled batches of 64, Adam with eps 1e-3 at 1e-5.

    The reference keeps the last, smaller batch of an epoch; here it is left out.
    """
    config.data.update(
        image_size=IMAGE_SIZE, interpolation="bilinear", test_interpolation="bilinear"
    )
    config.sampler.update(name="shuffled", identities=64, images=1)
    # No augmentation but the flip and the masked words, unless a recipe adds it.
    config.augment.update(flip=0.5, pad=0)
    config.augment.erase = ConfigDict({"probability": 0.0})
    config.text = ConfigDict({"length": 77, "mask": 0.15, "clean_copy": False, "views": "image"})
    config.evaluate.update(every_epochs=1, best="rank1")
    config.phase = ConfigDict(
        {
            "reid": {
                "epochs": 60,
                "steps_per_epoch": 0,
                "ema": 0.0,
                "optimizer": {
                    "name": "adam",
                    "learning_rate": 1e-5,
                    "eps": 1e-3,
                    "weight_decay": 4e-5,
                    "weight_decay_bias": 0.0,
                    "rules": RULES,
                },
                "schedule": {"type": "irra_cosine", "warmup_epochs": 5, "warmup_factor": 0.1},
            }
        }
    )


def irra(config: ConfigDict) -> None:
    """IRRA (Jiang and Ye, CVPR 2023): SDM, identities, masked words; with its augmentation."""
    recipe(config)
    config.augment.update(pad=10)
    config.augment.erase = ConfigDict(
        {"probability": 0.5, "area": (0.02, 0.4), "aspect": (0.3, 3.3), "fill": "normalised_mean"}
    )
    config.method = ConfigDict(
        {
            "name": "irra",
            "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
            "losses": ("sdm", "mlm", "id"),
        }
    )


def contrastive(config: ConfigDict) -> None:
    """CLIP's own loss on (image, caption) pairs, the baseline of both papers; no words masked."""
    irra(config)
    config.method.losses = ("itc",)
    config.text.mask = 0.0


def aea_firm(config: ConfigDict) -> None:
    """AEA-FIRM (Wang et al., TCSVT 2025): alignment with both views and the queue, attributes said
    as sentences; masked words as augmentation."""
    recipe(config)
    config.method = ConfigDict(
        {
            "name": "aea_firm",
            "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
            "losses": ("aea", "match"),
            "queue_length": 192,
        }
    )


def shrink(config: ConfigDict, variant: str) -> ConfigDict:
    """Turns an experiment into one of its small variants: small towers from scratch on SkyGround."""
    if not variant:
        return config
    tiny = variant == "tiny"
    config.name += f" ({variant})"
    config.dataset = "skyground/captions_tiny" if tiny else "skyground/captions_small"
    config.dtype = "float32"
    config.init.file = ""
    config.data.update(image_size=(64, 32) if tiny else (128, 64), residency="device")
    config.data.num_threads = 2
    config.augment.pad = (2 if tiny else 5) if config.augment.pad else 0
    config.sampler.update(identities=8 if tiny else 64)
    config.text.update(length=24 if tiny else 48)
    config.method.backbone = ConfigDict({"name": "clip_test" if tiny else "clip_mini"})
    if config.method.name == "irra":
        config.text.views = "both"  # sentences are found in ground images too
        config.method.update(depth=1)
    if config.method.name == "aea_firm":
        config.method.queue_length = 16 if tiny else 192
    reid = config.phase.reid
    reid.epochs = 2 if tiny else 8
    reid.steps_per_epoch = 3 if tiny else 60
    reid.optimizer = ConfigDict({"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.05})
    reid.schedule = ConfigDict(
        {"type": "cosine", "warmup_steps": 2 if tiny else 50, "floor": 1e-6, "warmup_factor": 0.01}
    )
    config.evaluate.update(
        every_epochs=1 if tiny else 4,
        batch_size=16 if tiny else 64,
        bootstrap_samples=100 if tiny else 1000,
        best="mAP",
    )
    config.checkpoint.every_steps = 2 if tiny else 200
    config.log.every_steps = 1 if tiny else 20
    return config
