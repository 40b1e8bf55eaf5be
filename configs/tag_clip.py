"""TAG-CLIP (CLIP ViT-B/16): sentences and people from the air and the ground, experts routed by the view.

    python run.py --config=configs/tag_clip.py --config.init.file=/path/to/ViT-B-16.pt

The method is the paper's equations; blocks with experts, numbers of experts and weights are in its appendix,
which was not at hand, and so is its recipe: those here are guesses, and IRRA's. Cost unknown.
Published (TAG-PEDES, rank-1 / mAP): TAG-CLIP 62.64 / 49.27, IRRA 59.61 / 46.53, AEA-FIRM 51.83 / 38.60. Not
reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, embedded data), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import captions
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = captions.tag_clip("tag_pedes")
    if variant:
        captions.small_tag_clip(config, variant)
    return config
