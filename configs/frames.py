"""What the experiments of person search in whole frames share: recipes, and the small variants.

ImageNet weights start all: --config.init.file=/path/to/resnet50-19c8e357.pth (torchvision's).
"""

from ml_collections import ConfigDict

from configs import common

QUEUES = {"cuhk_sysu": 5000, "prw": 500, "g2aps": 2000}
# k1 and k2 of the re-ranking by context.
CONTEXTS = {"cuhk_sysu": (10, 3), "prw": (30, 4), "g2aps": (10, 3)}
SMALL = {"name": "resnet18", "width": 16}
TINY = {"name": "resnet_tiny"}
# Variant → the frames of the embedded world.
WORLDS = {"skyground": "skyground/frames_small", "tiny": "skyground/frames_tiny"}


def base(
    name: str,
    dataset: str,
    *,
    batch_size: int,
    learning_rate: float,
    epochs: int,
    milestones: tuple[int, ...],
) -> ConfigDict:
    """A run on frames by SGD: a warm-up over the first epoch, gradients of norm 10 at most, decay on
    every parameter. What only crops have is taken out."""
    config = common.base(name)
    config.dataset = dataset
    for block in ("sampler", "augment"):
        del config[block]
    for field in ("image_size", "interpolation", "test_interpolation", "residency"):
        del config.data[field]
    for field in ("flip", "rerank", "expansion"):
        del config.evaluate[field]
    config.frames = ConfigDict(
        {
            "batch_size": batch_size,
            "min_size": 900,
            "max_size": 1500,
            "canvases": ((928, 1504), (1504, 928)),
            "max_boxes": 64,
            "flip": 0.5,
            "skip_unreadable": False,
        }
    )
    config.evaluate.update(batch_size=8, every_epochs=1, rankings=("true_boxes",))
    k1, k2 = CONTEXTS[dataset]
    config.evaluate.context = ConfigDict({"k1": k1, "k2": k2})
    config.phases = ("search",)
    search = _sgd(learning_rate, epochs, milestones)
    config.phase = ConfigDict({"search": search | {"rankings": ("reid",)}})
    return config


def _sgd(
    learning_rate: float, epochs: int, milestones: tuple[int, ...], steps_per_epoch: int = 0
) -> dict:
    """A phase of SGD as detectors and teachers have it; 0 steps: each image once an epoch."""
    return {
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "ema": 0.0,
        "optimizer": {
            "name": "sgd",
            "learning_rate": learning_rate,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "clip_norm": 10.0,
        },
        "schedule": {
            "type": "detection_multistep",
            "milestones": milestones,
            "warmup_epochs": 1,
            "warmup_factor": 0.001,
        },
    }


def seqnet(config: ConfigDict) -> None:
    """SeqNet on ResNet-50 with norm-aware embeddings (Li and Miao, AAAI 2021)."""
    config.method = ConfigDict(
        {
            "name": "seqnet",
            "backbone": {"name": "resnet50"},
            "remat": True,
            "embedding_dim": 256,
            "matching": {"queue_size": QUEUES[config.dataset]},
        }
    )


def faster_rcnn(config: ConfigDict) -> None:
    """Faster R-CNN on the fourth stage of ResNet-50 (Ren et al., NeurIPS 2015): people are found, not
    told apart. SeqNet's first stage alone, with its weight of the boxes."""
    config.method = ConfigDict(
        {
            "name": "faster_rcnn",
            "backbone": {"name": "resnet50"},
            "remat": True,
            "proposal_box_weight": 10.0,
        }
    )
    config.evaluate.update(rankings=(), best="detection AP")


def coat(config: ConfigDict, *, softmax: float) -> None:
    """COAT on ResNet-50 (Yu et al., CVPR 2022); `softmax` weighs its identity classifiers."""
    config.method = ConfigDict(
        {
            "name": "coat",
            "backbone": {"name": "resnet50"},
            "remat": True,
            "embedding_dim": 256,
            "matching": {"queue_size": QUEUES[config.dataset]},
            "weights": {"softmax_2nd": softmax, "softmax_3rd": softmax},
        }
    )


def distil(
    config: ConfigDict,
    *,
    logits: float,
    both_ways: bool,
    similarities: float,
    temperature: float = 4.0,
    matching: float = 1.0,
    softmax: float = 0.0,
) -> None:
    """Puts a teacher's head beside the method's last one (Zhang et al., ACM MM 2023).

    The weights of the divergence of the logits (to the student, or `both_ways`) and of the
    similarities at a `temperature`, and of the teacher's own losses. Published students start with a
    teacher trained on crops (`..._teacher.py`): --config.init.teacher=/path/to/it; without one it
    learns with the student from the start.
    """
    config.name += " + HKD"
    config.init.teacher = ""
    config.method = ConfigDict(
        {
            "name": "head_distillation",
            "student": config.method,
            "distillation": {
                "matching_weight": matching,
                "softmax_weight": softmax,
                "logit_weight": logits,
                "logit_bidirectional": both_ways,
                "similarity_weight": similarities,
                "similarity_temperature": temperature,
            },
        }
    )


