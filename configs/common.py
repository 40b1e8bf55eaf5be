"""What experiments share: the fields of a run, and its two small variants.

Each file of this folder has `get_config(variant=None)`; the variant stands after the file's name and
a colon: `:skyground` trains a small model on the embedded world within minutes on a laptop, `:tiny`
runs in seconds, for tests. All options and their meaning: `g2ajax/training/options.py`.
"""

from ml_collections import ConfigDict

VARIANTS = ("skyground", "tiny")


def base(name: str) -> ConfigDict:
    """A run with every block that a command line may set; an experiment fills in its own."""
    config = ConfigDict()
    config.name = name
    config.seed = 0
    config.dataset = ""
    config.dtype = "bfloat16"
    config.data = ConfigDict(
        {
            "dir": "",
            "manual_dir": "",
            "image_size": (256, 128),
            "interpolation": "bicubic",
            "test_interpolation": "bicubic",
            "residency": "host",
            "num_workers": 0,
            "num_threads": 4,
        }
    )
    config.sampler = ConfigDict(
        {"name": "naive_identity", "identities": 16, "images": 4, "allow_single_image": False}
    )
    config.augment = ConfigDict(
        {
            "flip": 0.5,
            "pad": 10,
            "erase": {"probability": 0.5},
            "auto_augment": 0.0,
            "jitter": {"probability": 0.0},
        }
    )
    config.init = ConfigDict({"file": "", "family": "", "part": "backbone"})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    config.evaluate = ConfigDict(
        {
            "every_epochs": 20,
            "batch_size": 128,
            "protocols": (),
            "bootstrap_samples": 1000,
            "best": "mAP",
            "flip": False,
            "rankings": (),
            "rerank": {"k1": 20, "k2": 6, "lambda_value": 0.3, "variant": "zhong"},
            "expansion": {"k": 5, "alpha": 3, "times": 1},
        }
    )
    config.checkpoint = ConfigDict({"every_steps": 1000})
    config.log = ConfigDict({"every_steps": 50, "tensorboard": True})
    config.phases = ("reid",)
    return config


def variant_of(name: str | None) -> str:
    """The variant, "" for the full experiment. Raises ValueError for an unknown one."""
    if name and name not in VARIANTS:
        raise ValueError(f"no variant {name!r}; known: {', '.join(VARIANTS)}")
    return name or ""


def bot_resnet50(config: ConfigDict) -> None:
    """fast-reid's BoT on ResNet-50 (Base-bagtricks.yml, bagtricks_R50.yml)."""
    config.method = ConfigDict(
        {
            "name": "strong_baseline",
            "backbone": {"name": "resnet50", "last_stride": 1, "pool": "fastreid"},
            "head": {"pool": "GlobalAvgPool", "neck_feature": "before"},
            "smoothing": 0.1,
            "smoothing_form": "fastreid",
            "margin": 0.3,
        }
    )
    config.phase = ConfigDict(
        {
            "reid": {
                "epochs": 120,
                "steps_per_epoch": 0,
                "ema": 0.0,
                "optimizer": {"name": "adam", "learning_rate": 3.5e-4, "weight_decay": 5e-4},
                "schedule": {
                    "type": "fastreid_multistep",
                    "milestones": (40, 90),
                    "warmup_steps": 2000,
                    "warmup_factor": 0.1,
                },
            }
        }
    )


def bot_vit(config: ConfigDict) -> None:
    """fast-reid's BoT on ViT-B/16 (bagtricks_vit.yml): no smoothing, soft-margin triplet, SGD."""
    mean = (127.5, 127.5, 127.5)
    config.method = ConfigDict(
        {
            "name": "strong_baseline",
            "backbone": {"name": "vit_base", "stride": 16, "drop_path": 0.1, "remat": False},
            "head": {"pool": "Identity", "neck_feature": "before"},
            "preprocessing": {"mean": mean, "std": mean},
            "smoothing": 0.0,
            "smoothing_form": "fastreid",
            "margin": 0.0,
        }
    )
    config.phase = ConfigDict(
        {
            "reid": {
                "epochs": 120,
                "steps_per_epoch": 0,
                "ema": 0.0,
                "optimizer": {
                    "name": "sgd",
                    "learning_rate": 0.008,
                    "momentum": 0.9,
                    "weight_decay": 1e-4,
                    "weight_decay_norm": 5e-4,
                    "weight_decay_bias": 5e-4,
                    "clip_norm": 5.0,
                    "clip_by": "group",
                },
                "schedule": {
                    "type": "fastreid_cosine",
                    "floor": 1.6e-5,
                    "warmup_steps": 1000,
                    "warmup_factor": 0.01,
                },
            }
        }
    )


