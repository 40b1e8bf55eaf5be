"""The frames of a clip, and batches of clips."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2ajax.data import clips as module
from g2ajax.data.clips import (
    ClipOptions,
    clip_batches,
    dense_clips,
    evaluation_clips,
    first_clips,
    load_clip,
    random_clips,
)
from g2ajax.data.sharding import batch_sharding
from g2ajax.training.mesh import make_mesh
from tests.fake_data import encode
from tests.fake_tracklets import make_tracklets


def test_first_frame_of_each_block():
    clips = first_clips(np.array([10, 4, 2, 1]), 4)
    # Blocks of two frames, the last one of four; then padded with the last frame.
    assert clips.frame.tolist() == [[0, 2, 4, 6], [0, 1, 2, 3], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert clips.real.sum(-1).tolist() == [4, 4, 2, 1]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 9), st.integers(0, 99))
def test_random_frames_lie_in_their_blocks(lengths, size, step):
    numbers = np.array([lengths])
    clips = random_clips(numbers, size, seed=(3,), start=step)
    assert clips.frame.shape == (1, len(lengths), size)
    for n, frames, real in zip(lengths, clips.frame[0], clips.real[0], strict=True):
        block = max(n, size) // size
        begin = np.arange(size) * block
        end = np.append(begin[1:], max(n, size))
        assert ((frames >= np.minimum(begin, n - 1)) & (frames < end)).all() and frames.max() < n
        assert real.sum() == min(n, size)


def test_a_clip_is_a_function_of_seed_and_step():
    numbers = np.full((6, 3), 40)
    whole = random_clips(numbers, 8, seed=(0, 1))
    rest = random_clips(numbers[4:], 8, seed=(0, 1), start=4)
    np.testing.assert_array_equal(whole.frame[4:], rest.frame)
    assert (whole.frame[0] != whole.frame[1]).any()
    assert (whole.frame != random_clips(numbers, 8, seed=(1, 1)).frame).any()
    blocks = random_clips(np.full((400, 1), 9), 2, seed=(0,)).frame[:, 0]
    assert {*blocks[:, 0].tolist()} == {0, 1, 2, 3}
    assert {*blocks[:, 1].tolist()} == {4, 5, 6, 7, 8}  # the last block takes the rest


@given(st.integers(1, 70), st.integers(1, 9))
def test_dense_clips_hold_every_frame(n, size):
    clips = dense_clips(n, size)
    assert clips.shape == (-(-n // size), size)
    assert np.unique(clips).tolist() == list(range(n))
    assert (np.diff(clips, axis=1) >= 0).all()


@pytest.fixture(scope="module")
def split():
    return make_tracklets().splits["train"]


def test_batches_hold_frames_mask_and_columns(split):
    mesh = make_mesh()
    table = np.arange(16, dtype=np.int32).reshape(2, 8) % len(split)
    clips = random_clips(split.num_frames[table], 4, seed=(0,))
    settings = {"sharding": batch_sharding(mesh), "interpolation": "bilinear", "num_threads": 1}
    whole = list(
        clip_batches(split, table, clips, image_size=(16, 8), mask_padding=True, **settings)
    )
    assert [batch["image"].shape for batch in whole] == [(8, 4, 16, 8, 3)] * 2
    for rows, real, frames, batch in zip(table, clips.real, clips.frame, whole, strict=True):
        np.testing.assert_array_equal(batch["frame_mask"], real)
        np.testing.assert_array_equal(batch["label"], split.label[rows])
        clip = load_clip(split, int(rows[3]), frames[3], (16, 8), "bilinear")
        np.testing.assert_array_equal(batch["image"][3], clip)
    assert not clips.real.all()
    unmasked = next(clip_batches(split, table, clips, image_size=(16, 8), **settings))
    assert np.asarray(unmasked["frame_mask"]).all()
    # Without images: the places of the frames among all frames.
    placed = next(clip_batches(split, table, clips, image_size=None, **settings))
    flat = split.frames()
    assert len(flat) == split.num_frames.sum()
    at = np.asarray(placed["frame_index"])
    assert flat.number[at].tolist() == clips.frame[0].tolist()
    assert (flat.tracklet[at] == table[0][:, None]).all()
    assert flat.read(int(at[2, 1])) == split.encoded(int(table[0, 2]))[clips.frame[0, 2, 1]]


def test_only_the_frames_of_a_clip_are_decoded(split, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        module, "decode", lambda data, name: decoded.append(name) or np.zeros((4, 4, 3), np.uint8)
    )
    load_clip(split, 1, np.array([0, 2, 2, 2]), (8, 8), "bicubic")
    assert decoded == [f"frame {i} of {split.image_id[1]} (train)" for i in (0, 2)]


def test_frames_of_several_sizes_are_resized_to_one(split):
    sizes = [(30, 10), (12, 40), (16, 8)]
    images = tuple(encode(np.full((*size, 3), 50 * i, np.uint8)) for i, size in enumerate(sizes))
    mixed = dataclasses.replace(
        split.take(np.arange(1)),
        images=(images,),
        position=np.array([0]),
        num_frames=np.array([3], np.int32),
    )
    clip = load_clip(mixed, 0, np.array([0, 1, 2, 2]), (16, 8), "bilinear")
    np.testing.assert_array_equal(clip[:, 5, 5, 1], [0, 50, 100, 100])
    assert clip.shape == (4, 16, 8, 3)


def test_every_test_tracklet_once_or_in_several_clips(split):
    rows, clips = evaluation_clips(split, ClipOptions(frames=4), 8)
    assert rows.ravel()[: len(split)].tolist() == list(range(len(split)))
    assert (rows.ravel()[len(split) :] == -1).all() and clips.frame.shape == (*rows.shape, 4)
    rows, clips = evaluation_clips(split, ClipOptions(frames=4, test="dense"), 8)
    count = np.bincount(rows[rows >= 0])
    assert count.tolist() == (-(-split.num_frames // 4)).tolist()
    assert clips.real.all()
