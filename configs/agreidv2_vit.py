"""AG-ReID.v2, BoT (ViT-B/16) + Explainable, in two phases; its four directions between the cameras.

    python run.py --config=configs/agreidv2_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

AG-ReID.v2's own third stream (the elevated view) was never specified publicly and is not here. No
recipe was published for two streams on these data: it is that of AG-ReID, `agreid_vit.py`.
Variants as there; the embedded data know two directions only.
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, explainable
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.bot_vit("agreid_v2")
    config.phase.reid.optimizer.learning_rate = 1e-3  # AG-ReID: SGD 1e-3 for ViT
    config.evaluate.protocols = ("A2C", "A2W", "C2A", "W2A")
    explainable.explain(config)
    if variant:
        explainable.small_explain(config, variant, explainable.small_vit())
    return config
