"""CLIP-ReID (CLIP ViT-B/16): learned texts of identities teach the image tower.

    python run.py --config=configs/clip_reid.py:dataset=market1501 --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=market1501` (the default), `msmt17`, `agreid`, `agreid_v2`, `cargo` or `lagper`.
The published recipe, vit_clipreid.yml, for all of them; the weights are OpenAI's CLIP. Cost unknown.
`--config.method.camera_embedding=True --config.method.backbone.stride=12` adds side information of the
camera and overlapping patches ("SIE + OLP").

Published, rank-1 / mAP; market1501 and msmt17 by its paper, the others as later papers print them:

    market1501  95.5 / 89.6   with SIE + OLP 95.4 / 90.5   without texts 93.3 / 86.4
    msmt17      88.7 / 73.4   with SIE + OLP 89.7 / 75.8   without texts 84.4 / 66.1
    agreid      A2G 82.59 / 75.68   G2A 85.68 / 78.51
    agreid_v2   A2C 85.36 / 79.79   C2A 85.64 / 79.08   A2W 89.14 / 84.23   W2A 86.50 / 79.55
    cargo       ALL 68.27 / 64.25   AG-pooled 55.62 / 53.83   A2A 75.00 / 65.42   G2G 84.82 / 80.80
    lagper      A2G 24.40 / 17.60   G2A 21.30 / 20.10   G2AG 12.30 / 10.20

"Without texts" is `--config.method.text_weight=0 --config.phases="('reid',)"`.
Not reached here: the data are behind a form.
Variants: `skyground` (small towers from scratch, so without what CLIP knows of texts; embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import prompts, view_aware
from g2ajax.recipes.arguments import parse

DATASETS = ("market1501", "msmt17", "agreid", "agreid_v2", "cargo", "lagper")


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=DATASETS)
    config = prompts.clip_reid(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS.get(given.dataset, ("STD",))
    if given.variant:
        prompts.small_stages(config, given.variant)
    return config
