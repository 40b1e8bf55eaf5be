"""Published scores beside one's own: only of the same protocol, and said otherwise."""

import dataclasses

import pytest

from g2ajax.__main__ import main
from g2ajax.evaluation import published
from g2ajax.evaluation.results import write_results
from g2ajax.recipes import crops, view_aware
from tests.evaluation.test_results import RESULT

CARGO = dataclasses.replace(
    RESULT, name="VDT (ViT-B/16)", dataset="cargo/strict", protocol="AG-pooled", valid_queries=160
)


def test_every_row_is_a_multiple_of_its_queries_or_an_average():
    rows = published.published()
    assert len({(r.method, r.dataset, r.protocol) for r in rows}) == len(rows) > 100
    assert all(0 < row.mAP <= 100 and 0 < row.rank1 <= 100 and row.source for row in rows)
    counted = [row for row in rows if row.valid_queries]
    odd = []
    for row in counted:
        hits = row.rank1 * row.valid_queries / 100
        if abs(hits - round(hits)) > 0.006 * row.valid_queries / 100:
            odd.append((row.method, row.protocol))
    # Run averages or misprints of the papers; the multiples tell the two A<->G protocols apart.
    assert set(odd) <= {("SeCap", "ALL"), ("SeCap", "G2G"), ("LATex", "ALL")}
    assert {row.protocol for row in counted if row.method == "GSAlign"} >= {"A2G"}


def test_scores_of_the_same_protocol_stand_beside():
    assert published.beside(CARGO) == (
        "published: rank-1 48.12, mAP 42.76 (Zhang et al., CVPR 2024)"
    )
    # With and without the network in the name.
    bot = dataclasses.replace(CARGO, name="BoT (ResNet-50)")
    assert "36.25" in published.beside(bot)
    vit = dataclasses.replace(bot, name="BoT (ViT-B/16)")
    assert "43.13" in published.beside(vit)


def test_another_protocol_is_said_to_be_another():
    for change in ({"protocol": "G2A", "valid_queries": 66}, {"valid_queries": 94}):
        text = published.beside(dataclasses.replace(CARGO, **change))
        assert text.startswith(
            "published under another protocol: ALL 64.10 / 55.20, AG-pooled 48.12"
        )
    assert published.beside(dataclasses.replace(CARGO, dataset="skyground/crops_small")) == ""
    assert published.beside(dataclasses.replace(CARGO, ranking="rerank")) == ""
    assert published.beside(dataclasses.replace(CARGO, name="my method")) == ""


def test_names_of_recipes_are_those_of_the_table():
    methods = {row.method.partition(" (")[0] for row in published.published()}
    recipes = (view_aware.vdt, crops.bot_resnet50, crops.bot_vit, crops.transreid)
    assert {recipe("agreid").name for recipe in recipes} <= methods


def test_a_runs_markdown_has_them_below_the_tables(tmp_path):
    notes = published.lines([CARGO, CARGO])
    assert len(notes) == 1 and notes[0].startswith(
        "cargo strict AG-pooled: published: rank-1 48.12"
    )
    write_results([CARGO], tmp_path, notes=notes)
    assert (tmp_path / "results.md").read_text().endswith(f"\n- {notes[0]}\n")


def test_the_command_keeps_protocols_in_columns(capsys):
    assert main(["published", "--dataset=cargo"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert [name in head for name in ("AG-pooled (n=160)", "A2G (n=94)", "ALL (n=312)")] == [
        True
    ] * 3
    (align,) = [row for row in rows if row.startswith("GSAlign ")]
    assert align.index("64.89 / 61.55") == head.index("A2G (n=94)")
    assert main(["published", "--dataset=carg"]) == 1
    assert "did you mean 'cargo'" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["agreid", "agreid_v2", "lagper", "market1501", "msmt17"])
def test_every_dataset_has_a_table(dataset):
    assert len(published.table(dataset).splitlines()) > 3
