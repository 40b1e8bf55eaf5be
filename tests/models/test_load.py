"""Models opened from runs, folders and public files, on a machine without any dataset."""

import json
import pathlib
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import g2ajax
from g2ajax.__main__ import main
from g2ajax.apps import evaluate
from g2ajax.interop import families, hub
from g2ajax.interop.load import WeightFile
from g2ajax.methods import evaluated
from g2ajax.models.architectures import ARCHITECTURES, choose
from g2ajax.models.load import load
from g2ajax.tasks import crops
from g2ajax.training import loop
from tests.fake_data import make_dataset
from tests.parity import reference_weights
from tests.runs import opens

GOLDENS = pathlib.Path(__file__).parents[1] / "parity" / "goldens"
PUBLIC = {
    "crop_osnet_x0_25": "osnet_x0_25",
    "crop_osnet_x0_5": "osnet_x0_5",
    "crop_osnet_x1_0": "osnet_x1_0",
    "crop_osnet_ibn_x1_0": "osnet_ibn_x1_0",
    "crop_osnet_ain_x0_25": "osnet_ain_x0_25",
    "crop_osnet_ain_x1_0": "osnet_ain_x1_0",
    "crop_resnet_fc512_1111": "resnet50_fc512",
    "crop_strong_resnet50": "strong_baseline_r50",
    "crop_strong_resnet50_ibn_a": "strong_baseline_r50",
    "crop_mgn": "fastreid_mgn_r50",
    "crop_transreid_jpm": "transreid",
    "text_clip_vitb16_full": "clip_vit_b16",
    "text_irra_forward": "irra",
    "ps_seqnet_eval": "seqnet",
    "ps_coat_eval": "coat",
    "vdt_train_step": "vdt",
}


def described(names_and_shapes) -> WeightFile:
    """A file with these tensors, without their values."""
    tensors = {n: np.broadcast_to(np.float32(0), tuple(shape)) for n, shape in names_and_shapes}
    name, why = families.detect_family(tensors)
    family = families.with_last_block(families.family(name), tensors)
    names = {n: families.our_name(family, n) for n in tensors}
    return WeightFile(pathlib.Path("public.pth"), tensors, family, why, names)


def keys(case: str) -> list:
    return [(n, s) for n, s, _ in json.loads((GOLDENS / f"{case}.keys.json").read_text())]


@pytest.mark.parametrize(("case", "architecture"), PUBLIC.items())
def test_the_tensors_of_public_classes_name_their_architecture(case, architecture):
    file = described(keys(case))
    assert choose(file) == architecture == choose(file, architecture)
    other = "coat" if architecture != "coat" else "seqnet"
    with pytest.raises(ValueError, match=f"this is a file of {architecture}; say architecture="):
        choose(file, other)


def test_a_file_of_the_published_dtst_is_a_vdt():
    """Its selector is never called there."""
    idle = ("backbone.token_selector.score_predictor.in_conv.1.weight", (32, 64))
    file = described([*keys("vdt_train_step"), idle])
    assert choose(file) == "vdt"
    assert any(re.search(pattern, idle[0]) for pattern in file.family.ignore)


def fastreid(network: str, *, non_local: bool = False, learned: bool = False) -> list:
    """Names of fast-reid's files that tell its recipes apart."""
    blocks = {"r50": 6, "r101": 23}[network]
    names = [(f"backbone.layer3.{i}.conv1.weight", (256, 1024, 1, 1)) for i in range(blocks)]
    names += [("backbone.layer4.0.conv3.weight", (2048, 512, 1, 1)), ("heads.weight", (751, 2048))]
    names += [("backbone.NL_2.0.g.weight", (1, 1))] * non_local
    return names + [("heads.pool_layer.p", (1,))] * learned


