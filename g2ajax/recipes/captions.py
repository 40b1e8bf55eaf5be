"""Recipes of retrieval by a sentence: IRRA, AEA-FIRM, CLIP's contrastive loss.

All start from published weights: --config.init.file=/path/to/ViT-B-16.pt (OpenAI's CLIP). The cost
of a full run is unknown.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, small

IMAGE_SIZE = (384, 128)
CLIP = {"name": "clip_vit_b16", "stride": 16, "remat": False}
# Parts of parameters' names and the factors of their learning rates; the last that occurs counts.
RULES = (("cross", 5.0), ("bias", 2.0), ("classifier", 5.0), ("mlm_head", 5.0))


def _experiment(name: str, dataset: str, method: Mapping[str, Any]) -> ConfigDict:
    """60 epochs of shuffled batches of 64, Adam with eps 1e-3 at 1e-5, masked words.

    The reference keeps the last, smaller batch of an epoch; here it is left out.
    """
    config = blocks.experiment(
        name, task="captions", dataset=dataset, method=method, phases=("reid",)
    )
    config.data.update(
        image_size=IMAGE_SIZE, interpolation="bilinear", test_interpolation="bilinear"
    )
    config.sampler.update(name="shuffled", identities=64, images=1)
    # No augmentation but the flip and the masked words, unless a recipe adds it.
    config.augment.update(flip=0.5, pad=0)
    config.augment.erase.probability = 0.0
    config.text.update(length=77, mask=0.15, clean_copy=False, views="image")
    config.evaluate.update(every_epochs=1, best="rank1")
    reid = config.phase.reid
    reid.epochs = 60
    reid.optimizer.update(
        name="adam",
        learning_rate=1e-5,
        eps=1e-3,
        weight_decay=4e-5,
        weight_decay_bias=0.0,
        rules=RULES,
    )
    reid.schedule.update(type="irra_cosine", warmup_epochs=5, warmup_factor=0.1)
    return config


def irra(dataset: str) -> ConfigDict:
    """IRRA (Jiang and Ye, CVPR 2023): SDM, identities, masked words; with its augmentation."""
    method = {"name": "irra", "backbone": CLIP, "losses": ("sdm", "mlm", "id")}
    config = _experiment("IRRA", dataset, method)
    config.augment.pad = 10
    config.augment.erase.update(
        probability=0.5, area=(0.02, 0.4), aspect=(0.3, 3.3), fill="normalised_mean"
    )
    return config


def contrastive(dataset: str) -> ConfigDict:
    """CLIP's own loss on (image, caption) pairs, the baseline of both papers; no words masked."""
    config = irra(dataset)
    config.name = "Contrastive"
    config.method.losses = ("itc",)
    config.text.mask = 0.0
    return config


def aea_firm(dataset: str) -> ConfigDict:
    """AEA-FIRM (Wang et al., TCSVT 2025): alignment with both views and the queue, attributes
    as sentences; masked words as augmentation."""
    method = {
        "name": "aea_firm",
        "backbone": CLIP,
        "losses": ("aea", "match"),
        "queue_length": 192,
    }
    return _experiment("AEA-FIRM", dataset, method)


def tag_clip(dataset: str) -> ConfigDict:
    """TAG-CLIP (AAAI 2026): IRRA's recipe, for the paper's own is not at hand; CLIP's MLPs are copied
    into the experts of their block."""
    config = irra(dataset)
    config.name = "TAG-CLIP"
    config.method = blocks.method({"name": "tag_clip", "backbone": CLIP})
    config.text.mask = 0.0
    _copy_experts(config, depth=12)
    config.phase.reid.optimizer.rules = (
        *(("moe", 5.0), ("expert_", 5.0), ("image_tokens", 5.0), ("text_tokens", 5.0)),
        *(("bias", 2.0), ("classifier", 5.0)),
    )
    return config


def _copy_experts(config: ConfigDict, depth: int) -> None:
    """Lets every expert start as the MLP of its block, in the last half of `depth` blocks."""
    last_half = range((depth + 1) // 2, depth)
    config.phase.reid.copy = {
        f"expert_{place}_{expert}": f"base_model.visual.transformer.resblocks.{block}.mlp"
        for place, block in enumerate(last_half)
        for expert in range(config.method.experts)
    }


def _small(config: ConfigDict, variant: str) -> None:
    """Small towers from scratch on SkyGround."""
    tiny = variant == "tiny"
    small.embedded(config, variant, f"skyground/captions_{'tiny' if tiny else 'small'}")
    config.data.update(image_size=(64, 32) if tiny else (128, 64), residency="device")
    config.sampler.identities = 8 if tiny else 64
    config.text.length = 24 if tiny else 48
    blocks.set_network(config.method, name="clip_test" if tiny else "clip_mini")
    reid = config.phase.reid
    reid.update(epochs=2 if tiny else 8, steps_per_epoch=3 if tiny else 60)
    reid.optimizer = small.adamw(5e-4, 0.05)
    reid.schedule = small.cosine(2 if tiny else 50)
    config.evaluate.update(every_epochs=1 if tiny else 4, batch_size=16 if tiny else 64, best="mAP")


def small_irra(config: ConfigDict, variant: str) -> None:
    """The small variant of IRRA and of the contrastive loss; sentences are also searched in ground
    images. On one core: the contrastive loss 5 minutes, IRRA 24 on a shared one."""
    _small(config, variant)
    config.augment.pad = 2 if variant == "tiny" else 5
    config.text.views = "both"
    config.method.depth = 1


def small_aea_firm(config: ConfigDict, variant: str) -> None:
    """The small variant of AEA-FIRM. On one core: 9 minutes."""
    _small(config, variant)
    config.method.queue_length = 16 if variant == "tiny" else 192


def small_tag_clip(config: ConfigDict, variant: str) -> None:
    """The small variant of TAG-CLIP. Time unknown."""
    _small(config, variant)
    config.augment.pad = 2 if variant == "tiny" else 5
    config.text.views = "both"
    config.method.update(experts=3, aerial_experts=2, ground_experts=2)
    _copy_experts(config, depth=2 if variant == "tiny" else 4)
