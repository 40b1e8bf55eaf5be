"""SeqNet (ResNet-50), alone or with head knowledge distillation: people searched in whole frames.

    python run.py --config=configs/seqnet.py:dataset=prw --config.init.file=/path/to/resnet50-19c8e357.pth
    python run.py --config=configs/seqnet.py:dataset=prw,hkd ... --config.init.teacher=runs/head_teacher_seqnet_prw/checkpoints/latest

Arguments: `dataset=g2aps` (from the ground, searched in aerial frames; the default), `cuhk_sysu` (street
and film frames) or `prw` (six cameras); `hkd`: with head knowledge distillation, whose teacher
`head_teacher.py` trains.
The recipes are the authors', on G2APS and with HKD those of head distillation's commands, which chose
the epoch reported on the test set.

Published, mAP / rank-1 (CUHK-SYSU: gallery size 100, with HKD by code that measures size 50; G2APS: 50):

                g2aps           cuhk_sysu       prw
    SeqNet      33.96 / 44.52   93.8 / 94.6     46.7 / 83.4
    + cbgm                      94.8 / 95.7     47.6 / 87.6
    SeqNet+HKD  39.40 / 49.12   95.25 / 96.10   51.49 / 85.12

Not reached here: the data are behind a form.
Variants: `skyground` (small network, embedded frames), `tiny` (seconds): `seqnet.py:hkd,skyground`.
"""

from ml_collections import ConfigDict

from g2ajax.recipes import person_search
from g2ajax.recipes.arguments import parse

# Frames a batch, rate, epochs, epochs at which the rate drops.
ALONE = {
    "g2aps": {"batch_size": 2, "learning_rate": 0.001, "epochs": 21, "milestones": (16,)},
    "cuhk_sysu": {"batch_size": 5, "learning_rate": 0.003, "epochs": 20, "milestones": (16,)},
    "prw": {"batch_size": 5, "learning_rate": 0.003, "epochs": 18, "milestones": (16,)},
}
WITH_TEACHER = {
    "g2aps": {"batch_size": 2, "learning_rate": 0.001, "epochs": 21, "milestones": (16,)},
    "cuhk_sysu": {"batch_size": 3, "learning_rate": 0.0018, "epochs": 21, "milestones": (16,)},
    "prw": {"batch_size": 4, "learning_rate": 0.0018, "epochs": 25, "milestones": (16,)},
}
DISTILLATION = {
    "g2aps": {"logit_weight": 1.0, "similarity_weight": 200.0},
    "cuhk_sysu": {"logit_weight": 1.0, "logit_bidirectional": True, "similarity_weight": 50.0},
    "prw": {"logit_weight": 3.0, "similarity_weight": 150.0, "similarity_temperature": 2.0},
}


def get_config(arguments: str | None = None) -> ConfigDict:
    given = parse(arguments, dataset=tuple(ALONE), hkd=False)
    numbers = (WITH_TEACHER if given.hkd else ALONE)[given.dataset]
    config = person_search.seqnet(given.dataset, **numbers)
    if given.hkd:
        person_search.distil(config, **DISTILLATION[given.dataset])
    if given.variant:
        method = config.method.student if given.hkd else config.method
        person_search.small_seqnet(config, given.variant, method)
    return config
