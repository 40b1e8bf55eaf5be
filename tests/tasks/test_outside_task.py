"""A kind of data outside the package trains, resumes and is scored, and nothing else is edited."""

import pytest

from g2ajax.tasks import crops
from g2ajax.training import loop
from tests.runs import changed, tiny_config
from tests.training.test_phase_data import stopped_and_resumed
from tests.training.test_resume import assert_same

NAME = "tests.outside_triples"


def triples_config(**changes) -> dict:
    config = tiny_config(task=NAME, phase__reid__epochs=1, phase__reid__steps_per_epoch=4)
    for block in ("augment", "sampler", "data"):
        del config[block]
    config["method"] = {"name": NAME}
    return changed(config, **changes)


def test_three_images_a_row(one_device, tmp_path):
    results = loop.run(triples_config(), tmp_path / "whole")
    assert [(r.protocol, r.gallery, r.feature) for r in results[:2]] == [
        ("A2G", 5, "mean of three"),
        ("G2A", 5, "mean of three"),
    ]
    stopped_and_resumed(triples_config(), tmp_path / "cut", 2)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    with pytest.raises(ValueError, match=r"a run on triples of crops, and this command is for"):
        loop.reopen(triples_config(), tmp_path / "whole", "best", of=crops.Task)


def test_its_options_are_checked_as_any(tmp_path):
    with pytest.raises(
        ValueError, match=r"config.triples has no option 'batch_sise'; did you mean"
    ):
        loop.run(triples_config(triples__batch_sise=4), tmp_path)
    with pytest.raises(
        ValueError, match=r"'erase'; it is an option of the task|no option 'augment'"
    ):
        loop.run(triples_config(augment={"erase": {}}), tmp_path)
    with pytest.raises(ValueError, match="needs a method that embeds tracklets, and 'mgn'"):
        loop.run(
            triples_config(method={"name": "mgn", "backbone": {"name": "resnet_tiny"}}), tmp_path
        )
