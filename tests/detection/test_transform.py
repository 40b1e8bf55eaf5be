import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.transform import BUCKETS, bucket_of, resized_size


def test_sizes_by_hand():
    assert resized_size(1080, 1920) == (843, 1500)
    assert resized_size(600, 800) == (900, 1200)
    assert resized_size(3000, 4000) == (900, 1200)
    with pytest.raises(ValueError, match=r"an image of 0 x 800 pixels cannot be resized"):
        resized_size(0, 800)
    with pytest.raises(ValueError, match=r"1 x 1501 pixels has no pixels left"):
        resized_size(1, 1501)


def test_the_smallest_fitting_canvas_is_taken():
    buckets = [(1504, 1504), (928, 1504), (1504, 928)]
    assert bucket_of((843, 1500), buckets) == 1
    assert bucket_of((1500, 900), buckets) == 2
    assert bucket_of((1500, 1000), buckets) == 0
    with pytest.raises(ValueError, match=r"1600 x 900 pixels fits none of the canvases"):
        bucket_of((1600, 900), buckets)


@settings(deadline=None, max_examples=20)
@given(height=st.integers(4, 5000), width=st.integers(4, 5000))
def test_every_image_fits_a_default_canvas(height, width):
    size = resized_size(height, width)
    assert all(a >= b for a, b in zip(BUCKETS[bucket_of(size, BUCKETS)], size, strict=True))
    assert max(size) <= 1500 and min(size) <= 900
