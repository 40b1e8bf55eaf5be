"""SD-ReID, stage 1 (ViT-B/16): a view prompt before a ViT's last block, and a centroid of each view.

    python run.py --config=configs/sd_reid.py:dataset=cargo --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

Arguments: `dataset=cargo` (the default), `agreid`, `agreid_v2`, `lagper` or `g2aps_reid`.
The published recipe of the first stage, base_stage1.yml, for all of them. Cost unknown.

Published, rank-1 / mAP, chosen on the test set, of BOTH stages (CARGO's protocols: `configs/vdt.py`). The
second, a diffusion model, is not here, so they are no target of this run:

    cargo       ALL 65.06 / 57.47   AG-pooled 53.12 / 46.44   A2A 82.50 / 67.70   G2G 81.25 / 74.08
    agreid      A2G 85.16 / 75.40   G2A 85.57 / 77.02
    lagper      A2G 40.15 / 29.72   G2A 34.47 / 32.86   G2AG 22.85 / 18.88
    the others  none is known

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded data), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, view_aware
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(view_aware.PROTOCOLS))
    config = view_aware.sd_reid(given.dataset)
    config.evaluate.protocols = view_aware.PROTOCOLS[given.dataset]
    if given.variant:
        crops.small_bot(config, given.variant, crops.small_vit())
    return config
