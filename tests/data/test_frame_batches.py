"""Frames to batches: sizes, canvases, boxes, mirrored frames, bad frames."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from g2ajax.data import frame_batches
from g2ajax.data.frame_source import FrameSplit, open_frames
from g2ajax.data.images import decode
from g2ajax.detection import transform

CANVASES = ((64, 96), (96, 64))


def resized(height, width):
    return transform.resized_size(height, width, 60, 90)


def fitted_of(split, **changes):
    options = {
        "resized": resized,
        "choose": transform.bucket_of,
        "canvases": CANVASES,
        "max_boxes": 6,
    }
    return frame_batches.fit_frames(split, **{**options, **changes})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_frames("skyground/frames_tiny", data_dir=str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def fitted(dataset):
    return fitted_of(dataset.splits["train"])


@dataclasses.dataclass(frozen=True)
class Broken(FrameSplit):
    """A split whose second image is damaged and whose third is of another size."""

    def read(self, row):
        if row == 1:
            return super().read(row)[:200]
        if row == 2:
            return super().read(int(np.flatnonzero(self.height != self.height[2])[0]))
        return super().read(row)


@pytest.fixture(scope="module")
def broken(dataset):
    split = dataset.splits["train"]
    columns = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
    return fitted_of(Broken(**columns))


def test_sizes_and_canvases(fitted):
    split = fitted.split
    upright = split.camera == 3
    assert (fitted.new_size[upright] == [80, 60]).all()
    assert (fitted.new_size[~upright] == [60, 80]).all()
    assert (fitted.canvas == upright).all()
    row = int(np.flatnonzero(upright)[0])
    at = split.people(row)
    np.testing.assert_allclose(fitted.boxes(row), split.boxes[at] * (80 / 192), rtol=1e-6)


def test_crowded_and_too_large_frames_are_named(dataset):
    train = dataset.splits["train"]
    crowded = train.image_id[int(np.argmax(np.diff(train.offsets)))]
    with pytest.raises(ValueError, match=rf"{crowded} \(train\) has 4 people, more than max_boxes"):
        fitted_of(train, max_boxes=3)
    with pytest.raises(
        ValueError, match=r"A1_00000.jpg \(train\): an image of 60 x 80 .* fits none"
    ):
        fitted_of(train, canvases=((32, 32),))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_resize_interpolates_each_axis(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (13, 17, 3), np.uint8)
    expected = image
    for axis, (old, new) in enumerate(((13, height), (17, width))):
        at = (np.arange(new) + 0.5) * old / new - 0.5
        expected = np.apply_along_axis(
            lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, expected
        )
    resized = frame_batches.resize_bilinear(image, (height, width))
    np.testing.assert_allclose(resized / 255, expected / 255, atol=1e-5)


def test_bilinear_without_antialiasing_by_hand():
    row = np.array([0.0, 1.0, 2.0, 3.0], np.float32)[None, :, None].repeat(3, axis=2)
    halved = frame_batches.resize_bilinear(row, (1, 2))
    np.testing.assert_allclose(halved[0, :, 0], [0.5, 2.5])
    grown = frame_batches.resize_bilinear(row[:, :2], (1, 4))
    np.testing.assert_allclose(grown[0, :, 0], [0.0, 0.25, 0.75, 1.0])
    # A shrink by 4 reads two of four pixels: nothing is averaged.
    spike = np.array([9.0, 0, 0, 9], np.float32)[None, :, None].repeat(3, axis=2)
    assert not frame_batches.resize_bilinear(spike, (1, 1)).any()


def test_load_frame(fitted):
    row = int(np.flatnonzero(fitted.canvas == 1)[0])
    plain, mirrored = (
        frame_batches.load_frame(fitted, row),
        frame_batches.load_frame(fitted, row, flip=True),
    )
    assert plain.shape == (96, 64, 3)
    assert plain.dtype == np.uint8
    assert (plain[80:] == 0).all() and (plain[:, 60:] == 0).all()
    assert (mirrored[:80, :60] == plain[:80, :60][:, ::-1]).all()
    image = decode(fitted.split.read(row))
    exact = frame_batches.resize_bilinear(image, (80, 60))
    assert np.abs(exact - plain[:80, :60]).max() <= 0.5


def test_mirrored_boxes_frame_the_same_pixels(fitted):
    rows = np.array([0, 5], np.int32)
    plain = frame_batches.frame_columns(fitted, rows, np.array([False, False]))
    mirrored = frame_batches.frame_columns(fitted, rows, np.array([False, True]))
    assert np.array_equal(plain["boxes"][0], mirrored["boxes"][0])
    count = int(plain["box_mask"][1].sum())
    expected = np.array([80, 0, 80, 0]) + plain["boxes"][1, :count][:, [2, 1, 0, 3]] * [
        -1,
        1,
        -1,
        1,
    ]
    np.testing.assert_allclose(mirrored["boxes"][1, :count], expected, atol=1e-5)
    assert (mirrored["boxes"][1, count:] == 0).all()


def test_columns(fitted):
    split = fitted.split
    columns = frame_batches.frame_columns(fitted, np.array([3, -1], np.int32), np.zeros(2, bool))
    at = split.people(3)
    count = at.stop - at.start
    assert columns["size"].tolist() == [[60, 80], [0, 0]]
    assert columns["box_mask"].tolist() == [[i < count for i in range(6)], [False] * 6]
    assert columns["label"][0, :count].tolist() == split.label[at].tolist()
    assert (columns["label"][0, count:] == -1).all()
    assert (columns["identity"][1] == -1).all()
    assert columns["mask"].tolist() == [True, False]
    assert columns["index"].tolist() == [3, -1]
    assert {name: value.dtype.name for name, value in columns.items()} == {
        **dict.fromkeys(("size", "label", "identity", "camera", "platform", "index"), "int32"),
        **dict.fromkeys(("box_mask", "mask"), "bool"),
        "boxes": "float32",
    }


def test_sampler_has_one_canvas_a_batch_and_repeats_itself(fitted):
    sampler = frame_batches.frame_sampler(fitted, 4, seed=(7,))
    table = sampler.batches_of_pass(0)
    # 18 lying frames make four batches, 6 upright ones one
    assert table.shape == (5, 4)
    assert len(np.unique(table)) == 20
    assert all(len(np.unique(fitted.canvas[rows])) == 1 for rows in table)
    again = frame_batches.frame_sampler(fitted, 4, seed=(7,))
    assert np.array_equal(again.batch_indices(6), sampler.batch_indices(6))
    assert not np.array_equal(sampler.batches_of_pass(1), table)


def test_sampler_repeats_the_frames_of_a_small_canvas(fitted):
    table = frame_batches.frame_sampler(fitted, 8).batches_of_pass(0)
    upright = [rows for rows in table if fitted.canvas[rows[0]] == 1]
    assert len(upright) == 1 and len(np.unique(upright[0])) == 6
    with pytest.raises(ValueError, match=r"a batch of 0 from 24 frames is empty"):
        frame_batches.frame_sampler(fitted, 0)


def test_eval_table_has_every_frame_once(fitted):
    table = frame_batches.eval_frame_table(fitted, 4)
    assert sorted(table[table >= 0].tolist()) == list(range(24))
    assert table.shape == (7, 4)
    for rows in table:
        assert len(np.unique(fitted.canvas[rows[rows >= 0]])) == 1


def test_flips_depend_on_the_step_alone():
    every = frame_batches.flips((3,), 0, (6, 8), 0.5)
    assert np.array_equal(frame_batches.flips((3,), 4, (2, 8), 0.5), every[4:])
    assert 10 < every.sum() < 38
    assert not frame_batches.flips((3,), 0, (2, 8), 0.0).any()


@pytest.mark.parametrize("threads", [0, 3])
def test_device_batches(fitted, threads):
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    table = frame_batches.eval_frame_table(fitted, 4)[3:6]
    flip = frame_batches.flips((1,), 3, table.shape, 0.5)
    batches = list(
        frame_batches.frame_batches(
            fitted, table, sharding=sharding, flip=flip, num_threads=threads
        )
    )
    assert len(batches) == 3
    for rows, mirrored, batch in zip(table, flip, batches, strict=True):
        canvas = CANVASES[fitted.canvas[rows.max()]]
        assert batch["image"].shape == (4, *canvas, 3)
        assert batch["image"].sharding == sharding
        assert batch["boxes"].shape == (4, 6, 4)
        assert batch["mask"].tolist() == (rows >= 0).tolist()
        for i, row in enumerate(rows):
            expected = (
                np.zeros((*canvas, 3), np.uint8)
                if row < 0
                else frame_batches.load_frame(fitted, int(row), flip=bool(mirrored[i]))
            )
            assert np.array_equal(batch["image"][i], expected)


def test_a_share_that_is_all_padding_keeps_the_canvas(fitted):
    table = np.full((1, 2), -1, np.int32)
    batch = next(frame_batches.host_frame_batches(fitted, table, canvas=np.array([1], np.int32)))
    assert batch["image"].shape == (2, 96, 64, 3)
    assert not batch["mask"].any()


def test_bad_frames_are_named(broken):
    with pytest.raises(ValueError, match=r"A1_00004.jpg \(train\) cannot be decoded"):
        list(frame_batches.host_frame_batches(broken, np.array([[0, 1]], np.int32)))
    with pytest.raises(ValueError, match=r"A1_00008.jpg \(train\) has 192 x 144 .* 144 x 192"):
        list(frame_batches.host_frame_batches(broken, np.array([[0, 2]], np.int32)))


def test_bad_frames_can_be_skipped_and_are_counted(broken):
    skipped: list[str] = []
    table = np.array([[0, 1], [2, 3]], np.int32)
    first, second = frame_batches.host_frame_batches(broken, table, skipped=skipped)
    assert skipped == ["A1_00004.jpg", "A1_00008.jpg"]
    assert first["mask"].tolist() == [True, False]
    assert first["size"].tolist() == [[60, 80], [0, 0]]
    assert not first["box_mask"][1].any()
    assert second["index"].tolist() == [-1, 3]
    assert (second["image"][0] == 0).all()


def test_people_are_where_the_boxes_are(dataset):
    """At double size a box's crop of the pipeline is that of the stored frame, enlarged."""
    query = dataset.splits["query"]
    double = frame_batches.fit_frames(
        query,
        resized=lambda height, width: (2 * height, 2 * width),
        choose=transform.bucket_of,
        canvases=((288, 384), (384, 288)),
        max_boxes=1,
    )
    for row in itertools.islice(range(len(query)), 2):
        x0, y0, x1, y1 = (int(v) for v in query.boxes[row])
        whole = decode(query.read(row))
        large = Image.fromarray(
            frame_batches.load_frame(double, row)[2 * y0 : 2 * y1, 2 * x0 : 2 * x1]
        )
        small = np.asarray(large.resize((x1 - x0, y1 - y0), Image.Resampling.BOX)).astype(int)
        assert np.abs(small - whole[y0:y1, x0:x1]).mean() < 6
        assert frame_batches.frame_columns(double, np.array([row], np.int32), np.zeros(1, bool))[
            "boxes"
        ][0, 0].tolist() == [2 * x0, 2 * y0, 2 * x1, 2 * y1]
