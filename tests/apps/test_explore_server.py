"""The explorer over HTTP, with requests that a browser would not send."""

import http.client
import io
import json
import socket
import threading
import time

import pytest
from PIL import Image

from g2ajax.apps import explore_server
from g2ajax.apps.explore import LONGEST, Question
from tests.apps import explored

JSON, IMAGE = "application/json", "application/octet-stream"
PNG = explored.encoded((200, 30, 30))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    content = explored.make(tmp_path_factory.mktemp("explored"))
    with explore_server.Server(content) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def send(server, data: bytes, *, cut: bool = False) -> tuple[int, dict[str, str], bytes]:
    """The answer to raw bytes: status, headers and body. `cut`: nothing more will be sent."""
    with socket.create_connection(server.server_address, timeout=20) as connection:
        connection.sendall(data)
        if cut:
            connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, dict(answer.getheaders()), answer.read()


def request(
    server,
    method: str,
    route: str,
    body: bytes | None = None,
    kind: str = "",
    *,
    path: str = "",
    **headers: str | None,
):
    """The answer to a request with the headers of a browser, some of them changed or left out."""
    host = f"127.0.0.1:{server.server_port}"
    own = {"Host": host}
    if method == "POST":
        own |= {"Origin": f"http://{host}", "Content-Type": kind}
        own |= {"Content-Length": str(len(body or b""))}
    own |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path or f'/{server.token}/{route}'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in own.items() if value is not None]
    head = "\r\n".join(lines).format(port=server.server_port) + "\r\n\r\n"
    return send(server, head.encode("latin-1") + (body or b""), cut=True)


def ranked(server, content) -> dict:
    status, _, body = request(server, "POST", "rank", json.dumps(content).encode(), JSON)
    assert status == 200, body
    return json.loads(body)


def test_a_page_may_load_nothing_from_elsewhere(server):
    status, headers, body = request(server, "GET", "")
    page = body.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert page.count(f'nonce="{nonce}"') == 2 and "NONCE" not in page and len(nonce) > 15
    assert policy.startswith("default-src 'none'; ") and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "//" not in page.replace("\n// ", "").replace("    // ", ""), "an address elsewhere"
    _, again, _ = request(server, "GET", "")
    assert again["Content-Security-Policy"] != policy


def test_questions_and_pictures_are_answered(server):
    status, _, body = request(server, "GET", "about")
    assert status == 200 and json.loads(body)["count"] == 7
    status, _, body = request(server, "POST", "image", PNG, IMAGE)
    image = json.loads(body)["image"]
    first = server.explorer.answer(Question(image=image))
    assert ranked(server, {"query": {"image": image}}) == first
    marked = {"query": {"row": 2}, "right": [4], "wrong": [1], "folder": 0, "top": 2}
    expected = Question(row=2, right=(4,), wrong=(1,), folder=0, top=2)
    assert ranked(server, marked) == server.explorer.answer(expected)
    assert [item["row"] for item in ranked(server, {"camera": 1})["results"]] == [1, 3]
    for name in (f"localhost:{server.server_port}", f"127.0.0.1:{server.server_port}"):
        status, headers, body = request(server, "GET", "small/3", Host=name)
        assert status == 200 and headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(body)).size == (6, 12)


def test_a_connection_takes_several_requests(server):
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    for _ in range(2):
        connection.request("GET", f"/{server.token}/about")
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["count"] == 7
    connection.close()


