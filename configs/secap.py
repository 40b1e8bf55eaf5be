"""SeCap (ViT-B/16): VDT with prompts that gather a local feature from an image's patches.

    python run.py --config=configs/secap.py:dataset=cargo --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2`, `lagper` or `g2aps_reid`.
The published recipe, secap.yml of each dataset. Cost unknown.

Published, rank-1 / mAP, chosen on the test set. CARGO's two protocols called "A<->G" are told apart in
`configs/vdt.py`; those of SeCap's code are `A2G` and `G2A`, so it is not certain that the number
printed for AG-pooled is of it. Later papers print 68.59 / 60.19 for ALL and 69.43 / 58.94 for "A<->G".

    cargo       ALL 64.72 / 56.89   AG-pooled 48.75 / 46.37   A2A 82.50 / 66.90   G2G 82.54 / 75.24
    agreid      A2G 84.03 / 76.16   G2A 87.01 / 78.34
    agreid_v2   A2C 88.12 / 80.84   C2A 88.24 / 79.99   A2W 91.44 / 84.01   W2A 87.56 / 80.15
    lagper      A2G 41.79 / 30.37   G2A 35.26 / 33.42   G2AG 24.39 / 19.24
    g2aps_reid  none is known

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, view_aware
from g2ajax.recipes.arguments import parse

SMALL = {"skyground": {"prompts": 16}, "tiny": {"prompts": 4}}


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(view_aware.BOTH_PROTOCOLS))
    config = view_aware.secap(given.dataset)
    config.evaluate.protocols = view_aware.BOTH_PROTOCOLS[given.dataset]
    if given.variant:
        crops.small_bot(config, given.variant, crops.small_vit())
        config.method.update(SMALL[given.variant])
    return config