def shrink(config: ConfigDict, variant: str) -> ConfigDict:
    """Turns an experiment into one of its small variants: a small network from scratch on SkyGround."""
    if not variant:
        return config
    tiny = variant == "tiny"
    config.name += f" ({variant})"
    config.dataset = WORLDS[variant]
    config.dtype = "float32"
    config.init.file = ""
    config.data.num_threads = 2
    config.frames.update(
        batch_size=8 if tiny else 4,
        # Frames of 320 pixels are enlarged, as the published recipes enlarge theirs.
        min_size=96 if tiny else 480,
        max_size=128 if tiny else 640,
        canvases=((128, 128),) if tiny else ((480, 640), (640, 480)),
        max_boxes=12,
    )
    method = config.method.get("student", config.method)
    method.backbone = ConfigDict(TINY if tiny else SMALL)
    _shrink_head(method, tiny)
    # People of the small world are 48 to 400 pixels high here, of the tiny one 14 to 75.
    method.rpn = ConfigDict(
        {
            "sizes": (8, 16, 32) if tiny else (32, 64, 128, 256),
            "aspect_ratios": (2.0,) if tiny else (1.0, 2.0),
            "samples": 32 if tiny else 128,
            **{"train_pre_nms": 64 if tiny else 1000, "train_post_nms": 16 if tiny else 200},
            **{"test_pre_nms": 64 if tiny else 500, "test_post_nms": 16 if tiny else 50},
        }
    )
    method.regions = ConfigDict(
        {"samples": 16 if tiny else 32, "max_detections": 8 if tiny else 30}
    )
    if method.name == "coat":
        method.regions.positive_fraction = 0.25
    phase = config.phase.search
    phase.epochs = 2 if tiny else 20
    phase.steps_per_epoch = 2 if tiny else 0
    phase.optimizer = ConfigDict(
        {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2, "clip_norm": 10.0}
    )
    phase.schedule = ConfigDict(
        {"type": "cosine", "warmup_steps": 2 if tiny else 100, "floor": 1e-6, "warmup_factor": 0.01}
    )
    sizes = (3, 6) if tiny else (25, 50, 100)
    protocols = ("G2A", "A2G", *(f"G2A_{size}" for size in sizes))
    config.evaluate.update(protocols=protocols, every_epochs=1 if tiny else 5)
    config.evaluate.bootstrap_samples = 100 if tiny else 1000
    config.checkpoint.every_steps = 2 if tiny else 500
    config.log.every_steps = 1 if tiny else 20
    return config


def teacher(
    name: str,
    dataset: str,
    *,
    head: str,
    learning_rate: float,
    epochs: int,
    matching: float,
    softmax: float = 0.0,
) -> ConfigDict:
    """A teacher of head distillation, trained on the people cut out of the training frames (Zhang et
    al., ACM MM 2023): the head of a student after a trunk of its own, 200 batches an epoch."""
    config = common.base(name)
    config.dataset = dataset
    config.data.update(interpolation="bilinear", test_interpolation="bilinear")
    config.augment.update(pad=0)
    config.augment.erase.probability = 0.0
    # Who was seen in fewer than four frames is repeated.
    config.sampler.allow_single_image = True
    config.method = ConfigDict(
        {
            "name": "head_teacher",
            "head": head,
            "backbone": {"name": "resnet50"},
            "remat": False,
            "embedding_dim": 256,
            "matching": {"queue_size": QUEUES[dataset]},
            "matching_weight": matching,
            "softmax_weight": softmax,
        }
    )
    config.phase = ConfigDict({"reid": _sgd(learning_rate, epochs, (80, 150), 200)})
    return config


def shrink_teacher(config: ConfigDict, variant: str) -> ConfigDict:
    """As `shrink`, of a teacher: it fits the students of the same variant."""
    config = common.shrink(config, variant, SMALL, TINY)
    if variant:
        config.dataset = WORLDS[variant]
        _shrink_head(config.method, variant == "tiny")
    return config


def _shrink_head(method: ConfigDict, tiny: bool) -> None:
    """What is small in students and teachers alike; nothing is pretrained."""
    method.remat = False
    method.freeze_stem = False
    if "matching" in method:
        method.embedding_dim = 16 if tiny else 128
        method.matching.queue_size = 16 if tiny else 200
    if "coat" in (method.name, method.get("head")):
        method.num_heads = 2
