"""The client alone: what it raises, what it repeats, how long it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from scripted_server import KEY, ScriptedServer, tokens_of

from harness.backends.openai import client as module
from harness.backends.openai.client import Client, Connection, RequestError, ServerStopError, events

BODY = {"prompt": "first", "max_tokens": 4, "temperature": 0}


ClientOf = Callable[..., Client]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """`client_of(server, key, max_retries=2)`: a client, closed in the end."""
    made: list[Client] = []

    def make(server: ScriptedServer, key: str | None = None, **changes: float) -> Client:
        values = {"timeout": 5.0, "max_retries": 4, "concurrency": 4} | changes
        made.append(Client(Connection(server.url, key, {}, **values)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("400", "answered 400: said 400 with two lines"),
        ("404", "answered 404: said 404 with two lines"),
        ("413", "answered 413: said 413 with two lines"),
        ("422", "answered 422: said 422 with two lines"),
        ("error_200", "answered: the provider is gone"),
        ("wrong_json", "answered: what is no JSON: '<html>a proxy</html>'"),
        ("empty_choices", "answered: it has no choices"),
    ],
)
def test_what_is_not_repeated(client_of: ClientOf, server: ScriptedServer, fault: str, line: str) -> None:
    server.faults["first"] = [fault]
    with pytest.raises(RequestError) as caught:
        client_of(server).ask("/completions", BODY)
    assert str(caught.value).endswith(line)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("429", ServerStopError), ("500", RequestError), ("drop", RequestError), ("cut_first", RequestError)],
)
def test_repetitions_end(
    client_of: ClientOf, server: ScriptedServer, fault: str, kind: type[Exception]
) -> None:
    server.faults["first"] = [fault] * 9
    client = client_of(server, max_retries=2)
    with pytest.raises(kind, match=r"\((3|4) attempts\)"):
        client.ask("/completions", BODY)
    # A connection that was closed before any byte is repeated once more: it may have been a kept one.
    assert len(server.asked) == (4 if fault == "drop" else 3)
    assert client.retried == len(server.asked) - 1


def test_after_a_429_all_requests_wait(client_of: ClientOf, server: ScriptedServer) -> None:
    server.faults["first"] = ["429 0.4"]
    client = client_of(server)
    ended: dict[str, float] = {}
    began = time.monotonic()

    def ask(prompt: str, after: float) -> None:
        time.sleep(after)
        client.ask("/completions", {**BODY, "prompt": prompt})
        ended[prompt] = time.monotonic() - began

    threads = [threading.Thread(target=ask, args=one) for one in (("first", 0.0), ("second", 0.15))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(ended.values()) > 0.35
    assert [body["prompt"] for _, body, _ in server.asked].count("second") == 1


def test_the_key_is_sent_and_shown_nowhere(client_of: ClientOf, server: ScriptedServer) -> None:
    server.key = KEY
    answer = client_of(server, KEY).ask("/completions", BODY)
    assert answer.text == "".join(tokens_of(BODY))
    wrong = client_of(server, f"{KEY}-wrong")
    with pytest.raises(ServerStopError) as caught:
        wrong.ask("/completions", BODY)
    assert "wrong key Bearer ***" in str(caught.value)
    assert KEY not in repr(wrong.connection)


def test_events_may_be_split_anywhere() -> None:
    text = 'data: {"text": "é🦊\u2028"}\r\n\r\n: a comment\n\ndata: [DONE]\n\n'
    content = text.encode()
    for size in (1, 2, 3, 7, len(content)):
        chunks = (content[start : start + size] for start in range(0, len(content), size))
        assert list(events(chunks)) == ['{"text": "é🦊\u2028"}', "[DONE]"]
    assert list(events(iter([b"data: cut"]))) == ["cut"]


def test_waits_grow_and_end(
    client_of: ClientOf, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    client = client_of(server, max_retries=9)
    monkeypatch.setattr(client.stopped, "wait", waits.append)
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    server.faults["first"] = ["500"] * 9
    client.ask("/completions", BODY)
    for number, seconds in enumerate(waits):
        assert 0.75 <= seconds / min(120, 2**number) <= 1.25
    assert len({round(seconds % 1, 6) for seconds in waits}) == len(waits), "with jitter"
