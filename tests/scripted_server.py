"""A server with OpenAI's API that plays dialects and faults, and notes what it was asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "hush-key-of-the-scripted-server"
WORDS = (" one", " fine", " day", ",", " a", " café", " 🦊", " sat", ".", " 数")


def tokens_of(body: dict[str, Any]) -> list[str]:
    """The tokens that the server answers with: greedy ones by the prompt, others by the seed too."""
    told = body.get("prompt") or json.dumps(body.get("messages"))
    seed = "" if body.get("temperature") == 0 else str(body.get("seed"))
    state = hashlib.sha256(f"{told}|{seed}".encode()).digest()
    return [WORDS[state[i % 32] % len(WORDS)] for i in range(body["max_tokens"])]


@dataclass
class ScriptedServer:
    """Listens on a free port of this machine.

    Attributes:
        faults: what happens to the next requests of a prompt, the first one first.
        style: `openai` (chat format of logprobs), `legacy` (of completions, no ids), `bare` (texts only).
        together: tokens in one part of a stream.
        usage: whether tokens are counted.
        cost: of an answer in USD; None where the server does not tell.
        key: what it wants as a bearer token; None for none.
        models: its list, an entry each.
        asked: path, body and headers of every request that arrived.
        answered: bodies that it answered completely.
        pause: seconds before each answer.
        loading: whether it is not ready yet.
        stream: whether it streams.
        pages: what it has at further addresses.
    """

    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    style: str = "openai"
    together: int = 1
    usage: bool = True
    cost: float | None = None
    key: str | None = None
    models: tuple[dict[str, Any], ...] = ({"id": "scripted"},)
    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    pause: float = 0.0
    loading: bool = False
    stream: bool = True

    def __enter__(self) -> ScriptedServer:
        served = self

        class Handler(_Handler):
            server_of = served

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        serve = self._http.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.lock = threading.Lock()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def words(self, *more: str) -> list[str]:
        """The overrides of a small sweep on it."""
        return [
            "backend=openai", f"backend.base_url={self.url}", "model.id=scripted", "timing=off",
            "tracking=off", "generation.max_new_tokens=6", *more,
        ]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: ScriptedServer

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the other end may be gone
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _json(self, status: int, values: Any, **headers: str) -> None:
        content = values if isinstance(values, bytes) else json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _refused(self) -> bool:
        key = self.server_of.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        said = f"wrong key {self.headers.get('Authorization')}"
        self._json(401, {"error": {"message": said}})
        return True

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.server_of.loading:
            self._json(503, {"error": {"message": "Loading model"}})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": list(self.server_of.models)})
        elif self.path in self.server_of.pages:
            self._json(200, self.server_of.pages[self.path])
        else:
            self._json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        served = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        with served.lock:
            served.asked.append((self.path, body, dict(self.headers)))
            fault = served.faults[prompt].pop(0) if served.faults[prompt] else ""
        if self._refused():
            return
        time.sleep(served.pause)
        self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: str) -> None:
        if fault == "drop":
            self.close_connection = True
        elif fault.startswith("429"):
            self._json(429, {"error": {"message": "too many"}}, Retry_After=fault.partition(" ")[2] or "0.05")
        elif fault in ("400", "402", "404", "413", "422", "500", "503"):
            self._json(int(fault), {"error": {"message": f"said {fault}\nwith two lines", "code": 1}})
        elif fault == "error_200":
            self._json(200, {"error": {"code": 502, "message": "the provider is gone"}})
        elif fault == "wrong_json":
            self._json(200, b"<html>a proxy</html>")
        elif fault == "empty_choices":
            self._json(200, {"choices": []})
        elif fault == "hang":
            time.sleep(3)
        else:
            self._stream(body, fault)

    def _stream(self, body: dict[str, Any], fault: str) -> None:
        served, chat = self.server_of, self.path.endswith("/chat/completions")
        tokens = tokens_of(body)
        groups = [tokens[i : i + served.together] for i in range(0, len(tokens), served.together)]
        events: list[Any] = [{"choices": [_choice("", chat)]}] if chat else []
        for group in groups:
            logprobs = _logprobs(group, served.style) if "logprobs" in body else None
            events.append({"choices": [{**_choice("".join(group), chat), "logprobs": logprobs}]})
        finish = "content_filter" if fault == "filtered" else "length"
        events.append({"choices": [{**_choice("", chat), "finish_reason": finish}]})
        if served.usage:
            usage = {"prompt_tokens": 3, "completion_tokens": len(tokens), "total_tokens": 3 + len(tokens)}
            cost = {} if served.cost is None else {"cost": served.cost}
            events.append({"choices": [], "usage": {**usage, **cost}})
        for event in events:
            event |= {"id": "request-1", "model": "scripted", "system_fingerprint": "fp-1"}
        if not served.stream:
            whole = {"text": "".join(tokens), "finish_reason": finish, "logprobs": None}
            self._json(200, {**events[-1], "choices": [whole]})
            served.answered.append(body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        cut = {"cut": 3, "cut_first": 0, "error_event": 3, "garbled": 3}.get(fault, len(events))
        content = b"".join(
            b"data: " + json.dumps(e, ensure_ascii=False).encode() + b"\n\n" for e in events[:cut]
        )
        if fault == "error_event":
            content += b'data: {"error": {"message": "overloaded"}}\n\n'
        elif fault == "garbled":
            content += b'data: {"choices": [\n\n'
        elif cut == len(events):
            content += b"data: [DONE]\n\n"
            served.answered.append(body)
        size = 7 if fault == "split" else len(content) or 1
        for start in range(0, len(content), size):  # in pieces that split events and characters
            self.wfile.write(content[start : start + size])
            self.wfile.flush()


def _choice(text: str, chat: bool) -> dict[str, Any]:
    shown = {"delta": {"content": text}} if chat else {"text": text}
    return {"index": 0, "finish_reason": None, **shown}


def _logprobs(group: list[str], style: str) -> dict[str, Any] | None:
    if style == "bare":
        return None
    others = [" the", " of"]
    if style == "legacy":
        return {
            "tokens": group,
            "token_logprobs": [-0.5] * len(group),
            "top_logprobs": [{one: -0.5, others[0]: -1.5, others[1]: -2.5} for one in group],
        }

    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "bytes": list(text.encode()), "logprob": logprob, "id": 7}

    tops = [entry(others[0], -0.25), entry(others[1], -2.0)]
    return {"content": [{**entry(one, -1.25), "top_logprobs": [*tops, entry(one, -1.25)]} for one in group]}
