"""One picture stored in every way that PIL knows is the same upright RGB pixels to every reader."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from g2ajax.apps.search import read_files
from g2ajax.data.images import as_stored, decode, pixels_of, size_of
from g2ajax.data.source import open_dataset
from g2ajax.data.verify import defect
from g2ajax.models.load import of_run
from tfds_builders.frames import image_size

HEIGHT, WIDTH = 48, 32
Y, X = np.mgrid[:HEIGHT, :WIDTH]
# Smooth, so that JPEG keeps it nearly as it was, and with no symmetry.
COLOUR = np.stack([4 * Y + 20, 6 * X + 10, 230 - 2 * Y - 3 * X], -1).astype(np.uint8)
GREY = COLOUR[..., 0]
# In blocks of JPEG.
BLACK_AND_WHITE = 255 * ((Y < 16) | (X < 8)).astype(np.uint8)
# Nowhere 0: there WebP forgets the colour.
ALPHA = (255 - 3 * Y - X).astype(np.uint8)

# Of each orientation, what makes an upright image lie as it is stored.
LAID = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def spread(grey):
    return np.repeat(grey[..., None], 3, -1)


def palette():
    return Image.fromarray(COLOUR).quantize(64)


def see_through():
    image = palette()
    image.info["transparency"] = 3
    return image


PALETTE = np.asarray(palette().convert("RGB"))
LOW_BITS = np.random.default_rng(0).integers(0, 256, GREY.shape).astype(np.uint16)
# Mode → the image, and its RGB pixels.
MODES = {
    "1": (lambda: Image.fromarray(BLACK_AND_WHITE).convert("1"), spread(BLACK_AND_WHITE)),
    "L": (lambda: Image.fromarray(GREY), spread(GREY)),
    "LA": (lambda: Image.merge("LA", [*map(Image.fromarray, (GREY, ALPHA))]), spread(GREY)),
    "P": (palette, PALETTE),
    "P, transparent": (see_through, PALETTE),
    "RGB": (lambda: Image.fromarray(COLOUR), COLOUR),
    "RGBA": (lambda: Image.fromarray(np.dstack([COLOUR, ALPHA])), COLOUR),
    "CMYK": (lambda: Image.fromarray(COLOUR).convert("CMYK"), COLOUR),
    "I;16": (lambda: Image.fromarray(GREY * np.uint16(256) + LOW_BITS), spread(GREY)),
    "I": (lambda: Image.fromarray(GREY * np.int32(256) + LOW_BITS), spread(GREY)),
    "F": (lambda: Image.fromarray(GREY / np.float32(255)), spread(GREY)),
}
# Format → suffix, modes, options of `save`, and the largest difference that it makes.
EIGHT_BITS = ("1", "L", "P", "RGB", "RGBA")
FORMATS = {
    "JPEG": (".jpg", ("1", "L", "RGB", "CMYK"), {"quality": 95, "subsampling": 0}, 4),
    "MPO": (".mpo", ("L", "RGB"), {"quality": 95, "subsampling": 0}, 4),
    "PNG": (".png", (*EIGHT_BITS, "LA", "P, transparent", "I;16"), {}, 0),
    "WebP": (".webp", ("L", "P", "RGB", "RGBA"), {"lossless": True}, 0),
    "TIFF": (".tif", (*EIGHT_BITS, "LA", "CMYK", "I;16", "I", "F"), {}, 0),
    "BMP": (".bmp", EIGHT_BITS, {}, 0),
    "GIF": (".gif", ("1", "L", "P", "P, transparent"), {}, 0),
}
WITHOUT_EXIF = ("BMP", "GIF")
CASES = [
    (kind, mode, orientation)
    for kind, (_, modes, *_) in FORMATS.items()
    for mode in modes
    for orientation in (LAID if kind not in WITHOUT_EXIF else (1,))
]


def stored(kind, mode, orientation):
    """The picture in a format, lying as the orientation says."""
    image, options = MODES[mode][0](), FORMATS[kind][2]
    if orientation != 1:
        image = image.transpose(LAID[orientation])
    if kind not in WITHOUT_EXIF:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {**options, "exif": exif}
    if kind == "MPO":
        options = {**options, "save_all": True, "append_images": [image.transpose(LAID[3])]}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def check(pixels, case):
    kind, mode, _ = case
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8, case
    difference = np.abs(pixels.astype(int) - MODES[mode][1]).max()
    assert difference <= FORMATS[kind][3], f"{case}: {difference}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every case as a file, in a folder with a table for the builder: case → path."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}
    for number, case in enumerate(CASES):
        paths[case] = folder / f"{number:03d}{FORMATS[case[0]][0]}"
        paths[case].write_bytes(stored(*case))
    lines = [f"{path.name},a,0,aerial,train" for path in paths.values()]
    lines += ["000.jpg,b,0,aerial,query", "000.jpg,b,1,ground,gallery"]
    (folder / "crops.csv").write_text("\n".join(["path,identity,camera,platform,split", *lines]))
    return paths


def test_every_case_is_as_it_should_be(files):
    assert {Image.open(path).format for path in files.values()} == {
        kind.upper() for kind in FORMATS
    }
    read = {case: Image.open(path).mode for case, path in files.items()}
    assert {read["TIFF", mode, 1] for mode in FORMATS["TIFF"][1]} == {*MODES} - {"P, transparent"}
    assert "transparency" in Image.open(files["PNG", "P, transparent", 1]).info


def test_decode(files):
    for case, path in files.items():
        data = path.read_bytes()
        check(decode(data), case)
        check(pixels_of(Image.open(io.BytesIO(data))), case)
        assert defect(data) == ""


def test_without_simplejpeg(files, monkeypatch):
    with_it = {case: decode(path.read_bytes()) for case, path in files.items()}
    monkeypatch.setattr("g2ajax.data.images.simplejpeg", None)
    for case, path in files.items():
        np.testing.assert_array_equal(decode(path.read_bytes()), with_it[case], str(case))


def test_a_builder(files, tmp_path):
    manual = next(iter(files.values())).parent
    dataset = open_dataset("crops_from_csv", data_dir=str(tmp_path), manual_dir=str(manual))
    split = dataset.splits["train"]
    names = split.image_id.tolist()
    assert len(names) == len(CASES)
    for case, path in files.items():
        data = split.read(names.index(path.name))
        check(decode(data), case)
        np.testing.assert_array_equal(decode(data), decode(path.read_bytes()))
        assert Image.open(io.BytesIO(data)).format in ("JPEG", "MPO", "PNG")


def test_frames_have_the_size_of_the_upright_image(files):
    for path in files.values():
        assert image_size(path, "it") == size_of(as_stored(path.read_bytes())) == (HEIGHT, WIDTH)


def test_the_reader_of_a_search(files, images_only):
    model = of_run(images_only, images_only.options.phases[0], "best", 0)
    assert model.image_size == (HEIGHT, WIDTH)
    rows = read_files(model, tuple(files.values()), {})
    for case, (path, _, pixels) in zip(files, rows, strict=True):
        assert path == files[case]
        check(pixels, case)


def grey_file(values, kind):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return decode(buffer.getvalue())[..., 0].ravel().tolist()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_white_of_16_bits_is_65535(kind):
    values = np.array([[0, 255, 256, 4095, 32768, 65535]], np.uint16)
    assert grey_file(values, kind) == [0, 0, 1, 15, 128, 255]


def test_white_of_32_bits_is_what_holds_all_values():
    assert grey_file(np.array([[-5, 0, 100, 255]], np.int32), "TIFF") == [0, 0, 100, 255]
    assert grey_file(np.array([[0, 256, 65535]], np.int32), "TIFF") == [0, 1, 255]
    assert grey_file(np.array([[np.nan, -1, 0.5, 1]], np.float32), "TIFF") == [0, 0, 128, 255]
    assert grey_file(np.array([[0.4, 2, 255]], np.float32), "TIFF") == [0, 2, 255]
    with pytest.raises(ValueError, match="up to 70000 do not say what white is; store"):
        grey_file(np.array([[0, 70000]], np.int32), "TIFF")


def test_orientation_of_xmp_and_damaged_exif():
    for metadata, upright in (
        ({"xmp": b'<x tiff:Orientation="6"/>'}, False),
        ({"exif": b"Exif\0\0MM\0*\0\0\0\xff"}, True),
    ):
        buffer = io.BytesIO()
        Image.fromarray(COLOUR).save(buffer, "JPEG", quality=95, **metadata)
        pixels = decode(buffer.getvalue())
        assert pixels.shape == ((HEIGHT, WIDTH, 3) if upright else (WIDTH, HEIGHT, 3))


def test_verify_says_what_training_will_do():
    """A byte anywhere in a JPEG is another one: the two agree on whether it is still an image."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    refused = 0
    for options in ({}, {"exif": exif}):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", **options)
        whole = buffer.getvalue()
        for place in rng.integers(2, len(whole), 30).tolist():
            data = bytearray(whole)
            data[place] ^= int(rng.integers(1, 256))
            try:
                decode(bytes(data))
                reads = True
            except ValueError:
                reads = False
            assert (defect(bytes(data)) == "") == reads, place
            refused += not reads
    assert 5 < refused < 55


def test_only_one_module_opens_images():
    """Nothing that reads a user's file asks PIL itself."""
    root = pathlib.Path(__file__).parents[2]
    # Pages and SkyGround open what they have drawn themselves.
    drawn = {"g2ajax/report/album.py", "g2ajax/synthetic/tracklet_layouts.py"}
    own = {"g2ajax/data/images.py", *drawn}
    files = [*(root / "g2ajax").rglob("*.py"), *(root / "tfds_builders").rglob("*.py")]
    opens = {str(p.relative_to(root)) for p in files if "Image.open(" in p.read_text()}
    assert opens == own
