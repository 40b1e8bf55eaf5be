import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from g2ajax.data import images
from g2ajax.data.images import decode, resize

RNG = np.random.default_rng(0)
# Smooth, so that JPEG keeps it nearly as it was.
Y, X = np.mgrid[:40, :24]
PICTURE = np.stack([4 * Y, 6 * X, 200 - 2 * Y - 2 * X], -1).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_comes_back_as_it_was():
    pixels = RNG.integers(0, 256, (17, 9, 3), np.uint8)
    decoded = decode(encode(Image.fromarray(pixels), "PNG"))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_jpeg_is_what_pil_decodes():
    data = encode(Image.fromarray(PICTURE), "JPEG", quality=95)
    decoded = decode(data)
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(data))))
    assert np.abs(decoded.astype(int) - PICTURE).max() < 16


def test_jpeg_without_simplejpeg_is_the_same(monkeypatch):
    data = encode(Image.fromarray(PICTURE), "JPEG")
    expected = decode(data)
    monkeypatch.setattr(images, "simplejpeg", None)
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_gray_is_spread_over_three_channels(kind):
    gray = Image.fromarray(PICTURE[..., 0])
    decoded = decode(encode(gray, kind))
    assert decoded.shape == (40, 24, 3)
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 1])
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])
    if kind == "PNG":
        np.testing.assert_array_equal(decoded[..., 0], PICTURE[..., 0])


def test_alpha_is_dropped():
    alpha = RNG.integers(0, 256, (40, 24, 1), np.uint8)
    data = encode(Image.fromarray(np.concatenate([PICTURE, alpha], -1)), "PNG")
    np.testing.assert_array_equal(decode(data), PICTURE)


def test_palette_and_bits():
    table = np.array([[255, 0, 0], [0, 128, 255]], np.uint8)
    index = RNG.integers(0, 2, (12, 8)).astype(np.uint8)
    palette = Image.fromarray(index, "P")
    palette.putpalette(table.ravel().tolist())
    np.testing.assert_array_equal(decode(encode(palette, "PNG")), table[index])
    bits = Image.fromarray(index * 255).convert("1")
    np.testing.assert_array_equal(decode(encode(bits, "PNG"))[..., 1], index * 255)


def test_cmyk_jpeg():
    image = Image.fromarray(PICTURE).convert("CMYK")
    data = encode(image, "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    # The two libraries round the black channel differently.
    assert np.abs(decode(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_followed(kind, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PICTURE), kind, exif=exif)
    plain = decode(encode(Image.fromarray(PICTURE), kind))
    np.testing.assert_array_equal(decode(data), np.rot90(plain, turns))


def test_an_empty_file_names_itself():
    with pytest.raises(ValueError, match=r"p01/c2\.jpg is empty"):
        decode(b"", "p01/c2.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cut_file_names_itself(kind):
    data = encode(Image.fromarray(RNG.integers(0, 256, (64, 32, 3), np.uint8)), kind)
    for share in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(ValueError, match=r"p01/c2\.jpg cannot be decoded \(\d+ bytes\)"):
            decode(data[: int(len(data) * share)], "p01/c2.jpg")


def test_text_names_itself():
    with pytest.raises(ValueError, match="a page cannot be decoded"):
        decode(b"<html>not found</html>", "a page")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_damage_gives_pixels_or_the_named_error(kind, seed):
    rng = np.random.default_rng(seed)
    data = np.frombuffer(encode(Image.fromarray(PICTURE), kind), np.uint8).copy()
    data[rng.integers(2, len(data), 5)] = rng.integers(0, 256, 5)
    try:
        assert decode(data.tobytes(), "this one").shape[2] == 3
    except ValueError as error:
        if "this one cannot be decoded" not in str(error):
            raise


@pytest.mark.parametrize("limit", [100, 700])
def test_a_decompression_bomb_names_itself(monkeypatch, limit):
    # PIL warns above its limit and raises above twice the limit; 40 x 24 is 960 pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ValueError, match=r"huge\.png cannot be decoded"):
            decode(encode(Image.fromarray(PICTURE), "PNG"), "huge.png")


def test_decoding_leaves_the_warning_filters_alone():
    # `warnings.catch_warnings` in reader threads would leave filters behind that are not theirs.
    before = list(warnings.filters)
    decode(encode(Image.fromarray(PICTURE), "PNG"))
    assert warnings.filters == before
    assert not hasattr(images, "warnings")


def test_resize_to_the_same_size_is_the_identity():
    assert resize(PICTURE, (40, 24)) is PICTURE


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(20, 12), (64, 32), (40, 8)])
def test_resize_is_pils(size, interpolation):
    method = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}[interpolation]
    expected = np.asarray(Image.fromarray(PICTURE).resize((size[1], size[0]), method))
    resized = resize(PICTURE, size, interpolation)
    assert resized.shape == (*size, 3)
    np.testing.assert_array_equal(resized, expected)


def test_unknown_interpolation_gives_the_nearest():
    with pytest.raises(ValueError, match="no interpolation 'bicubik'; did you mean 'bicubic'"):
        resize(PICTURE, (8, 8), "bicubik")


def test_pictures_that_are_too_large_and_programs_are_refused(monkeypatch):
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        image.save(stream, kind)
        with pytest.raises(ValueError, match="30 x 20 pixels are no crop"):
            decode(stream.getvalue())
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "EPS")
    with pytest.raises(ValueError, match="EPS is a program"):
        decode(stream.getvalue())
