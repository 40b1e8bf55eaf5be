import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.explanation import (
    Measure,
    as_rows,
    curve_area,
    distance_gap,
    energy_inside,
    gradcam,
    occlude,
    pair_metrics,
    pair_sums,
    pixel_ranks,
    pointing_game,
    random_maps,
    resize_maps,
    summarise,
    uniform_maps,
)

Q, G, M = 3, 8, 10
jit_sums = jax.jit(pair_sums, static_argnames="by_query")
jit_ranks = jax.jit(pixel_ranks)


def random_pairs(seed, missing=True):
    rng = np.random.default_rng(seed)
    dk = rng.random((Q, G, M)).astype(np.float32) ** 3
    values = [-1, 0, 1] if missing else [-1, 1]
    query = rng.choice(values, (Q, M)).astype(np.int8)
    gallery = rng.choice(values, (G, M)).astype(np.int8)
    gallery[0], gallery[1] = query[0], 0
    return dk, query, gallery


def by_loops(dk, query, gallery, mask=None, overflow=2.0):
    """The protocol, one pair at a time, in float64."""
    found = {name: [] for name in ("pe", "chance", "me", "pc", "mc")}

    def precisions(relevant):
        return np.cumsum(relevant) / np.arange(1, len(relevant) + 1)

    for q in range(len(query)):
        for g in range(len(gallery)):
            product = query[q] * gallery[g].astype(int)
            known = product != 0
            if not known.any() or (mask is not None and not mask[q, g]):
                continue
            d = dk[q, g].astype(np.float64)
            share = (d / d.sum())[known]
            differs = product[known] < 0
            falling = np.argsort(-share, kind="stable")
            rising = np.argsort(share, kind="stable")
            n = differs.sum()
            if n:
                relevant = differs[falling]
                found["pe"].append(relevant[:n].mean())
                found["me"].append((precisions(relevant) * relevant).sum() / n)
                found["chance"].append(n / known.sum())
            if n < known.sum():
                relevant = ~differs[rising] if n else share[falling] <= overflow / len(d)
                count = known.sum() - n
                found["pc"].append(relevant[:count].mean())
                found["mc"].append((precisions(relevant) * relevant).sum() / count)
    names = ("precision_exclusive", "precision_exclusive_chance", "map_exclusive")
    names += ("precision_common", "map_common")
    return {n: np.mean(v) if v else 0.0 for n, v in zip(names, found.values(), strict=True)}


# Pairs.


def test_pair_by_hand():
    # Attributes 0 and 2 differ; by share the order is 2, 1, 0, 3.
    dk = jnp.asarray([[[2.0, 3.0, 4.0, 1.0]]])
    query, gallery = jnp.asarray([[1, 1, 1, 1]]), jnp.asarray([[-1, 1, -1, 1]])
    got = pair_metrics(pair_sums(dk, query, gallery))
    assert got["precision_exclusive"] == pytest.approx(1 / 2)
    assert got["precision_exclusive_chance"] == pytest.approx(2 / 4)
    assert got["map_exclusive"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    # Smallest first: 3, 0, 1, 2.
    assert got["precision_common"] == pytest.approx(1 / 2)
    assert got["map_common"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_pair_without_difference_by_hand():
    # Shares 0.6, 0.2, 0.1, 0.1; above 2/4 is one, and it stands at the head.
    dk = jnp.asarray([[[1.0, 6.0, 2.0, 1.0]]])
    same = jnp.ones((1, 4))
    sums = pair_sums(dk, same, same)
    got = pair_metrics(sums)
    assert got["precision_common"] == pytest.approx(3 / 4)
    assert got["map_common"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 4)
    assert (sums["pairs_exclusive"], sums["pairs_common"]) == (0, 1)
    assert got["precision_exclusive"] == got["precision_exclusive_chance"] == 0
    even = pair_metrics(pair_sums(jnp.ones((1, 1, 4)), same, same))
    assert even["precision_common"] == even["map_common"] == 1


def test_unannotated_attributes_are_left_out_of_the_ranking():
    # The largest share belongs to an attribute nobody knows.
    dk = jnp.asarray([[[9.0, 3.0, 2.0, 1.0]]])
    query, gallery = jnp.asarray([[0, 1, 1, 1]]), jnp.asarray([[1, -1, 1, 1]])
    got = pair_metrics(pair_sums(dk, query, gallery))
    assert got["precision_exclusive"] == got["map_exclusive"] == 1
    assert got["precision_common"] == got["map_common"] == 1
    assert got["precision_exclusive_chance"] == pytest.approx(1 / 3)


def test_nothing_annotated_and_no_pairs():
    dk, nothing = jnp.zeros((2, 3, 4)), jnp.zeros((3, 4))
    for sums in (
        pair_sums(dk, nothing[:2], nothing),
        pair_sums(dk, nothing[:2] + 1, nothing - 1, jnp.zeros((2, 3), bool)),
    ):
        assert sums["pairs_exclusive"] == sums["pairs_common"] == 0
        assert set(pair_metrics(sums).values()) == {0.0}


def test_zero_distance_and_all_attributes_different():
    got = pair_metrics(pair_sums(jnp.zeros((1, 1, 4)), jnp.ones((1, 4)), -jnp.ones((1, 4))))
    assert got["precision_exclusive"] == got["map_exclusive"] == 1
    assert got["precision_exclusive_chance"] == 1
    assert got["precision_common"] == got["map_common"] == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), missing=st.booleans())
