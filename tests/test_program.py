"""The program `g2ajax`: its commands, and a wheel of it in an empty folder."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from g2ajax.__main__ import COMMANDS, main
from g2ajax.cli import train, weights
from g2ajax.cli.parsers import PARSERS
from g2ajax.data.builders import data_root
from g2ajax.recipes import files

ROOT = pathlib.Path(__file__).parents[1]


def test_every_command_is_listed_and_served(capsys):
    assert COMMANDS.keys() == {"train", *PARSERS}
    for name in COMMANDS:
        assert (ROOT / "g2ajax" / "cli" / f"{name.replace('-', '_')}.py").is_file()
    assert main([]) == 2 and main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    assert main(["serch"]) == 2
    assert "did you mean 'search'" in capsys.readouterr().err
    assert main(["train", "--help"]) == 0
    assert "--recipe=agreid_vit:skyground" in capsys.readouterr().out


@pytest.mark.parametrize("name", PARSERS)
def test_options_have_one_spelling_and_a_sentence(name):
    parser = PARSERS[name]()
    for action in parser._actions:
        assert action.help or action.choices, f"{name}: {action.option_strings} says nothing"
        spelling = (action.option_strings or [action.dest])[0]
        assert "_" not in spelling, f"{name}: {action.option_strings}"
    assert parser.description.count("g2ajax ") >= 1


def test_help_brings_no_jax():
    code = (
        "import sys, contextlib; from g2ajax.__main__ import main\n"
        "for name in ('search', 'train'):\n"
        "    with contextlib.suppress(SystemExit): main([name, '--help'])\n"
        "import g2ajax; g2ajax.__all__; dir(g2ajax)\n"
        "assert not {'jax', 'flax', 'numpy'} & set(sys.modules), set(sys.modules) & {'jax', 'numpy'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe=agreid_vitt"], "no recipe 'agreid_vitt'; did you mean 'agreid_vit'"),
        (["--recipe=agreid_vit", "--config=configs/agreid_vit.py"], "give one of them"),
        (["--recipe=finetune", "--images=DIR"], "--model=PATH is missing"),
        (["--recipe=finetune", "--images=a,b", "--model=m"], "a path with a comma"),
        (["--recipe=agreid_vit", "--model=m"], "are arguments of --recipe=finetune"),
        (["--recipe=finetune", "--images=d", "--model=nowhere"], "there is no nowhere"),
    ],
)
def test_experiments_that_cannot_be(arguments, message):
    with pytest.raises(SystemExit, match=re.escape(message)) as error:
        train.parse(["g2ajax train", *arguments])
    assert error.value.code.startswith("error: ")


def test_the_program_ends_with_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "g2ajax", "train"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and done.stderr.startswith("error: name an experiment: --recipe")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), "/a: Is a directory"),
        (OSError(errno.EROFS, "Read-only", "/a", None, "/b"), "/a -> /b: Read-only"),
        (FileNotFoundError("there is no run; name one"), "there is no run; name one"),
    ],
)
def test_what_the_system_refuses_is_said_in_one_line(monkeypatch, capsys, error, line):
    def run(options):
        raise error

    monkeypatch.setattr(weights, "run", run)
    assert main(["weights"]) == 1
    assert capsys.readouterr().err == f"error: {line}\n"


def test_home_is_meant_by_a_tilde(monkeypatch, tmp_path):
    """In every option that is a path, also behind `=`, where the shell leaves it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    place = str(tmp_path / "x")
    for name, options in {
        "evaluate": ("model", "out", "data-dir", "manual-dir"),
        "rank": ("workdir", "out", "data-dir"),
        "explain": ("model", "query", "out"),
        "search": ("model", "gallery", "query", "out"),
        "search-frames": ("model", "query", "frames", "out"),
        "embed": ("model", "images", "out"),
        "export": ("model", "out"),
        "pack": ("model", "out"),
        "weights": ("check",),
        "verify": ("data-dir", "manual-dir"),
        "skyground": ("out", "sheet"),
    }.items():
        parser = PARSERS[name]()
        needed = [a.option_strings[0] for a in parser._actions if a.required]
        given = {**dict.fromkeys(needed, "1"), **{f"--{option}": "~/x" for option in options}}
        values = vars(parser.parse_args([f"{key}={value}" for key, value in given.items()]))
        for option in options:
            value = values["model" if option == "workdir" else option.replace("-", "_")]
            assert str(value[0] if isinstance(value, list) else value) == place, (name, option)
    assert files.paths_as_arguments(model="~/x", images="y") == f"model={place},images=y"
    assert train._with_file(["train", "--config=~/x:a"]) == ["train", f"--config={place}:a"]
    assert data_root("~/x") == tmp_path / "x"


def test_recipes_are_the_files_of_configs():
    assert files.recipes().keys() == {path.stem for path in (ROOT / "configs").glob("*.py")}


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder(tmp_path):
    """Trains, packs, moves, searches, embeds, exports and fine-tunes, away from the checkout."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"g2ajax", "tfds_builders"}
    assert (site / "g2ajax" / "apps" / "explore.html").is_file()
    environment = {**os.environ, "PYTHONPATH": str(site), "TFDS_DATA_DIR": str(tmp_path / "data")}

    def program(*arguments: str, where: pathlib.Path = work) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "g2ajax", *arguments],
            capture_output=True,
            text=True,
            cwd=where,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    program("train", "--recipe=agreid_bot_r50:tiny", "--workdir=run")
    assert (work / "run" / "model" / "model.json").is_file()
    program("pack", "--model=run", "--checkpoint=latest", "--out=packed")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (work / "packed").rename(moved / "model")
    rng = np.random.default_rng(0)
    (moved / "crops").mkdir()
    rows = ["path,identity,camera,platform"]
    for number in range(24):
        pixels = rng.integers(0, 256, (64, 32, 3), np.uint8)
        Image.fromarray(pixels).save(moved / "crops" / f"{number}.png")
        rows.append(f"{number}.png,{number // 4},{number % 2},{('aerial', 'ground')[number % 2]}")
    (moved / "crops" / "crops.csv").write_text("\n".join(rows) + "\n")
    model = "--model=model"
    found = program("search", model, "--gallery=crops", "--query=crops/3.png", where=moved)
    assert "crops/3.png" in found.splitlines()[2]
    program("embed", model, "--images=crops", "--out=all.parquet", where=moved)
    program("export", model, where=moved)
    assert (moved / "model" / "export" / "image.stablehlo").is_file()
    finetune = ["train", "--recipe=finetune", model, "--images=crops", "--workdir=fine"]
    small = ["--config.sampler.identities=2", "--config.sampler.images=2"]
    small += ["--config.evaluate.batch_size=8", "--config.phase.reid.epochs=2"]
    printed = program(*finetune, *small, where=moved)
    assert "warning: phase reid has" in printed and "too few to learn much" in printed
    program("evaluate", "--model=fine", where=moved)


def test_ctrl_c_is_not_lost_in_a_callback():
    """Python drops an exception that is raised while garbage is collected."""
    code = """
import gc, os, signal
from g2ajax.cli.interrupt import end_at_interrupt
end_at_interrupt()
gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
gc.collect()
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130 and "went on" not in ended.stdout
    assert ended.stderr == "stopped; what has been saved is kept\n"
