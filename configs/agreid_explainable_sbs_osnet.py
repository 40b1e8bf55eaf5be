"""AG-ReID, SBS (OSNet x1.0) + Explainable.

    python run.py --config=configs/agreid_explainable_sbs_osnet.py --config.init.file=/path/to/osnet_x1_0_imagenet.pth

The paper publishes the optimizer and its rate; everything else is fast-reid's recipe and AMD's.
Published: SBS OSNet + Explainable of the paper's Table III: A->G mAP 59.73 / rank-1 74.50, G->A 62.02 / 75.05. Not reached here: the data are behind a form.
Variants: `:skyground` (small network, embedded data, minutes on a laptop), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str | None = None) -> ConfigDict:
    variant = common.variant_of(variant)
    config = common.base("SBS (OSNet x1.0)")
    config.dataset = "agreid"
    common.sbs_resnet50(config)
    common.osnet(config)
    for phase in config.phases:
        config.phase[phase].optimizer.learning_rate = 1e-4  # the paper: Adam 1e-4 for CNNs
    common.explainable(config)
    return common.shrink(config, variant, **common.small_osnet())