def test_against_loops_and_in_range(seed, missing):
    pairs = random_pairs(seed, missing)
    mask = np.random.default_rng(seed).random((Q, G)) < 0.7
    got = pair_metrics(jit_sums(*map(jnp.asarray, (*pairs, mask))))
    expected = by_loops(*pairs, mask)
    assert got.keys() == expected.keys()
    for name, value in got.items():
        assert value == pytest.approx(expected[name], abs=1e-5), name
        assert 0 <= value <= 1 + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_blocks_in_any_order_add_up_to_the_whole(seed):
    dk, query, gallery = map(jnp.asarray, random_pairs(seed))
    order = np.random.default_rng(seed).permutation(G)
    blocks = [jit_sums(dk[:, rows], query, gallery[rows]) for rows in np.split(order, [G // 2])]
    whole = pair_metrics(jit_sums(dk, query, gallery))
    for name, value in pair_metrics(*blocks).items():
        assert value == pytest.approx(whole[name], rel=1e-5), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_masked_pairs_change_nothing(seed):
    dk, query, gallery = random_pairs(seed)
    mask = np.random.default_rng(seed).random((Q, G)) < 0.5
    spoiled = np.where(mask[..., None], dk, np.float32(np.nan))
    plain, other = (
        jit_sums(jnp.asarray(values), jnp.asarray(query), jnp.asarray(gallery), jnp.asarray(mask))
        for values in (dk, spoiled)
    )
    jax.tree.map(np.testing.assert_array_equal, plain, other)


def test_sums_by_query_add_up_and_their_scale_does_not_matter():
    dk, query, gallery = map(jnp.asarray, random_pairs(5))
    rows, whole = jit_sums(dk, query, gallery, by_query=True), jit_sums(dk, query, gallery)
    scaled = jit_sums(1000.0 * dk, query, gallery)
    for name, value in rows.items():
        assert value.shape == (Q,)
        assert float(value.sum()) == pytest.approx(float(whole[name]), rel=1e-5)
        assert float(scaled[name]) == pytest.approx(float(whole[name]), rel=1e-5)
    assert pair_metrics(rows) == pytest.approx(pair_metrics(whole))


def test_eager_and_vmapped_pairs_equal_jitted():
    dk, query, gallery = map(jnp.asarray, random_pairs(6))
    jitted = jit_sums(dk, query, gallery)
    eager = pair_sums(dk, query, gallery)
    by_one = jax.vmap(lambda d, a: pair_sums(d[None], a[None], gallery))(dk, query)
    for name, value in jitted.items():
        assert float(eager[name]) == pytest.approx(float(value), rel=1e-6)
        assert float(by_one[name].sum()) == pytest.approx(float(value), rel=1e-5)


def test_random_shares_reach_the_chance_level():
    rng = np.random.default_rng(0)
    dk = jnp.asarray(rng.random((20, 100, 15)), jnp.float32)
    signs = [jnp.asarray(rng.choice([-1, 1], (n, 15), p=[0.2, 0.8])) for n in (20, 100)]
    got = pair_metrics(jax.jit(pair_sums)(dk, *signs))
    assert got["precision_exclusive"] == pytest.approx(got["precision_exclusive_chance"], abs=0.02)


def test_memory_is_a_few_arrays_of_the_pairs():
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((4, 64, 88), (4, 88), (64, 88))]
    memory = jax.jit(pair_sums).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes < 8 * 4 * (4 * 64 * 88)


def gap_percent(*sums):
    gap, pairs = (float(sum(block[name] for block in sums)) for name in ("gap", "pairs"))
    return 100 * gap / max(pairs, 1)


def test_distance_gap_by_hand():
    d, decomposed = jnp.asarray([[2.0, 4.0], [0.0, 1.0]]), jnp.asarray([[1.0, 5.0], [3.0, 1.0]])
    assert gap_percent(distance_gap(d, decomposed)) == pytest.approx(100 * (0.5 + 0.25 + 0) / 3)
    first = jnp.asarray([[True, False], [True, False]])
    assert gap_percent(distance_gap(d, decomposed, first)) == pytest.approx(50)
    parts = [distance_gap(d, decomposed, keep) for keep in (first, ~first)]
    assert gap_percent(*parts) == pytest.approx(gap_percent(distance_gap(d, decomposed)))
    assert gap_percent(distance_gap(d, decomposed, first & False)) == 0


# Maps.


def test_resize_by_hand_and_against_jax():
    row = resize_maps(jnp.asarray([[[0.0, 4.0]]]), (1, 4))
    np.testing.assert_allclose(row, [[[0, 1, 3, 4]]])
    np.testing.assert_allclose(resize_maps(row, (1, 2)), [[[0.5, 3.5]]])
    maps = random_maps(jax.random.key(0), (2, 6, 4))
    for size in ((24, 10), (5, 3), (6, 4)):
        expected = jax.image.resize(maps, (2, *size), "linear", antialias=False)
        np.testing.assert_allclose(resize_maps(maps, size), expected, atol=1e-6)


def test_resized_constant_maps_stay_constant_to_the_last_bit():
    resized = resize_maps(0.1 * uniform_maps((1, 24, 8)), (97, 31))
    assert (resized == jnp.float32(0.1)).all()


def test_pointing_game_by_hand():
    maps = jnp.asarray([[[5.0, 1.0], [0.0, 5.0]]] * 4)
    parts = np.zeros((4, 2, 2), bool)
    parts[0, 0, 0] = True
    parts[1, 0, 1] = True
    parts[2] = True
    np.testing.assert_array_equal(pointing_game(maps, parts), [0.5, 0, 1, np.nan])
    falling = jnp.asarray([[[5.0, 1.0], [0.0, 4.0]]])
    np.testing.assert_array_equal(pointing_game(falling, parts[:1]), [1])


def test_energy_by_hand():
    maps = jnp.asarray([[[3.0, 1.0], [0.0, -4.0]]] * 3)
    parts = np.zeros((3, 2, 2), bool)
    parts[0, 0, 0] = True
    parts[1, 1, 1] = True
    np.testing.assert_allclose(energy_inside(maps, parts), [0.75, 0, np.nan])


@pytest.mark.parametrize("score", [pointing_game, energy_inside])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_wins_nothing(score, value):
    maps = jnp.ones((1, 2, 2)).at[0, 1, 1].set(value)
    parts = np.array([[[True, False], [False, False]]])
    np.testing.assert_array_equal(score(maps, parts), [0.0])


def test_energy_of_huge_and_tiny_maps():
    parts = np.array([[[True, False], [False, False]]])
    for scale in (3e38, 1e-37):
        assert energy_inside(scale * jnp.ones((1, 2, 2)), parts)[0] == pytest.approx(0.25)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), value=st.sampled_from([0.0, 0.3, 1.0, 1e30]))
