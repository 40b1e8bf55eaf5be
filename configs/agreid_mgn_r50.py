"""AG-ReID, MGN (ResNet-50).

    python run.py --config=configs/agreid_mgn_r50.py --config.init.file=/path/to/resnet50-19c8e357.pth

The paper's Table II does not state its recipe; this is fast-reid's.
Published: MGN R50 of the paper's Table II: A->G mAP 63.77 / rank-1 75.93, G->A 69.83 / 79.42. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("MGN (ResNet-50)")
    config.dataset = "agreid"
    common.mgn(config)
    config = common.shrink(config, variant, **common.small_resnet())
    if variant == "tiny":
        # Three stripes: a map of four rows gives only two of ceil(4/3).
        config.data.image_size = (96, 32)
    return config
