"""The explorer's page in a headless browser, with the keyboard and on a phone's screen."""

import base64
import threading

import pytest

from g2ajax.apps.explore import Question
from g2ajax.apps.explore_server import Server
from tests import browser
from tests.apps import explored

ROWS = "[...document.querySelectorAll('.card img')].map(i => Number(i.src.split('/').pop()))"
SETTLED = (
    "document.querySelector('.card') && !document.getElementById('message').innerText.includes('…')"
)
WIDE = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return explored.make(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def page(content, tmp_path_factory):
    if not browser.CHROMIUM:
        pytest.skip("no Chromium or Chrome is installed, which this test drives")
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.browse(server.url, tmp_path_factory.mktemp("profile")) as tab:
            yield tab
        server.shutdown()


def rows(page) -> list[int]:
    page.wait(SETTLED)
    return page.run(ROWS)


def answered(content, **question) -> list[int]:
    return [item["row"] for item in content.answer(Question(**question))["results"]]


def test_a_person_is_searched_marked_and_filtered(page, content):
    page.size(1280, 800)
    assert rows(page) == list(range(7))
    assert page.run("document.title") == "a model in crops"
    # From an image of the gallery, by the keyboard alone.
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "s"):
        page.press(key)
    page.wait("document.getElementById('asked').innerText === 'a/3_c1.png'")
    ranked = answered(content, row=2)
    assert rows(page) == ranked and page.run("document.activeElement.className") == "picture"
    for key in ("ArrowRight", "y", "ArrowRight", "n"):
        page.press(key)
    assert page.run("document.getElementById('count').innerText") == "1 right, 1 wrong"
    assert page.run("document.querySelectorAll('.card.right, .card.wrong').length") == 2
    page.press("r")
    marked = answered(content, row=2, right=(ranked[1],), wrong=(ranked[2],))
    page.wait(f"JSON.stringify({ROWS}) === '{marked}'.replaceAll(' ', '')")
    assert marked != ranked
    # Enlarged; Escape leads back.
    page.press("ArrowLeft")
    page.press("ArrowRight")
    page.press("Enter")
    page.wait("document.getElementById('large').open")
    large = "document.getElementById('largeImage')"
    page.wait(f"{large}.complete && {large}.naturalHeight === 12")
    page.press("Escape")
    page.wait("!document.getElementById('large').open")
    page.run("history.back()")
    page.wait("document.getElementById('asked').innerText === 'No query yet'")
    # A sentence, in a folder.
    page.run(
        "document.getElementById('text').value = 'a red coat';"
        "document.getElementById('sentence').requestSubmit()"
    )
    page.wait("document.getElementById('asked').innerText === '“a red coat”'")
    assert rows(page) == answered(content, text="a red coat")
    page.run(
        "document.getElementById('folder').value = '0';"
        "document.getElementById('folder').dispatchEvent(new Event('change'))"
    )
    inside = answered(content, text="a red coat", folder=0)
    page.wait(f"JSON.stringify({ROWS}) === '{inside}'.replaceAll(' ', '')")
    assert page.errors == []


def drop(page, data: bytes, name: str) -> None:
    page.run(
        "(() => {"
        f"const bytes = Uint8Array.from(atob('{base64.b64encode(data).decode()}'), c => c.charCodeAt(0));"
        "const held = new DataTransfer();"
        f"held.items.add(new File([bytes], '{name}'));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: held, cancelable: true})); })()"
    )


def test_images_are_dropped_on_a_phone_in_the_dark(page, content):
    page.size(390, 844, dark=True)
    page.reload()
    page.wait(SETTLED)
    data = explored.encoded((30, 200, 30), "JPEG")
    drop(page, data, "<b>photo</b>.jpg")
    page.wait("document.getElementById('asked').innerText === '<b>photo</b>.jpg'")
    assert rows(page) == answered(content, image=content.hold(data))
    page.wait("document.getElementById('picture').naturalHeight === 12")
    assert page.run(WIDE) == 390
    assert page.run("[...document.images].every(i => i.alt)")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    drop(page, b"hello", "note.txt")
    page.wait("document.getElementById('message').classList.contains('error')")
    assert "is no image" in page.run("document.getElementById('message').innerText")


def test_the_policy_of_the_page_blocks_what_is_not_its_own(page):
    page.errors.clear()
    elsewhere = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')"
    assert page.run(elsewhere) == "blocked"
    script = (
        "const s = document.createElement('script'); s.textContent = 'window.done = 1';"
        "document.body.append(s); return window.done ?? 'blocked';"
    )
    assert page.run(f"(() => {{ {script} }})()") == "blocked"
    page.run("new Promise(done => setTimeout(done, 100))")
    violated = [error for error in page.errors if "Content Security Policy" in error]
    assert len(violated) >= 2, page.errors
