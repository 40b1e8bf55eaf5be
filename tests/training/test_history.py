"""The learning curve of a report, from the entries of `metrics.jsonl`."""

import json
import xml.etree.ElementTree as xml

from g2ajax.training import history

SVG = "{http://www.w3.org/2000/svg}"
ENTRIES = [
    {"step": 1, "kind": "train/reid", "loss": 4.0},
    {"step": 2, "kind": "train/reid", "loss": 2.0},
    {"step": 2, "kind": "evaluation/AG-pooled", "mAP": 10.0},
    {"step": 2, "kind": "evaluation/AG-pooled-decomposed", "mAP": 90.0},
    {"step": 4, "kind": "evaluation/AG-pooled", "mAP": 30.0},
    {"step": 4, "kind": "evaluation/people, any", "detection AP": 30.0},
    {"step": 3, "kind": "train/explain", "loss": 1.0},
]


def lines_of(chart):
    return xml.fromstring(chart.svg).findall(f"{SVG}polyline")


def test_the_curve_is_of_the_methods_own_ranking():
    chart = history.score_chart(ENTRIES, {"AG-pooled", "people, any"})
    assert chart.alt == "AG-pooled: 10.0 at step 2, 30.0 at step 4"
    assert len(lines_of(chart)) == 1
    assert history.score_chart(ENTRIES[:3], {"AG-pooled"}) is None


def test_losses_have_a_line_for_each_phase():
    chart = history.loss_chart(ENTRIES)
    assert chart.alt == "reid: 4 to 2; explain: 1 to 1" and len(lines_of(chart)) == 2
    assert history.loss_chart([]) is None


def test_long_lines_are_means_of_neighbours(tmp_path):
    file = tmp_path / "metrics.jsonl"
    entries = [{"step": i, "kind": "train/reid", "loss": float(i % 2)} for i in range(1, 801)]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (line,) = lines_of(history.loss_chart(history.read_metrics(file)))
    heights = {pair.split(",")[1] for pair in line.get("points").split()}
    assert len(line.get("points").split()) == history.LOSSES
    assert len(heights) == 1  # the mean of 0 and 1 everywhere
    assert history.read_metrics(tmp_path / "missing.jsonl") == []
