"""COAT (ResNet-50), alone or with head knowledge distillation: people searched in whole frames.

    python run.py --config=configs/coat.py:dataset=prw --config.init.file=/path/to/resnet50-19c8e357.pth
    python run.py --config=configs/coat.py:dataset=prw,hkd ... --config.init.teacher=runs/head_teacher_coat_prw/checkpoints/latest

Arguments: `dataset=g2aps` (from the ground, searched in aerial frames; the default), `cuhk_sysu` (street
and film frames) or `prw` (six cameras); `hkd`: with head knowledge distillation, whose teacher
`head_teacher.py` trains.
The recipes are those of the authors' commands (on CUHK-SYSU their published file says batches of 4,
drops at 10 and 14), on G2APS and with HKD those of head distillation's, which chose the epoch reported
on the test set.

Published, mAP / rank-1 (CUHK-SYSU: gallery size 100, with HKD 50; G2APS: 50):

                g2aps           cuhk_sysu       prw
    COAT        40.32 / 50.53   94.2 / 94.7     53.3 / 87.4
    COAT+HKD    41.41 / 51.94   93.86 / 94.76   53.49 / 86.63

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded frames), `tiny` (seconds): `coat.py:hkd,skyground`.
"""

from ml_collections import ConfigDict

from g2ajax.recipes import person_search
from g2ajax.recipes.arguments import parse

# Frames a batch, rate, epochs, epochs at which the rate drops.
ALONE = {
    "g2aps": {"batch_size": 2, "learning_rate": 0.003, "epochs": 19, "milestones": (8, 11)},
    "cuhk_sysu": {"batch_size": 3, "learning_rate": 0.003, "epochs": 14, "milestones": (11,)},
    "prw": {"batch_size": 3, "learning_rate": 0.003, "epochs": 13, "milestones": (10,)},
}
WITH_TEACHER = {
    "g2aps": {"batch_size": 2, "learning_rate": 0.003, "epochs": 19, "milestones": (8, 11)},
    "cuhk_sysu": {"batch_size": 2, "learning_rate": 0.001, "epochs": 25, "milestones": (10, 20)},
    "prw": {"batch_size": 2, "learning_rate": 0.003, "epochs": 21, "milestones": (10, 14)},
}
# Weight of the two identity classifiers.
SOFTMAX = {"g2aps": 3.0, "cuhk_sysu": 0.1, "prw": 0.5}
DISTILLATION = {
    "g2aps": {
        "logit_weight": 3.0,
        "logit_bidirectional": True,
        "similarity_weight": 350.0,
        "matching_weight": 0.5,
        "softmax_weight": 3.0,
    },
    "cuhk_sysu": {
        "logit_weight": 0.7,
        "similarity_weight": 100.0,
        "matching_weight": 0.6,
        "softmax_weight": 0.5,
    },
    "prw": {
        "logit_weight": 0.7,
        "logit_bidirectional": True,
        "similarity_weight": 400.0,
        "matching_weight": 0.5,
        "softmax_weight": 0.5,
    },
}


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(ALONE), hkd=False)
    numbers = (WITH_TEACHER if given.hkd else ALONE)[given.dataset]
    config = person_search.coat(given.dataset, softmax=SOFTMAX[given.dataset], **numbers)
    if given.hkd:
        person_search.distil(config, **DISTILLATION[given.dataset])
    if given.variant:
        method = config.method.student if given.hkd else config.method
        person_search.small_coat(config, given.variant, method)
    return config
