"""A sweep of chat prompts: their turns are stored with the metrics, also of points that lack them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.analysis.prompt_titles import prompt_title
from harness.cli.main import main
from harness.store.stored_point import stored_point

ROWS = [
    {"id": "chat", "messages": [{"role": "user", "content": "Name the\ncolor."}], "reference": "red"},
    {"id": "text", "prompt": "It was a dark"},
]


def test_turns_are_stored_and_added_to_what_was_decoded_before(
    small_model: Any, outputs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    words = ["model=custom", f"model.id={small_model('llama', chat='plain')}", "quantization=fp32",
             "generation.max_new_tokens=4", "engine.threads=1", "timing=off", "compare.noise=false",
             "tracking=off", "prompts=custom", f"prompts.file={file}"]  # fmt: skip
    assert main(words) == 0
    (folder,) = (outputs / "points").iterdir()
    stored = stored_point(outputs, folder.name)
    rows = {row["prompt_id"]: row for row in stored.rows("generations")}
    assert json.loads(rows["chat"]["messages"]) == ROWS[0]["messages"]
    assert rows["text"]["messages"] is None
    assert prompt_title(rows["chat"]["prompt"], rows["chat"]["messages"]) == "Name the color."
    assert prompt_title(rows["text"]["prompt"], rows["text"]["messages"]) == "It was a dark"

    # As a version without turns left it: no such column, and metrics of which none was requested.
    table = stored.table("generations").drop_columns(["messages"])
    stored.write_table("generations", table)
    parts = stored.parts()
    del parts["metrics"]["messages"]
    stored.write_parts(parts, sealed=["generations.parquet"])
    decoded = stored.path("tokens.parquet").stat().st_mtime_ns
    assert main(words) == 0
    assert [each.name for each in (outputs / "points").iterdir()] == [folder.name]
    assert {row["prompt_id"]: row for row in stored.rows("generations")} == rows
    assert stored.path("tokens.parquet").stat().st_mtime_ns == decoded
