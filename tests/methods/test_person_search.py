"""SeqNet, COAT, the plain detector, and head distillation on a tiny network."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.backbones import resnet
from g2ajax.interop import families
from g2ajax.interop.load import InitOptions, initialise, initialise_teacher
from g2ajax.interop.state_dict import load_state_dict, to_state_dict
from g2ajax.losses.oim import UNLABELLED
from g2ajax.methods.head_distillation import Distillation, _taught
from g2ajax.methods.seqnet import InstanceMatching, MatchingOptions, Regions

CLASSES = 6
RPN = {"train_pre_nms": 40, "train_post_nms": 8, "test_pre_nms": 40, "test_post_nms": 8}
DETECTOR = {
    "backbone": {"name": "resnet_short"},
    "rpn": RPN | {"sizes": (16, 32), "samples": 10**6},
    # Everything is drawn: nothing depends on the key.
    "regions": {"samples": 10**6, "score_threshold": 0.2, "max_detections": 6},
}
SEARCH = DETECTOR | {"embedding_dim": 8, "matching": {"queue_size": 4}}
COAT = SEARCH | {"num_heads": 2, "freeze_stem": False}
TEACHER = {name: SEARCH[name] for name in ("backbone", "embedding_dim", "matching")}
DISTILLED = {"softmax_weight": 0.5, "similarity_bidirectional": True, "logit_bidirectional": True}


@pytest.fixture(scope="module", autouse=True)
def short():
    """One block a stage, few channels."""
    variant = resnet.Variant("bottleneck", (1, 1, 1, 1), width=4)
    with mock.patch.dict(resnet.VARIANTS, {"resnet_short": variant}):
        yield


def make(name, options, classes=CLASSES, dtype=jnp.float32):
    task = methods.DataFacts(classes, (64, 96), dtype=dtype)
    return methods.build({"name": name} | options, task, rngs=nnx.Rngs(params=0))


def abstract(name, options, classes=CLASSES):
    return nnx.eval_shape(lambda: make(name, options, classes))


def frames(canvas, sizes, people, seed=0):
    """A batch; `people` are (box, label) of each image. Padding holds anything."""
    images = []
    for i, (height, width) in enumerate(sizes):
        image = np.full((*canvas, 3), 77, np.uint8)
        pixels = np.random.default_rng(seed + i).integers(0, 256, (height, width, 3))
        image[:height, :width] = pixels
        images.append(image)
    boxes, mask = np.full((len(sizes), 3, 4), 9.0, np.float32), np.zeros((len(sizes), 3), bool)
    label = np.full((len(sizes), 3), 5, np.int32)
    for i, found in enumerate(people):
        for j, (box, person) in enumerate(found):
            boxes[i, j], mask[i, j], label[i, j] = box, True, person
    batch = {"image": np.stack(images), "size": np.asarray(sizes, np.int32)}
    return jax.tree.map(jnp.asarray, batch | {"boxes": boxes, "box_mask": mask, "label": label})


PEOPLE = [((4, 5, 30, 50), 2), ((20, 1, 50, 55), -1), ((30, 30, 50, 58), 0)]


@pytest.fixture(scope="module")
def seqnet():
    """Losses, tables, detections and queries of SeqNet, in one compilation a shape."""
    graph, state = nnx.split(make("seqnet", SEARCH))

    @jax.jit
    def call(state, batch):
        trained = nnx.merge(graph, state, copy=True)
        _, terms = trained.loss(batch, nnx.Rngs(0))
        model = nnx.view(
            nnx.merge(graph, state, copy=True),
            use_running_average=True,
            raise_if_not_found=False,
        )
        tables = trained.roi_heads.reid_loss.tables()
        return {
            "losses": terms,
            "tables": (tables.lookup, tables.queue, tables.header),
            "statistics": trained.backbone.layer2[0].bn2.var[...],
            "gallery": model.detect(batch),
            "query": model.embed_queries(batch),
            "as_gallery": model.detect(batch, query_boxes=batch["boxes"][:, 0]),
        }

    return lambda batch: call(state, batch), call


def first(tree):
    """The part that belongs to image 0."""
    return jax.tree.map(lambda x: np.asarray(x)[0], tree)


@pytest.mark.slow
def test_padding_changes_nothing(seqnet):
    call, jitted = seqnet
    alone = call(frames((64, 64), [(60, 58)], [PEOPLE]))
    # A larger canvas and an image that is none.
    padded = call(frames((64, 96), [(60, 58), (0, 0)], [PEOPLE, []]))
    for name in ("losses", "tables", "statistics"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), alone[name], padded[name]
        )
    company = call(frames((64, 96), [(60, 58), (64, 90)], [PEOPLE, PEOPLE[:1]]))
    detected = ("gallery", "query", "as_gallery")
    for other in (padded, company):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
            first([alone[name] for name in detected]),
            first([other[name] for name in detected]),
        )
    assert alone["gallery"].valid.sum() > 2
    # One canvas, one compilation, whatever is in it.
    assert jitted._cache_size() == 2


def test_the_identities_of_a_batch_enter_the_tables(seqnet):
    call, _ = seqnet
    lookup, queue, header = call(frames((64, 96), [(60, 58), (64, 90)], [PEOPLE, PEOPLE[:2]]))[
        "tables"
    ]
    norms = np.linalg.norm(lookup, axis=1)
    np.testing.assert_allclose(norms, [1, 0, 1, 0, 0, 0], atol=1e-5)
    # At least the two true boxes without identity arrived; the header may have gone around.
    assert 0 <= header < 4
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1)[:2], 1.0, atol=1e-5)


def test_a_query_comes_out_first(seqnet):
    call, _ = seqnet
    batch = frames((64, 96), [(60, 58), (64, 90)], [PEOPLE, PEOPLE[1:]])
    found = call(batch)
    query, shown = found["query"], found["as_gallery"]
    np.testing.assert_allclose(shown.boxes[:, 0], batch["boxes"][:, 0], atol=1e-4)
    np.testing.assert_allclose(shown.scores[:, 0], 1.0)
    np.testing.assert_allclose(shown.embeddings[:, 0], query[:, 0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(query, axis=-1), batch["box_mask"], atol=1e-5)
    # The gallery's embeddings are as long as their scores.
    gallery = found["gallery"]
    lengths = np.linalg.norm(gallery.embeddings, axis=-1)
    np.testing.assert_allclose(lengths, gallery.scores, atol=1e-5)
    assert (np.diff(gallery.scores, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("student", "untrained"),
    [
        ({"name": "seqnet"} | SEARCH, {"roi_heads.teacher_head.roi_heads.embedding_head.rescaler"}),
        pytest.param(
            {"name": "coat"} | COAT,
            {"roi_heads.teacher_head3.roi_heads.embedding_head_3rd.rescaler"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_student_and_teacher_learn(student, untrained):
    distillation = dict(DISTILLED)
    if student["name"] == "seqnet":
        distillation.pop("softmax_weight")
    options = {"student": student, "distillation": distillation}
    graph, params, rest = nnx.split(make("head_distillation", options), nnx.Param, ...)

    @jax.jit
    def step(params, rest, batch):
        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            total, terms = model.loss(batch, nnx.Rngs(0))
            return total, (terms, nnx.state(model, nnx.Not(nnx.Param)))

        return jax.value_and_grad(loss, has_aux=True)(params)

    sizes = [(60, 58), (64, 90)]
    (total, (terms, after)), gradient = step(
        params, rest, frames((64, 96), sizes, [PEOPLE, PEOPLE[:2]])
    )
    assert np.isfinite(total) and {"distil_logits", "distil_similarity"} <= set(terms)
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-5)
    still = set()
    for path, value in nnx.to_flat_state(gradient):
        assert np.isfinite(value[...]).all(), path
        if not np.any(value[...]):
            still.add(".".join(map(str, path[:-1])))
    assert still == untrained
    moved = [
        path for path, value in nnx.to_flat_state(after) if path[-1] == "lut" and np.any(value[...])
    ]
    assert len(moved) == {"seqnet": 2, "coat": 3}[student["name"]]

    # Nobody in the batch: background to learn from, no identity, every number finite.
    (total, (terms, after)), gradient = step(params, rest, frames((64, 96), sizes, [[], []]))
    assert total > 0 and np.isfinite(total)
    assert not any(terms[n] for n in terms if "reid" in n or "distil" in n or "matching" in n)
    for path, value in [*nnx.to_flat_state(gradient), *nnx.to_flat_state(after)]:
        assert np.isfinite(value[...]).all(), path
        assert path[-1] not in ("lut", "cq", "header") or not np.any(value[...])


@pytest.mark.parametrize(
    "student",
    [
        {"name": "seqnet"} | SEARCH,
        pytest.param({"name": "coat"} | COAT, marks=pytest.mark.slow),
    ],
)
def test_half_precision_with_recomputation(student):
    options = {"student": student | {"remat": True, "padding": "counted"}}
    batch = frames((64, 96), [(60, 58), (64, 90)], [PEOPLE, PEOPLE[:1]])

    def both():
        model = make("head_distillation", options, dtype=jnp.bfloat16)
        features = model.maps(batch).features
        total, terms = model.loss(batch, nnx.Rngs(0))
        gradient = nnx.grad(lambda model: model.loss(batch, nnx.Rngs(0))[0])(model)
        return features, total, terms, model.detect(batch), gradient

    # Traced, not run: the network is bfloat16, losses and results are float32.
    features, *rest = jax.eval_shape(both)
    assert features.dtype == jnp.bfloat16
    for leaf in jax.tree.leaves(rest):
        assert leaf.dtype in (jnp.float32, jnp.bool_), leaf


def test_plain_detector():
    graph, state = nnx.split(make("faster_rcnn", DETECTOR))

    @jax.jit
    def call(state, batch):
        model = nnx.merge(graph, state, copy=True)
        total, terms = model.loss(batch, nnx.Rngs(0))
        return total, terms, model.detect(batch)

    total, terms, found = call(state, frames((64, 64), [(60, 58)], [PEOPLE]))
    assert set(terms) == {"rpn_cls", "rpn_reg", "proposal_cls", "proposal_reg"}
    assert np.isfinite(total) and found.valid.any() and found.embeddings is None
    inside = np.asarray([58.0, 60.0, 58.0, 60.0])
    assert (np.asarray(found.boxes) <= inside).all() and (np.asarray(found.boxes) >= 0).all()


@pytest.mark.parametrize(("drop", "row"), [(False, 1.0), (True, 0.0)])
def test_teacher_trains_the_first_identity_unless_told_otherwise(drop, row):
    graph, state = nnx.split(make("head_teacher", TEACHER | {"drop_first_identity": drop}))
    image = np.random.default_rng(0).uniform(0, 255, (4, 64, 32, 3))
    batch = {"image": jnp.asarray(image, jnp.float32), "label": jnp.asarray([0, 3, -1, 0])}

    @jax.jit
    def call(state, batch):
        model = nnx.merge(graph, state, copy=True)
        total, _ = model.loss(batch, nnx.Rngs(0))
        return total, model.roi_heads.reid_loss.lut[...]

    total, table = call(state, batch)
    assert np.isfinite(total)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), [row, 0, 0, 1, 0, 0], atol=1e-5)


def test_a_teacher_without_weight_is_a_constant():
    table = InstanceMatching(3, 4, MatchingOptions(queue_size=2))
    x = jnp.eye(4)[:2]
    mask = jnp.ones(2, bool)

    def value(x, weight):
        pid = jnp.asarray([1, UNLABELLED])
        regions = Regions(jnp.zeros((2, 1, 1, 1)), x, pid, mask, None)
        terms, out, _ = _taught(Distillation(matching_weight=weight), table, x, regions)
        return jnp.sum(out) + sum(terms.values(), jnp.zeros(()))

    assert not np.any(jax.grad(value)(x, 0.0))
    assert not np.any(table.lut[...]) and table.header[...] == 0
    value(x, 1.0)
    assert np.any(table.lut[...]) and table.header[...] == 1


def published(model):
    """The state dict as the reference saves it."""
    rng = np.random.default_rng(0)
    return {k: rng.normal(size=v.shape) for k, v in to_state_dict(model).items()}


def test_checkpoints_of_the_references_fit():
    tensors = published(make("coat", COAT | {"weights": {"softmax_2nd": 0.0, "softmax_3rd": 0.0}}))
    twice = {
        name.replace("box_head_1st", "box_head").replace("transformer.0", "transblock"): value
        for name, value in tensors.items()
    }
    unused = {"roi_heads.box_head_1st.conv0.weight": np.zeros(1)}
    tensors |= twice | unused
    tensors["rpn.head.conv.0.0.weight"] = tensors.pop("rpn.head.conv.weight")
    name, _ = families.detect_family(tensors)
    assert name == "COAT"
    rules = families.family(name)
    options = {
        "rename": rules.rename,
        "ignore": rules.ignore,
        "allow_missing": rules.allow_missing,
    }
    model = make("coat", COAT)
    report = load_state_dict(model, tensors, **options)
    assert report.ok and all("softmax" in kept for kept in report.names("kept"))
    loaded = to_state_dict(model)["roi_heads.reid_loss_3rd.lut"]
    np.testing.assert_allclose(loaded, tensors["roi_heads.reid_loss_3rd.lut"], rtol=1e-6)


def test_heads_start_as_the_last_stage_of_a_plain_network(tmp_path):
    network = resnet.build("resnet_short", rngs=nnx.Rngs(params=7))
    path = tmp_path / "resnet.npz"
    np.savez(path, **to_state_dict(network))
    model = make("seqnet", SEARCH)
    before = to_state_dict(model)
    report = initialise(model, InitOptions(file=str(path)))
    assert any("roi_heads.box_head, roi_heads.reid_head" in note for note in report.notes)
    ours, theirs = to_state_dict(model), to_state_dict(network)
    for name, value in theirs.items():
        places = [f"backbone.{name}"]
        if name.startswith("layer4"):
            places = [f"roi_heads.{head}.{name}" for head in ("box_head", "reid_head")]
        for place in places:
            np.testing.assert_array_equal(ours[place], value)
    kept = "roi_heads.box_predictor.bbox_pred.1.weight"
    np.testing.assert_array_equal(ours[kept], before[kept])


@pytest.mark.parametrize(
    ("head", "options", "softmax"), [("seqnet", SEARCH, 0.0), ("coat", COAT, 1.0)]
)
def test_students_start_with_a_trained_teacher(tmp_path, head, options, softmax):
    path = tmp_path / "teacher.npz"
    own = {"head": head, "softmax_weight": softmax, "num_heads": 2}
    np.savez(path, **published(make("head_teacher", TEACHER | own)))
    tensors = dict(np.load(path))
    model = make("head_distillation", {"student": {"name": head} | options})
    report = initialise_teacher(model.teacher, InitOptions(teacher=str(path)))
    assert report.family == {"seqnet": "SeqNet's teacher", "coat": "COAT's teacher"}[head]
    assert not report.names("kept")
    filled = to_state_dict(model.teacher)
    for name, value in filled.items():
        if "header" not in name:
            np.testing.assert_allclose(value, tensors[name], rtol=1e-6, err_msg=name)
    assert any(name.endswith("lut") for name in filled)
    other = make("head_distillation", {"student": {"name": head} | options}, classes=7)
    with pytest.raises(ValueError, match=r"lut: \(6, 8\) in the file, expected \(7, 8\)"):
        initialise_teacher(other.teacher, InitOptions(teacher=str(path)))


def test_a_teacher_without_a_pupil_is_refused():
    with pytest.raises(ValueError, match=r"only a method of head distillation has a teacher"):
        initialise_teacher(make("seqnet", SEARCH).teacher, InitOptions(teacher="teacher.pth"))


def test_a_checkpoint_of_other_classes_is_refused():
    tensors = published(make("seqnet", SEARCH))
    assert families.detect_family(tensors)[0] == "SeqNet"
    assert not any("header" in name for name in tensors)
    message = r"roi_heads\.reid_loss\.lut: \(6, 8\) in the file, expected \(7, 8\)"
    with pytest.raises(ValueError, match=message):
        load_state_dict(abstract("seqnet", SEARCH, classes=7), tensors)


def test_the_stem_is_frozen_only_if_asked():
    def trained(options):
        paths = nnx.to_flat_state(nnx.state(abstract("seqnet", options), nnx.Param))
        return {".".join(map(str, path)) for path, _ in paths}

    stem = {"backbone.conv1.kernel", "backbone.bn1.scale", "backbone.bn1.bias"}
    assert trained(SEARCH | {"freeze_stem": False}) - trained(SEARCH) == stem


def test_what_cannot_be_is_said():
    for backbone, message in (
        ({"name": "vit_tiny"}, r"'vit_tiny': detectors take a plain ResNet, one of"),
        ({"name": "resnet50", "with_ibn": True}, r"'resnet50' with with_ibn: detectors take"),
    ):
        with pytest.raises(ValueError, match=message):
            abstract("seqnet", {"backbone": backbone})
    with pytest.raises(ValueError, match=r"student\.name = 'seqnett': did you mean 'seqnet'"):
        abstract("head_distillation", {"student": {"name": "seqnett"}})
    options = {"student": {"name": "seqnet"} | SEARCH, "distillation": DISTILLED}
    with pytest.raises(ValueError, match=r"SeqNet's teacher has no identity classifier"):
        abstract("head_distillation", options)
    with pytest.raises(ValueError, match=r"60 x 64 pixels: expected multiples of 32"):
        make("faster_rcnn", DETECTOR).maps(frames((60, 64), [(60, 58)], [PEOPLE]))
