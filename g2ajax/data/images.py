"""Decodes stored images to arrays of RGB pixels, on the host.

Training, builders, checks, search and images from callers all use this module, so a photo has the same
pixels in all of them.
"""

import io
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from g2ajax.config import nearest

try:
    import simplejpeg
except ImportError:  # an accelerator image without it: PIL gives the same pixels, more slowly
    simplejpeg = None

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
ORIENTATION = 0x0112
"""Number of the orientation among the tags of EXIF."""
# EXIF orientation → (rows and columns change places first, rows reversed, columns reversed).
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
JPEGS = ("JPEG", "MPO")
"""Names in PIL; MPO is several JPEGs in one file, of which all read the first."""
SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of the segment of a JPEG that says its size and channels."""
WHITES = {"I": (255, 65535), "F": (1, 255, 65535)}
"""Possible values of white in formats that do not state it."""


def decode(
    data: bytes, name: str = "image", formats: Sequence[str] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of an encoded image; `pixels_of` says how they are made.

    `formats`: the only ones that are read, by PIL's names; None: all that PIL knows but EPS. Raises ValueError naming the image if it is empty, corrupt or far too large for a crop.
    """
    if not data:
        raise ValueError(f"{name} is empty (0 bytes)")
    try:
        if simplejpeg is not None and simplejpeg.is_jpeg(data):
            orientation, channels = _jpeg_head(data)
            if channels != 4:  # CMYK, whose black simplejpeg rounds otherwise than PIL
                _check_size(*simplejpeg.decode_jpeg_header(data)[:2])
                return upright(simplejpeg.decode_jpeg(data, colorspace="RGB"), orientation)
        image = Image.open(io.BytesIO(data), formats=_installed(formats))
        _check_size(image.height, image.width)
        if image.format == "EPS":  # PIL would start Ghostscript, which runs it
            raise ValueError("EPS is a program, not a picture; convert it to PNG")
        return pixels_of(image)
    except Exception as error:  # damaged data makes PIL raise errors of many kinds
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is no image of a known format" if unknown else error
        raise ValueError(
            f"{name} cannot be decoded ({len(data)} bytes): {why}; "
            "`g2ajax verify` lists all such images"
        ) from error


def _installed(formats: Sequence[str] | None) -> list[str] | None:
    if formats is None:
        return None
    Image.init()
    return [kind for kind in formats if kind in Image.OPEN]  # PIL may be built without one


def _check_size(height: int, width: int) -> None:
    # PIL itself only warns, and filters for warnings are not safe in reader threads.
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{width} x {height} pixels are no crop")


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels 0..255 of an image of any kind that PIL opens, as every part of g2ajax sees it.

    - Turned upright by its orientation (EXIF, XMP or TIFF). A file of several pictures, such as an
      animation or a phone's MPO, gives the first.
    - Grey is spread over the three channels; a palette is looked up; 1 bit is black and white; CMYK
      and YCbCr are converted by PIL's formulas.
    - Transparency, of an alpha channel or of a palette, is dropped, over no background: the colours
      that the file has in the transparent places are shown, as the readers of re-identification do.
    - 16 bits keep their upper eight: 65535 is white. Formats of 32 bits do not say what white is:
      it is the least of 255 and 65535 (of floats also 1) that no value exceeds; negative values and
      NaN are black.
    - Embedded colour profiles (ICC) are ignored: the numbers are taken as sRGB.

    Raises ValueError for 32 bits with values over 65535 and for a colour space without a conversion
    (LAB), and what PIL raises for damaged data.
    """
    image.load()  # first: the orientation of a PNG may stand behind its pixels, TIFF turns itself
    orientation = _orientation(image)
    if image.mode.startswith("I;16"):
        rgb = _spread((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in WHITES:
        rgb = _spread(_eight_bits(np.asarray(image), WHITES[image.mode]))
    elif "transparency" in image.info:  # by way of RGBA PIL warns of nothing and guesses no colour
        rgb = np.asarray(image.convert("RGBA").convert("RGB"))
    else:
        rgb = np.asarray(image.convert("RGB"))
    return upright(rgb, orientation)


def upright(pixels: UInt8[np.ndarray, "_ _ 3"], orientation: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """The pixels turned and mirrored as an EXIF orientation says; one that EXIF does not have is 1."""
    across, rows, columns = TURNS.get(orientation, TURNS[1])
    if across:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(pixels)


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded image as `decode` shows it; a JPEG is not decoded for it.

    Raises ValueError for data that is not an image.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except Exception as error:  # as in `decode`
        raise ValueError(str(error)) from error
    if image.format not in JPEGS:
        return decode(data).shape[:2]
    across = TURNS.get(_jpeg_head(data)[0], TURNS[1])[0]
    return (image.width, image.height) if across else (image.height, image.width)


def as_stored(data: bytes) -> bytes:
    """The encoded image as a dataset keeps it: as it is if it is a JPEG or a PNG of 8 bits in RGB or
    grey, whose orientation its readers follow, else the pixels of `decode` as PNG.

    Damaged data are returned as they are; `g2ajax verify` reports them.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if image.format in (*JPEGS, "PNG") and image.mode in ("RGB", "L"):
            return data
        pixels = decode(data)
    except Exception:  # as in `decode`
        return data
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _spread(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _eight_bits(values: np.ndarray, whites: tuple[int, ...]) -> UInt8[np.ndarray, "H W"]:
    """Grey values as bytes. Raises ValueError for values over the largest white."""
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=0.0)
    largest = values.max(initial=0)
    white = next((white for white in whites if largest <= white), None)
    if white is None:
        raise ValueError(
            f"grey values of 32 bits up to {largest:g} do not say what white is; store the image with "
            "8 or 16 bits"
        )
    values = values.clip(0, white)
    return (values / 256 if white == 65535 else values * (255 / white) + 0.5).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata, of many kinds: the pixels are none the worse
        return 1


def _jpeg_head(data: bytes) -> tuple[int, int]:
    """The orientation of a JPEG and the number of its channels, from the segments before its pixels.

    Read here, because PIL refuses to open the largest photos of phones.
    """
    exif, xmp, at = 0, 1, 2
    while data[at : at + 1] == b"\xff":
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a byte of padding
            at += 1
            continue
        content = data[at + 4 : at + 2 + size]
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif = exif or _tag(content)
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', content)
            xmp = int(match[1]) if match else xmp
        elif marker in SIZES:
            return exif or xmp, int.from_bytes(content[5:6], "big")
        at += 2 + size
    return exif or xmp, 0


def _tag(exif: bytes) -> int:
    """The orientation among the tags of EXIF; 0 without one."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        return tags.get(ORIENTATION, 0)
    except Exception:  # as in `_orientation`
        return 0


def resize(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "h w 3"]:
    """The image at `size` (height, width), antialiased when it shrinks, as PIL does it.

    Raises ValueError for an unknown interpolation.
    """
    if interpolation not in FILTERS:
        raise ValueError(f"no interpolation {interpolation!r}; {nearest(interpolation, FILTERS)}")
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    resized = Image.fromarray(image).resize((width, height), FILTERS[interpolation])
    return np.asarray(resized)
