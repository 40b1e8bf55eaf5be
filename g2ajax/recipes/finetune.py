"""Fine-tunes a model on your own images. The cost depends on both."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from g2ajax.recipes import blocks, small


def finetune(
    name: str, method: Mapping[str, Any], data: Mapping[str, Any], *, model: str, images: str
) -> ConfigDict:
    """20 epochs of AdamW at 1e-4 with a cosine, batches of 8 x 4, from all weights but the classifier.

    `name`, `method`, `data`: those of the model, whose image size, interpolation and network stay;
    `model`: its place; `images`: folder with `crops.csv` (the dataset `crops_from_csv`). An
    explainable model continues with its first stream.
    """
    method = dict(method.get("stream1", method))
    config = blocks.experiment(
        f"{name}, fine-tuned",
        task="crops",
        dataset="crops_from_csv",
        method=method,
        phases=("reid",),
    )
    config.dtype = "float32"
    config.data.update(
        manual_dir=images,
        image_size=tuple(data["image_size"]),
        interpolation=data["interpolation"],
        test_interpolation=data["test_interpolation"],
    )
    config.init.update(file=model, part="all", allow_classifier_mismatch=True)
    # The cameras of other images have other numbers: their side information starts anew.
    config.init.allow_missing = (r"sie_embed$",)
    config.sampler.update(identities=8, images=4, allow_single_image=True)
    # A first line within seconds, on a CPU too.
    config.log.every_steps = 5
    config.evaluate.update(every_epochs=5, batch_size=32)
    reid = config.phase.reid
    reid.epochs = 20
    reid.optimizer = small.adamw(1e-4, 0.01)
    reid.schedule = small.cosine(20)
    return config
