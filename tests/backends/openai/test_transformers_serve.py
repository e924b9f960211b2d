"""`transformers serve` with a built-in model, compared with the same model in this process.

Run with `pip install 'transformers[serving]'`: pytest -m real_server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from running_server import running

from harness.cli.main import main
from harness.models.fable import fable_folder

MISSING = [name for name in ("fastapi", "uvicorn", "openai") if find_spec(name) is None]
pytestmark = [
    pytest.mark.real_server,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: transformers[serving]"),
]

FOLDER = fable_folder("fable_tiny")
SERVE = "from transformers.cli.transformers import main; main()"
DETERMINED = ("greedy", "repetition_penalty", "no_repeat_ngram")
KNOWN = {"prompt_id", "sample", "prompt", "output", "finish_reason", "prompt_tokens", "output_tokens", "seed"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    where = ["--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]

    def program(port: int) -> list[str]:
        return [sys.executable, "-c", SERVE, "serve", str(FOLDER), *where, "--port", str(port)]

    with running(program, tmp_path_factory.mktemp("serve") / "server.log") as address:
        yield address


def words(url: str, *more: str) -> list[str]:
    return [
        f"backend.base_url={url}", "model=fable_tiny", f"backend.served_model={FOLDER}", "prompts.limit=8",
        "prompts=storytelling", "generation.max_new_tokens=24", "timing=off", "tracking=off", *more,
    ]  # fmt: skip


def samples(outputs: Path) -> Iterator[tuple[str, str, list[dict[str, Any]], Path]]:
    """Yield backend, strategy, samples and folder of each point."""
    (plan,) = outputs.glob("sweeps/*/plan.json")
    for point in json.loads(plan.read_text())["points"]:
        folder = outputs / "points" / point["point_id"]
        rows = pq.read_table(folder / "generations.parquet").to_pylist()
        yield point["varied"]["backend"], point["decoding"], rows, folder


def test_a_sweep(url: str, outputs: Path) -> None:
    chosen = f"decoding={','.join(DETERMINED)},typical"
    assert main(["-m", "backend=hf,transformers_serve", chosen, *words(url)]) == 0
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for backend, strategy, rows, folder in samples(outputs):
        found[backend, strategy] = rows
        if backend == "transformers_serve":
            assert pq.read_table(folder / "tokens.parquet").num_rows == 0, "it tells no tokens"
    for strategy in DETERMINED:
        here, there = found["hf", strategy], found["transformers_serve", strategy]
        for column in ("prompt_id", "prompt", "output", "prompt_tokens", "output_tokens"):
            assert [row[column] for row in there] == [row[column] for row in here], (strategy, column)
    texts = {tuple(row["output"] for row in found["transformers_serve", strategy]) for _, strategy in found}
    assert len(texts) == 4, "each strategy has acted"
    assert len({row["seed"] for row in found["transformers_serve", "typical"]}) == 8
    for (backend, _), rows in found.items():
        for row in rows:
            assert None not in {row[name] for name in KNOWN}
            told = {row.get(name) is not None for name in ("mean_logprob", "mean_entropy", "perplexity")}
            assert told == {backend == "hf"}


def test_what_it_would_ignore_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    served = ("backend=transformers_serve", *words(url))
    assert main(["check", "decoding=typical", *served]) == 0
    capsys.readouterr()
    assert main(["check", "decoding=xtc", *served]) == 2
    assert "transformers_serve has no xtc_probability and would ignore it" in capsys.readouterr().err
    assert main(["check", "decoding=beam", *served]) == 2
    assert "does not stream the text of a beam search; use decoding=greedy" in capsys.readouterr().err


def test_the_doctor(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = ("model=fable_tiny", f"backend.served_model={FOLDER}")
    assert main(["doctor", "backend=transformers_serve", f"backend.base_url={url}", *named]) == 0
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    verdicts = {line[0]: line[1] for line in lines if line and line[0].startswith("decoding.")}
    unclear = {"decoding.no_repeat_ngram_size"}  # this model's greedy text does not repeat itself
    assert {name for name, verdict in verdicts.items() if verdict != "yes"} <= unclear
    assert len(verdicts) == 9
    assert ["logprobs", "no", "it", "has", "none"] in lines
    assert ["unknown", "keys", "are", "refused", "yes"] in [line[:5] for line in lines], "with 422"
