import json

import pytest

from g2ajax.training import loop
from tests.runs import tiny_config


@pytest.mark.parametrize(
    "backbone", ["vit_test", pytest.param("resnet_tiny", marks=pytest.mark.slow)]
)
def test_sixty_steps_tell_six_people_apart(one_device, fake_dataset, tmp_path, backbone):
    config = tiny_config(
        backbone=backbone,
        phase__reid__epochs=6,
        phase__reid__steps_per_epoch=10,
        phase__reid__optimizer={"name": "adam", "learning_rate": 3e-3},
        phase__reid__schedule={"type": "constant"},
        method__smoothing=0.0,
        augment__erase={"probability": 0.0},
        evaluate__every_epochs=0,
    )
    results = loop.run(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    train = [e for e in map(json.loads, lines) if e["kind"].startswith("train")]
    first, last = train[:5], train[-10:]

    def mean(entries, name):
        return sum(entry[name] for entry in entries) / len(entries)

    assert mean(last, "identity") < 0.5 * mean(first, "identity")
    assert mean(last, "accuracy") > 0.9
    assert all(result.mAP > 80 for result in results)