def sbs_resnet50(config: ConfigDict) -> None:
    """fast-reid's SBS on ResNet-50 (Base-SBS.yml, sbs_R50.yml).

    Its first 1000 steps train the head alone. Here that is a phase of its own, `head`, so Adam's
    moments begin anew after it; the warm-up of 2000 steps goes on where it was.
    """
    config.data.image_size = (384, 128)
    config.augment.auto_augment = 0.1
    config.sampler.update(identities=4, images=16)
    config.method = ConfigDict(
        {
            "name": "strong_baseline",
            "backbone": {
                "name": "resnet50",
                "last_stride": 1,
                "pool": "fastreid",
                "with_nl": True,
            },
            "head": {
                "pool": "GeneralizedMeanPoolingP",
                "neck_feature": "after",
                "classifier": "CircleSoftmax",
                "scale": 64.0,
                "margin": 0.35,
            },
            "smoothing": 0.1,
            "smoothing_form": "fastreid",
            "margin": 0.0,
        }
    )
    optimizer = {"name": "adam", "learning_rate": 3.5e-4, "weight_decay": 5e-4}
    config.phase = ConfigDict(
        {
            "head": {
                "epochs": 1,
                "steps_per_epoch": 1000,
                "trainable": ("heads",),
                "optimizer": optimizer,
                "schedule": {"type": "constant", "warmup_steps": 2000, "warmup_factor": 0.1},
            },
            "reid": {
                "epochs": 55,
                "steps_per_epoch": 0,
                "ema": 0.0,
                "optimizer": optimizer,
                "schedule": {
                    "type": "fastreid_cosine",
                    "floor": 7e-7,
                    "delay_epochs": 25,
                    "warmup_steps": 1000,
                    "warmup_factor": 0.55,
                },
            },
        }
    )
    config.phases = ("head", "reid")


def agw_resnet50(config: ConfigDict) -> None:
    """fast-reid's AGW on ResNet-50 (Base-AGW.yml, AGW_R50.yml; Ye et al., TPAMI 2021).

    BoT with non-local blocks, generalised-mean pooling (p = 3, not learned) and the weighted triplet
    loss with a soft margin.
    """
    bot_resnet50(config)
    config.method.backbone.with_nl = True
    config.method.head.pool = "GeneralizedMeanPooling"
    config.method.update(margin=0.0, hard_mining=False)


def sbs_vit(config: ConfigDict) -> None:
    """SBS's head, losses, batches and AutoAugment on BoT's ViT recipe; fast-reid has no such file."""
    bot_vit(config)
    config.augment.auto_augment = 0.1
    config.sampler.update(identities=4, images=16)
    config.method.update(smoothing=0.1)
    config.method.head = ConfigDict(
        {
            "pool": "Identity",
            "neck_feature": "after",
            "classifier": "CircleSoftmax",
            "scale": 64.0,
            "margin": 0.35,
        }
    )


def osnet(config: ConfigDict) -> None:
    """Puts OSNet x1.0 in place of the ResNet."""
    config.method.backbone = ConfigDict({"name": "osnet_x1_0"})


def mgn(config: ConfigDict) -> None:
    """fast-reid's MGN (Base-MGN.yml).

    Its list of what stays frozen for 1000 steps also matches the heads, so that there nothing is
    trained meanwhile; here the heads are, as meant, in the phase `head`. The three branches start
    alike: `copy`.
    """
    sbs_resnet50(config)
    config.method = ConfigDict(
        {
            "name": "mgn",
            "backbone": {
                "name": "resnet50",
                "last_stride": 1,
                "pool": "fastreid",
                "with_ibn": False,
            },
            "head": {
                "pool": "GeneralizedMeanPoolingP",
                "embedding_dim": 256,
                "neck_feature": "after",
                "classifier": "CircleSoftmax",
                "scale": 64.0,
                "margin": 0.35,
            },
            "smoothing": 0.1,
            "margin": 0.0,
        }
    )
    config.phase.head.trainable = tuple(
        f"{name}_head" for name in ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
    )
    config.phase.head.copy = ConfigDict({"b2": "backbone", "b3": "backbone"})


