"""Files of results: whole or not at all, in UTF-8 whatever the names in them."""

import errno
import os
import pathlib

import pytest

from g2ajax.report.files import naming, shown, write_whole


def test_what_utf8_cannot_say_is_replaced(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    assert shown(pathlib.Path("a") / name) == "a/caf?.png"
    assert shown("Köln") == "Köln"
    write_whole(tmp_path / "page.html", f"<p>{name}</p>\n")
    assert (tmp_path / "page.html").read_bytes() == b"<p>caf?.png</p>\n"


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "page.html"
    write_whole(file, b"before")
    of_path = pathlib.Path.write_bytes

    def half(path, data):
        of_path(path, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(file, "afterwards")
    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"before" and [*tmp_path.iterdir()] == [file]


def test_a_name_that_the_system_gave_stays(tmp_path):
    with pytest.raises(PermissionError) as caught, naming(tmp_path / "other"):
        raise PermissionError(errno.EACCES, "Permission denied", "this")
    assert caught.value.filename == "this"
