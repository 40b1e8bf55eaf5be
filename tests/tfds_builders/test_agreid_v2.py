"""The AG-ReID.v2 builder on hand-written copies of both distributions and of the challenge."""

import json
import warnings

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.data.verify import verify
from tests.tfds_builders import dummies
from tfds_builders.agreid.names import parse_name
from tfds_builders.agreid_v2.agreid_v2_dataset_builder import EXPECTED, PROTOCOLS, Builder
from tfds_builders.agreid_v2.submission import submission

TRAIN, QUERY, GALLERY = "train_all/P0001T04041A0", "query/P0003T04041A0", "gallery/P0003T04041A0"
FILES = dummies.AGREID_V2_PROTOCOLS
A2C, A2W, C2A, W2A = FILES
TABLE = "qut_attribute_v8.mat"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("agreid_v2")
    dummies.write_agreid_v2(root / "manual" / "AG-ReID.v2")
    return dummies.build(Builder, root / "data", root / "manual")


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    root = tmp_path_factory.mktemp("challenge")
    dummies.write_agreid_challenge(root / "manual" / "ag-reid2023")
    return dummies.build(Builder, root / "data", root / "manual", "challenge_partial")


def build(tmp_path, config="partial", images=None, **options):
    outer = tmp_path / "manual" / "AG-ReID.v2"
    root = dummies.write_agreid_v2(outer, **options)
    dummies.write_images(root, images or {})
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def build_challenge(tmp_path, images=None, config="challenge_partial", **parts):
    root = dummies.write_agreid_challenge(tmp_path / "manual" / "ag-reid2023", **parts)
    dummies.write_images(root, images or {})
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def members(builder):
    """Protocol and split → file names without suffix."""
    names = [row["name"] for row in json.loads(builder.info.metadata["protocols"])]
    return {
        f"{name} {split}": {
            image_id.split("/")[-1].removesuffix(".jpg")
            for image_id, record in dummies.rows(builder, split).items()
            if i in record["protocols"]
        }
        for i, name in enumerate(names)
        for split in ("query", "gallery")
    }


OF_FILES = {
    "A2C query": {"P0003T04041A0C0F31"},
    "A2C gallery": {"P0003T04041A0C3F61"},
    "A2W query": {"P0003T04041A0C0F31"},
    "A2W gallery": {"P0003T04041A0C2F61", "P0001T02140A1C2F61Z"},
    "C2A query": {"P0003T04041A0C3F31"},
    "C2A gallery": {"P0003T04041A0C0F61"},
    "W2A query": {"P0003T04041A0C2F31", "P0001T02140A1C2F31"},
    "W2A gallery": {"P0003T04041A0C0F61", "P0001T02140A1C0F61"},
}


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 6, "query": 6, "gallery": 7})
    dummies.check_description("agreid_v2")
    assert built.name == "agreid_v2"
    assert Builder.BUILDER_CONFIGS[0].name == "strict"


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        image_id.split("/")[2]: (r["identity"], r["label"], r["camera"], r["platform"])
        for image_id, r in train.items()
    } == {
        "P0000T02140A2C0F691.jpg": (21402, 0, 0, 0),
        "P0000T02140A2C2F8671Z.jpg": (21402, 0, 1, 2),
        "P0000T02140A2C3F01111.jpg": (21402, 0, 2, 1),
        "P0001T04041A0C0F31.jpg": (1040410, 1, 0, 0),
        "P0001T04041A0C2F61.jpg": (1040410, 1, 1, 2),
        "P0001T04041A0C3F1.jpg": (1040410, 1, 2, 1),
    }
    record = train["train_all/P0000T02140A2/P0000T02140A2C2F8671Z.jpg"]
    assert record["identity_raw"] == b"P0000T02140A2"
    assert (record["camera_raw"], record["session"]) == (b"C2", b"02140")
    assert (record["altitude_level"], record["frame"], record["kind"]) == (2, 8671, 0)
    assert list(record["protocols"]) == []


@pytest.mark.parametrize(
    "name", ["P0006T0214A0C0F1831.jpg", "P006T02140A0C0F1.jpg", "P0006T02140A3C0F1.jpg", "a.jpg"]
)
def test_names_of_another_form(name):
    assert parse_name(name) is None


