"""AG-ReID, SBS (ViT-B/16) + Explainable.

    python run.py --config=configs/agreid_explainable_sbs_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe and AMD's.
Stream 1 pools its patch tokens: a class token has no map that attention could weigh.
Published: SBS VIT + Explainable of the paper's Table III: A->G mAP 66.71 / rank-1 77.75, G->A 67.12 / 79.52. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, explainable
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.sbs_vit("agreid")
    config.phase.reid.optimizer.learning_rate = 1e-3  # the paper: SGD 1e-3 for ViT
    explainable.explain(config)
    if variant:
        explainable.small_explain(config, variant, explainable.small_vit())
    return config
