"""`harness doctor backend=...`: what a server is, and what it really does with what it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from harness.backends.openai.client import Client
from harness.backends.openai.probes import RAW, probe
from harness.backends.openai.server_answer import Answer
from harness.backends.openai.server_target import ServerTarget, connection, format_of, server_target
from harness.config.point import Decoding, Point
from harness.errors import ConfigError
from harness.once import Once
from harness.report.console import SafeConsole
from harness.terminal import visible

_PROMPT = "It was a dark and stormy night, and the old captain"
_COLOURS = {"yes": "green", "no": "red", "unclear": "yellow"}


def server_doctor(point: Point) -> int:
    """Ask a server what it is, and probe what acts.

    Returns:
        The exit status: 0, or 1 where a field that the harness would send does not act, or logprobs would be
        recorded as the model's and are not.

    Raises:
        ConfigError: the point names no server, or it does not answer.
    """
    if point.backend.kind != "openai":
        message = "is no server; `harness doctor` without arguments tries this machine"
        raise ConfigError.of(f"backend={point.backend.name}", message)
    console = SafeConsole(highlight=True)
    target = server_target(point.model_copy(update={"decoding": Decoding(name="greedy")}), Once())
    console.print(_facts(target))
    client = Client(connection(point.backend), console.print)
    request_format = format_of(point.backend, target.info.id, target.server_facts)
    dialect, chat = request_format.dialect, point.prompts.chat is True

    def ask(body: Mapping[str, Any]) -> Answer:
        if not chat:
            return client.ask("/completions", body)
        messages = {"messages": [{"role": "user", "content": body["prompt"]}]}
        changed = {name: value for name, value in body.items() if name != "prompt"} | messages
        if "logprobs" in body:
            changed |= {"logprobs": True, "top_logprobs": body["logprobs"]}
        return client.ask("/chat/completions", changed)

    table = Table("what", "so", "seen", title="Probes, of a few tokens each", title_justify="left")
    missing = mislabelled = False
    try:
        for found in probe(request_format, _PROMPT, ask):
            missing |= found.verdict == "no" and found.what.startswith("decoding.")
            mislabelled |= found.verdict == "no" and found.what == RAW and dialect.logprobs == "raw"
            table.add_row(found.what, Text(found.verdict, _COLOURS[found.verdict]), Text(visible(found.seen)))
    finally:
        client.close()
    console.print(table)
    if missing:
        console.print("a strategy that sets a field with `no` has no effect here: leave it out of sweeps")
    if mislabelled:
        cure = "with --logprobs-mode raw_logprobs" if dialect.name == "vllm_server" else "so that they are"
        console.print(f"its logprobs would be recorded as the model's, but are not: start it {cure}")
    return int(missing or mislabelled)


def _facts(target: ServerTarget) -> Table:
    table = Table("what", "value", title=f"{target.backend.name} at {target.device}", title_justify="left")
    known = {
        "model": target.info.id,
        "context": target.info.context_length,
        "vocabulary": target.info.vocab_size,
        **target.server_facts.address,
    }
    if target.price is not None:
        known["USD per million tokens"] = (
            f"{target.price.prompt * 1e6:g} in, {target.price.output * 1e6:g} out"
        )
    for name, value in known.items():
        table.add_row(name, Text("unknown" if value is None else visible(str(value))))
    return table