def test_attributes_are_those_of_the_identity(built):
    groups = json.loads(built.info.metadata["attribute_groups"])
    assert groups == {name: text.split() for name, text in dummies.AGREID_COLUMNS.items()}
    # by hand: unknown is the last class of each group
    expected = {
        21402: [2, 3, 4, 3, 4, 6, 3, 2, 2, 3, 4, 12, 1, 3, 8],
        1040410: [0, 3, 4, 3, 4, 4, 5, 2, 2, 3, 0, 12, 9, 6, 7],
        3040410: [2, 3, 4, 3, 4, 0, 5, 2, 2, 1, 4, 12, 9, 6, 8],
        1021401: [0, 3, 4, 3, 4, 6, 5, 0, 1, 3, 4, 12, 9, 6, 8],
        5021401: [1, 3, 4, 3, 4, 6, 5, 2, 2, 3, 4, 12, 9, 6, 8],
    }
    for split in ("train", "query", "gallery"):
        for record in dummies.rows(built, split).values():
            assert record["attributes"].tolist() == expected[record["identity"]]


def test_columns_align_by_name(tmp_path, built):
    backwards = dummies.agreid_table(dummies.AGREID_V2_TEST, order=-1)
    query = dummies.rows(build(tmp_path, test=backwards), "query")
    for image_id, record in dummies.rows(built, "query").items():
        assert query[image_id]["attributes"].tolist() == record["attributes"].tolist()


def test_protocols_are_those_of_the_files(built):
    assert members(built) == OF_FILES
    assert built.info.metadata["protocols_from"] == "files"
    rows = json.loads(built.info.metadata["protocols"])
    assert [(r["name"], r["query_platform"], r["gallery_platform"]) for r in rows] == [
        ("A2C", "aerial", "ground"),
        ("A2W", "aerial", "wearable"),
        ("C2A", "ground", "aerial"),
        ("W2A", "wearable", "aerial"),
    ]


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_both_distributions_with_files_in_both_places(tmp_path, inner, beside):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="agreid_v2")
        built = build(tmp_path, inner=inner, beside=beside)
    assert members(built) == OF_FILES


@pytest.mark.parametrize("inner", [True, False])
def test_manual_dir_may_be_the_folder_itself(tmp_path, inner):
    root = dummies.write_agreid_v2(tmp_path / "manual", inner=inner)
    for data, manual in (("a", tmp_path / "manual"), ("b", root)):
        built = dummies.build(Builder, tmp_path / data, manual)
        assert members(built) == OF_FILES


def test_without_files_the_rule_forms_the_protocols(tmp_path):
    message = "none of the protocol files exp1_aerial_to_cctv.txt, .* from the test images"
    with pytest.warns(UserWarning, match=message):
        built = build(tmp_path, files={})
    # 5021401 has no aerial image, and 1021401 none of C3
    assert members(built) == {
        **OF_FILES,
        "A2W query": {"P0003T04041A0C0F31", "P0001T02140A1C0F31"},
    }
    assert built.info.metadata["protocols_from"] == "identities"


def test_some_of_the_files(tmp_path):
    some = {name: FILES[name] for name in (A2C, W2A)}
    message = r"exp2_aerial_to_wearable.txt, exp4_cctv_to_aerial.txt are neither in .*put all four"
    with pytest.raises(FileNotFoundError, match=message):
        build(tmp_path, files=some)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{QUERY}/P0003T04041A0C0F99.jpg", "line 3: .*C0F99.jpg is not among the images"),
        (f"{TRAIN}/P0001T04041A0C0F31.jpg", "line 3: train_all/.* is not of the form query/"),
        ("P0003T04041A0C0F31.jpg", "line 3: .* is not of the form query/"),
        (
            f"{QUERY}/P0003T04041A0C3F31.jpg",
            "line 3: .* is of camera C3; the query images of A2C are of C0",
        ),
        (
            f"{GALLERY}/P0003T04041A0C2F61.jpg",
            "line 3: .* is of camera C2; the gallery images of A2C are of C3",
        ),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    files = {**FILES, A2C: f"{FILES[A2C]}{line}\n"}
    with pytest.raises(ValueError, match=f"{A2C}, {message}"):
        build(tmp_path, "strict", files=files)


def test_a_file_without_gallery(tmp_path):
    files = {**FILES, A2C: FILES[A2C].splitlines()[0]}
    with pytest.raises(ValueError, match=f"{A2C} names no gallery image"):
        build(tmp_path, "strict", files=files)


def test_lines_of_absent_images_are_passed_over_in_a_partial_copy(tmp_path):
    files = {**FILES, A2C: f"{GALLERY}/P0003T04041A0C3F99.jpg\n{FILES[A2C]}"}
    message = r"exp1_aerial_to_cctv.txt: 1 lines name images .* first is line 1\)"
    with pytest.warns(UserWarning, match=message):
        assert members(build(tmp_path, files=files)) == OF_FILES


