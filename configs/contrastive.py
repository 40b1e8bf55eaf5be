"""CLIP's contrastive loss alone (CLIP ViT-B/16): the baseline of IRRA and AEA-FIRM.

    python run.py --config=configs/contrastive.py:dataset=tbagpr --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=tbagpr` (the default: aerial images) or `cuhk_pedes`.
IRRA's recipe with CLIP's loss in the place of its own, no words masked.
Published: nothing on TBAGPR; on CUHK-PEDES IRRA's authors report T2I rank-1 68.19 / mAP 61.12 for it.
Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import captions
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=("tbagpr", "cuhk_pedes"))
    config = captions.contrastive(given.dataset)
    if given.variant:
        captions.small_irra(config, given.variant)
    return config
