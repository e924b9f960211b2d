from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_server import ScriptedServer

from harness.backends.openai import client


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A scripted server; repetitions wait for hundredths of a second."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.02)
    with ScriptedServer() as served:
        yield served
