"""VDT (ViT-B/16): people told apart from the air and the ground, the view taken out of the feature.

    python run.py --config=configs/vdt.py:dataset=cargo --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2`, `lagper` or `g2aps_reid`.
The published recipe, VDT.yml, for all of them; patches of stride 16. Cost unknown.

CARGO has two protocols called "A<->G". Scored here is that of VDT's paper, `AG-pooled`: all queries, the
whole gallery, and an entry of the query's identity is left out if it is of the query's PLATFORM; 160
queries have a match. Later work (SeCap's code, GSAlign, ViSA) prints numbers of `A2G`, aerial queries in
a ground gallery, under the same name: 94 queries, much easier, not comparable.
`--config.evaluate.protocols="('A2G','G2A')"` scores that and its mirror.

Published, rank-1 / mAP, chosen on the test set; cargo by VDT's paper, the others as later papers print
them:

    cargo       ALL 64.10 / 55.20   AG-pooled 48.12 / 42.76   A2A 82.50 / 66.83   G2G 82.14 / 71.59
    agreid      A2G 82.91 / 74.44   G2A 86.59 / 78.57
    agreid_v2   A2C 86.46 / 79.13   C2A 86.14 / 78.12   A2W 90.00 / 82.21   W2A 85.26 / 78.52
    lagper      A2G 40.15 / 28.97   G2A 33.55 / 31.91   G2AG 19.50 / 16.45
    g2aps_reid  none is known

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded data, minutes on a laptop), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, view_aware
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(view_aware.PROTOCOLS))
    config = view_aware.vdt(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS[given.dataset]
    if given.variant:
        crops.small_bot(config, given.variant, crops.small_vit())
    return config
