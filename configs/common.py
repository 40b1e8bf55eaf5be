"""What experiments share: the fields of a run and its two small variants.

Each file of this folder has `get_config(variant=None)`; after the file's name and a colon stands
the variant: `:skyground` trains a small model on the embedded world within minutes on a laptop,
`:tiny` runs in seconds, for tests. The options and their meaning: `g2ajax/training/options.py`.
"""

from ml_collections import ConfigDict

VARIANTS = ("skyground", "tiny")

FAST_REID_VIT = {
    "optimizer": {},
}


def base() -> ConfigDict:
    """A run with every block that a command line may set; experiments fill in the rest."""
    config = ConfigDict()
    config.name = ""
    config.seed = 0
    config.dataset = ""
    config.dtype = "bfloat16"
    config.data = {
        "dir": "",
        "manual_dir": "",
        "image_size": (256, 128),
        "interpolation": "bicubic",
        "test_interpolation": "bicubic",
        "residency": "host",
        "num_workers": 0,
        "num_threads": 4,
    }
    config.sampler = {
        "name": "naive_identity",
        "identities": 16,
        "images": 4,
        "allow_single_image": False,
    }
    config.init = {"file": "", "family": "", "part": "backbone"}
    config.mesh = {"data": -1, "fsdp": 1}
    config.evaluate = {
        "every_epochs": 20,
        "batch_size": 128,
        "protocols": (),
        "bootstrap_samples": 1000,
        "best": "mAP",
    }
    config.checkpoint = {"every_steps": 1000}
    config.log = {"every_steps": 50, "tensorboard": True}
    config.phases = ("reid",)
    return config


def check_variant(variant: str | None) -> str:
    """The variant's name, "" for the full experiment. Raises ValueError for an unknown one."""
    if variant and variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; known: {', '.join(VARIANTS)}")
    return variant or ""
