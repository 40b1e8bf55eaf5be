import json
import subprocess
import sys

import pytest

from g2ajax.training import workdir


def test_differences_name_fields_and_pass_over_free_ones():
    old = {"seed": 0, "data": {"dir": "/a", "image_size": (256, 128)}, "log": {"every_steps": 5}}
    new = {"seed": 1, "data": {"dir": "/b", "image_size": [256, 128]}, "log": {"every_steps": 9}}
    assert workdir.differences(old, new) == ["  seed: 0 -> 1"]


def test_resume_with_another_configuration_is_refused_with_the_difference(tmp_path):
    workdir.settle_config(tmp_path, {"seed": 0, "method": {"name": "a"}}, write=True)
    workdir.settle_config(tmp_path, {"seed": 0, "method": {"name": "a"}}, write=True)
    with pytest.raises(ValueError, match=r"method.name: 'a' -> 'b'"):
        workdir.settle_config(tmp_path, {"seed": 0, "method": {"name": "b"}}, write=True)
    assert json.loads((tmp_path / "config.json").read_text())["method"] == {"name": "a"}


def test_a_configuration_from_before_an_option_existed_is_the_same_run(tmp_path):
    def resolve(config):
        return {"seed": 0, "method": {"name": "a", "alpha": 1.0, **config["method"]}}

    old, new = {"method": {"name": "a"}}, {"seed": 0, "method": {"name": "a", "alpha": 1.0}}
    workdir.settle_config(tmp_path, old, write=True, resolve=resolve)
    workdir.settle_config(tmp_path, new, write=True, resolve=resolve)
    other = {"method": {"name": "a", "alpha": 2.0}}
    with pytest.raises(ValueError, match=r"method.alpha: 1.0 -> 2.0"):
        workdir.settle_config(tmp_path, other, write=True, resolve=resolve)


def test_a_second_run_on_one_workdir_is_refused(tmp_path):
    program = (
        "import pathlib, sys; from g2ajax.training import workdir\n"
        "try:\n"
        "    with workdir.hold(pathlib.Path(sys.argv[1])): print('held')\n"
        "except ValueError as error: print(error)\n"
    )

    def other() -> str:
        command = [sys.executable, "-c", program, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with workdir.hold(tmp_path):
        assert "is in use by process" in other()
    assert other().strip() == "held"


def test_unwritable_folder_and_full_disk_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="cannot write to the workdir"),
        workdir.hold(tmp_path / "file" / "run"),
    ):
        pass
    with pytest.raises(ValueError, match="MiB free, but the checkpoints"):
        workdir.check_space(tmp_path, 10**18)


def test_replace_text_leaves_no_temporary_file(tmp_path):
    workdir.replace_text(tmp_path / "a.json", "1")
    workdir.replace_text(tmp_path / "a.json", "2")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "2"


def test_a_tuple_within_a_tuple_is_no_difference(tmp_path):
    config = {"frames": {"canvases": ((928, 1504), (1504, 928))}}
    workdir.settle_config(tmp_path, config, write=True)
    workdir.settle_config(tmp_path, config, write=True)
    other = {"frames": {"canvases": ((928, 1504),)}}
    with pytest.raises(ValueError, match=r"frames\.canvases"):
        workdir.settle_config(tmp_path, other, write=True)