# name: (status, method, route, body, content type, changes)
QUESTIONS = {
    "not json": b"{",
    "no bytes": b"",
    "not utf-8": b'{"query": {"text": "\xff\xfe"}}',
    "a list": b"[]",
    "deep": b"[" * 60000,
    "unknown field": b'{"path": "/etc/passwd"}',
    "two queries": b'{"query": {"row": 1, "text": "x"}}',
    "unknown query": b'{"query": {"path": "/etc/passwd"}}',
    "row is text": b'{"query": {"row": "../../etc/passwd"}}',
    "row is true": b'{"query": {"row": true}}',
    "row is a fraction": b'{"query": {"row": 1.5}}',
    "row is NaN": b'{"query": {"row": NaN}}',
    "row of 5000 digits": b'{"query": {"row": ' + b"9" * 5000 + b"}}",
    "blank sentence": b'{"query": {"text": "  "}}',
    "long sentence": json.dumps({"query": {"text": "x" * (LONGEST + 1)}}).encode(),
    "half a character": b'{"query": {"text": "\\ud800"}}',
    "marks are text": b'{"query": {"row": 1}, "right": "12"}',
    "a mark is text": b'{"query": {"row": 1}, "right": ["1"]}',
    "too many marks": json.dumps({"right": list(range(LONGEST + 1))}).encode(),
    "right and wrong": b'{"query": {"row": 1}, "right": [2], "wrong": [2]}',
    "no results": b'{"top": 0}',
    "too many results": b'{"top": 100000}',
    "folder is text": b'{"folder": "a"}',
}
UNKNOWN = {
    "unknown row": b'{"query": {"row": 99}}',
    "negative row": b'{"query": {"row": -1}}',
    "huge row": b'{"query": {"row": 99999999999999999999999}}',
    "row of a link that leaves": b'{"query": {"row": 7}}',
    "mark of a link that leaves": b'{"query": {"row": 1}, "right": [7]}',
    "unknown dropped image": b'{"query": {"image": "0000"}}',
    "unknown folder": b'{"folder": 99}',
    "unknown camera": b'{"camera": -1}',
}
ROUTES = (
    *("small/99", "small/7", "large/7", "small/-1", "small/01", "small/1/", "small/", "small/1e0"),
    *(
        "small/99999999999",
        "small/../../secret.png",
        "small/%2e%2e%2fsecret.png",
        "%2e%2e/",
        "..",
        "rank",
    ),
    *(
        "../../../../etc/passwd",
        "/etc/passwd",
        "small/1%00.png",
        "small/\u00b9",
        "explore.html",
        "small\\1",
    ),
    *("small/1?x=1", "small//1"),
)
PATHS = (
    "/",
    "/favicon.ico",
    "/wrong/",
    "/wrong/about",
    "*",
    "http://127.0.0.1:{port}/",
    "/..//about",
)
RIGHT = b'{"query": {"row": 1}}'
MALFORMED = {
    **{name: (400, "POST", "rank", body, JSON, {}) for name, body in QUESTIONS.items()},
    **{name: (404, "POST", "rank", body, JSON, {}) for name, body in UNKNOWN.items()},
    **{f"GET {route}": (404, "GET", route, None, "", {}) for route in ROUTES},
    **{f"path {path}": (404, "GET", "", None, "", {"path": path}) for path in PATHS},
    "post elsewhere": (404, "POST", "about", RIGHT, JSON, {}),
    "foreign host": (403, "GET", "", None, "", {"Host": "evil.example:{port}"}),
    "host without port": (403, "GET", "", None, "", {"Host": "127.0.0.1"}),
    "host of another port": (403, "GET", "", None, "", {"Host": "127.0.0.1:1"}),
    "host with user": (403, "GET", "", None, "", {"Host": "127.0.0.1:{port}@evil.example"}),
    "no host": (403, "GET", "", None, "", {"Host": None}),
    "two hosts": (403, "GET", "", None, "", {"host": "evil.example"}),
    "foreign host posts": (403, "POST", "rank", RIGHT, JSON, {"Host": "evil.example:{port}"}),
    "foreign origin": (403, "POST", "rank", RIGHT, JSON, {"Origin": "http://evil.example"}),
    "foreign origin gets": (403, "GET", "about", None, "", {"Origin": "http://evil.example"}),
    "origin of another port": (403, "POST", "rank", RIGHT, JSON, {"Origin": "http://127.0.0.1:1"}),
    "origin null": (403, "POST", "image", PNG, IMAGE, {"Origin": "null"}),
    "no origin": (403, "POST", "image", PNG, IMAGE, {"Origin": None}),
    "form": (415, "POST", "rank", RIGHT, "application/x-www-form-urlencoded", {}),
    "plain text": (415, "POST", "rank", RIGHT, "text/plain", {}),
    "multipart": (415, "POST", "image", PNG, "multipart/form-data; boundary=x", {}),
    "no type": (415, "POST", "image", PNG, IMAGE, {"Content-Type": None}),
    "no image": (415, "POST", "image", b"hello", IMAGE, {}),
    "svg": (415, "POST", "image", b"<svg xmlns='x'/>", IMAGE, {}),
    "html": (415, "POST", "image", b"<script>alert(1)</script>", IMAGE, {}),
    "cut image": (415, "POST", "image", PNG[:40], IMAGE, {}),
    "empty image": (415, "POST", "image", b"", IMAGE, {}),
    "huge upload": (413, "POST", "image", b"x", IMAGE, {"Content-Length": "20000001"}),
    "huger upload": (413, "POST", "image", b"x", IMAGE, {"Content-Length": "999999999999"}),
    "huge question": (413, "POST", "rank", b"x", JSON, {"Content-Length": "70000"}),
    "negative length": (400, "POST", "image", b"x", IMAGE, {"Content-Length": "-1"}),
    "length is text": (400, "POST", "image", b"x", IMAGE, {"Content-Length": "many"}),
    "length is long": (400, "POST", "image", b"x", IMAGE, {"Content-Length": "9" * 30}),
    "two lengths": (400, "POST", "rank", RIGHT, JSON, {"content-length": "5"}),
    "no length": (411, "POST", "rank", RIGHT, JSON, {"Content-Length": None}),
    "chunked": (411, "POST", "rank", RIGHT, JSON, {"Transfer-Encoding": "chunked"}),
    "short body": (400, "POST", "image", b"x", IMAGE, {"Content-Length": "5000"}),
    "get with a body": (400, "GET", "about", b"x", "", {"Content-Length": "1"}),
    "put": (501, "PUT", "image", PNG, IMAGE, {}),
    "delete": (501, "DELETE", "small/1", None, "", {}),
    "options": (501, "OPTIONS", "rank", None, "", {"Origin": "http://evil.example"}),
    "trace": (501, "TRACE", "", None, "", {}),
    "long path": (414, "GET", "x" * 70000, None, "", {}),
    "long header": (431, "GET", "", None, "", {"X": "x" * 70000}),
    "many headers": (431, "GET", "", None, "", {f"X{i}": "x" for i in range(200)}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_does_not_fit_is_refused_and_the_next_is_answered(server, name):
    status, method, route, body, kind, changes = MALFORMED[name]
    answer, headers, content = request(server, method, route, body, kind, **changes)
    assert (answer, headers["Content-Type"]) == (status, JSON), content
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Connection"] == "close"
    assert "Access-Control-Allow-Origin" not in headers
    assert server.token.encode() not in content and b"root:" not in content
    assert json.loads(content)["error"]
    assert len(ranked(server, {"query": {"row": 1}})["results"]) == 7


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
    ids=["blank", "tls", "no path", "version"],
)
def test_bytes_that_are_no_request(server, data):
    with socket.create_connection(server.server_address, timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b" 200 " not in received and b"<title>" not in received
    assert len(ranked(server, {"query": {"row": 1}})["results"]) == 7


def test_an_upload_that_stops_holds_up_nobody(server):
    with socket.create_connection(server.server_address, timeout=20) as connection:
        host = f"127.0.0.1:{server.server_port}"
        head = f"POST /{server.token}/image HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        head += f"Content-Type: {IMAGE}\r\nContent-Length: 5000\r\n\r\n"
        connection.sendall(head.encode() + b"half")
        assert len(ranked(server, {"query": {"row": 1}})["results"]) == 7


def test_a_failure_is_said_on_the_terminal_only(server, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("a private path")

    monkeypatch.setattr(explore_server, "read_question", fail)
    status, _, body = request(server, "POST", "rank", RIGHT, JSON)
    assert status == 500 and b"private" not in body and "a private path" in caplog.text
    monkeypatch.undo()
    assert ranked(server, {})["total"] == 7


def test_the_address_is_of_this_machine_and_the_token_new(server, tmp_path):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    with explore_server.Server(server.explorer) as other:
        assert other.token != server.token and len(other.token) >= 32
    with pytest.raises(OSError, match="in use"):
        explore_server.Server(server.explorer, server.server_port)


def test_the_end_waits_for_no_idle_browser(server):
    other = explore_server.Server(server.explorer)
    serving = threading.Thread(target=other.serve_forever)
    serving.start()
    connection = http.client.HTTPConnection(*other.server_address, timeout=20)
    connection.request("GET", f"/{other.token}/about")
    assert connection.getresponse().read()
    start = time.monotonic()
    other.shutdown()
    other.server_close()
    serving.join()
    assert time.monotonic() - start < 10 < explore_server.Handler.timeout
    assert not other.connections
    connection.close()
