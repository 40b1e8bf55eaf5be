"""The explorer's page on the loopback address: a thin layer of HTTP over `apps.explore`.

No part of a request becomes a path: the routes are a fixed table below a random token, and an image is
named by its row number.
"""

import contextlib
import http.server
import importlib.resources
import json
import logging
import re
import secrets
import socket
import socketserver
from http import HTTPStatus
from typing import Any

from g2ajax.apps.explore import Explorer, read_question

ADDRESS = "127.0.0.1"
UPLOAD = 20_000_000
"""Most bytes of a dropped image."""
MESSAGE = 65_536
"""Most bytes of a question."""
JSON, IMAGE = "application/json", "application/octet-stream"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
# Nothing from elsewhere, and of scripts and styles only those with the nonce of the answer.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(Exception):
    """A request that is not answered: a status and a sentence."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves an explorer on the loopback address; `url` has the token without which all is unknown.

    Raises OSError for a port that is taken.
    """

    # Waited for at the end: a thread that is still in compiled code when Python ends brings it down.
    daemon_threads = False

    def __init__(self, explorer: Explorer, port: int = 0) -> None:
        self.explorer = explorer
        self.connections: set[socket.socket] = set()
        self.token = secrets.token_urlsafe(24)
        self.page = (
            importlib.resources.files("g2ajax.apps").joinpath("explore.html").read_text("utf-8")
        )
        super().__init__((ADDRESS, port), Handler)
        self.hosts = tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))
        self.url = f"http://{self.hosts[0]}/{self.token}/"

    def server_bind(self) -> None:
        """Binds without the look-up of the host's name that http.server makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins a connection."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends the connections that browsers keep open, and waits for the answers in work."""
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Notes an error that is not of the connection, which a browser may close at any time."""
        logging.getLogger(__name__).debug("a connection failed", exc_info=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "g2ajax", ""
    timeout = 30  # seconds without a byte, after which a connection is closed

    def do_GET(self) -> None:
        """Answers with the page, facts about the gallery, or a picture."""
        self._serve(self._get)

    def do_POST(self) -> None:
        """Answers a question, or takes a dropped image."""
        self._serve(self._post)

    def _serve(self, respond: Any) -> None:
        try:
            respond(self._route())
        except Refused as refusal:
            self._refuse(refusal.status, str(refusal))
        except LookupError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError:  # the connection: nobody is there to be answered
            self.close_connection = True
        except Exception:
            logging.getLogger(__name__).exception("the explorer failed")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the terminal says why")

    def _route(self) -> str:
        """The part of the path after the token, after all that a request must have.

        A page elsewhere whose name has been bound to this address (DNS rebinding) sends its own name
        as Host; a page elsewhere that posts here sends its own Origin.
        """
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "the Host is not this server's")
        origins = self.headers.get_all("Origin") or []
        own = [f"http://{host}" for host in self.server.hosts]
        if any(origin not in own for origin in origins) or (self.command == "POST" and not origins):
            raise Refused(HTTPStatus.FORBIDDEN, "the Origin is not this server's")
        path = re.fullmatch(r"/([A-Za-z0-9_-]+)/([a-z0-9/]*)", self.path, re.ASCII)
        if not path or not secrets.compare_digest(path[1], self.server.token):
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here; open the printed address")
        return path[2]

    def _get(self, route: str) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.BAD_REQUEST, "a GET has no body")
        explorer = self.server.explorer
        picture = re.fullmatch(r"(small|large)/(0|[1-9][0-9]{0,8})", route, re.ASCII)
        if route == "":
            nonce = secrets.token_urlsafe(16)
            page = self.server.page.replace("NONCE", nonce).encode()
            policy = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", policy)
        elif route == "about":
            self._send_json(explorer.about())
        elif picture:
            try:
                data = explorer.picture(int(picture[2]), large=picture[1] == "large")
            except ValueError as error:  # the file has changed since it was embedded
                raise Refused(HTTPStatus.NOT_FOUND, str(error)) from error
            kept = {"Cache-Control": "private, max-age=3600"}
            self._send(HTTPStatus.OK, data, "image/jpeg", kept)
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, route: str) -> None:
        if route == "rank":
            try:
                content = json.loads(self._body(JSON, MESSAGE))
            except RecursionError:
                raise Refused(HTTPStatus.BAD_REQUEST, "too deep") from None
            self._send_json(self.server.explorer.answer(read_question(content)))
        elif route == "image":
            data = self._body(IMAGE, UPLOAD)
            try:
                key = self.server.explorer.hold(data)
            except ValueError as error:
                raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
            self._send_json({"image": key})
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _body(self, kind: str, most: int) -> bytes:
        """The body, of which nothing is read before its type and length are known to fit."""
        if self.headers.get_all("Content-Type") != [kind]:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected {kind}")
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or not lengths:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected one Content-Length")
        if len(lengths) != 1 or not re.fullmatch(r"[0-9]{1,12}", lengths[0], re.ASCII):
            raise Refused(HTTPStatus.BAD_REQUEST, "the Content-Length is no number")
        length = int(lengths[0])
        if length > most:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes; at most {most} are read"
            )
        data = self.rfile.read(length)
        if len(data) != length:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than its Content-Length")
        return data

    def _send_json(self, content: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(content).encode(), JSON)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # its body may not have been read
        self._send(status, json.dumps({"error": why}).encode(), JSON, {"Connection": "close"})

    def _send(
        self, status: HTTPStatus, data: bytes, kind: str, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        default = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"}
        about = {"Content-Type": kind, "Content-Length": str(len(data))}
        for name, value in {**default, **HEADERS, **about, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuses what http.server refuses, such as an unknown method, as the rest is refused."""
        self._refuse(HTTPStatus(code), HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing: the token is in every line."""
