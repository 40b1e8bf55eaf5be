import json

import pytest

from g2ajax.training.journal import Journal, clock


def test_resume_drops_entries_after_the_checkpoint_and_half_written_lines(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 5, "loss": 1.0}\n{"step": 10, "loss": 2.0}\n{"step": 1')
    journal = Journal(tmp_path, active=True, resume_step=5, tensorboard=False)
    journal.scalars(6, "train", {"loss": 3.0})
    journal.close()
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(5, 1.0), (6, 3.0)]


def test_other_processes_write_nothing(tmp_path):
    journal = Journal(tmp_path, active=False, resume_step=0, tensorboard=True)
    journal.scalars(1, "train", {"loss": 3.0})
    journal.close()
    assert not list(tmp_path.iterdir())


def test_tensorboard_files_appear(tmp_path):
    journal = Journal(tmp_path, active=True, resume_step=0, tensorboard=True)
    journal.scalars(1, "train", {"loss": 3.0})
    journal.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42s"), (200, "3m20s"), (18420, "5h07m")])
def test_clock(seconds, text):
    assert clock(seconds) == text
