"""The builder of the user's own videos with tables of tracks."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from g2ajax.data.images import decode
from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.training import loop
from tests.tasks.test_tracklets import tracklets_config
from tests.tfds_builders import dummies
from tfds_builders.tracklets_from_mot.tracklets_from_mot_dataset_builder import Builder

SHADES = {3: 40, 7: 90, 12: 140, 20: 200}
"""Track → level of its red; frame t has the green 10 t."""
PEOPLE = """\
video,track,identity,camera,platform,altitude,split
gate,3,anna,0,ground,,train
lawn,3,anna,1,aerial,30,train
gate,7,bo,0,ground,,query
lawn,7,bo,1,aerial,30.5,gallery
lawn,12,-1,1,aerial,30,gallery
lawn,7,bo,1,aerial,30.5,query
gate,7,bo,0,ground,,gallery
"""


def write(manual, people=PEOPLE, tracks=(3, 7, 12, 20), frames=4):
    """Two videos, folders of numbered images, with the same tracks; the last begins in frame 2."""
    for video in ("gate", "lawn"):
        (manual / video).mkdir(parents=True)
        lines = []
        for t in range(frames):
            image = np.zeros((20, 48, 3), np.uint8)
            for place, track in enumerate(tracks):
                if track == 20 and t == 0:
                    continue
                image[4:16, 12 * place : 12 * place + 8] = (SHADES[track], 10 * t, 128)
                lines.append(f"{t + 1},{track},{12 * place + 1},5,8,12,1,-1,-1,-1")
            Image.fromarray(image).save(manual / video / f"{t + 1:06d}.png")
        (manual / f"{video}.txt").write_text("\n".join(lines))
    if people:
        (manual / "identities.csv").write_text(people)
    return manual


def build(tmp_path, config="strict", **content):
    manual = write(tmp_path / "manual", **content)
    return dummies.build(Builder, tmp_path / "data", manual, config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mot")
    with pytest.warns(UserWarning, match=r"3 of 8 tracks have no line .* such as gate track 12"):
        return build(folder), str(folder / "data")


def test_tracks_are_tracklets_of_their_people(built):
    dummies.check_tracklets(built[0], {"train": 2, "query": 2, "gallery": 3})
    dummies.check_description("tracklets_from_mot")
    dataset = open_dataset("tracklets_from_mot", data_dir=built[1])
    train, query, gallery = (dataset.splits[name] for name in ("train", "query", "gallery"))
    assert train.image_id.tolist() == ["gate track 3", "lawn track 3"]
    assert (train.identity.tolist(), train.label.tolist()) == ([0, 0], [0, 0])
    assert (train.camera.tolist(), train.platform.tolist()) == ([0, 1], [1, 0])
    # Whole metres are levels.
    assert train.altitude_level.tolist() == [-1, 30] and query.altitude_level.tolist() == [-1, -1]
    assert gallery.image_id.tolist() == ["gate track 7", "lawn track 12", "lawn track 7"]
    assert (gallery.identity.tolist(), gallery.kind.tolist()) == ([1, -1, 1], [0, 2, 0])
    assert [row["name"] for row in dataset.protocols] == ["A2G", "G2A", "ALL"]
    assert not scoring_fault(dataset, "A2G") and not scoring_fault(dataset, "G2A")
    frames = [decode(image) for image in query.encoded(0)]
    assert [frame.shape for frame in frames] == [(12, 8, 3)] * 4
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(frame.mean((0, 1)), (SHADES[7], 10 * t, 128), atol=3)


def test_numbers_of_frames_are_those_of_the_table(tmp_path):
    people = PEOPLE + "gate,20,carl,0,ground,,train\nlawn,20,carl,1,aerial,,train\n"
    with pytest.warns(UserWarning, match="1 of 8 tracks have no line"):
        built = build(tmp_path, people=people)
    train = {record["tracklet_id"].decode(): record for record in built.as_data_source("train")}
    assert train["gate track 20"]["frame_ids"].tolist() == [2, 3, 4]
    assert train["gate track 3"]["frame_ids"].tolist() == [1, 2, 3, 4]
    assert train["lawn track 3"]["altitude_m"] == 30.0 and np.isnan(
        train["gate track 3"]["altitude_m"]
    )


def test_without_people_every_track_looks_for_its_other_half(tmp_path):
    build(tmp_path, people="", tracks=(3, 7, 12))
    dataset = open_dataset("tracklets_from_mot", data_dir=str(tmp_path / "data"))
    names = [f"{video} track {track}" for video in ("gate", "lawn") for track in (3, 7, 12)]
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    splits = dataset.splits
    assert splits["train"].image_id.tolist() == sorted(by_hash[:3])
    assert splits["query"].image_id.tolist() == sorted(f"{name}, query" for name in by_hash[3:])
    assert splits["gallery"].image_id.tolist() == sorted(f"{name}, gallery" for name in by_hash[3:])
    assert splits["query"].identity.tolist() == splits["gallery"].identity.tolist()
    assert splits["query"].num_frames.tolist() == splits["gallery"].num_frames.tolist() == [2, 2, 2]
    greens = [
        round(float(decode(image)[..., 1].mean()), -1)
        for split in ("query", "gallery")
        for image in splits[split].encoded(0)
    ]
    assert greens == [0, 10, 20, 30]
    (protocol,) = dataset.protocols
    assert (protocol["name"], protocol["drop_same_camera"]) == ("ALL", False)
    assert not scoring_fault(dataset, "ALL")


def test_it_trains(one_device, tmp_path):
    manual = write(tmp_path / "manual", people="", frames=3)
    config = tracklets_config(
        dataset="tracklets_from_mot",
        data__dir=str(tmp_path / "data"),
        data__manual_dir=str(manual),
        phase__reid__steps_per_epoch=2,
    )
    results = loop.run(config, tmp_path / "run")
    assert (results[0].protocol, results[0].queries, results[0].gallery) == ("ALL", 4, 4)


def test_changed_videos_are_noticed(tmp_path, capsys):
    data_dir, manual = str(tmp_path / "data"), write(tmp_path / "manual", people="")

    def fingerprint():
        return open_dataset(
            "tracklets_from_mot", data_dir=data_dir, manual_dir=str(manual)
        ).fingerprint

    first = fingerprint()
    assert fingerprint() == first and "building it again" not in capsys.readouterr().out
    Image.new("RGB", (48, 20), (9, 9, 9)).save(manual / "gate" / "000002.png")
    fingerprint()
    assert "building it again" in capsys.readouterr().out


HEADER = "video,track,identity,camera,platform\n"
LINE = "gate,3,anna,0,ground\n"


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ("video,track,identity\n", r"identities.csv, line 1: no column platform"),
        (
            "video,track,identity,platform,bag\n",
            "line 1: unknown column 'bag'; there are video, track",
        ),
        (HEADER, "identities.csv lists no tracks of people"),
        (HEADER + LINE + LINE, "line 3: gate track 3 is in line 2 already"),
        (HEADER + "gate,three,anna,0,ground\n", "line 2: track 'three' is not a whole number"),
        (HEADER + "gate,3,anna,0,roof\n", "line 2: platform 'roof' is none of aerial"),
        (
            HEADER + LINE + "lawn,3,bo,0,aerial\n",
            "line 3: camera 0 is aerial, but ground in line 2",
        ),
        (
            "video,track,identity,platform,altitude\ngate,3,anna,aerial,high\n",
            "line 2: altitude 'high' is not a number of metres",
        ),
        (
            HEADER + LINE + "gate,99,bo,0,ground\n",
            r"line 3: there is no gate track 99 in .* \(1 of 2",
        ),
        (HEADER + "roof.mp4,3,bo,0,ground\n", r"line 2: there is no roof.mp4 track 3"),
    ],
)
def test_errors_name_the_line(tmp_path, people, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, people=people)


def test_a_partial_copy_passes_over_missing_tracks(tmp_path):
    people = PEOPLE + "roof,1,dora,2,ground,,train\n"
    with (
        pytest.warns(UserWarning, match="1 of 8 lines name no track"),
        pytest.warns(UserWarning, match="3 of 8 tracks have no line"),
    ):
        built = build(tmp_path, config="partial", people=people)
    assert built.info.splits["train"].num_examples == 2
    assert json.loads(built.info.metadata["expected"]) == {}


def test_a_folder_without_videos(tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "notes.md").write_text("")
    with pytest.raises(ValueError, match=r"has no videos with a table of tracks beside them"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "strict")
