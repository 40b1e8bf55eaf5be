"""AG-ReID.v2, BoT (ViT-B/16) + Explainable, in two phases; its four directions between the cameras.

    python run.py --config=configs/agreidv2_vit.py --config.init.file=/path/to/jx_vit_base_p16_224-80ecf9dd.pth

AG-ReID.v2's own third stream (the elevated view) was never specified publicly and is not here. No
recipe was published for two streams on these data: it is that of AG-ReID, `agreid_vit.py`.
Variants as there; the embedded data know two directions only.
"""

from ml_collections import ConfigDict

from configs import agreid_vit


def get_config(variant: str | None = None) -> ConfigDict:
    config = agreid_vit.get_config(variant)
    if not variant:
        config.dataset = "agreid_v2"
        config.evaluate.protocols = ("A2C", "A2W", "C2A", "W2A")
    return config
