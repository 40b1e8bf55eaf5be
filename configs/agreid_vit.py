"""AG-ReID, BoT (ViT-B/16) + Explainable: the paper's best system, in two phases.

    python run.py --config=configs/agreid_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe and AMD's.
Stream 1 pools its patch tokens: a class token has no map that attention could weigh.
Published: BoT VIT + Explainable of the paper's Table III: A->G mAP 72.61 / rank-1 81.47, G->A 73.39 / 82.85. Not reached here: the data are behind a form.
`:predictor` also trains AMD's predictor of attributes, whose report shows predicted beside annotated ones.
Variants: `:skyground` (a small ResNet for the ViT, embedded data, with a phase `attributes` of ours
before `explain`; minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, explainable
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    words = parse(arguments, predictor=False)
    config = crops.bot_vit("agreid")
    config.phase.reid.optimizer.learning_rate = 1e-3  # the paper: SGD 1e-3 for ViT
    explainable.explain(config, predictor=words.predictor)
    if words.variant:
        explainable.small_explain(config, words.variant, explainable.small_vit())
    return config