@pytest.mark.parametrize("network", ["r50", "r101"])
@pytest.mark.parametrize(
    ("recipe", "marks"),
    [
        ("bot", {}),
        ("agw", {"non_local": True}),
        ("sbs", {"non_local": True, "learned": True}),
        ("sbs", {"learned": True}),
    ],
)
def test_the_recipes_of_fastreid_are_told_apart(network, recipe, marks):
    file = described(fastreid(network, **marks))
    name = choose(file)
    assert name == f"fastreid_{recipe}_{network}"
    backbone = ARCHITECTURES[name].read(file.shapes).method.backbone
    assert backbone.name == f"resnet{network[1:]}"
    assert backbone.with_nl == bool(marks.get("non_local"))


def test_a_backbone_alone_embeds_nobody():
    file = described([("conv1.weight", (64, 3, 7, 7)), ("layer1.0.conv1.weight", (64, 64, 1, 1))])
    with pytest.raises(ValueError, match=r"no head of a re-id.*--config\.init\.file"):
        choose(file)
    with pytest.raises(ValueError, match="no architecture 'osnet_x0_2'; did you mean"):
        choose(file, "osnet_x0_2")


@pytest.fixture(scope="module")
def public_file(tmp_path_factory):
    """An OSNet x0.25 with torchreid's names, as its class draws them for the parity cases."""
    path = tmp_path_factory.mktemp("public") / "osnet_x0_25_market1501.safetensors"
    save_file(reference_weights.state_dict(str(GOLDENS / "crop_osnet_x0_25.keys.json")), path)
    return path


@pytest.fixture(scope="module")
def public(public_file):
    return load(public_file)


def test_a_public_file_has_its_codebases_numbers(public, public_file, tmp_path):
    data = public.options.data
    assert data.test_interpolation == "bilinear" and public.image_size == (256, 128)
    assert public.method.metric == "squared_euclidean"
    assert "trained on: unknown" in public.card.origin and not public.card.trained_on
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 128, 3), np.uint8)
    features = public.embed(images)
    # The method's own path.
    graphdef, state = evaluated(public.method)
    own = jax.jit(lambda state, x: nnx.merge(graphdef, state).embed(x))(
        state, jnp.asarray(images, jnp.float32)
    )
    assert features.shape == (3, 512) and features.dtype == np.float32
    assert np.abs(features - np.asarray(own)).max() <= 1e-5 * np.abs(features).max()
    assert public.distance(features, features[:1])[1, 0] > 0
    arguments = [f"--model={public_file}", f"--out={tmp_path / 'packed'}", "--licence=MIT"]
    assert main(["pack", *arguments]) == 0
    packed = load(tmp_path / "packed")
    assert packed.card.licence == "MIT"
    np.testing.assert_array_equal(packed.embed(images), features)
    with pytest.raises(ValueError, match="leave architecture='osnet_x0_25' out"):
        load(tmp_path / "packed", architecture="osnet_x0_25")


def test_scores_without_training(public, capsys, monkeypatch):
    with pytest.raises(ValueError, match="name the datasets to score it on"):
        evaluate.evaluate_datasets(public)
    with opens(make_dataset()):
        results = evaluate.evaluate_datasets(public, ("fake",))
    assert {r.protocol for r in results} == {"A2G", "G2A"}
    assert all(r.checkpoint.startswith("weights of osnet_x0_25") for r in results)
    assert all("trained on: unknown" in r.checkpoint for r in results)


@pytest.fixture
def no_data(monkeypatch):
    """Any attempt to open a dataset is an error."""

    def opened(*args, **options):
        raise AssertionError("a dataset was opened")

    for module in (crops, evaluate):
        monkeypatch.setattr(module, "open_dataset", opened)


