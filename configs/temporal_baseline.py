"""Tracklets, the strong baseline (ResNet-50) with its features pooled over 8 frames.

    python run.py --config=configs/temporal_baseline.py:dataset=mars --config.init.file=/path/to/resnet50-19c8e357.pth

Arguments: `dataset=mars` (the default), `g2a_vreid` or `ag_vpreid`; `temporal=mean` (the default), `max`,
`attention` or `granular` (attention in windows of a quarter, of a half and of the whole clip).
`--config.method.memory.weight=1` adds the loss of SAS-VPReID's dual cluster memory.
The recipe is ours (BoT's on clips): nothing is published for it.
Variants: `:skyground` (small network, embedded data), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import crops, tracklets
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(
        arguments, dataset=("mars", "g2a_vreid", "ag_vpreid"), temporal=tracklets.TEMPORAL
    )
    config = tracklets.temporal_baseline(given.dataset, given.temporal)
    if given.variant:
        tracklets.small_tracklets(config, given.variant, crops.small_resnet()[given.variant])
    return config