@pytest.mark.parametrize(
    "entry", ["AG-ReID.v2/train_all", "AG-ReID.v2/query", "AG-ReID.v2/gallery", TABLE]
)
def test_missing_entry_is_named(tmp_path, entry):
    outer = tmp_path / "manual" / "AG-ReID.v2"
    dummies.write_agreid_v2(outer)
    (outer / entry).rename(outer / "elsewhere")
    name = entry.split("/")[-1]
    with pytest.raises(FileNotFoundError, match=rf"lacks {name}\nAG-ReID.v2 is linked from"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


def test_nothing_there(tmp_path):
    dummies.write_agreid(tmp_path / "manual" / "AG-ReID")
    with pytest.raises(FileNotFoundError, match=f"manual lacks train_all, query, gallery, {TABLE}"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        (TRAIN, "P0001T0404A0C0F1831.jpg", "is not of the form P0001T04041A0C0F31.jpg"),
        (TRAIN, "P0001T04041A0C1F31.jpg", r"is of camera C1; .* C0 \(aerial\), C2 \(wearable\)"),
        (TRAIN, "P0007T04041A0C0F31.jpg", "is of identity P0007T04041A0, its folder of P0001T0"),
        ("query", "P0003T04041A0C0F91.jpg", "query/P0003.* is not in the folder of an identity"),
        (
            "train_all/P0009T04041A0",
            "P0009T04041A0C0F1.jpg",
            rf"{TABLE} has no train row for identity 9040410 \(train_all/P0009T04041A0/P0009",
        ),
        (
            "gallery/P0009T04041A0",
            "P0009T04041A0C0F1.jpg",
            "no test row for identity 9040410",
        ),
        (
            "gallery/P0001T04041A0",
            "P0001T04041A0C0F1.jpg",
            r"identity P0001T04041A0 is in train and in gallery \(gallery/P0001T04041A0/",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, images={folder: [name]})


def test_wrong_attribute_file(tmp_path):
    table = dummies.agreid_table(dummies.AGREID_V2_TEST)
    table["beardon"][0, 1] = 3
    with pytest.raises(ValueError, match=rf"{TABLE}: test column beardon is 3.*1021401; expected"):
        build(tmp_path / "values", test=table)
    train, test = (dummies.agreid_table(p) for p in (dummies.AGREID_TRAIN, dummies.AGREID_V2_TEST))
    for part in (train, test):
        part["shoes"] = part.pop("bagmarket")
    with pytest.raises(ValueError, match=r"attribute column 'shoes' is of none of gender"):
        build(tmp_path / "group", train=train, test=test)
    with pytest.raises(ValueError, match="struct `qut_attribute` whose `test` has"):
        build(tmp_path / "structure", test={"gendermale": table["gendermale"]})
    both = dummies.agreid_table({**dummies.AGREID_V2_TEST, "0001040410": ("gendermale",)})
    with pytest.raises(ValueError, match=r"identities \[1040410\] are in train and in test"):
        build(tmp_path / "both", test=both)


def test_other_counts_are_warnings_and_verify_repeats_them(tmp_path):
    with pytest.warns(UserWarning, match="train: 6 images, expected 51530") as caught:
        build(tmp_path, "strict")
    text = "".join(str(warning.message) for warning in caught)
    for line in (
        "train: 2 identities, expected 807",
        "query: 6 images, expected 8499",
        "gallery: 3 identities, expected 808",
        "A2C query: 1 images, expected 2356",
        "C2A gallery: 1 images, expected 14362",
        "A2W gallery: 2 identities, expected 519",
    ):
        assert line in text
    dataset = open_dataset("agreid_v2", data_dir=str(tmp_path / "data"), build=False)
    result = verify(dataset)
    assert result.errors == []
    counts = {c.name: c for c in result.counts}
    assert set(counts) == set(EXPECTED)
    wide = counts["A2W gallery"]
    assert (wide.images, wide.expected_images) == (2, 12912)
    assert (wide.identities, wide.expected_identities) == (2, 519)
    assert "W2A query: 2 images, expected 2340" in result.warnings
    query, gallery, described = dataset.protocol("W2A")
    assert (len(query), len(gallery), described["gallery_platform"]) == (2, 2, "aerial")


def test_published_counts_agree_with_each_other():
    assert sum(EXPECTED[split][0] for split in ("train", "query", "gallery")) == 100502
    assert EXPECTED["train"][1] + EXPECTED["gallery"][1] == 1615
    for row in PROTOCOLS:
        sides = [EXPECTED[f"{row['name']} {split}"][1] for split in ("query", "gallery")]
        back = EXPECTED[f"{row['name'][::-1]} query"][1]
        assert sides == [back, back]


def test_challenge(challenge):
    dummies.check_built(challenge, {"train": 3, "query": 4, "gallery": 7})
    rows = json.loads(challenge.info.metadata["protocols"])
    assert [(r["name"], r["query_platform"], r["gallery_platform"]) for r in rows] == [
        ("A2G", "aerial", "ground and wearable"),
        ("G2A", "ground and wearable", "aerial"),
    ]
    assert members(challenge) == {
        "A2G query": {"P0003T04041A0C0F31", "P0001T02140A1C0F31"},
        "A2G gallery": {
            *("P0003T04041A0C3F61", "P0001T02140A1C2F61"),
            *("P0009T04041A0C3F1", "P0003T04041A0C2F1"),
        },
        "G2A query": {"P0003T04041A0C3F31", "P0001T02140A1C2F31"},
        "G2A gallery": {"P0003T04041A0C0F61", "P0001T02140A1C0F61", "P0009T04041A0C0F1"},
    }


def test_add_ons_of_the_challenge_are_distractors(challenge):
    gallery = dummies.rows(challenge, "gallery")
    for image_id, record in gallery.items():
        assert (record["kind"] == 1) == image_id.startswith("gallery_add_on/")
    attributes = {
        image_id.split("/")[2]: record["attributes"].tolist()
        for image_id, record in gallery.items()
        if image_id.startswith("gallery_add_on/")
    }
    assert attributes["P0009T04041A0C3F1.jpg"] == [-1] * 15
    assert attributes["P0003T04041A0C2F1.jpg"][:2] == [2, 3]


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("exp3_aerial_to_ground/query", "P0003T04041A0C3F1.jpg", "camera C3, its folder of C0"),
        (
            "exp3_aerial_to_ground/bounding_box_test",
            "P0003T04041A0C0F1.jpg",
            "camera C0, its folder of C2 and C3",
        ),
        ("gallery_add_on/exp6_ground_to_aerial", "P0003T04041A0C1F1.jpg", "is of camera C1"),
        ("bounding_box_train", "0001_c1.jpg", "bounding_box_train/0001_c1.jpg is not of the form"),
        ("exp6_ground_to_aerial/query", "P0009T04041A0C2F1.jpg", "no test row for .* 9040410"),
        ("exp6_ground_to_aerial/query", "P0001T04041A0C2F1.jpg", "is in train and in query"),
    ],
)
def test_wrong_files_of_the_challenge_are_named(tmp_path, folder, name, message):
    with pytest.raises(ValueError, match=message):
        build_challenge(tmp_path, {folder: [name]})


