"""Recipes of crop re-identification with CLIP and learned prompts. They start from OpenAI's CLIP:
--config.init.file=/path/to/ViT-B-16.pt. Learning rates are the codebases' own; the cost of a full
run is unknown: none has been run on the real data."""

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, crops, small, view_aware
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


def set_prompt_phase(
    phase: ConfigDict,
    loss: str,
    trainable: tuple[str, ...],
    *,
    sampler: type[SamplerOptions] = SamplerOptions,
) -> None:
    """CLIP-ReID's first stage: 120 epochs of prompts alone in shuffled batches of 64."""
    phase.update(
        epochs=120,
        trainable=trainable,
        loss=loss,
        sampler=blocks.of(sampler("shuffled", identities=64, images=1)),
    )
    phase.optimizer.update(name="adam", learning_rate=3.5e-4, weight_decay=1e-4)
    phase.schedule.update(type="epoch_cosine", warmup_epochs=5, warmup_start=1e-5, floor=1e-6)


def _prompt_phase(
    phase: ConfigDict, loss: str, trainable: tuple[str, ...] = ("prompt_learner",)
) -> None:
    """CLIP-ReID's first stage on the images' features, computed once.

    The code resizes these images bilinearly, as in the test, and keeps the last, smaller batch of an
    epoch; here they are resized as in training, and it is left out.
    """
    set_prompt_phase(phase, loss, trainable)
    phase.update(source="features", feature="image_feature")


def _experiment(name: str, dataset: str, method: str, prompts: tuple[str, ...]) -> ConfigDict:
    """Phases of prompts, which the caller fills, then CLIP-ReID's second stage, `reid`."""
    config = blocks.experiment(
        name,
        task="crops",
        dataset=dataset,
        method={
            "name": method,
            "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
            "preprocessing": {"mean": crops.HALF, "std": crops.HALF},
        },
        phases=(*prompts, "reid"),
    )
    config.data.test_interpolation = "bilinear"
    config.sampler.update(name="random_identity", identities=16, images=4)
    config.augment.erase.update(area=(0.02, 1 / 3), aspect=(0.3, 3.33), fill="noise")
    config.evaluate.update(every_epochs=60, batch_size=256)
    reid = config.phase.reid
    reid.update(epochs=60, frozen=TEXT_PARTS)
    reid.optimizer.update(
        name="adam", learning_rate=5e-6, weight_decay=1e-4, rules=(("bias", 2.0),)
    )
    reid.schedule.update(
        type="epoch_multistep", milestones=(30, 50), warmup_epochs=10, warmup_factor=0.1
    )
    return config


def clip_reid(dataset: str) -> ConfigDict:
    """CLIP-ReID on ViT-B/16 (Li et al., AAAI 2023; vit_clipreid.yml): 120 epochs of the prompts,
    then 60 of the image tower in batches of 16 x 4. Cost unknown."""
    config = _experiment("CLIP-ReID", dataset, "clip_reid", ("prompts",))
    _prompt_phase(config.phase.prompts, "prompt_loss")
    return config


def uni_prompt(dataset: str) -> ConfigDict:
    """Uni-Prompt on ViT-B/16 (Liu et al., ICCV 2025): 60 epochs of the identities' words, 60 of the
    domains', then 60 of the image tower as CLIP-ReID; the code adds 60 more. Cost unknown."""
    phases = ("identities", "domains")
    config = _experiment("Uni-Prompt", dataset, "uni_prompt", phases)
    learner = "prompt_learner"
    own = (f"{learner}.ctx_generic",)
    _prompt_phase(config.phase.identities, "identity_prompt_loss", own)
    domain = ("ctx_platform", "ctx_modality", "visual_enhanced_net")
    domain = tuple(f"{learner}.{part}" for part in domain)
    _prompt_phase(config.phase.domains, "domain_prompt_loss", domain)
    for phase in phases:
        config.phase[phase].epochs = 60
    return config


def latex(dataset: str) -> ConfigDict:
    """LATex on ViT-B/16 (Hu et al., arXiv 2503.23722): both towers frozen, Adam; augmentation,
    warm-up and cosine of VDT's recipe, norms' and biases' decay too. Cost unknown."""
    config = view_aware.vdt(dataset)
    config.name = "LATex"
    wearable, bare = dataset == "agreid_v2", dataset == "cargo"
    config.method = blocks.method(
        {
            "name": "latex",
            "backbone": {"name": "clip_vit_b16", "stride": 16, "remat": False},
            "preprocessing": {"mean": crops.HALF, "std": crops.HALF},
            "attributes": not bare,
            "shared_words": 16 if wearable else 8,
        }
    )
    identities, images = (32, 4) if wearable else (16, 8)
    config.sampler.update(identities=identities, images=images)
    reid = config.phase.reid
    reid.frozen = ("base_model",)
    reid.optimizer.update(name="adam", learning_rate=3.5e-4)
    return config


def small_stages(config: ConfigDict, variant: str) -> None:
    """The small variant of `clip_reid` and `uni_prompt`: small towers from scratch, so the texts know
    nothing that CLIP has learned from sentences; it shows that the stages work. Cost unknown."""
    tiny = variant == "tiny"
    crops.small_bot(config, variant, SMALL_CLIP)
    for name in config.phases[:-1]:
        phase = config.phase[name]
        phase.sampler.identities = 8 if tiny else 64
        phase.update(epochs=1 if tiny else 5, steps_per_epoch=3 if tiny else 0)
        phase.optimizer = small.adamw(1e-3, 1e-4)
        phase.schedule = small.cosine(2)


def small_latex(config: ConfigDict, variant: str) -> None:
    """The small variant of `latex`: small towers from scratch, so both are trained too; SkyGround has
    attributes. Cost unknown."""
    crops.small_bot(config, variant, SMALL_CLIP)
    config.method.attributes = True
    config.phase.reid.frozen = ()