def test_constant_maps_score_the_area_and_all_scores_lie_in_range(seed, value):
    rng = np.random.default_rng(seed)
    parts = rng.random((3, 6, 4)) < 0.4
    parts[2] = False
    area = np.where(parts.any((1, 2)), parts.mean((1, 2)), np.nan)
    constant = value * uniform_maps((3, 6, 4))
    maps = jnp.asarray(rng.integers(0, 4, (3, 6, 4)), jnp.float32)
    for score in (pointing_game, energy_inside):
        np.testing.assert_allclose(score(constant, parts), area, rtol=1e-6)
        scores = np.asarray(score(maps, parts))[:2][parts[:2].any((1, 2))]
        assert ((scores >= 0) & (scores <= 1)).all()


def test_energy_of_part_and_rest_is_all():
    maps = random_maps(jax.random.key(1), (2, 6, 4))
    parts = np.random.default_rng(0).random((2, 6, 4)) < 0.5
    np.testing.assert_allclose(
        energy_inside(maps, parts) + energy_inside(maps, ~parts), 1, rtol=1e-6
    )


# Occlusion.


def occluded(images, maps, fraction, fill, mode, key):
    return occlude(images, pixel_ranks(maps, key), fraction, fill, mode)


def test_occlusion_by_hand():
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) + 1
    maps = jnp.asarray([[[0.1, 0.9], [0.5, 0.3]]])
    key = jax.random.key(0)
    deleted = np.array(images)
    deleted[0, 0, 1] = deleted[0, 1, 0] = 0
    np.testing.assert_array_equal(occluded(images, maps, 0.5, 0, "deletion", key), deleted)
    np.testing.assert_array_equal(
        occluded(images, maps, 0.5, 0, "insertion", key), images - deleted
    )
    assert occluded(images, maps, 0.5, 0.0, "deletion", key).dtype == jnp.uint8