def transreid(config: ConfigDict) -> None:
    """TransReID with overlapping patches, side information and the jigsaw branch, on ViT-B/16."""
    half = (127.5, 127.5, 127.5)
    config.data.test_interpolation = "bilinear"
    config.augment.erase = ConfigDict(
        {"probability": 0.5, "area": (0.02, 1 / 3), "aspect": (0.3, 3.33), "fill": "noise"}
    )
    config.sampler.name = "random_identity"
    config.evaluate.batch_size = 256
    config.method = ConfigDict(
        {
            "name": "transreid",
            "backbone": {"name": "vit_base", "stride": 12, "drop_path": 0.1, "remat": False},
            "preprocessing": {"mean": half, "std": half},
            "camera_embedding": True,
            "jigsaw": True,
        }
    )
    config.phase = ConfigDict(
        {
            "reid": {
                "epochs": 120,
                "steps_per_epoch": 0,
                "ema": 0.0,
                "copy": {"b2": "backbone"},
                "optimizer": {
                    "name": "sgd",
                    "learning_rate": 0.008,
                    "momentum": 0.9,
                    "weight_decay": 1e-4,
                    "bias_factor": 2.0,
                },
                "schedule": {
                    "type": "epoch_cosine",
                    "warmup_epochs": 5,
                    "warmup_start": 8e-5,
                    "floor": 1.6e-5,
                },
            }
        }
    )


def explainable(config: ConfigDict) -> None:
    """Puts AG-ReID's explainable stream on the method: phase `explain` after phase `reid`.

    AMD's recipe (batches of 6 x 4, Adam 1e-4, a warm-up of 10 epochs, then constant); AG-ReID
    publishes the optimizer and its rate only. Stream 2 starts where stream 1 does (ImageNet, with
    `init.file`), not where stream 1 ends.
    """
    head = config.method.head
    if head.pool == "Identity":
        # A class token cannot be pooled under attention; the papers do not say what a ViT pools.
        head.pool = "GlobalAvgPool"
    config.name += " + Explainable"
    config.method = ConfigDict({"name": "explainable", "stream1": config.method})
    for name in config.phases:
        parts = config.phase[name].get("trainable", ("",))
        trainable = tuple(".".join(filter(None, ("stream1", part))) for part in parts)
        config.phase[name].update(trainable=trainable, loss="reid_loss")
    config.phase[config.phases[0]].copy = ConfigDict({"stream2": "stream1.backbone"})
    config.phase.explain = ConfigDict(
        {
            "epochs": 60,
            "steps_per_epoch": 0,
            "trainable": ("stream2", "adh"),
            "loss": "explain_loss",
            "rankings": ("reid", "distance", "decomposed"),
            "sampler": {
                "name": config.sampler.name,
                "identities": 6,
                "images": 4,
                "allow_single_image": False,
            },
            "optimizer": {"name": "adam", "learning_rate": 1e-4, "weight_decay": 5e-4},
            "schedule": {
                "type": "fastreid_multistep",
                "milestones": (),
                "warmup_steps": 0,
                "warmup_factor": 0.01,
            },
        }
    )
    config.phases = (*config.phases, "explain")


def uav_group(config: ConfigDict, *, constant_steps: int, steps: int) -> None:
    """The UAV network on ResNet-50 (Grigorev et al., EURASIP JASP 2019:54): Adam, batches of 32 x 4.

    The rate stays for `constant_steps`, then falls exponentially to its thousandth at `steps`; here
    it falls once every 100 steps. The paper crops from images enlarged 1.125 times; here they are
    padded by 10 pixels before the crop, as in the other recipes.
    """
    config.sampler.update(identities=32, images=4)
    config.augment.erase.probability = 0.0
    config.method = ConfigDict(
        {
            "name": "uav_group",
            "backbone": {"name": "resnet50", "last_stride": 1, "pool": "torchvision"},
            "groups": 4,
            "margin": 0.2,
            "mixture_weight": 0.25,
            "covariance": "identity",
            "alpha": 0.1,
            "likelihood_weight": 0.1,
        }
    )
    first, last = constant_steps // 100, steps // 100
    config.phase = ConfigDict(
        {
            "reid": {
                "epochs": last,
                "steps_per_epoch": 100,
                "ema": 0.0,
                "optimizer": {
                    "name": "adam",
                    "learning_rate": 1e-4,
                    "eps": 1e-3,
                    "weight_decay": 0.0,
                },
                "schedule": {
                    "type": "epoch_multistep",
                    "milestones": tuple(range(first + 1, last + 1)),
                    "gamma": 0.001 ** (1.0 / (last - first)),
                },
            }
        }
    )


def small_vit(stride: int = 16) -> dict[str, dict]:
    """The backbones of `shrink` that stand for a ViT."""
    names = {"backbone": "vit_tiny", "tiny_backbone": "vit_test"}
    return {k: {"name": v, "stride": stride, "drop_path": 0.1} for k, v in names.items()}


