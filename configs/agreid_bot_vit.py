"""AG-ReID, BoT (ViT-B/16).

    python run.py --config=configs/agreid_bot_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe.
Published: BoT VIT of the paper's Table III: A->G mAP 72.38 / rank-1 81.28, G->A 73.35 / 82.64. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.bot_vit("agreid")
    config.phase.reid.optimizer.learning_rate = 1e-3  # the paper: SGD 1e-3 for ViT
    if variant:
        crops.small_bot(config, variant, crops.small_vit())
    return config
