"""AG-ReID, MGN (ResNet-50).

    python run.py --config=configs/agreid_mgn_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

The paper's Table II does not state its recipe; this is fast-reid's.
Published: MGN R50 of the paper's Table II: A->G mAP 63.77 / rank-1 75.93, G->A 69.83 / 79.42. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.mgn("agreid")
    if variant:
        crops.small_mgn(config, variant)
    return config
