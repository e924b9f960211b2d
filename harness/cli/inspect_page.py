"""`harness inspect --page`: the token walk as a page, from a small server on this machine.

The page's address has a random token in it, without which nothing is answered: other users and pages in the
same browser cannot guess it. A page of another name that resolves to this machine (DNS rebinding) is refused
by its Host header, one of another origin by its Origin and because it cannot send JSON without asking first.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.cli.inspect_arguments import InspectArguments
from harness.cli.token_walk import TokenWalk
from harness.cli.walk_answers import WalkAnswers
from harness.config import hydra_app
from harness.config.arguments import parse_arguments
from harness.config.messages import explain
from harness.config.point import Point
from harness.config.secret_text import without_secrets
from harness.errors import HarnessError, one_line
from harness.models.load import LoadedModel
from harness.report.page.walk_page import walk_html
from harness.store.files import finite_or_null

_HOST = "127.0.0.1"
_MOST_BYTES = 2**20
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def serve_walk(walk: TokenWalk, loaded: LoadedModel, point: Point, arguments: InspectArguments) -> int:
    """Print the page's address and answer its requests until Ctrl-C; returns 0.

    Raises:
        HarnessError: the port is in use.
    """
    groups = hydra_app.config_groups(parse_arguments(arguments.overrides))
    answers = WalkAnswers(walk, loaded, point, arguments.top_k, groups)
    with opened_server(answers, arguments.page or 0) as server:
        print(f"Inspecting at {server.address} (Ctrl-C to stop)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
        finally:
            # The model is freed after this: a step that is being computed needs it.
            server.busy.acquire()
    return 0


def opened_server(answers: WalkAnswers, port: int = 0) -> WalkServer:
    """Return a server that listens; `port` 0 is one that is free.

    Raises:
        HarnessError: the port cannot be used.
    """
    try:
        return WalkServer(answers, port)
    except OSError as error:
        raise HarnessError(
            f"--page={port}: cannot be used ({error.strerror or error}); --page takes a port that is free"
        ) from error


class WalkServer(ThreadingHTTPServer):
    """Serves one page and its requests; a thread per connection, one request computed at a time.

    Attributes:
        address: of the page.
        busy: held while a request is computed.
    """

    daemon_threads = True

    def __init__(self, answers: WalkAnswers, port: int) -> None:
        super().__init__((_HOST, port), _Handler)
        self.busy = threading.Lock()
        self.token = secrets.token_urlsafe(24)
        self.hosts = tuple(f"{name}:{self.server_port}" for name in (_HOST, "localhost"))
        self.address = f"http://{self.hosts[0]}/{self.token}/"
        self._answers = answers
        html, self.policy = walk_html(answers.start())
        self.page = html.encode()

    def answer(self, name: str, request: Mapping[str, Any]) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return a request's answer, or the lines of what is wrong with it."""
        try:
            with self.busy:
                return HTTPStatus.OK, self._answers.answer(name, request)
        except HarnessError as error:
            return HTTPStatus.BAD_REQUEST, {"mistakes": explain(error)}
        except Exception as error:
            line = f"unexpected {without_secrets(one_line(error))}"
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"mistakes": [line]}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing of a browser that has gone away in the midst of an answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: WalkServer
    timeout = 60
    server_version = "harness"
    sys_version = ""

    def do_GET(self) -> None:
        """Send the page."""
        name = self._allowed_name()
        if name == "":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif name is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        """Send the answer to a request of the page."""
        name = self._allowed_name()
        if name is None:
            return None
        if self.headers.get_content_type() != "application/json":
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "requests are JSON")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or len(length) > 10 or int(length) > _MOST_BYTES:
            if length.isdecimal():
                # A client that is still sending would see a broken connection, not the answer.
                self.rfile.read(min(int(length), 4 * _MOST_BYTES))
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_MOST_BYTES} bytes")
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return self._refuse(HTTPStatus.BAD_REQUEST, "invalid JSON")
        if not isinstance(request, dict):
            return self._refuse(HTTPStatus.BAD_REQUEST, "requests are JSON objects")
        status, answer = self.server.answer(name, request)
        body = json.dumps(finite_or_null(answer), allow_nan=False).encode()
        return self._send(status, "application/json", body)

    def _allowed_name(self) -> str | None:
        """Return what is asked for below the page's address; refuse who does not know it."""
        slash, token, *rest = f"{self.path.partition('?')[0]}/".split("/", 2)
        origins = [None, *(f"http://{host}" for host in self.server.hosts)]
        foreign = self.headers.get("Origin") not in origins
        if self.command == "POST":
            foreign |= self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
        if self.headers.get("Host") not in self.server.hosts:
            refusal = "wrong host"
        elif foreign:
            refusal = "wrong origin"
        elif slash or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            refusal = "wrong address"
        else:
            return rest[0].removesuffix("/") if rest else None
        self._refuse(HTTPStatus.FORBIDDEN, refusal)
        return None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, "application/json", json.dumps({"mistakes": [reason]}).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        policy = f"{self.server.policy}; frame-ancestors 'none'"
        for name, value in {**_HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: the terminal has the address, which is all that is needed."""
