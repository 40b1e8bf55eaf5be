import csv
import dataclasses
import io
import json

import pytest

from g2ajax.evaluation.results import (
    HEAD,
    Result,
    as_csv,
    as_dict,
    as_markdown,
    as_table,
    compare,
    tables,
    write_results,
)

RESULT = Result(
    name="baseline",
    dataset="agreid",
    version="1.0.0",
    dataset_fingerprint="0123456789ab",
    protocol="A2G",
    direction="aerial -> ground",
    queries=20,
    gallery=300,
    valid_queries=19,
    filter="same identity and camera left out",
    cmc_rule="standard",
    feature="bn",
    metric="cosine",
    seed=1,
    checkpoint="last",
    step=600,
    mAP=61.238,
    mINP=30.0,
    rank1=70.0,
    rank5=80.5,
    rank10=90.25,
    interval_mAP=(58.5, 64.125),
    interval_rank1=(66.0, 74.0),
    interval_rank5=(77.5, 83.0),
    interval_mINP=(28.0, 32.0),
)
OTHER = dataclasses.replace(RESULT, name="vit", mAP=70.0, feature="cls", seed=2)
BACK = dataclasses.replace(RESULT, protocol="G2A", direction="ground -> aerial")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"feature": "global"},
        {"metric": "euclidean"},
        {"seed": 9},
        {"checkpoint": "best"},
        {"step": 3},
        {"mAP": 1.0},
        {"valid_queries": 3},
        {"interval_mAP": (0.0, 1.0)},
    ],
)
def test_what_a_method_does_is_not_in_the_fingerprint(change):
    assert dataclasses.replace(RESULT, **change).fingerprint == RESULT.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "skyground/crops_tiny"},
        {"version": "1.0.1"},
        {"dataset_fingerprint": "0123456789ac"},
        {"protocol": "G2A"},
        {"direction": "ground -> aerial"},
        {"queries": 21},
        {"gallery": 301},
        {"filter": "nothing left out"},
        {"cmc_rule": "single-shot"},
    ],
)
def test_what_was_asked_is(change):
    assert dataclasses.replace(RESULT, **change).fingerprint != RESULT.fingerprint
    assert len(RESULT.fingerprint) == 8
    int(RESULT.fingerprint, 16)


def test_the_embedded_world_is_always_named():
    synthetic = dataclasses.replace(RESULT, dataset="skyground/crops_tiny")
    assert synthetic.label == "SkyGround (synthetic) crops_tiny A2G"
    for text in (synthetic.lines(), as_table([synthetic]), as_markdown([synthetic])):
        assert "SkyGround (synthetic)" in text


def test_labels_of_other_datasets():
    assert RESULT.label == "agreid A2G"
    assert dataclasses.replace(RESULT, dataset="crops/mine").label == "crops mine A2G"


def test_the_line_of_a_run():
    assert RESULT.lines() == (
        "agreid A2G: mAP 61.24 [58.50, 64.12]  rank-1 70.00  mINP 30.00  "
        "(19 of 20 queries, 300 gallery)"
    )


@pytest.mark.parametrize("render", [as_table, as_markdown])
def test_tables_keep_protocols_apart(render):
    blocks = render([RESULT, BACK, OTHER]).strip().split("\n\n")
    # Markdown has an empty line between caption and table too.
    text = {key: i for i, block in enumerate(blocks) for key in ("A2G", "G2A") if key in block}
    assert text["A2G"] != text["G2A"]
    tables = [block for block in blocks if HEAD[3] in block]
    assert len(tables) == 2
    assert "baseline" in tables[0] and "vit" in tables[0]
    assert "baseline" in tables[1] and "vit" not in tables[1]


def test_the_caption_names_every_feature_and_seed():
    text = " ".join(as_table([RESULT, OTHER]).split())
    assert "bn/cls, cosine" in text and "seed 1/2" in text
    assert "19 of 20 queries, 300 gallery" in text
    assert f"data 1.0.0/0123456789ab, protocol {RESULT.fingerprint}" in text


def test_a_checkpoint_chosen_on_the_test_split_says_so():
    best = dataclasses.replace(RESULT, checkpoint="best, chosen on the test split")
    assert "best, chosen on the test split (step 600)" in as_markdown([best])
    assert all(word in as_table([best]).split() for word in ("best,", "chosen", "split", "test"))


def test_last_and_best_that_are_one_checkpoint_are_one_row():
    best = dataclasses.replace(RESULT, checkpoint="best, chosen on the test split")
    (_, row) = tables([RESULT, best])[0].rows
    assert row[2] == "last and best, chosen on the test split (step 600)"
    other = dataclasses.replace(best, step=400, mAP=62.0)
    assert len(tables([RESULT, other])[0].rows) == 3


def test_a_table_is_aligned():
    text = as_table([RESULT, OTHER]).splitlines()
    (head,) = [i for i, line in enumerate(text) if "mAP" in line]
    start = text[head].index("mAP")
    scores = [line[start : start + 5] for line in text[head + 1 :]]
    assert [score for score in scores if score.strip(" [95%]")] == ["61.24", "70.00"]