def test_nothing_and_everything_occluded():
    images, key = random_maps(jax.random.key(0), (2, 4, 3, 3)), jax.random.key(1)
    maps, colour = uniform_maps((2, 4, 3)), jnp.asarray([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    filled = jnp.broadcast_to(colour, images.shape)
    for fraction, rest in ((0, images), (1.0, filled)):
        np.testing.assert_array_equal(
            occluded(images, maps, fraction, colour, "deletion", key), rest
        )
    np.testing.assert_array_equal(occluded(images, maps, 0, colour, "insertion", key), filled)
    # Filled by another image, a blurred one say.
    other = 1.0 - images
    np.testing.assert_array_equal(occluded(images, maps, 1, other, "deletion", key), other)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), fraction=st.floats(0, 1))
def test_exactly_so_many_pixels_and_the_highest(seed, fraction):
    maps = np.random.default_rng(seed).integers(0, 3, (2, 6, 4)).astype(np.float32)
    ranks = jit_ranks(maps, jax.random.key(seed))
    images = jnp.ones((2, 6, 4, 3))
    count = round(fraction * 24)
    deleted = np.asarray(occlude(images, ranks, fraction, 0.0, "deletion"))
    inserted = np.asarray(occlude(images, ranks, fraction, 0.0, "insertion"))
    np.testing.assert_array_equal(deleted + inserted, 1)
    gone = deleted[..., 0] == 0
    np.testing.assert_array_equal(gone.sum((1, 2)), count)
    for image in range(2):
        if 0 < count < 24:
            assert maps[image][gone[image]].min() >= maps[image][~gone[image]].max()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_ranks_are_a_permutation_decided_by_the_key(seed):
    maps = np.random.default_rng(seed).integers(0, 3, (2, 6, 4)).astype(np.float32)
    key = jax.random.key(seed)
    ranks = np.asarray(jit_ranks(maps, key)).reshape(2, 24)
    np.testing.assert_array_equal(np.sort(ranks), np.arange(24)[None].repeat(2, 0))
    by_value = np.take_along_axis(maps.reshape(2, 24), np.argsort(ranks), 1)
    assert (np.diff(by_value) <= 0).all()
    np.testing.assert_array_equal(jit_ranks(maps, key).reshape(2, 24), ranks)
    # An image's ranks do not depend on its neighbours.
    np.testing.assert_array_equal(jit_ranks(maps[::-1].copy(), key).reshape(2, 24)[::-1], ranks)


def test_a_uniform_map_occludes_at_random():
    maps = uniform_maps((1, 6, 4))
    ranks = np.stack([jit_ranks(maps, key)[0] for key in jax.random.split(jax.random.key(0), 400)])
    # Each pixel is among the first half in about half of the draws (standard error 0.025).
    assert (np.abs((ranks < 12).mean(0) - 0.5) < 0.12).all()


def test_a_traced_fraction_and_jit_equal_eager():
    images = random_maps(jax.random.key(0), (2, 6, 4, 3))
    maps, key = random_maps(jax.random.key(1), (2, 6, 4)), jax.random.key(2)
    delete = jax.jit(lambda fraction: occluded(images, maps, fraction, 0.5, "deletion", key))
    for fraction in (0.0, 0.3, 0.77, 1.0):
        eager = occluded(images, maps, fraction, 0.5, "deletion", key)
        np.testing.assert_array_equal(delete(jnp.float32(fraction)), eager)


