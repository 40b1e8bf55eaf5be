"""G2APS, Faster R-CNN (ResNet-50): a detector of people alone, such as cuts crops for others to compare.

    python run.py --config=configs/faster_rcnn.py --config.init.file=/path/to/resnet50-19c8e357.pth

Optimised as SeqNet is on PRW. Scored by detection AP and recall; nobody is ranked.
Published: nothing on these data.
Variants: `:skyground` (small network, embedded frames), `:tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import person_search
from g2ajax.recipes.arguments import parse


def get_config(arguments: str | None = None) -> ConfigDict:
    variant = parse(arguments).variant
    config = person_search.faster_rcnn(
        "g2aps", batch_size=5, learning_rate=0.003, epochs=18, milestones=(16,)
    )
    if variant:
        person_search.small_detector(config, variant, config.method)
    return config