def test_tables_and_lines_fit_a_terminal():
    measures = tuple((f"mAP altitude {level}", 50.0 + level) for level in range(4))
    long = dataclasses.replace(
        RESULT,
        name="BoT + Explainable (ResNet-50)",
        dataset="skyground/crops_small",
        ranking="rerank",
        parameters="k1 20, k2 6, lambda 0.3",
        checkpoint="best, chosen on the test split",
        measures=measures,
    )
    for text in (as_table([RESULT, long]), long.lines("reid  1200/1200  ")):
        assert max(map(len, text.splitlines())) <= 100
        words = text.split()
        assert {"50.00", "53.00", "61.24", "(rerank" if "(rerank" in text else "rerank"} <= set(
            words
        )


def test_markdown_parses_back():
    title, _, details, empty, *lines = as_markdown([RESULT, OTHER]).splitlines()
    assert title == "**agreid A2G (aerial -> ground)**" and empty == ""
    assert details.startswith("19 of 20 queries, 300 gallery; ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == list(HEAD) and cells[1] == ["---"] * len(HEAD)
    assert cells[2] == [
        "baseline", "reid", "last (step 600)", "61.24 [58.50, 64.12]", "70.00 [66.00, 74.00]",
        "80.50", "90.25", "30.00",
    ]  # fmt: skip
    assert len(cells) == 4


def test_a_bar_in_a_name_opens_no_column():
    line = as_markdown([dataclasses.replace(RESULT, name="a|b")]).splitlines()[-1]
    assert line.replace("\\|", "").count("|") == len(HEAD) + 1


def test_csv_parses_back():
    named = dataclasses.replace(RESULT, name='with, comma and "quotes"')
    rows = list(csv.DictReader(io.StringIO(as_csv([named, BACK]))))
    assert [row["protocol"] for row in rows] == ["A2G", "G2A"]
    assert rows[0]["name"] == named.name
    assert rows[0]["fingerprint"] == RESULT.fingerprint
    for score in ("mAP", "mINP", "rank1", "rank5", "rank10"):
        assert float(rows[0][score]) == getattr(RESULT, score)
    assert [float(rows[0][f"interval_mAP_{end}"]) for end in ("low", "high")] == [58.5, 64.125]
    assert [float(rows[0][f"interval_rank1_{end}"]) for end in ("low", "high")] == [66.0, 74.0]


def test_no_results_give_no_text():
    assert as_csv([]) == "" and as_table([]) == ""


def test_files_parse_back_to_the_results(tmp_path):
    write_results([RESULT, BACK], tmp_path, "scores")
    stored = json.loads((tmp_path / "scores.json").read_text())
    for row, result in zip(stored["results"], (RESULT, BACK), strict=True):
        assert row.pop("fingerprint") == result.fingerprint
        row |= {name: tuple(row[name]) for name in row if name.startswith("interval_")}
        assert Result(**row) == result
    assert (tmp_path / "scores.md").read_text() == as_markdown([RESULT, BACK])
    assert (tmp_path / "scores.csv").read_text() == as_csv([RESULT, BACK])


def test_one_column_of_one_protocol():
    assert compare([RESULT, OTHER], "mAP") == {"baseline last": 61.238, "vit last": 70.0}


def test_two_protocols_share_no_column():
    with pytest.raises(ValueError, match=r"results of 2 protocols.*agreid A2G.*agreid G2A"):
        compare([RESULT, BACK], "mAP")


def test_rows_of_the_same_name_are_not_lost():
    again = dataclasses.replace(RESULT, seed=2, mAP=62.0)
    with pytest.raises(ValueError, match="2 results are called 'baseline last'"):
        compare([RESULT, again], "mAP")


def test_unknown_score_gives_the_nearest():
    with pytest.raises(ValueError, match="no score 'rank_1'; did you mean 'rank1'"):
        compare([RESULT], "rank_1")


def test_as_dict_has_every_field():
    fields = {field.name for field in dataclasses.fields(Result)} - {"per_query"}
    assert set(as_dict(RESULT)) == (fields | {"fingerprint"}) - {"measures"}
    searched = dataclasses.replace(RESULT, measures=(("recall", 90.0),))
    assert set(as_dict(searched)) == fields | {"fingerprint"}
    assert RESULT.scalars() == {
        "mAP": 61.238, "rank1": 70.0, "rank5": 80.5, "rank10": 90.25, "mINP": 30.0
    }  # fmt: skip


def test_parameters_stand_beside_their_ranking():
    one, two = (
        dataclasses.replace(RESULT, ranking="rerank", parameters=f"k1 {k1}") for k1 in (5, 20)
    )
    assert "(k1 5)" in as_table([RESULT, one]) and "rerank (k1 5)" in as_markdown([one])
    assert "(rerank (k1 5)): mAP" in one.lines()
    assert len(compare([RESULT, one, two], "mAP")) == 3
    assert one.fingerprint == RESULT.fingerprint


def test_a_caption_names_another_rule_of_cmc():
    shots = dataclasses.replace(RESULT, cmc_rule="single-gallery-shot, 10 draws")
    assert "CMC by single-gallery-shot, 10 draws" in " ".join(as_table([shots]).split())
    assert "CMC by" not in as_table([RESULT])
