"""The report of a finished run: complete, true to results.json, readable without a network."""

import html.parser
import json
import re
import xml.etree.ElementTree as xml

import pytest

from g2ajax.__main__ import main
from tests import browser
from tests.fake_data import make_dataset

LARGEST = 10_000_000
"""Bytes of a page."""


class Elements(html.parser.HTMLParser):
    """All elements with their attributes, the text of each kind, and the ids."""

    def __init__(self, text):
        super().__init__()
        self.all, self.text, self.path = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self.path.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.path.pop() == tag, tag

    def handle_data(self, data):
        if self.path:
            self.text.setdefault(self.path[-1], []).append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.all if name == tag]


@pytest.fixture(scope="module")
def page(ranked_run):
    return (ranked_run[0] / "report.html").read_text()


@pytest.fixture(scope="module")
def parsed(page):
    return Elements(page)


@pytest.fixture(scope="module")
def data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_the_first_screen_has_the_scores_of_the_results(ranked_run, page):
    stored = json.loads((ranked_run[0] / "results.json").read_text())["results"]
    last = [r for r in stored if r["checkpoint"] == "last" and r["ranking"] == "reid"]
    values = re.findall(r'class="value">([\d.]+) <small>mAP', page)
    assert values == [f"{r['mAP']:.1f}" for r in last]
    for result in last:
        low, high = result["interval_mAP"]
        assert f"95% interval {low:.1f} to {high:.1f}" in page
    # The tables have all checkpoints; of the shared run other rankings may be scored again.
    for result in [r for r in stored if r["ranking"] == "reid"]:
        assert f"{result['mAP']:.2f} [" in page and result["fingerprint"] in page
    assert "random order" in page and "Training loss" in page  # one evaluation is no curve


def test_every_query_is_there_with_its_first_match(data):
    query = make_dataset().splits["query"]
    names = {str(name).rpartition("/")[2] for name in query.image_id}
    listed = {q["t"].partition(" (")[0] for r in data["rankings"] for q in r["queries"]}
    assert listed == names and [r["label"] for r in data["rankings"]] == ["A2G", "G2A"]
    for ranking in data["rankings"]:
        assert ranking["note"] == "All 5 queries."
        scores = [q["s"] for q in ranking["queries"]]
        assert scores == sorted(scores)
        for one in ranking["queries"]:
            right = [rank for _, rank, _, correct, *_ in one["e"] if correct]
            assert right[0] == one["f"] and one["p"] < len(data["pictures"])
            assert {"view", "camera"} <= set(one["v"])
            # The class "unknown" of the bag is none to filter by.
            assert len(one["a"]) in (1, 2) and not any("unknown" in name for name in one["a"])


def test_pictures_are_kept_once(data):
    # Five queries and fifteen gallery images of each camera, whoever asks for them.
    assert len(data["pictures"]) <= 2 * (5 + 15)


def test_the_page_opens_without_a_network(page, parsed):
    assert len(page.encode()) < LARGEST and parsed.path == []
    without = re.sub(r"base64,[^\"]+|\"pictures\":\[.*?\]", "", page)
    assert not re.search(r"(src|href)=\"(?!data:|#)|@import|url\(", without)
    assert "http" not in without.replace("http://www.w3.org/2000/svg", "")
    images = parsed.named("img")
    assert images and all(image["alt"].strip() for image in images)
    for element in parsed.named("div"):
        if element.get("role") == "img":
            assert len(element["aria-label"]) > 20
    targets = {attributes.get("id") for _, attributes in parsed.all}
    assert {a["href"].removeprefix("#") for a in parsed.named("a")} <= targets


def test_charts_are_files_too(ranked_run):
    files = sorted((ranked_run[0] / "figures").glob("*.svg"))
    names = {file.stem for file in files}
    assert {"cmc", "precision_recall", "altitude", "views", "loss", "distances_A2G"} <= names
    for file in files:
        assert xml.fromstring(file.read_text()).tag.endswith("svg")


def test_settings_are_complete(ranked_run, page):
    config = json.loads((ranked_run[0] / "config.json").read_text())
    assert "<td>evaluate.rerank.k1</td><td>5</td>" in page
    assert f"<td>phase.reid.epochs</td><td>{config['phase']['reid']['epochs']}</td>" in page


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    if not browser.CHROMIUM:
        pytest.skip("no Chromium or Chrome is installed, which this test drives")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(page)
    with browser.browse((folder / "report.html").as_uri(), folder / "profile") as tab:
        tab.wait("document.querySelectorAll('#lists > li').length >= 5")
        yield tab


def bottom(tab, selector: str) -> float:
    return tab.run(f"document.querySelector({selector!r}).getBoundingClientRect().bottom")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_draws_all_queries_without_scrolling_sideways(tab, width, dark):
    tab.size(width, 800, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("[...document.images].every((image) => image.alt)")
    text = tab.run("document.body.innerText")
    assert text.count("first true match at rank") >= 5 and "hide names" in text
    assert tab.run("document.querySelectorAll('[aria-label=altitude]').length")
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"[0-9]+", ground)[:3])) > 3 * 128
    assert light != dark
    assert tab.errors == []


def test_the_first_screen_needs_no_scrolling(tab):
    tab.size(1280, 800)
    assert bottom(tab, ".top") < bottom(tab, "[aria-label='An example']") <= 800


def test_the_keyboard_reaches_everything(tab):
    tab.size(1280, 800)
    reachable = """[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
        .filter((one) => !one.disabled && one.checkVisibility())"""
    count = tab.run(f"({reachable}).length")
    assert count > 10
    for _ in range(count + 5):
        tab.press("Tab")
        tab.run("document.activeElement.dataset.reached = 'yes'")
    missed = f"({reachable}).filter((one) => !one.dataset.reached).map((one) => one.outerHTML)"
    assert tab.run(missed) == []


def test_a_model_is_reported_on_a_dataset(ranked_run, fake_dataset, tmp_path, capsys):
    arguments = [f"--workdir={ranked_run[0]}", f"--out={tmp_path}", "--rankings=reid", "--report"]
    assert main(["evaluate", *arguments]) == 0
    file = tmp_path / "cross_report.html"
    assert f"written: {file}" in capsys.readouterr().out
    stored = json.loads((tmp_path / "cross_results.json").read_text())["results"]
    values = re.findall(r'class="value">([\d.]+) <small>mAP', file.read_text())
    assert values == [f"{row['mAP']:.1f}" for row in stored]
    assert (tmp_path / "cross_figures" / "cmc.svg").exists()
