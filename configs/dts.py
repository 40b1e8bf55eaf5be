"""DTS (ViT-B/16): VDT whose last blocks see two patches, which a selector learns to choose.

    python run.py --config=configs/dts.py:dataset=cargo --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2`, `lagper` or `g2aps_reid`.
VDT's recipe for all of them; no file of its own is known. The released code never calls the selector
(`methods/dts.py`), so which number of tokens and which block gave the published numbers is unknown.
Cost unknown.

Published, rank-1 / mAP, chosen on the test set (CARGO's protocols: `configs/vdt.py`):

    cargo       ALL 64.42 / 55.73   AG-pooled 50.63 / 43.39   A2A 80.00 / 63.31   G2G 78.57 / 72.40
    agreid      A2G 83.48 / 74.51   G2A 84.10 / 76.05
    the others  none is known

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, view_aware
from g2ajax.recipes.arguments import parse

SMALL = {
    "skyground": {},
    # The small network has two blocks, and an image eight patches.
    "tiny": {"block": 0, "samples": 16},
}


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(view_aware.PROTOCOLS))
    config = view_aware.dts(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS[given.dataset]
    if given.variant:
        crops.small_bot(config, given.variant, crops.small_vit())
        config.method.update(SMALL[given.variant])
    return config
