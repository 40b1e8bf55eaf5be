"""Market-1501, BoT (ViT-B/16).

    python run.py --config=configs/market1501_bot_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

fast-reid's recipe (its traps included: see `g2ajax/training/schedules.py`).
Published: TransReID's ViT baseline, a like recipe: mAP 87.1, rank-1 94.6. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.bot_vit("market1501")
    if variant:
        crops.small_bot(config, variant, crops.small_vit())
    return config
