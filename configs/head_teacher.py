"""The teacher of a head of person search: people cut out of the training frames, ResNet-50.

    python run.py --config=configs/head_teacher.py:head=seqnet,dataset=prw --config.init.file=/path/to/resnet50-19c8e357.pth
    python run.py --config=configs/seqnet.py:dataset=prw,hkd ... --config.init.teacher=runs/head_teacher_seqnet_prw/checkpoints/latest

Arguments: `head=seqnet` (the default) or `coat`: the student whose head it teaches; `dataset=g2aps` (the
default), `cuhk_sysu` or `prw`.
The recipe of head distillation's code; its warm-up is finished and identity 0 learns too.
Published: no result of a teacher by itself.
Variants: `skyground` (small network, embedded frames), `tiny` (seconds).
"""

from ml_collections import ConfigDict

from g2ajax.recipes import person_search
from g2ajax.recipes.arguments import parse

NAMES = {"seqnet": "SeqNet", "coat": "COAT"}
LEARNING_RATES = {"seqnet": 0.0036, "coat": 0.003}
# Epochs, and the weights of the matching loss and of the identity classifier.
NUMBERS = {
    "seqnet": {
        "g2aps": {"epochs": 300, "matching": 1.0},
        "cuhk_sysu": {"epochs": 340, "matching": 11.0},
        "prw": {"epochs": 300, "matching": 7.0},
    },
    "coat": {
        "g2aps": {"epochs": 300, "matching": 0.5, "softmax": 3.0},
        "cuhk_sysu": {"epochs": 351, "matching": 11.0, "softmax": 3.0},
        "prw": {"epochs": 321, "matching": 15.0, "softmax": 0.5},
    },
}


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, head=tuple(NUMBERS), dataset=tuple(NUMBERS["seqnet"]))
    config = person_search.teacher(
        NAMES[given.head],
        given.dataset,
        head=given.head,
        learning_rate=LEARNING_RATES[given.head],
        **NUMBERS[given.head][given.dataset],
    )
    if given.variant:
        person_search.small_teacher(config, given.variant)
    return config
