"""Settings of the small variants of all recipes: `:skyground` trains on the embedded world within
minutes on a laptop, `:tiny` within seconds, for tests."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks
from g2ajax.training.optimizer import OptimizerOptions
from g2ajax.training.schedules import ScheduleOptions


def embedded(config: ConfigDict, variant: str, dataset: str) -> None:
    """Puts a run on a data set of the embedded world, in float32 and from scratch."""
    tiny = variant == "tiny"
    config.update(dataset=dataset, dtype="float32")
    config.init.file = ""
    config.data.num_threads = 2
    config.evaluate.bootstrap_samples = 100 if tiny else 1000
    config.checkpoint.every_steps = 2 if tiny else 200
    config.log.every_steps = 1 if tiny else 20


def adamw(learning_rate: float, weight_decay: float, clip_norm: float = 0.0) -> ConfigDict:
    """The optimizer of the small variants."""
    return blocks.of(
        OptimizerOptions(
            name="adamw",
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
        )
    )


def cosine(warmup_steps: int) -> ConfigDict:
    """The schedule of the small variants: to 1e-6 along a cosine after a warm-up."""
    return blocks.of(ScheduleOptions(type="cosine", warmup_steps=warmup_steps, floor=1e-6))
