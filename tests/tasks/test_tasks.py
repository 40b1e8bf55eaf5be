"""The kind of data of a configuration, misplaced options, and the report of a scored model."""

import copy

import pytest

from g2ajax import tasks
from g2ajax.tasks import captions, crops, frames, tracklets
from g2ajax.training.options import resolved, run_options
from tests.runs import frames_config, tiny_config


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"method": {"name": "strong_baseline"}}, "crops"),
        ({"method": {"name": "irra"}}, "captions"),
        ({"method": {"name": "aea_firm"}}, "captions"),
        ({"method": {"name": "strong_baseline"}, "text": {"length": 20}}, "captions"),
        ({"method": {"name": "seqnet"}, "frames": {"batch_size": 2}}, "frames"),
        ({"method": {"name": "head_teacher"}, "frames": None}, "crops"),
        ({"method": {"name": "irra"}, "task": "crops"}, "crops"),
    ],
)
def test_a_configuration_without_a_task_implies_it(config, name):
    assert tasks.task_name(config) == name


def test_every_task_has_a_class_and_options_of_its_own():
    kinds = {name: tasks.task_class(name) for name in tasks.KINDS}
    assert kinds == {
        "crops": crops.Task,
        "captions": captions.Task,
        "frames": frames.Task,
        "tracklets": tracklets.Task,
    }
    assert len({kind.noun for kind in kinds.values()}) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crop", "no task 'crop'; did you mean 'crops'"),
        ("my_data.triples", "task 'my_data.triples' is no module that Python finds"),
        ("tests.fake_data", "task 'tests.fake_data': expected a class `Task`"),
    ],
)
def test_an_unknown_task_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        run_options(tiny_config(task=name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__erase": {}},
            "config.data has no option 'erase'; `erase` is an option of `augment`",
        ),
        ({"erase": {}}, "config has no option 'erase'; `erase` is an option of `augment`"),
        ({"epochs": 3}, "config has no option 'epochs'; `epochs` is an option of `phase.NAME`"),
        ({"phase__reid__flip": True}, "phase.reid has no option 'flip'; `flip` is an option of "),
        (
            {"augment__seed": 1},
            "config.augment has no option 'seed'; `seed` is an option of the top",
        ),
        ({"text": {}, "task": "crops"}, "an option of the task 'captions', and this run's task is"),
        ({"evaluate__context": {}}, "it is an option of the task 'frames', and this run's task is"),
        ({"evaluate__best": "detection AP"}, "config.evaluate.best = 'detection AP'"),
        ({"task_options": {}}, "config has no option 'task_options'"),
    ],
)
def test_an_option_at_the_wrong_place_is_told_its_own(changes, message):
    with pytest.raises(ValueError, match=message):
        run_options(tiny_config(**changes))


def test_two_configurations_that_mean_the_same_are_equal():
    plain = tiny_config()
    stated = tiny_config(
        task="crops",
        seed=0,
        data__interpolation="bicubic",
        method__smoothing=0.1,
        phase__reid__source="images",
        phase__reid__optimizer__eps=1e-8,
    )
    assert resolved(plain) == resolved(stated)
    assert resolved(plain) != resolved(tiny_config(method__smoothing=0.2))
    assert resolved(frames_config()) == resolved(frames_config(task="frames"))


@pytest.mark.parametrize(
    ("name", "embed"),
    [
        ("images_only", "g2ajax.tasks.embedder.embed_split"),
        ("tracklets_only", "g2ajax.tasks.tracklets.clip_batches"),
    ],
)
def test_a_report_of_what_was_just_scored_embeds_nothing(name, embed, request, monkeypatch):
    run = request.getfixturevalue(name)
    scored, fresh = copy.copy(run.task), copy.copy(run.task)
    results = scored.score(run.model, checkpoint="last", step=7, rankings=("reid",))
    fresh.scored = (6, None)
    whole = fresh.report(run.model, results, [], "")
    monkeypatch.setattr(embed, None)
    page = scored.report(run.model, results, [], "")
    assert page.scores == whole.scores and page.rankings == whole.rankings
    with pytest.raises(TypeError, match="not callable"):
        fresh.report(run.model, results, [], "")
