"""Files on disk: names, folders and the attribute file of AG-ReID; the command."""

import io
import re

import numpy as np
import pytest
import scipy.io
from PIL import Image

from g2ajax.__main__ import main
from g2ajax.synthetic import attributes, layouts, pool
from g2ajax.synthetic.world import World, encode

NAME = re.compile(r"^P(\d{4})T(\d{4})([01])A([012])C([03])F(\d+)\.jpg$")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("agreid")
    assert layouts.write_agreid(World("tiny"), out, workers=1) == 160
    return out


def test_folders_and_names(written):
    counts = {p.name: len(list(p.iterdir())) for p in written.iterdir() if p.is_dir()}
    assert counts == {
        "bounding_box_train": 80,
        "query_all_c0": 8,
        "query_all_c3": 8,
        "bounding_box_test_all_c0": 32,
        "bounding_box_test_all_c3": 32,
    }
    for path in written.glob("*/*"):
        found = NAME.match(path.name)
        assert found, path.name
        if path.parent.name[-2:] in ("c0", "c3"):
            assert path.parent.name[-1] == found[5]
        assert int(found[6]) % 30 == 1


def test_names_say_what_the_world_knows(written):
    world = World("tiny")
    for shot in world.shots("gallery"):
        p, t, s, a, c, frame = NAME.match(shot.image_id).groups()
        assert int(p + t + s + a) == shot.identity
        assert int(a) == shot.altitude_level
        assert (int(c) == 0) == (shot.camera == 0) == (shot.altitude is not None)
        assert (t + s, int(frame)) == (shot.session, shot.frame)
        assert (written / layouts.agreid_folder(shot) / shot.image_id).exists()


def test_images_are_the_worlds(written):
    world = World("tiny")
    shot = world.shots("query")[3]
    data = (written / layouts.agreid_folder(shot) / shot.image_id).read_bytes()
    assert data == encode(world, shot)
    assert Image.open(io.BytesIO(data)).format == "JPEG"


def test_attribute_file(written):
    tables = scipy.io.loadmat(written / "qut_attribute_v4_88_attributes.mat")["qut_attribute"]
    assert tables.shape == (1, 1)
    assert set(tables.dtype.names) == {"train", "test"}
    world = World("tiny")
    for part, split in (("train", "train"), ("test", "gallery")):
        table = tables[part][0, 0]
        assert table.shape == (1, 1)
        assert table.dtype.names == ("image_index", *attributes.COLUMNS)
        people = {shot.identity: shot.person for shot in world.shots(split)}
        digits = [str(cell[0]) for cell in table["image_index"][0, 0].ravel()]
        assert all(len(text) == 10 and text.isdigit() for text in digits)
        assert sorted(map(int, digits)) == sorted(people)
        values = np.stack([table[name][0, 0].ravel() for name in attributes.COLUMNS], axis=1)
        assert set(np.unique(values)) == {1.0, 2.0}
        for text, row in zip(digits, values, strict=True):
            codes = np.array([people[int(text)].attributes])
            np.testing.assert_array_equal(row - 1, attributes.one_hot(codes)[0])


MARKET = re.compile(r"^(-1|\d{4})_c([1-6])s(\d)_(\d{6})_(\d{2})\.jpg$")
CARGO = re.compile(r"^(train|query|gallery)/Cam(\d{1,2})/Cam(\d{1,2})_day_(\d+)_(\d+)\.jpg$")


def unlike(world, shots, workers, progress):
    """Stands for `layouts.photographs`: no image, the name of its shot."""
    for shot in shots:
        yield pool.Photograph(shot, shot.image_id.encode(), 0.0, 0.0, 0.0)


def test_market1501(tmp_path, monkeypatch):
    world = World("tiny")
    monkeypatch.setattr(layouts, "photographs", unlike)
    assert layouts.write_market1501(world, tmp_path, workers=1) == 160 + 2 * 11
    names = {p.name: sorted(f.name for f in p.glob("*.jpg")) for p in tmp_path.iterdir()}
    counts = {"bounding_box_train": 80, "query": 16, "bounding_box_test": 64 + 22}
    assert {folder: len(files) for folder, files in names.items()} == counts
    assert all(MARKET.match(name) for files in names.values() for name in files)
    identities = [MARKET.match(name)[1] for name in names["bounding_box_test"]]
    assert identities.count("0000") == identities.count("-1") == 11
    assert not {"0000", "-1"} & {name.split("_")[0] for name in names["query"]}
    shot = world.shots("query")[3]
    path = layouts.market1501_path(shot)
    assert (tmp_path / path).read_bytes() == shot.image_id.encode()
    assert int(path.split("/")[1][:4]) == shot.person.number + 1


def test_names_of_cargo():
    world = World("tiny")
    shots = [shot for split in ("train", "query", "gallery") for shot in world.shots(split)]
    matches = [CARGO.match(layouts.cargo_path(shot)) for shot in shots]
    assert len({match[0] for match in matches}) == len(shots)
    for shot, match in zip(shots, matches, strict=True):
        assert match[1] == shot.split
        assert match[2] == match[3]
        assert (int(match[2]) <= 5) == (shot.camera == 0)
        assert int(match[4]) == shot.person.number
    assert {int(match[2]) for match in matches} == set(range(1, 14))


@pytest.mark.parametrize("workers", [2])
def test_processes_draw_the_same(monkeypatch, capfd, workers):
    monkeypatch.setattr(pool, "_FEW", 1)
    world = World("tiny")
    shots = world.shots("query")[:4]
    one = list(pool.photographs(world, shots, workers=1))
    assert list(pool.photographs(world, shots, workers=workers)) == one


def test_command_writes_and_refuses(tmp_path, capsys, monkeypatch):
    assert main(["skyground"]) == 2
    assert "nothing to do" in capsys.readouterr().err
    assert main(["skyground", "--layout=agreid"]) == 2
    assert "--layout needs --out=DIR" in capsys.readouterr().err
    assert main(["skyground", "--layout=nowhere"]) == 1
    assert "no layout 'nowhere'" in capsys.readouterr().err
    asked = []

    def writer(world, out, *, workers):
        asked.append((world.size, out, workers))
        return 7

    monkeypatch.setitem(layouts.LAYOUTS, "agreid", writer)
    assert main(["skyground", "--layout=agreid", "--size=small", f"--out={tmp_path}"]) == 0
    assert asked == [("small", str(tmp_path), None)]
    assert "wrote 7 images" in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    assert main(["skyground", f"--sheet={sheet}"]) == 0
    assert Image.open(sheet).size[0] > 1000
