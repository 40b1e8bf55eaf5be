"""IRRA (CLIP ViT-B/16): images found by sentences.

    python run.py --config=configs/irra.py:dataset=cuhk_pedes --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=tbagpr` (the default: the aerial images alone, as in the comparison of AEA-FIRM's
authors) or `cuhk_pedes` (pedestrians).
IRRA's published recipe; the weights are OpenAI's CLIP.
Published (the best of 60 epochs on the test split): CUHK-PEDES, T2I rank-1 73.38 / mAP 66.13 / mINP 50.24;
TBAGPR, by AEA-FIRM's authors, T2A rank-1 39.63 / mAP 35.31. Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import captions
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=("tbagpr", "cuhk_pedes"))
    config = captions.irra(given.dataset)
    if given.variant:
        captions.small_irra(config, given.variant)
    return config
