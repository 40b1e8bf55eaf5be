"""GSAlign (ViT-B/16): VDT with patch tokens warped before every block, and a mask of channels.

    python run.py --config=configs/gsalign.py:dataset=cargo --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2`, `lagper` or `g2aps_reid`.
The published recipe of the first three, gsalign.yml, with turns (CARGO) or AugMix (the other two); CARGO's
loss and VDT's augmentation for the last two. Cost unknown.

Published, rank-1 / mAP, chosen on the test set. "A<->G" of CARGO is `A2G` here, 94 queries: not VDT's
number (`configs/vdt.py`). agreid_v2, and by its file agreid, with flipped images and query expansion.

    cargo       ALL 65.06 / 57.95   A2G 64.89 / 61.55   A2A 80.00 / 65.55   G2G 83.04 / 73.86
    agreid      A2G 83.75 / 75.01   G2A 84.10 / 77.73
    agreid_v2   A2C 87.86 / 81.38   C2A 88.02 / 81.05   A2W 90.63 / 83.98   W2A 87.31 / 80.90
    the others  none is known

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, view_aware
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(view_aware.BOTH_PROTOCOLS))
    config = view_aware.gsalign(given.dataset)
    config.evaluate.protocols = view_aware.BOTH_PROTOCOLS[given.dataset]
    if given.variant:
        crops.small_bot(config, given.variant, crops.small_vit())
    return config
