"""Runs on tracklets: clips, both residencies, resume, scores, and what is refused."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.data.augment import AugmentOptions, EraseOptions, augment, augment_clips
from g2ajax.data.images import decode
from g2ajax.evaluation.embedded import RerankOptions
from g2ajax.models import load as models
from g2ajax.training import loop, setup
from g2ajax.training.options import run_options
from tests.fake_data import make_dataset
from tests.fake_tracklets import make_tracklets
from tests.runs import changed, opens, tiny_config
from tests.training.test_phase_data import stopped_and_resumed
from tests.training.test_resume import assert_same


def tracklets_config(**changes) -> dict:
    config = tiny_config(
        task="tracklets",
        method__name="temporal_baseline",
        clip={"frames": 3, "mask_padding": True},
        data={"image_size": (32, 16), "num_threads": 1},
        phase__reid__epochs=1,
        phase__reid__steps_per_epoch=4,
        evaluate__batch_size=8,
    )
    return changed(config, **changes)


@pytest.fixture
def tracklets(one_device):
    with opens(make_tracklets()):
        yield


@pytest.fixture
def task(tracklets_only):
    return tracklets_only.task


def with_options(task, **blocks):
    """The same task with other values in some blocks of its options."""
    options = task.info.options
    values = {k: dataclasses.replace(getattr(options, k), **v) for k, v in blocks.items()}
    other = copy.copy(task)
    other.info = dataclasses.replace(task.info, options=dataclasses.replace(options, **values))
    return other


def test_a_run_trains_and_is_scored(tracklets, tmp_path):
    changes = {"phase__reid__steps_per_epoch": 2, "evaluate__reported_queries": 20}
    results = loop.run(tracklets_config(**changes), tmp_path)
    assert [(r.protocol, r.queries, r.gallery, r.feature) for r in results[:2]] == [
        ("A2G", 5, 15, "after neck, mean, 3 frames"),
        ("G2A", 5, 15, "after neck, mean, 3 frames"),
    ]
    assert {name for name, _ in results[0].measures} == {"mAP altitude 0", "mAP altitude 1"}
    page = (tmp_path / "report.html").read_text()
    assert "All 5 queries." in page and page.count('"e":[') == 2 * 5
    assert f"{results[0].mAP:.1f} <small>mAP" in page


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit(tracklets, tmp_path):
    config = tracklets_config(method__memory={"weight": 1.0})
    loop.run(config, tmp_path / "whole")
    stopped_and_resumed(config, tmp_path / "cut", 3)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_both_residencies_give_the_same_batches(task):
    phase, batches = task.info.phases[0], {}
    table = np.stack([task.sampler(phase).batch_indices(step) for step in (5, 6)])
    for residency in ("host", "device"):
        own = with_options(task, data={"residency": residency})
        host, store = own.batches(
            task.model, phase, table, 5, trained=lambda *_: True, say=lambda _: None
        )
        prepare = jax.jit(own.prepare(phase))
        batches[residency] = [prepare(jax.random.key(3), batch, store) for batch in host]
    # The batches of a run that starts at the second of these steps.
    late, _ = task.batches(
        task.model, phase, table[1:], 6, trained=lambda *_: True, say=lambda _: None
    )
    np.testing.assert_array_equal(next(late)["frame_mask"], batches["host"][1]["frame_mask"])
    for one, other in zip(*batches.values(), strict=True):
        assert one["image"].shape == (8, 3, 32, 16, 3)
        for name in ("image", "frame_mask", "label", "camera"):
            np.testing.assert_array_equal(one[name], other[name])


def test_dense_clips_and_mirrors_are_averaged(task):
    split = task.dataset.splits["gallery"]
    one = task.embed(task.model, "gallery")
    own = with_options(task, clip={"test": "dense"}, evaluate={"rerank": RerankOptions(k1=5, k2=2)})
    dense = own.embed(task.model, "gallery")
    # Three frames are the same clip in both; the mean of several clips differs.
    exact, long = split.num_frames == 3, split.num_frames > 3
    np.testing.assert_allclose(one[exact], dense[exact], rtol=1e-4, atol=1e-5)
    assert (np.abs(one - dense)[long] > 1e-4).any(1).all()
    result = own.score(task.model, checkpoint="last", step=0, rankings=("reid", "rerank"))
    assert result[0].feature == "after neck, mean, all frames in clips of 3"
    assert [r.ranking for r in result] == ["reid", "reid", "rerank", "rerank"]
    flipped = with_options(task, evaluate={"flip": True})
    flipped.use(task.model)
    assert (flipped.embed(task.model, "gallery") != one).any()


def test_a_model_embeds_lists_of_images(tracklets_only, task):
    run = tracklets_only
    model = models.of_run(run, run.options.phases[0], "best", 0)
    split = task.dataset.splits["query"]
    tracklets = [[decode(image) for image in split.encoded(row)] for row in range(len(split))]
    found = model.embed_tracklets(tracklets, normalised=False)
    np.testing.assert_allclose(found, task.embed(task.model, "query"), rtol=1e-4, atol=1e-4)
    dense = model.changed(clip={"test": "dense"}).embed_tracklets(tracklets[:2])
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1.0, rtol=1e-5)
    one = model.embed([tracklets[0][0]], normalised=False)
    np.testing.assert_allclose(
        one, model.embed_tracklets([tracklets[0][:1]], normalised=False), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="tracklet 1 has no images; leave it out"):
        model.embed_tracklets([tracklets[0], []])
    with pytest.raises(ValueError, match="no tracklets"):
        model.embed_tracklets([])


def test_all_frames_of_a_clip_are_changed_alike():
    options = AugmentOptions(pad=4, erase=EraseOptions(probability=1.0, attempts=2))
    clip = np.random.default_rng(0).integers(1, 255, (4, 1, 32, 16, 3)).astype(np.uint8)
    clips = jnp.asarray(np.repeat(clip, 3, axis=1))
    key, network = jax.random.key(0), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    run, run_clips = (jax.jit(f, static_argnums=(2, 3, 4)) for f in (augment, augment_clips))
    out = np.asarray(run_clips(key, clips, options, *network))
    assert (out == out[:, :1]).all()
    # A clip gets the draws of an image in its place.
    np.testing.assert_array_equal(out[:, 0], run(key, clips[:, 0], options, *network))


def test_what_does_not_fit_is_refused(tracklets, tmp_path):
    with pytest.raises(ValueError, match="tracklets are not ranked by 'decomposed'; choose from"):
        loop.run(tracklets_config(evaluate__rankings=("decomposed",)), tmp_path)
    with pytest.raises(ValueError, match="needs a method that embeds tracklets"):
        loop.run(tracklets_config(method__name="strong_baseline"), tmp_path / "method")
    with pytest.raises(ValueError, match=r"config.clip has no option 'frame'; did you mean"):
        loop.run(tracklets_config(clip__frame=3), tmp_path / "option")
    with opens(make_dataset()), pytest.raises(ValueError, match="fake is no dataset of tracklets"):
        loop.run(tracklets_config(), tmp_path / "crops")


def damaged(dataset, **rows):
    """The dataset with unreadable frames: split → row → numbers of the frames."""
    splits = dict(dataset.splits)
    for name, broken in rows.items():
        images = list(splits[name].images)
        for row, numbers in broken.items():
            frames = enumerate(images[row])
            images[row] = tuple(b"no image" if i in numbers else data for i, data in frames)
        splits[name] = dataclasses.replace(splits[name], images=tuple(images))
    return dataclasses.replace(dataset, splits=splits)


def test_a_corrupt_frame_is_named(tracklets, tmp_path):
    dataset = make_tracklets()
    train, gallery = dataset.splits["train"], dataset.splits["gallery"]
    everything = {row: range(n) for row, n in enumerate(train.num_frames.tolist())}
    with (
        opens(damaged(dataset, train=everything)),
        pytest.raises(
            ValueError, match=r"frame \d of train/p\d+c\di\d \(train\) cannot be decoded"
        ),
    ):
        loop.run(tracklets_config(), tmp_path)
    name = gallery.image_id[2]
    message = f"gallery: 1 test frames cannot be read, the first: {name} frame 4 .*skip_unreadable"
    with (
        opens(damaged(dataset, gallery={2: [4]})),
        pytest.raises(ValueError, match=message),
    ):
        loop.run(tracklets_config(), tmp_path / "test")


def test_corrupt_frames_are_left_out_if_asked(tracklets, tmp_path, capsys):
    dataset = make_tracklets()
    numbers = dataset.splits["gallery"].num_frames.tolist()
    assert numbers[:4] == [1, 4, 7, 3]
    broken = damaged(dataset, gallery={0: [0], 2: [0, 4], 3: [2]}, train={1: [3]})
    config = tracklets_config(data__skip_unreadable=True)
    with opens(broken):
        task = setup.prepare(run_options(config), trains=False).task
    said = capsys.readouterr().err
    gallery = task.dataset.splits["gallery"]
    alone = dataset.splits["gallery"].image_id[0]
    assert "gallery: 4 test frames cannot be read" in said and "train: 1 frames cannot" in said
    assert f"and with them 1 tracklets without another frame, the first: {alone}" in said
    assert gallery.num_frames.tolist()[:3] == [4, 5, 2] and len(gallery) == len(numbers) - 1
    whole = dataset.splits["gallery"]
    assert gallery.encoded(1) == (*whole.encoded(2)[1:4], *whole.encoded(2)[5:])
    assert gallery.encoded(2) == whole.encoded(3)[:2]
    assert task.train.num_frames[1] == dataset.splits["train"].num_frames[1] - 1
    assert task.dataset.fingerprint != dataset.fingerprint
    # A tracklet that had two good frames is embedded as one that never had another.
    short = {"images": (whole.encoded(3)[:2],), "num_frames": np.array([2], np.int32)}
    columns = {name: getattr(whole, name)[3:4] for name in whole.ROWS if name != "num_frames"}
    never = dataclasses.replace(whole, **{**columns, "position": np.array([0]), **short})
    found = task.embed(task.model, "gallery")
    assert len(found) == len(numbers) - 1
    splits = {**task.dataset.splits, "gallery": never}
    other = copy.copy(task)
    other.dataset = dataclasses.replace(task.dataset, splits=splits)
    np.testing.assert_allclose(found[2], other.embed(task.model, "gallery")[0], atol=1e-5)


def test_a_split_without_a_readable_frame_is_refused(tracklets, tmp_path):
    dataset = make_tracklets()
    everything = dict(enumerate(map(range, dataset.splits["query"].num_frames.tolist())))
    with (
        opens(damaged(dataset, query=everything)),
        pytest.raises(ValueError, match=r"query: \d+ test frames cannot be read.*no other is left"),
    ):
        loop.run(tracklets_config(data__skip_unreadable=True), tmp_path)
