"""AG-ReID, SBS (ResNet-50).

    python run.py --config=configs/agreid_sbs_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe.
Published: SBS R50 of the paper's Table III: A->G mAP 59.77 / rank-1 73.54, G->A 62.27 / 73.70. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.sbs_resnet50("agreid")
    for phase in config.phases:
        config.phase[phase].optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    if variant:
        crops.small_sbs(config, variant, crops.small_resnet())
    return config
