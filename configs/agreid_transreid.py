"""AG-ReID, TransReID (ViT-B/16): camera embedding, jigsaw branch, overlapping patches.

    python run.py --config=configs/agreid_transreid.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

TransReID's recipe; how the published numbers were trained is not known.
Published: a collection of results, not the paper: A->G mAP 73.23 / rank-1 81.33, G->A 75.71 / 84.10. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = crops.transreid("agreid")
    if variant:
        crops.small_bot(config, variant, crops.small_vit(stride=12))
    return config
