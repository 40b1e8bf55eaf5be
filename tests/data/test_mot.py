"""Tables of tracks in MOTChallenge's format: positions by hand, and lines that are refused."""

import numpy as np
import pytest

from g2ajax.data.mot import clipped, pixel_corners, read_tracks, returning

TABLE = """\
3, 7, 11, 21, 10, 40, 1, -1, -1, -1
1,7,1,1,4.5,8,0.25,-1,-1,-1
1,2,5,6,2,3,-1,-1,-1,-1

2,2,5,6,2,3,0,3,0.5
2.00,9,-3.5,10,6,20,1
"""


@pytest.fixture
def write(tmp_path):
    def table(text):
        path = tmp_path / "walk.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return table


def test_boxes_by_track_in_order_of_time(write):
    tracks = read_tracks(write(TABLE))
    assert tracks.track.tolist() == [2, 7, 7, 9] and tracks.ids.tolist() == [2, 7, 9]
    assert tracks.frame.tolist() == [0, 0, 2, 1]  # counted from 0
    # Pixel 1 is the first: left 5 and width 2 are pixels 5 and 6, from 4 to 6 of the picture's edge.
    expected = [[4, 5, 6, 8], [0, 0, 4.5, 8], [10, 20, 20, 60], [-4.5, 9, 1.5, 29]]
    np.testing.assert_array_equal(tracks.box, expected)
    assert (len(tracks), tracks.left_out) == (4, 1)  # the line with conf 0
    one = tracks.of(7)
    assert one.frame.tolist() == [0, 2] and one.box.tolist() == expected[1:3]


def test_lines_may_stand_in_any_order(write):
    tracks = read_tracks(write(TABLE))
    shuffled = read_tracks(write("\n".join(reversed(TABLE.splitlines()))))
    for column in ("track", "frame", "box"):
        np.testing.assert_array_equal(getattr(tracks, column), getattr(shuffled, column))


def test_boxes_are_cut_at_the_picture(write):
    tracks = read_tracks(
        write("1,1,1,1,10,10,1\n2,1,-8,-8,10,30,1\n3,1,40,1,5,5,1\n4,1,1,30,5,5,1")
    )
    inside = clipped(tracks, 32, 16)
    assert inside.frame.tolist() == [0, 1]
    np.testing.assert_array_equal(inside.box, [[0, 0, 10, 10], [0, 0, 1, 16]])
    assert inside.left_out == 2 and inside.track.tolist() == [1, 1]
    corners = pixel_corners(np.array([[0.2, 1.0, 3.1, 4.0], [2.0, 2.5, 3.0, 2.75]]))
    assert corners.tolist() == [[0, 1, 4, 4], [2, 2, 3, 3]]


def test_a_track_that_comes_back_late_is_said(write):
    lines = ["1,4,1,1,5,5,1", "252,4,1,1,5,5,1", "1,8,1,1,5,5,1", "253,8,1,1,5,5,1"]
    with pytest.warns(UserWarning, match=r"walk.txt: the tracks 8 come back after more than 250"):
        tracks = read_tracks(write("\n".join(lines)))
    assert returning(tracks, 249) == [4, 8] and len(tracks) == 4
    # The last box of a track and the first of the next are no gap.
    assert returning(read_tracks(write("900,1,1,1,5,5,1\n1,2,1,1,5,5,1"))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,1,1,1,5,5,1\n1,1,2,2,5,5,1",
            r"line 2: track 1 has a box in frame 1 already \(line 1\)",
        ),
        ("2,1,1,1,5,5,1\n\n2,1,1,1,5,5,1", r"line 3: track 1 has a box in frame 2 already"),
        ("frame,id,x,y,w,h,conf\n1,1,1,1,5,5,1", r"walk.txt, line 1: 'frame,id.* are no numbers"),
        (
            "1,1,1,1,5,5,1\n1 2 3 4 5 6 7",
            r"line 2: '1 2 3 4 5 6 7' has 1 values; expected frame,id",
        ),
        ("1,1,1,1,nan,5,1", r"line 1: .* not finite"),
        ("1.5,1,1,1,5,5,1", "frame 1.5 and track 1: expected whole numbers"),
        ("0,1,1,1,5,5,1", "line 1: frame 0; frames are counted from 1"),
        ("1,-1,1,1,5,5,0.9,-1,-1,-1", "a table of detections, .* run a tracker first"),
        ("1,1,1,1,0,5,1", "a box of 0 x 5 pixels has no area"),
        ("1,1,1,1,5,5,0\n2,1,1,1,5,5,0", "has no boxes; conf is 0 in all 2 of its lines"),
        ("\n", "has no boxes; expected lines frame,id"),
        (b"1,1,1,1,5,5,1\n\xff\xfe", "line 2: is not text"),
    ],
)
def test_lines_that_are_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_tracks(write(text))


def test_a_missing_track_names_those_there_are(write):
    with pytest.raises(ValueError, match=r"walk.txt has no track 3; it has 2, 7, 9$"):
        read_tracks(write(TABLE)).of(3)
    many = "\n".join(f"1,{track},1,1,5,5,1" for track in range(30))
    with pytest.raises(ValueError, match=r"it has 0, .*, 19, \.\.\. \(30 tracks\)"):
        read_tracks(write(many)).of(99)
