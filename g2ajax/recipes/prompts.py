"""Recipes of crop re-identification with CLIP and learned prompts. They start from OpenAI's CLIP:
--config.init.file=/path/to/ViT-B-16.pt. Learning rates are the codebases' own; the cost of a full
run is unknown: none has been run on the real data."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small
from g2ajax.tasks.crop_options import SamplerOptions

# What CLIP-ReID's second stage leaves as it is.
TEXT_PARTS = (
    "base_model.transformer",
    "base_model.token_embedding",
    "base_model.positional_embedding",
    "base_model.ln_final",
    "base_model.text_projection",
    "prompt_learner",
)
SMALL_CLIP = {"skyground": {"name": "clip_mini"}, "tiny": {"name": "clip_test"}}


def prompt_phase(phase: ConfigDict, epochs: int = 120) -> None:
    """CLIP-ReID's first stage: prompts on the images' features, computed once; batches of 64.

    The code resizes these images bilinearly, as in the test, and keeps the last, smaller batch of an
    epoch; here they are resized as in training, and it is left out.
    """
    phase.update(
        epochs=epochs,
        source="features",
        feature="image_feature",
        trainable=("prompt_learner",),
        loss="prompt_loss",
        sampler=blocks.of(SamplerOptions("shuffled", identities=64, images=1)),
    )
    phase.optimizer.update(name="adam", learning_rate=3.5e-4, weight_decay=1e-4)
    phase.schedule.update(type="epoch_cosine", warmup_epochs=5, warmup_start=1e-5, floor=1e-6)


def clip_reid(dataset: str) -> ConfigDict:
    """CLIP-ReID on ViT-B/16 (Li et al., AAAI 2023; vit_clipreid.yml): 120 epochs of the prompts,
    then 60 of the image tower in batches of 16 x 4. Cost unknown."""
    method = {
        "name": "clip_reid",
        "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
        "preprocessing": {"mean": crops.HALF, "std": crops.HALF},
    }
    config = blocks.experiment(
        "CLIP-ReID (ViT-B/16)",
        task="crops",
        dataset=dataset,
        method=method,
        phases=("prompts", "reid"),
    )
    config.data.test_interpolation = "bilinear"
    config.sampler.update(name="random_identity", identities=16, images=4)
    config.augment.erase.update(area=(0.02, 1 / 3), aspect=(0.3, 3.33), fill="noise")
    config.evaluate.update(every_epochs=60, batch_size=256)
    prompt_phase(config.phase.prompts)
    reid = config.phase.reid
    reid.update(epochs=60, frozen=TEXT_PARTS)
    reid.optimizer.update(
        name="adam", learning_rate=5e-6, weight_decay=1e-4, rules=(("bias", 2.0),)
    )
    reid.schedule.update(
        type="epoch_multistep", milestones=(30, 50), warmup_epochs=10, warmup_factor=0.1
    )
    return config


def small_clip_reid(config: ConfigDict, variant: str) -> None:
    """The small variant of `clip_reid`: small towers from scratch, so its texts know nothing that
    CLIP has learned from sentences; it shows that the two stages work. Cost unknown."""
    tiny = variant == "tiny"
    crops.small_bot(config, variant, SMALL_CLIP)
    prompts = config.phase.prompts
    prompts.sampler.identities = 8 if tiny else 64
    prompts.update(epochs=1 if tiny else 5, steps_per_epoch=3 if tiny else 0)
    prompts.optimizer = small.adamw(1e-3, 1e-4)
    prompts.schedule = small.cosine(2)
