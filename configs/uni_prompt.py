"""Uni-Prompt (CLIP ViT-B/16): CLIP-ReID with words of modality and platform.

    python run.py --config=configs/uni_prompt.py:dataset=cargo --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2` or `lagper`.
Built from its paper's description; see `g2ajax/methods/uni_prompt.py` for what its code leaves out.
`--config.method.infrared="(6, 7)"` names infrared cameras. Cost unknown.

Published: on MP-ReID alone, which has no builder here (mean rank-1 64.73, mAP 58.45).
Variants: `skyground` (small towers from scratch, so without what CLIP knows of texts; embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import prompts, view_aware
from g2ajax.recipes.arguments import parse

DATASETS = ("cargo", "agreid", "agreid_v2", "lagper")


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=DATASETS)
    config = prompts.uni_prompt(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS[given.dataset]
    if given.variant:
        prompts.small_stages(config, given.variant)
    return config
