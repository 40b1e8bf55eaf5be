"""AG-ReID's explainable stream over a recipe of `crops`, and its small variants.

The cost of a full run is unknown. The small variant over a ResNet-10 takes about ten minutes on
two cores: 8 epochs of `reid`, 10 of `attributes`, 2 of `explain`, scores and measures.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small
from g2ajax.training.optimizer import OptimizerOptions


def explain(config: ConfigDict, *, predictor: bool = False) -> None:
    """Puts AG-ReID's explainable stream on the method: phase `explain` after the method's own.

    AMD's recipe (batches of 6 x 4, Adam 1e-4, a warm-up of 10 epochs, then constant); AG-ReID
    publishes the optimizer and its rate only. Stream 2 starts from the same weights as stream 1
    (ImageNet, with `init.file`), not from the trained stream 1; so does the `predictor` of attributes
    of AMD's code, if it is wanted.
    """
    stream1 = config.method
    if stream1.head.pool == "Identity":
        # A class token cannot be pooled under attention; the papers do not say what a ViT pools.
        stream1.head.pool = "GlobalAvgPool"
    config.name += " + Explainable"
    config.method = blocks.method({"name": "explainable", "stream1": stream1.to_dict()})
    for name in config.phases:
        phase = config.phase[name]
        whole = phase.trainable == ("*",)
        phase.trainable = ("stream1",) if whole else tuple(f"stream1.{p}" for p in phase.trainable)
        phase.loss = "reid_loss"
    config.phase[config.phases[0]].copy = ConfigDict({"stream2": "stream1.backbone"})
    phase = blocks.add_phase(config, "explain")
    phase.update(
        epochs=60,
        trainable=("stream2", "adh"),
        loss="explain_loss",
        rankings=("reid", "distance", "decomposed"),
    )
    phase.sampler.update(name=config.sampler.name, identities=6, images=4, allow_single_image=False)
    phase.optimizer.update(name="adam", learning_rate=1e-4, weight_decay=5e-4)
    phase.schedule.update(
        type="fastreid_multistep", milestones=(), warmup_steps=0, warmup_factor=0.01
    )
    config.phases = (*config.phases, "explain")
    if predictor:
        config.method.predictor = True
        upper = dict.fromkeys(("stream2", "predictor"), "stream1.backbone")
        config.phase[config.phases[0]].copy = ConfigDict(upper)
        phase.trainable = (*phase.trainable, "predictor", "predictor_head")


def small_vit() -> dict[str, dict[str, Any]]:
    """The backbones that stand for a ViT under the explainable stream, by variant.

    The one of `:skyground` is a ResNet: a ViT trained from scratch on a world of this size learns
    too little for its maps to point at anything.
    """
    resnet = crops.small_resnet()["skyground"] | {"name": "resnet10"}
    return crops.small_vit() | {"skyground": resnet}


def small_explain(
    config: ConfigDict,
    variant: str,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    stream1: Callable[..., None] = crops.small_bot,
) -> None:
    """The small variant of the explainable stream, on many people with few images each.

    `stream1`: the small variant of the recipe below. From scratch, stream 2 first learns the
    appearance of the attributes, in our own phase `attributes`; the predictor, if there is one, starts
    from the trained stream 1.
    """
    stream1(config, variant, networks, method=config.method.stream1)
    tiny = variant == "tiny"
    if tiny:
        config.method.hidden = 8
    else:
        config.dataset = "skyground/crops_many"
        config.phase.reid.epochs = 8
        config.evaluate.every_epochs = 10
    config.phase[config.phases[0]].copy = ConfigDict()
    attributes = blocks.add_phase(config, "attributes")
    attributes.update(epochs=1 if tiny else 10, trainable=("stream2", "adh"), loss="attribute_loss")
    config.phase.explain.epochs = 2
    for phase, identities in (
        (attributes, 2 if tiny else 32),
        (config.phase.explain, 2 if tiny else 24),
    ):
        phase.steps_per_epoch = 3 if tiny else 0
        phase.schedule = small.cosine(2 if tiny else 20)
        phase.sampler.update(
            name=config.sampler.name,
            identities=identities,
            images=4 if tiny else 2,
            allow_single_image=False,
        )
    attributes.optimizer = small.adamw(1e-3, 0.05)
    if config.method.predictor:
        config.phase.explain.copy = ConfigDict({"predictor": "stream1.backbone"})
    config.phase.explain.optimizer = blocks.of(OptimizerOptions(name="adam", learning_rate=1e-4))
    config.phases = (*config.phases[:-1], "attributes", "explain")
