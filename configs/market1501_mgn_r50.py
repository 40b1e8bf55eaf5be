"""Market-1501, MGN (ResNet-50).

    python run.py --config=configs/market1501_mgn_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

fast-reid's recipe (its traps included: see `g2ajax/training/schedules.py`).
Published: MGN R50 of AG-ReID's Table II: mAP 86.90, rank-1 95.70; with IBN-a, fast-reid's model zoo: rank-1 95.8, mAP 89.8, mINP 67.7. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.mgn("market1501")
    if variant:
        crops.small_mgn(config, variant)
    return config
