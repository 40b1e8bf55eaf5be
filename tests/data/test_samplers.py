import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.data.samplers import make_sampler
from tests.parity import sampler_invariants

# Nine identities with 2 to 7 images from up to three cameras; two images have no label.
COUNTS = [2, 3, 4, 5, 6, 7, 2, 4, 4]
LABEL = np.array([*np.repeat(np.arange(9), COUNTS), -1, -1], np.int32)
CAMERA = np.array([i % 3 for i in range(len(LABEL))], np.int32)
NAMES = ("random_identity", "naive_identity", "balanced_identity", "shuffled")
IDENTITY = NAMES[:3]
SHARED = ["groups_of_K_share_identity", "identities_distinct_in_batch", "length_multiple_of_batch"]
OWN = {
    "random_identity": ["length_at_most_declared", "no_repeat_unless_fewer_than_K"],
    "naive_identity": ["length_at_most_declared", "no_repeat_unless_fewer_than_K"],
    "balanced_identity": ["rest_of_group_from_other_cameras"],
}


def sampler(name, seed=0, identities=3, images=3, label=LABEL, camera=CAMERA, **more):
    return make_sampler(
        name, label, camera, identities=identities, images=images, seed=(seed, 1), **more
    )


@pytest.mark.parametrize("name", IDENTITY)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    identities=st.integers(1, 9),
    images=st.integers(1, 4),
    number=st.integers(0, 3),
)
def test_a_pass_keeps_the_invariants(name, seed, identities, images, number):
    drawn = sampler(name, seed, identities, images).batches_of_pass(number)
    assert drawn.dtype == np.int32
    assert len(drawn)
    args = {"batch_size": identities * images, "num_instances": images}
    inputs = {"in_pids": LABEL, "in_camids": CAMERA}
    sampler_invariants.check(drawn.reshape(-1), SHARED + OWN[name], args, inputs)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), steps=st.lists(st.integers(0, 40), min_size=2, max_size=8))
def test_a_batch_depends_on_seed_and_step_alone(name, seed, steps):
    fresh = [sampler(name, seed).batch_indices(step) for step in steps]
    one = sampler(name, seed)
    for step, expected in zip(steps, fresh, strict=True):
        np.testing.assert_array_equal(one.batch_indices(step), expected)


@pytest.mark.parametrize("name", NAMES)
def test_steps_walk_through_the_passes_in_order(name):
    one = sampler(name)
    passes = np.concatenate([sampler(name).batches_of_pass(number) for number in range(4)])
    drawn = np.stack([one.batch_indices(step) for step in range(len(passes))])
    np.testing.assert_array_equal(drawn, passes)


@pytest.mark.parametrize("name", NAMES)
def test_passes_and_seeds_differ(name):
    one = sampler(name)
    first, second = one.batches_of_pass(0), one.batches_of_pass(1)
    assert first.shape != second.shape or (first != second).any()
    assert (one.batch_indices(0) != sampler(name, seed=1).batch_indices(0)).any()


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_a_label_are_never_drawn(name):
    one = sampler(name)
    drawn = np.concatenate([one.batches_of_pass(number).ravel() for number in range(8)])
    assert (LABEL[drawn] >= 0).all()
    assert len(np.unique(drawn)) == sum(COUNTS)  # and every other row is, sooner or later


def test_shuffled_draws_no_row_twice_in_a_pass():
    drawn = sampler("shuffled").batches_of_pass(2)
    assert drawn.shape == (4, 9)
    assert len(np.unique(drawn)) == drawn.size


def test_balanced_takes_every_identity_once():
    drawn = sampler("balanced_identity").batches_of_pass(0)
    assert sorted(LABEL[drawn.reshape(-1, 3)[:, 0]]) == list(range(9))


def test_balanced_falls_back_to_other_images_of_the_same_camera():
    label, camera = np.repeat(np.arange(3), 4), np.zeros(12, int)
    one = sampler("balanced_identity", identities=3, images=2, label=label, camera=camera)
    for first, other in one.batches_of_pass(0).reshape(-1, 2):
        assert label[first] == label[other]
        assert first != other


def test_gapped_labels_are_drawn_too():
    label = np.repeat([3, 10, 700], 4)
    drawn = sampler("random_identity", label=label, camera=label).batches_of_pass(0)
    assert set(label[drawn.ravel()]) == {3, 10, 700}


def test_a_single_image_is_repeated_where_allowed():
    label, camera = np.array([0, 1, 1]), np.array([0, 0, 1])
    for name in IDENTITY:
        one = sampler(
            name, identities=2, images=2, label=label, camera=camera, allow_single_image=True
        )
        drawn = one.batches_of_pass(0)
        assert (drawn.reshape(-1, 2)[label[drawn.reshape(-1, 2)[:, 0]] == 0] == 0).all()


