"""LATex (CLIP ViT-B/16, frozen): attributes read off an image become words of its sentence.

    python run.py --config=configs/latex.py:dataset=agreid --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=agreid` (the default), `agreid_v2` or `cargo`; CARGO has no attributes, so its words
are learned without them. The embedding needs the platform of every image, at test, too.
`--config.phase.reid.frozen="()"` trains the towers as well (the paper's "full"). Cost unknown.

Published, rank-1 / mAP (on cargo AG-pooled is the table's "A<->G"):

    agreid     A2G 85.26 / 77.67   G2A 89.40 / 81.15
    agreid_v2  A2C 89.13 / 83.50   C2A 89.01 / 82.85   A2W 91.35 / 86.35   W2A 89.32 / 83.30
    cargo      ALL 76.96 / 67.09   AG-pooled 66.87 / 58.88   A2A 80.00 / 69.06   G2G 90.18 / 79.90

Not reached here: the data are behind a form, and files of the published code are missing.
Variants: `skyground` (small towers from scratch, trained; embedded data), `tiny`
(seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import prompts, view_aware
from g2ajax.recipes.arguments import parse

DATASETS = ("agreid", "agreid_v2", "cargo")


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=DATASETS)
    config = prompts.latex(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS[given.dataset]
    if given.variant:
        prompts.small_latex(config, given.variant)
    return config
