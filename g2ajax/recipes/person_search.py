"""Recipes of person search in whole frames: SeqNet, COAT, Faster R-CNN, head knowledge distillation.

All start from ImageNet weights: --config.init.file=/path/to/resnet50-19c8e357.pth (torchvision's).
The cost of a full run is unknown.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small

RESNET50 = {"name": "resnet50"}
QUEUES = {"cuhk_sysu": 5000, "prw": 500, "g2aps": 2000}
# k1 and k2 of the re-ranking by context.
CONTEXTS = {"cuhk_sysu": (10, 3), "prw": (30, 4), "g2aps": (10, 3)}
# The networks and the data of the small variants.
NETWORKS = {"skyground": {"name": "resnet18", "width": 16}, "tiny": {"name": "resnet_tiny"}}
WORLDS = {"skyground": "skyground/frames_small", "tiny": "skyground/frames_tiny"}


def _experiment(
    name: str,
    dataset: str,
    method: Mapping[str, Any],
    *,
    batch_size: int,
    learning_rate: float,
    epochs: int,
    milestones: tuple[int, ...],
) -> ConfigDict:
    """A run on frames by SGD: a warm-up over the first epoch, gradient norms clipped to 10, decay
    on every parameter."""
    method = {"backbone": RESNET50, "remat": True, **method}
    config = blocks.experiment(
        name, task="frames", dataset=dataset, method=method, phases=("search",)
    )
    config.frames.update(
        batch_size=batch_size,
        min_size=900,
        max_size=1500,
        canvases=((928, 1504), (1504, 928)),
        max_boxes=64,
        flip=0.5,
        skip_unreadable=False,
    )
    config.evaluate.update(batch_size=8, every_epochs=1, rankings=("true_boxes",))
    k1, k2 = CONTEXTS[dataset]
    config.evaluate.context.update(k1=k1, k2=k2)
    _sgd(config.phase.search, learning_rate, epochs, milestones)
    return config


def _sgd(phase: ConfigDict, learning_rate: float, epochs: int, milestones: tuple[int, ...]) -> None:
    """SGD with the settings of detectors and teachers."""
    phase.epochs = epochs
    phase.optimizer.update(
        name="sgd", learning_rate=learning_rate, momentum=0.9, weight_decay=5e-4, clip_norm=10.0
    )
    phase.schedule.update(
        type="detection_multistep", milestones=milestones, warmup_epochs=1, warmup_factor=0.001
    )


def seqnet(dataset: str, **training: Any) -> ConfigDict:
    """SeqNet on ResNet-50 with norm-aware embeddings (Li and Miao, AAAI 2021).

    `training`: `batch_size`, `learning_rate`, `epochs`, and the `milestones` at which the rate drops.
    """
    method = {
        "name": "seqnet",
        "embedding_dim": 256,
        "matching": {"queue_size": QUEUES[dataset]},
    }
    return _experiment("SeqNet", dataset, method, **training)


def coat(dataset: str, *, softmax: float, **training: Any) -> ConfigDict:
    """COAT on ResNet-50 (Yu et al., CVPR 2022); `softmax` weighs its identity classifiers.

    `training`: as for `seqnet`.
    """
    method = {
        "name": "coat",
        "embedding_dim": 256,
        "matching": {"queue_size": QUEUES[dataset]},
        "weights": {"softmax_2nd": softmax, "softmax_3rd": softmax},
    }
    return _experiment("COAT", dataset, method, **training)


def faster_rcnn(dataset: str, **training: Any) -> ConfigDict:
    """Faster R-CNN on the fourth stage of ResNet-50 (Ren et al., NeurIPS 2015): people are
    detected, not identified. SeqNet's first stage alone, with its weight of the box loss.

    `training`: as for `seqnet`.
    """
    method = {"name": "faster_rcnn", "proposal_box_weight": 10.0}
    config = _experiment("Faster R-CNN", dataset, method, **training)
    config.evaluate.update(rankings=(), best="detection AP")
    return config


def distil(config: ConfigDict, **weights: Any) -> None:
    """Puts a teacher's head beside the method's last one (Zhang et al., ACM MM 2023).

    `weights`: options of `head_distillation.Distillation`. Published students start with a teacher
    trained on crops (`configs/head_teacher.py`): --config.init.teacher=/path/to/it; without one it
    learns with the student from the start.
    """
    config.name += " + HKD"
    student = config.method.to_dict()
    config.method = blocks.method(
        {"name": "head_distillation", "student": student, "distillation": weights}
    )


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
    al., ACM MM 2023): the head of a student after a trunk of its own, 200 batches an epoch.

    `matching`, `softmax`: weights of its two losses.
    """
    method = {
        "name": "head_teacher",
        "head": head,
        "backbone": RESNET50,
        "remat": False,
        "embedding_dim": 256,
        "matching": {"queue_size": QUEUES[dataset]},
        "matching_weight": matching,
        "softmax_weight": softmax,
    }
    config = blocks.experiment(
        f"{name}'s teacher",
        task="crops",
        dataset=dataset,
        method=method,
        phases=("reid",),
    )
    config.evaluate.every_epochs = 20
    config.data.update(interpolation="bilinear", test_interpolation="bilinear")
    config.augment.pad = 0
    config.augment.erase.probability = 0.0
    # People seen in fewer than four frames are repeated.
    config.sampler.allow_single_image = True
    _sgd(config.phase.reid, learning_rate, epochs, milestones=(80, 150))
    config.phase.reid.steps_per_epoch = 200
    return config