def test_single_images_are_welcome_in_groups_of_one():
    one = sampler("random_identity", identities=2, images=1, label=np.arange(4), camera=LABEL[:4])
    assert sorted(one.batches_of_pass(0).ravel()) == [0, 1, 2, 3]


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="no sampler 'random_identit'; did you mean 'random_id"):
        sampler("random_identit")


@pytest.mark.parametrize("name", IDENTITY)
def test_more_identities_than_there_are(name):
    with pytest.raises(ValueError, match=r"identities = 10 a batch.*only 9 identities"):
        sampler(name, identities=10)


@pytest.mark.parametrize("name", IDENTITY)
def test_single_image_identities_are_named(name):
    label = np.array([0, 0, 1, 2, 2, 5])
    with pytest.raises(ValueError, match=r"2 identities have one image.*\(1, 5\)"):
        sampler(name, identities=2, images=2, label=label, camera=label)


def test_batch_larger_than_the_split():
    with pytest.raises(ValueError, match="batch of 50 images, but the split has 37"):
        sampler("shuffled", identities=10, images=5)


@pytest.mark.parametrize("label", [np.zeros(0, int), np.full(5, -1)])
def test_split_without_labelled_images(label):
    with pytest.raises(ValueError, match="no labelled image"):
        sampler("random_identity", label=label, camera=label)


@pytest.mark.parametrize(("identities", "images"), [(0, 4), (4, 0), (-1, 4)])
def test_empty_batches(identities, images):
    with pytest.raises(ValueError, match=f"{identities} identities with {images} images"):
        sampler("random_identity", identities=identities, images=images)


def test_negative_step():
    with pytest.raises(ValueError, match="step -1"):
        sampler("shuffled").batch_indices(-1)


# Seen from the air and from the ground: 8 + 8, 2 + 9, 1 + 3, 1 + 1, 5 + 0, 0 + 4 images.
SEEN = [(8, 8), (2, 9), (1, 3), (1, 1), (5, 0), (0, 4)]
OF_WHOM = np.repeat(np.arange(len(SEEN)), [sum(seen) for seen in SEEN])
PLATFORM = np.concatenate([np.repeat([0, 1], seen) for seen in SEEN])


def platforms(seed=0, identities=2, images=4, label=OF_WHOM, platform=PLATFORM):
    return make_sampler(
        "balanced_platform",
        label,
        np.zeros(len(label), int),
        identities=identities,
        images=images,
        seed=(seed,),
        platform=platform,
    )


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    identities=st.integers(1, 6),
    images=st.integers(1, 7),
    number=st.integers(0, 3),
)
def test_groups_have_as_many_aerial_as_ground_images(seed, identities, images, number):
    drawn = platforms(seed, identities, images).batches_of_pass(number)
    args = {"batch_size": identities * images, "num_instances": images}
    inputs = {"in_pids": OF_WHOM, "in_camids": PLATFORM}
    names = [*SHARED, "no_repeat_unless_fewer_than_K"]
    sampler_invariants.check(drawn.reshape(-1), names, args, inputs)
    for group in drawn.reshape(-1, images):
        seen = np.array(SEEN[OF_WHOM[group[0]]])
        aerial, ground = (
            len({i for i in group if not PLATFORM[i]}),
            len({i for i in group if PLATFORM[i]}),
        )
        if seen.min() >= (images + 1) // 2:
            assert abs(aerial - ground) == images % 2
        elif seen.sum() >= images and seen.min():
            # All there are of the rarer platform, one less where the odd image is the other's.
            assert seen.min() - (aerial if seen[0] < seen[1] else ground) in (0, 1)
            assert len(set(group)) == images


def test_a_pass_takes_pairs_of_platforms_while_there_are_any():
    one = platforms(identities=1, label=OF_WHOM[:27], platform=PLATFORM[:27])
    groups = one.batches_of_pass(0).reshape(-1, 4)
    # 8 + 8 images make four groups of 2 + 2; 2 + 9 only one.
    assert sorted(OF_WHOM[groups[:, 0]]) == [0, 0, 0, 0, 1]
    assert (PLATFORM[groups].sum(1) == 2).all()
    everyone = np.concatenate([one.batches_of_pass(i).ravel() for i in range(30)])
    assert len(np.unique(everyone)) == 27


def test_platform_batches_depend_on_seed_and_step_alone():
    one = platforms()
    for step in (9, 0, 4, 9):
        np.testing.assert_array_equal(one.batch_indices(step), platforms().batch_indices(step))
    assert (one.batches_of_pass(0)[0] != platforms(seed=1).batches_of_pass(0)[0]).any()


@pytest.mark.parametrize("platform", [None, np.zeros(len(OF_WHOM), int), OF_WHOM % 2])
def test_nobody_seen_from_two_platforms(platform):
    with pytest.raises(ValueError, match=r"no identity .* seen from two platforms; use naive"):
        platforms(platform=platform)