def test_a_run_is_opened_without_its_data(ranked_run, no_data, tmp_path):
    workdir, config, results = ranked_run
    model = g2ajax.load(workdir)
    assert model.card.trained_on["name"] == "fake" and model.home == workdir
    assert [r["mAP"] for r in model.card.results] == [
        r.mAP for r in results if r.checkpoint.startswith("best")
    ]
    images = [make_dataset().splits["gallery"].read(row) for row in range(5)]
    for number, data in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(data)
    features = model.embed(sorted(tmp_path.glob("*.png")))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    # The folder that the finished run left is the same model.
    left = load(workdir / "model")
    np.testing.assert_array_equal(left.embed(sorted(tmp_path.glob("*.png"))), features)
    assert left.card.results == model.card.results and left.card.rankings == model.card.rankings
    assert load(workdir, checkpoint="latest").card.checkpoint == "last"
    assert load(workdir, dtype="bfloat16").facts.dtype == "bfloat16"
    with opens(make_dataset()):
        opened, _ = loop.reopen(config, workdir, "best")
    state = dict(nnx.to_flat_state(nnx.state(opened.model, nnx.Param)))
    for path, leaf in nnx.to_flat_state(nnx.state(model.method, nnx.Param)):
        np.testing.assert_array_equal(leaf[...], state[path][...])


def test_a_run_of_an_earlier_version_needs_its_data(ranked_run, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text((ranked_run[0] / "config.json").read_text())
    (workdir / "checkpoints").symlink_to(ranked_run[0] / "checkpoints")
    with opens(make_dataset()):
        model = load(workdir)
    assert model.card.trained_on["name"] == "fake"


def test_a_packed_model_without_its_classifier(ranked_run, no_data, tmp_path):
    out, images = tmp_path / "small", np.full((2, 48, 32, 3), 90, np.uint8)
    arguments = [f"--model={ranked_run[0]}", f"--out={out}", "--without-classifier"]
    assert main(["pack", *arguments]) == 0
    written = json.loads((out / "model.json").read_text())["weights"]
    assert written["left_out"] == ["heads.weight"]
    np.testing.assert_array_equal(load(out).embed(images), load(ranked_run[0]).embed(images))
    assert main(["pack", *arguments]) == 1  # it is there already


def edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, version=2), r"is of version 2, and this g2ajax reads version 1"),
        (lambda f: edit(f, metric="euclidean"), "was changed after it was written, in one of task"),
        (lambda f: edit(f, format="other"), "does not describe a model of g2ajax"),
        (lambda f: edit(f, colour="red"), "has the unknown field 'colour'"),
        (lambda f: (f / "model.json").write_text('{"a": '), "is damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:-9]
            ),
            "was cut off: it has",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                bytes((f / "model.safetensors").stat().st_size)
            ),
            "its sha256 differs",
        ),
    ],
)
def test_damaged_folders(public, tmp_path, damage, message):
    folder = public.save(tmp_path / "model")
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(folder)


def test_what_may_be_edited(public, tmp_path):
    folder = public.save(tmp_path / "model")
    edit(folder, name="mine", licence="CC-BY-4.0")
    assert load(folder).card.name == "mine"


def test_places_without_a_model(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder with neither a model"):
        load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="expected the folder of a run or of a model"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no file of weights at"):
        load(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="no checkpoint 'last'; a run has 'best' and 'latest'"):
        load(tmp_path, checkpoint="last")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(hub, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(ValueError, match=r"needs huggingface_hub; install it"):
        load("hf:someone/something")


def test_a_repository_with_a_card(public, tmp_path, monkeypatch):
    folder, asked = public.save(tmp_path / "snapshot"), []

    class Hub:
        @staticmethod
        def hf_hub_download(repository, file):
            asked.append((repository, file))
            if not (folder / file).exists():
                raise OSError("404")
            return str(folder / file)

    monkeypatch.setattr(hub, "importlib", SimpleNamespace(import_module=lambda name: Hub))
    assert load("hf:someone/something").card.name == public.card.name
    assert asked == [("someone/something", f) for f in ("model.json", "model.safetensors")]
    (folder / "model.json").unlink()
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ValueError, match="could not be fetched"):
        load("hf:someone/something")