def small_detector(config: ConfigDict, variant: str, method: ConfigDict) -> None:
    """The small variant of Faster R-CNN: a small network from scratch on SkyGround. Cost unknown.

    `method`: the block of the detector: the run's method, or the student in it.
    """
    tiny = variant == "tiny"
    small.embedded(config, variant, WORLDS[variant])
    config.frames.update(
        batch_size=8 if tiny else 4,
        # Frames of 320 pixels are enlarged, as in the published recipes.
        min_size=96 if tiny else 480,
        max_size=128 if tiny else 640,
        canvases=((128, 128),) if tiny else ((480, 640), (640, 480)),
        max_boxes=12,
    )
    blocks.set_network(method, **NETWORKS[variant])
    # Nothing is pretrained.
    method.update(remat=False, freeze_stem=False)
    # People of the small world are 48 to 400 pixels high here, of the tiny one 14 to 75.
    method.rpn.update(
        sizes=(8, 16, 32) if tiny else (32, 64, 128, 256),
        aspect_ratios=(2.0,) if tiny else (1.0, 2.0),
        samples=32 if tiny else 128,
        train_pre_nms=64 if tiny else 1000,
        train_post_nms=16 if tiny else 200,
        test_pre_nms=64 if tiny else 500,
        test_post_nms=16 if tiny else 50,
    )
    method.regions.update(samples=16 if tiny else 32, max_detections=8 if tiny else 30)
    search = config.phase.search
    search.update(epochs=2 if tiny else 20, steps_per_epoch=2 if tiny else 0)
    search.optimizer = small.adamw(1e-3, 1e-2, clip_norm=10.0)
    search.schedule = small.cosine(2 if tiny else 100)
    sizes = (3, 6) if tiny else (25, 50, 100)
    protocols = ("G2A", "A2G", *(f"G2A_{size}" for size in sizes))
    config.evaluate.update(protocols=protocols, every_epochs=1 if tiny else 5)
    config.checkpoint.every_steps = 2 if tiny else 500


def small_seqnet(config: ConfigDict, variant: str, method: ConfigDict) -> None:
    """The small variant of SeqNet. With HKD, on one core of a busy machine: 48 minutes."""
    small_detector(config, variant, method)
    _small_head(method, variant)


def small_coat(config: ConfigDict, variant: str, method: ConfigDict) -> None:
    """The small variant of COAT. Cost unknown."""
    small_detector(config, variant, method)
    _small_head(method, variant)
    method.num_heads = 2


def small_teacher(config: ConfigDict, variant: str) -> None:
    """The small variant of a teacher, which fits the students of the same variant. Cost unknown."""
    crops.small_bot(config, variant, NETWORKS)
    config.dataset = WORLDS[variant]
    config.method.update(remat=False, freeze_stem=False)
    _small_head(config.method, variant)
    if config.method.head == "coat":
        config.method.num_heads = 2


def _small_head(method: ConfigDict, variant: str) -> None:
    tiny = variant == "tiny"
    method.embedding_dim = 16 if tiny else 128
    method.matching.queue_size = 16 if tiny else 200
