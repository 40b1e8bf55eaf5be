"""Embeddings as files, of models that need no training."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from g2ajax.__main__ import main
from g2ajax.apps import export
from g2ajax.cli import opening
from g2ajax.data.images import resize
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.models.load import of_run
from g2ajax.models.model import fingerprint
from g2ajax.retrieval.distances import unit
from g2ajax.training import loop
from g2ajax.training.workdir import stored_config

pytest.importorskip("flatbuffers")
TEXT = ("a person in a red coat", "blue shoes")


def model_of(run):
    """The model of a run before its first step."""
    return of_run(run, run.options.phases[0], "best", 7)


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Makes the command open the model of a given run; its folder."""

    def choose(run):
        def load(source, *, dtype, **options):
            assert dtype == "float32"
            return model_of(run)

        monkeypatch.setattr(opening, "load", load)
        return tmp_path / "run"

    return choose


def test_images_of_a_run(ranked_run, fake_dataset, tmp_path, capsys):
    workdir = ranked_run[0]
    assert main(["export", f"--workdir={workdir}", f"--out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("largest difference") == 3 and "batch of 8" in printed
    assert {p.name for p in tmp_path.iterdir()} == {"image.stablehlo", "image.stablehlo.json"}
    about = json.loads((tmp_path / "image.stablehlo.json").read_text())
    assert about["trained_on"]["name"] == "fake" and about["checkpoint"] == loop.CHOSEN_ON_TEST
    run, meta = loop.reopen(stored_config(workdir), workdir, "best")
    assert about["step"] == meta["total_step"] and about["parameters"] == fingerprint(run.model)
    assert about["input"]["shape"] == ["rows", 48, 32, 3] and about["input"]["dtype"] == "uint8"
    assert about["input"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert about["output"]["norm_1"] and about["output"]["metric"] == "cosine"

    # As docs/export.md says, in a batch of a size that nobody tried.
    data = (tmp_path / "image.stablehlo").read_bytes()
    images = np.random.default_rng(1).integers(0, 256, (2, 48, 32, 3), np.uint8)
    embedding = jax.export.deserialize(bytearray(data)).call(images)
    assert embedding.shape == (2, about["output"]["shape"][1])
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, atol=1e-5)


def test_a_text_tower(with_text, use, tmp_path):
    out = tmp_path / "out"
    arguments = [f"--workdir={use(with_text)}", "--part=text", f"--out={out}"]
    assert main(["export", *arguments]) == 0
    about = json.loads((out / "text.stablehlo.json").read_text())
    assert about["input"]["shape"] == ["rows", 12] and about["input"]["dtype"] == "int32"
    ids = Tokenizer()(TEXT, context_length=12)
    batch = {"caption": np.asarray(ids)}
    ours = unit(with_text.task.embedder.embed_text(nnx.state(with_text.model), batch))
    found = export.load(out / "text.stablehlo")(batch["caption"])
    np.testing.assert_allclose(found, ours, atol=export.TOLERANCE)


def test_the_same_as_onnx(with_text, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    written = export.export(model_of(with_text), tmp_path, part="text", format="onnx")
    assert set(written.differences) == set(export.BATCH_SIZES)
    assert max(written.differences.values()) <= export.TOLERANCE
    found = export.load(written.program)(np.asarray(Tokenizer()(TEXT, context_length=12)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_the_resize_inside(images_only, use, tmp_path, capsys, format):
    pytest.importorskip("onnxruntime")
    arguments = [f"--workdir={use(images_only)}", f"--out={tmp_path}", f"--format={format}"]
    assert main(["export", *arguments, "--resize"]) == 0
    assert "resized images: largest difference" in capsys.readouterr().out
    about = json.loads((tmp_path / f"image.{format}.json").read_text())["input"]
    assert about["shape"] == ["rows", "height", "width", 3] and about["image_size"] == [48, 32]
    assert about["interpolation"] == "bicubic, antialiased, inside"
    images = np.random.default_rng(1).integers(0, 256, (2, 90, 50, 3), np.uint8)
    small = np.stack([resize(image, (48, 32), "bicubic") for image in images])
    batch = {"image": small, "camera": np.zeros(2, np.int32), "platform": np.zeros(2, np.int32)}
    model = images_only.model
    ours = unit(images_only.task.embedder.embed(nnx.state(model), batch))
    found = export.load(tmp_path / f"image.{format}")(images)
    np.testing.assert_allclose(found, ours, atol=export.TOLERANCE_RESIZED)


def test_a_program_that_differs_is_not_kept(images_only, use, tmp_path, capsys, monkeypatch):
    written, loaded = [], export.load

    def load(path):
        written.append(path)
        program = loaded(path)
        return lambda batch: program(batch) + (np.nan if len(batch) == 3 else 0.0)

    monkeypatch.setattr(export, "load", load)
    assert main(["export", f"--workdir={use(images_only)}", f"--out={tmp_path / 'out'}"]) == 1
    assert "differs from the method's by nan" in capsys.readouterr().err
    assert written and list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_exported(images_only, with_text, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"embeds captions, and 'strong_baseline'.*aea_firm, irra"):
        export.export(model_of(images_only), tmp_path, part="text")
    with pytest.raises(ValueError, match="resize is of images; leave it out with part=text"):
        export.export(model_of(with_text), tmp_path, part="text", format="onnx", resize=True)
    (tmp_path / "a.stablehlo").write_text("text")
    with pytest.raises(ValueError, match=r"is no exported program \(4 bytes\)"):
        export.load(tmp_path / "a.stablehlo")
    with pytest.raises(ValueError, match="no format 'tflite'; known: stablehlo, onnx"):
        export.check_packages("tflite")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(export.importlib, "import_module", missing)
    with pytest.raises(ValueError, match="needs the package flatbuffers, which is not installed"):
        export.check_packages("stablehlo")
