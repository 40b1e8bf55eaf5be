"""Market-1501, BoT (ResNet-50).

    python run.py --config=configs/market1501_bot_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

fast-reid's recipe (its traps included: see `g2ajax/training/schedules.py`).
Published: fast-reid's model zoo: rank-1 94.4, mAP 86.1, mINP 59.4. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.bot_resnet50("market1501")
    if variant:
        crops.small_bot(config, variant, crops.small_resnet())
    return config