def test_unknown_mode_and_fraction_outside():
    images, maps = jnp.ones((1, 2, 2, 3)), jnp.ones((1, 2, 2))
    with pytest.raises(ValueError, match=r"'delete' is unknown; did you mean 'deletion'\?"):
        occluded(images, maps, 0.5, 0.0, "delete", jax.random.key(0))
    with pytest.raises(ValueError, match=r"is 50; expected 0\.\.1"):
        occluded(images, maps, 50, 0.0, "deletion", jax.random.key(0))


def test_curve_area_by_hand():
    assert float(curve_area(jnp.asarray([1.0, 3.0, 1.0]), jnp.asarray([0.0, 0.5, 1.0]))) == 2
    curves = np.array([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(curve_area(curves, np.array([0.0, 0.2, 1.0])), [0.9, 2.0], rtol=1e-6)


def test_gradcam_by_hand():
    features = jnp.asarray([[[[1.0, 2.0], [3.0, 0.0]]]])
    gradients = jnp.asarray([[[[4.0, -2.0], [0.0, 0.0]]]])
    # Weights are the means 2 and −1: 2·1 − 1·2, 2·3 − 0.
    np.testing.assert_allclose(gradcam(features, gradients), [[[0.0, 6.0]]])
    np.testing.assert_allclose(gradcam(features, -gradients), [[[0.0, 0.0]]])


def test_gradcam_of_a_linear_score_is_its_own_map():
    features = random_maps(jax.random.key(0), (2, 3, 4, 5))
    weight = jnp.asarray([1.0, 0.0, 2.0, 0.0, 0.5])
    gradients = jax.grad(lambda x: jnp.einsum("nhwc,c->", x, weight))(features)
    got = gradcam(features, gradients)
    np.testing.assert_allclose(got, jnp.einsum("nhwc,c->nhw", features, weight), rtol=1e-5)


def test_map_scores_jitted_and_vmapped_equal_eager():
    maps = random_maps(jax.random.key(0), (3, 3, 2))
    parts = jnp.asarray(np.random.default_rng(0).random((3, 6, 4)) < 0.5)
    grow = functools.partial(resize_maps, size=(6, 4))
    for score in (pointing_game, energy_inside):
        eager = score(grow(maps), parts)
        np.testing.assert_allclose(jax.jit(lambda m, p, f=score: f(grow(m), p))(maps, parts), eager)
        by_one = jax.vmap(lambda m, p, f=score: f(grow(m[None]), p[None])[0])(maps, parts)
        np.testing.assert_allclose(by_one, eager)


# Summaries.


def test_summary_leaves_out_images_without_the_part():
    values = np.array([0.0, np.nan, 1.0, 1.0, np.nan], np.float32)
    identities = np.array([1, 1, 2, 3, 3])
    got = summarise(
        values, identities, part="bag", measure="pointing game", source="attention", samples=50
    )
    assert got.value == pytest.approx(2 / 3) and got.images == 3
    assert got.interval == interval(np.array([0.0, 1, 1]), np.array([1, 2, 3]), samples=50)
    named = {"part": "bag", "measure": "deletion", "source": "random"}
    assert summarise(np.full(5, np.nan), identities, **named) is None
    with pytest.raises(ValueError, match=r"deletion of bag \(random\): 1 of 5 values are infinite"):
        summarise(np.array([1.0, np.inf, 1, 1, 1]), identities, **named)


def test_rows_put_the_sources_side_by_side():
    def measure(part, source, value, images=12, kind="pointing game"):
        return Measure(part, kind, source, value, (value - 0.1, value + 0.1), images)

    measures = [
        measure("bag", "uniform", 0.25),
        measure("bag", "attention", 0.5),
        measure("head", "attention", 0.7, 9),
        measure("head", "other", 0.6, 7),
        measure("bag", "attention", 0.4, kind="deletion"),
    ]
    head, rows = as_rows(measures)
    columns = ["attention [95%]", "uniform [95%]", "other [95%]"]
    assert head == ["part", "measure", *columns, "images"]
    assert rows == [
        ["bag", "pointing game", "0.500 [0.400, 0.600]", "0.250 [0.150, 0.350]", "–", "12"],
        ["head", "pointing game", "0.700 [0.600, 0.800]", "–", "0.600 [0.500, 0.700]", "7–9"],
        ["bag", "deletion", "0.400 [0.300, 0.500]", "–", "–", "12"],
    ]
    assert as_rows([]) == (["part", "measure", "images"], [])
    with pytest.raises(ValueError, match="pointing game of bag has two values of 'uniform'"):
        as_rows([*measures, measures[0]])
