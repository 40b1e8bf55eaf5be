"""AG-ReID, SBS (OSNet x1.0).

    python run.py --config=configs/agreid_sbs_osnet.py --config.init.file=/path/to/osnet_x1_0_imagenet.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe.
Published: SBS OSNet of the paper's Table III: A->G mAP 58.32 / rank-1 72.59, G->A 60.99 / 74.22. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.sbs_osnet("agreid")
    for phase in config.phases:
        config.phase[phase].optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    if variant:
        crops.small_sbs(config, variant, crops.small_osnet())
    return config
