"""Embeddings of a folder as Parquet, whole or in parts, once and again."""

import numpy as np
import pytest

from g2ajax.__main__ import main
from g2ajax.apps import embed
from g2ajax.cli import opening
from g2ajax.models.load import of_run
from tests.fake_data import make_dataset

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def model(images_only):
    return of_run(images_only, images_only.options.phases[0], "best", 0)


@pytest.fixture
def folder(tmp_path):
    """Seven crops and a note."""
    split = make_dataset().splits["gallery"]
    (tmp_path / "crops" / "deeper").mkdir(parents=True)
    for row in range(7):
        (tmp_path / "crops" / ("deeper" if row % 2 else "") / f"{row}.png").write_bytes(
            split.read(row)
        )
    (tmp_path / "crops" / "notes.txt").write_text("not an image")
    return tmp_path / "crops"


def test_the_command_and_its_shards(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(opening, "load", lambda *args, **options: model)
    common = ["embed", "--model=any", f"--images={folder}"]
    assert main([*common, f"--out={tmp_path / 'all.parquet'}"]) == 0
    printed = capsys.readouterr().out
    assert "7 images (0 of them embedded before)" in printed and "notes.txt" in printed
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table["path"].to_pylist()[:2] == ["0.png", "2.png"]
    features = np.stack(table["embedding"].to_pylist())
    expected = model.embed([folder / path for path in table["path"].to_pylist()])
    np.testing.assert_allclose(features, expected, atol=1e-6)
    assert table.schema.metadata[b"metric"] == b"cosine"
    parts = []
    for number in (1, 2, 3):
        out = tmp_path / f"{number}.parquet"
        assert main([*common, f"--out={out}", f"--shard={number}/3"]) == 0
        parts += parquet.read_table(out)["path"].to_pylist()
    assert sorted(parts) == sorted(table["path"].to_pylist())
    assert main([*common, f"--out={tmp_path / 'x.parquet'}", "--shard=4/3"]) == 1
    assert "expected i/n with i from 1 to n" in capsys.readouterr().err


def test_a_killed_process_goes_on(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "ROWS", 2)
    out, computed, own = tmp_path / "all.parquet", [], model.embed

    def once(images, **options):
        computed.append(len(images))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return own(images, **options)

    monkeypatch.setattr(model, "embed", once)
    with pytest.raises(KeyboardInterrupt):
        embed.embed_folder(model, folder, out)
    (tmp_path / "all.parquet.parts" / "00000009.parquet.partial").write_bytes(b"half")
    assert not out.exists()
    written = embed.embed_folder(model, folder, out)
    assert written.new == 3 and written.rows == 7 and computed == [2, 2, 2, 2, 1]
    paths = parquet.read_table(out)["path"].to_pylist()
    assert len(set(paths)) == 7 and not (tmp_path / "all.parquet.parts").exists()
    # Again: only what is new or has changed.
    (folder / "0.png").write_bytes((folder / "2.png").read_bytes())
    again = embed.embed_folder(model, folder, out)
    assert again.new == 1 and again.rows == 7
    rows = parquet.read_table(out).to_pylist()
    vectors = {row["path"]: row["embedding"] for row in rows}
    # Batches of other sizes: the same to rounding.
    np.testing.assert_allclose(vectors["0.png"], vectors["2.png"], rtol=1e-4, atol=1e-6)


def test_files_of_others(model, folder, tmp_path, monkeypatch):
    out = tmp_path / "all.parquet"
    out.write_bytes(b"PAR1 cut off")
    with pytest.raises(ValueError, match="is no Parquet file of embeddings"):
        embed.embed_folder(model, folder, out)
    out.unlink()
    embed.embed_folder(model, folder, out)
    other = model.changed(evaluate={"flip": True})
    with pytest.raises(ValueError, match="has embeddings of another model or size"):
        embed.embed_folder(other, folder, out)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="is empty"):
        embed.embed_folder(model, tmp_path / "none", tmp_path / "none.parquet")