@pytest.mark.parametrize("entry", ["gallery_add_on/exp6_ground_to_aerial", TABLE])
def test_missing_entry_of_the_challenge_is_named(tmp_path, entry):
    root = dummies.write_agreid_challenge(tmp_path / "manual")
    (root / entry).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"lacks {entry}\n"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "challenge")


def test_counts_of_the_challenge(tmp_path):
    with pytest.warns(UserWarning, match="query: 4 images, expected 8499") as caught:
        build_challenge(tmp_path, config="challenge")
    text = "".join(str(warning.message) for warning in caught)
    assert "exp3_aerial_to_ground/query: 2 images, expected 4348" in text
    assert "51530" not in text
    opened = open_dataset("agreid_v2/challenge", data_dir=str(tmp_path / "data"), build=False)
    counts = {c.name: (c.images, c.expected_images) for c in verify(opened).counts}
    assert counts["exp6_ground_to_aerial/query"] == (2, 4151)
    assert counts["train"] == (3, None)


def test_submission():
    queries = [
        "exp3_aerial_to_ground/query/P0003T04041A0C0F31.jpg",
        "exp6_ground_to_aerial/query/P0001T02140A1C2F8671Z.jpg",
    ]
    person = "exp3_aerial_to_ground/bounding_box_test/P0001T02140A1C2F61.jpg"
    distractor = "gallery_add_on/exp3_aerial_to_ground/P0003T04041A0C2F1.jpg"
    other = "exp6_ground_to_aerial/bounding_box_test/P0003T04041A0C0F61.jpg"
    assert submission(queries, [[distractor, person], [other, person]]) == (
        "image_id,person_id\n"
        "P0003T04041A0C0F31,P0001T02140A1\n"
        "P0001T02140A1C2F8671Z,P0003T04041A0\n"
    )
    with pytest.raises(ValueError, match="no person of the gallery among its 1 matches"):
        submission(queries, [[distractor], [other]])
    with pytest.raises(ValueError, match="2 queries, but 1 ranked lists"):
        submission(queries, [[person]])
