"""The model as an object: images in every form in, embeddings and distances out."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from g2ajax.data.images import resize
from g2ajax.methods import Method
from g2ajax.models import load as models
from g2ajax.models.model import check_sides
from g2ajax.models.pictures import as_sequence
from tests.fake_data import make_dataset


@pytest.fixture(scope="module")
def model(images_only):
    return models.of_run(images_only, images_only.options.phases[0], "best", 0)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 20), (48, 32), (99, 41))]


def test_all_forms_of_images_are_one(model, pictures, tmp_path):
    features = model.embed(pictures)
    assert features.shape == (3, model.width) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-6)
    paths = []
    for number, image in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    resized = np.stack([resize(image, model.image_size) for image in pictures])
    for same in (paths, list(map(str, paths)), list(map(Image.open, paths)), resized):
        np.testing.assert_allclose(model.embed(same), features, atol=1e-6)
    np.testing.assert_allclose(model.embed(paths[0]), features[:1], atol=1e-6)
    np.testing.assert_allclose(model.embed(pictures[2]), features[2:], atol=1e-6)
    np.testing.assert_allclose(model.embed(jax.numpy.asarray(resized)), features, atol=1e-6)
    raw = model.embed(pictures, normalised=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1)[:, None], features, atol=1e-6)
    assert model.distance(features, features).shape == (3, 3)


def test_batches_do_not_matter(model):
    split = make_dataset().splits["gallery"]
    images = [np.asarray(Image.open(io.BytesIO(split.read(row % 8)))) for row in range(19)]
    features = model.embed(images, progress=True)
    for count in (1, 2, 7, 8, 9):
        np.testing.assert_allclose(model.embed(images[:count]), features[:count], atol=1e-6)
    np.testing.assert_allclose(features[8:16], features[:8], atol=1e-6)
    assert model.embed([]).shape == (0, model.width)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 48, 32, 3), np.float32), r"float32 values; expected uint8 pixels 0 to 255"),
        (np.zeros((2, 3, 48, 32), np.uint8), r"channels come last here: np.moveaxis"),
        ([np.zeros((48, 32), np.uint8)], r"image 0 has shape \[48, 32\]; expected RGB"),
        ([np.zeros((48, 32, 4), np.uint8)], r"image 0 has shape \[48, 32, 4\]"),
        ([np.full((4, 4, 3), 300)], r"values from 300 to 300; expected pixels 0 to 255"),
        (7, "expected a list of images or an array"),
        ([b"text"], "image 0"),
    ],
)
def test_what_is_no_image(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.embed(images)


def test_bad_files_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="is a folder; give its files"):
        model.embed([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.embed([tmp_path / "nowhere.png"])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be decoded"):
        model.embed([tmp_path / "broken.jpg"])
    assert as_sequence("a.jpg") == ["a.jpg"]


class Sided(Method):
    """A method that embeds cameras."""

    needs_camera = True


def test_cameras_are_asked_for():
    with pytest.raises(
        ValueError, match=r"must be told the camera of every image .*camera=\[...\]"
    ):
        check_sides(Sided(), 2, None, None)
    with pytest.raises(ValueError, match=r"camera has shape \[1\]; expected \[2\]"):
        check_sides(Sided(), 2, [3], None)
    camera, platform = check_sides(Sided(), 2, [3, 4], [0, 1])
    assert camera.tolist() == [3, 4] and platform is None


def test_another_kind_of_model(model):
    with pytest.raises(ValueError, match="needs a method that embeds captions"):
        model.embed_text("a red coat")
    with pytest.raises(ValueError, match="needs a method that finds persons"):
        model.detect([np.zeros((9, 9, 3), np.uint8)])


def test_people_of_a_frame_by_a_model_of_crops(model):
    frame = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    features = model.embed_people(frame, [[10.2, 5, 40, 70.5], [0, 0, 90, 80]])
    expected = model.embed([frame[5:71, 10:40], frame])
    np.testing.assert_allclose(features, expected, atol=1e-6)
    assert model.embed_people(frame, []).shape == (0, model.width)
    with pytest.raises(ValueError, match="the box 0,0,91,80 is not inside the image of 90 x 80"):
        model.embed_people(frame, [[0, 0, 91, 80]])


def test_other_options_of_the_same_weights(model):
    mirrored = model.changed(evaluate={"flip": True})
    image = np.random.default_rng(1).integers(0, 256, (1, 48, 32, 3), np.uint8)
    both = model.embed(np.concatenate([image, image[:, :, ::-1]]), normalised=False)
    np.testing.assert_allclose(
        mirrored.embed(image, normalised=False)[0], both.mean(0), rtol=1e-4, atol=1e-5
    )
    assert mirrored.key != model.key and "flip" not in repr(mirrored)
    with pytest.raises(ValueError, match="has no option 'flop'"):
        model.changed(evaluate={"flop": True})


def test_sentences_and_images_share_a_space(with_text):
    model = models.of_run(with_text, with_text.options.phases[0], "best", 0)
    texts = model.embed_text(["a red coat", "blue shoes", "a red coat"])
    np.testing.assert_array_equal(texts[0], texts[2])
    images = model.embed(np.zeros((2, *model.image_size, 3), np.uint8))
    assert model.distance(texts, images).shape == (3, 2)
    assert model.embed_text([]).shape == (0, model.width)
    with pytest.raises(ValueError, match="the sentence is empty"):
        model.embed_text(["a coat", " "])
