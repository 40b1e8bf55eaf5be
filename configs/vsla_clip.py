"""Tracklets, VSLA-CLIP (CLIP ViT-B/16): adapters inside and across frames on a frozen CLIP.

    python run.py --config=configs/vsla_clip.py:dataset=g2a_vreid --config.init.file=/path/to/ViT-B-16.pt

Arguments: `dataset=mars` (the default), or `g2a_vreid` and `ag_vpreid` with platform-bridge prompts in nine
blocks; `ft_clip`:
the baseline without adapters, whose whole image tower is trained (no bridge prompts either);
`temporal=mean` (the default, the paper's), `max`, `attention` or `granular`: the pooling over frames.
`--config.method.memory.weight=1` adds the loss of SAS-VPReID's dual cluster memory.

Published, rank-1 / mAP, from the weights of ViFi-CLIP, not of CLIP:

    mars       91.82 / 88.60
    g2a_vreid  72.55 / 79.70, with bridge prompts mAP 81.29; without adapters mAP 78.11, without texts 72.80

"Without texts" is `--config.method.text_weight=0 --config.phases="('reid',)"` with `ft_clip`.
Not reached here: the data are behind a form.
Variants: `:skyground` (small towers from scratch, so the image tower is trained too; embedded data),
`:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import tracklets
from g2ajax.recipes.arguments import parse

BRIDGED = {"mars": 0, "g2a_vreid": 9, "ag_vpreid": 9}
"""Dataset -> blocks with platform-bridge prompts: MARS has one platform."""


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(BRIDGED), ft_clip=False, temporal=tracklets.TEMPORAL)
    if given.ft_clip:
        config = tracklets.ft_clip(given.dataset, temporal=given.temporal)
    else:
        blocks = BRIDGED[given.dataset]
        config = tracklets.vsla_clip(given.dataset, bridge_blocks=blocks, temporal=given.temporal)
    if given.variant:
        tracklets.small_vsla_clip(config, given.variant)
    return config