def small_resnet(pool: str = "fastreid", *, non_local: bool = False) -> dict[str, dict]:
    """The backbones of `shrink` that stand for a ResNet-50."""
    rest = {"last_stride": 1, "pool": pool}
    small, tiny = {"name": "resnet18", "width": 32, **rest}, {"name": "resnet_tiny", **rest}
    if non_local:
        small["non_local"], tiny["with_nl"] = (0, 1, 1, 0), True
    return {"backbone": small, "tiny_backbone": tiny}


def small_explained_vit() -> dict[str, dict]:
    """The backbones of `shrink` that stand for a ViT under the explainable stream.

    The one for minutes is a ResNet: a ViT from scratch learns too little of a world of this size to
    point at anything.
    """
    return small_vit() | {"backbone": small_resnet()["backbone"] | {"name": "resnet10"}}


def small_osnet() -> dict[str, dict]:
    """The backbones of `shrink` that stand for an OSNet."""
    return {"backbone": {"name": "osnet_x0_25"}, "tiny_backbone": {"name": "osnet_test"}}


def explain_small(config: ConfigDict, tiny: bool) -> None:
    """The phases of `shrink` for the explainable stream, on many people with few images each.

    From nothing, stream 2 first learns what the attributes look like: phase `attributes`.
    """
    if tiny:
        config.method.hidden = 8
    else:
        config.dataset = "skyground/crops_many"
        config.phase.reid.epochs = 8
        config.evaluate.every_epochs = 10
    del config.phase[config.phases[0]].copy
    explain = config.phase.explain
    explain.epochs = 2
    explain.steps_per_epoch = 3 if tiny else 0
    explain.sampler.update(identities=2 if tiny else 24, images=4 if tiny else 2)
    explain.optimizer = ConfigDict({"name": "adam", "learning_rate": 1e-4, "weight_decay": 5e-4})
    explain.schedule = ConfigDict(
        {
            "type": "cosine",
            "warmup_steps": 2 if tiny else 20,
            "floor": 1e-6,
            "warmup_factor": 0.01,
        }
    )
    attributes = config.phase.attributes = explain.copy_and_resolve_references()
    attributes.update(loss="attribute_loss", epochs=1 if tiny else 10, rankings=("reid",))
    attributes.sampler.update(identities=2 if tiny else 32)
    attributes.optimizer = ConfigDict(
        {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}
    )
    config.phases = (*config.phases[:-1], "attributes", "explain")


def shrink(config: ConfigDict, variant: str, backbone: dict, tiny_backbone: dict) -> ConfigDict:
    """Turns an experiment into one of its small variants; the method and its losses stay."""
    if not variant:
        return config
    tiny = variant == "tiny"
    small = tiny_backbone if tiny else backbone
    config.name += f" ({variant}, {small['name']})"  # it is not the backbone of the full name
    config.dataset = "skyground/crops_tiny" if tiny else "skyground/crops_small"
    config.dtype = "float32"
    config.init.file = ""
    config.data.image_size = (64, 32) if tiny else (128, 64)
    config.data.residency = "device"
    config.data.num_threads = 2
    config.augment.pad = 2 if tiny else 5
    if tiny:
        config.augment.auto_augment = 0.0  # it adds about six seconds of compilation to each phase
    config.sampler.identities = 4 if tiny else 16
    config.sampler.images = 2 if tiny else 4
    stream1 = config.method.get("stream1", config.method)
    stream1.backbone = ConfigDict(small)
    reid = config.phase.reid
    config.evaluate.protocols = ("A2G", "G2A")
    if "head" in config.phases:
        config.phase.head.steps_per_epoch = 3 if tiny else 62
        config.phase.head.optimizer = ConfigDict({"name": "adamw", "learning_rate": 1e-3})
        config.phase.head.schedule = ConfigDict({"type": "constant", "warmup_steps": 2})
    reid.epochs = 2 if tiny else 25
    reid.steps_per_epoch = 3 if tiny else 0
    reid.optimizer = ConfigDict({"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05})
    reid.schedule = ConfigDict(
        {"type": "cosine", "warmup_steps": 2 if tiny else 100, "floor": 1e-6, "warmup_factor": 0.01}
    )
    config.evaluate.every_epochs = 1 if tiny else 5
    config.evaluate.batch_size = 16 if tiny else 64
    config.evaluate.bootstrap_samples = 100 if tiny else 1000
    config.checkpoint.every_steps = 2 if tiny else 200
    config.log.every_steps = 1 if tiny else 20
    if "explain" in config.phase:
        explain_small(config, tiny)
    return config
