"""AG-ReID, SBS (OSNet x1.0) + Explainable.

    python run.py --config=configs/agreid_explainable_sbs_osnet.py --config.init.file=/path/to/osnet_x1_0_imagenet.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe and AMD's.
Published: SBS OSNet + Explainable of the paper's Table III: A->G mAP 59.73 / rank-1 74.50, G->A 62.02 / 75.05. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, explainable
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.sbs_osnet("agreid")
    for phase in config.phases:
        config.phase[phase].optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    explainable.explain(config)
    if variant:
        explainable.small_explain(config, variant, crops.small_osnet(), stream1=crops.small_sbs)
    return config
