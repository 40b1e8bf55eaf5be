import json

import pytest

from g2ajax.training.journal import Journal, Progress, clock


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


def test_a_line_fits_a_terminal_and_begins_with_the_loss():
    progress = Progress(0, 1200, 64)
    metrics = {"accuracy": 0.5, "gradient_norm": 31.8, "identity": 3.2, "loss": 5.0, "triplet": 1.8}
    metrics |= {f"attribute_{name}": 0.1 for name in ("bag", "hat", "upper", "lower")}
    line = progress.line("reid", 1, metrics, 1e-3)
    assert line.startswith("reid  1/1200 (0%)  loss 5.000  accuracy 0.500  identity 3.200")
    assert len(line) <= 100 and line.endswith("...  lr 1.00e-03")  # no rate before a measured step


def test_the_step_that_compiles_is_not_part_of_the_rate(monkeypatch):
    times = iter([0.0, 60.0, 61.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    progress = Progress(0, 100, 64)
    progress.advance(1)
    progress.advance(11)
    line = progress.line("reid", 11, {"loss": 1.0}, 1e-3)
    assert line == "reid  11/100 (11%)  loss 1.000  lr 1.00e-03  640 img/s  9s left"
