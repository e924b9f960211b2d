"""What a page is told of a point: its texts, and its tokens as far as the budget of the page goes.

Sizes matter here: every distinct token string is kept once, numbers have four digits, and the steps of a
sample are columns. -inf (no mass) and NaN become null.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from harness.report.page import safe_json
from harness.results.store import StoredPoint

LEAST_STEP_BYTES = 40
"""No step with its numbers takes less; so steps past budget / this need not be read."""

MEGABYTE = 1_000_000


def short(value: float | None, digits: int = 4) -> float | int | None:
    """The number at `digits` significant digits; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


class Vocabulary:
    """Every distinct string once; a string is told by its place."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, text: str | None) -> int:
        """The place of this string."""
        text = text or ""
        place = self._places.setdefault(text, len(self.strings))
        if place == len(self.strings):
            self.strings.append(text)
        return place

    def forget(self, size: int) -> None:
        """Drop the strings that came after the first `size`."""
        for text in self.strings[size:]:
            del self._places[text]
        del self.strings[size:]


class PageData:
    """Collects points for one page and keeps count of what they take.

    Args:
        budget_mb: megabytes that texts and tokens may take together.
    """

    def __init__(self, budget_mb: float) -> None:
        self.vocabulary = Vocabulary()
        self.left = budget_mb * MEGABYTE
        self.samples = 0
        self.without_tokens = 0
        self.left_out = 0

    def prompts(self, stored: StoredPoint, budget: float | None = None) -> list[dict[str, Any]]:
        """The point's prompts in their order, each with its samples.

        While the budget lasts samples come with `steps`; after that without, and when not even their text
        fits they are left out. `without_tokens` and `left_out` count both.

        Args:
            stored: the point.
            budget: bytes this point may take; all that is left when None.
        """
        end = self.left - budget if budget is not None else 0
        rows = stored.rows("generations")
        texts = _texts(rows)
        # Texts first: a page without its colours is of use, one without its texts is not.
        kept: list[dict[str, Any]] = []
        for prompt in texts:
            size = len(safe_json(prompt))
            if self.left - size < end:
                self.left_out += len(prompt["samples"])
                continue
            self.left -= size
            kept.append(prompt)
        self.samples += len(rows)
        self._add_steps(stored, kept, end)
        return kept

    def _add_steps(self, stored: StoredPoint, prompts: list[dict[str, Any]], end: float) -> None:
        """Give samples their steps, in order, until one does not fit."""
        most = int(max(0.0, self.left - end) / LEAST_STEP_BYTES)
        wanted, steps = [], 0
        for prompt in prompts:
            if steps > most:
                break
            wanted.append(prompt["id"])
            steps += sum(sample["tokens"] or 0 for sample in prompt["samples"])
        tables = _steps_of(stored, wanted)
        scores = _prompt_scores(stored, wanted)
        full = False
        for prompt in prompts:
            for sample in prompt["samples"]:
                rows = tables.get((prompt["id"], sample["n"]))
                if full or rows is None:
                    self.without_tokens += 1
                    continue
                before = len(self.vocabulary.strings)
                columns = _columns(rows, self.vocabulary)
                added = self.vocabulary.strings[before:]
                size = len(safe_json([columns, added]))
                if self.left - size < end:
                    self.vocabulary.forget(before)
                    self.without_tokens += 1
                    full = True
                    continue
                self.left -= size
                sample["steps"] = columns
            rows = scores.get(prompt["id"])
            if rows and not full:
                prompt["scores"] = _columns(rows, self.vocabulary)

    def note(self) -> str:
        """What the page must say about what it does not hold; empty when it holds everything."""
        if not (self.without_tokens or self.left_out):
            return ""
        said = []
        if self.without_tokens:
            said.append(
                f"{self.without_tokens} of {self.samples} texts are shown without their tokens: "
                "they did not fit this page, or were not recorded."
            )
        if self.left_out:
            said.append(f"{self.left_out} texts are left out of this page.")
        said.append("generations.parquet and tokens.parquet hold everything.")
        return " ".join(said)


def _texts(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prompts in order of their first sample, each with its samples' texts and facts."""
    prompts: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = prompts.setdefault(
            row["prompt_id"], {"id": row["prompt_id"], "text": row["prompt"], "samples": []}
        )
        prompt["samples"].append(
            {
                "n": row["sample"],
                "text": row["output"],
                "finish": row["finish_reason"],
                "tokens": row["output_tokens"],
                "promptTokens": row["prompt_tokens"],
                "seed": str(row["seed"]),  # may be past what JavaScript counts exactly
                "logprob": short(row.get("mean_logprob")),
                "score": short(row.get("sequence_score")),
            }
        )
    return list(prompts.values())


def _steps_of(stored: StoredPoint, prompt_ids: Sequence[str]) -> dict[tuple[str, int], dict[str, list[Any]]]:
    """tokens.parquet of these prompts: the columns of each (prompt, sample), in the order of position."""
    if not prompt_ids or not stored.has("tokens.parquet"):
        return {}
    import pyarrow as pa
    import pyarrow.compute as pc

    table = stored.table("tokens")
    table = table.filter(pc.is_in(table["prompt_id"], value_set=pa.array(list(prompt_ids), pa.string())))
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, key in enumerate(zip(columns["prompt_id"], columns["sample"], strict=True)):
        places[key].append(index)
    found = {}
    for key, where in places.items():
        where.sort(key=columns["position"].__getitem__)
        found[key] = {name: [values[i] for i in where] for name, values in columns.items()}
    return found


def _prompt_scores(stored: StoredPoint, prompt_ids: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """prompt_tokens.parquet of these prompts by prompt, where it was recorded."""
    if not prompt_ids or not stored.has("prompt_tokens.parquet"):
        return {}
    wanted = set(prompt_ids)
    found: dict[str, dict[str, list[Any]]] = {}
    rows = (row for row in stored.rows("prompt_tokens") if row["prompt_id"] in wanted)
    for row in sorted(rows, key=lambda row: row["position"]):
        columns = found.setdefault(row["prompt_id"], {name: [] for name in row})
        for name, value in row.items():
            columns[name].append(value)
    return found


_NUMBERS = {
    "lp": "logprob",
    "wlp": "warped_logprob",
    "rank": "rank",
    "ent": "entropy",
    "went": "warped_entropy",
    "kept": "kept",
    "mass": "kept_mass",
}
_TOPS = {"tlp": "top_logprobs", "twlp": "top_warped_logprobs"}


def _columns(rows: dict[str, list[Any]], vocabulary: Vocabulary) -> dict[str, Any]:
    """The columns of one text under the short names the script knows; alternatives as one flat list each."""
    columns: dict[str, Any] = {
        "id": rows["token_id"],
        "t": [vocabulary(text) for text in rows["token"]],
    }
    for name, source in _NUMBERS.items():
        if source in rows:
            columns[name] = [short(value) for value in rows[source]]
    if "top_ids" in rows:
        width = max((len(ids) for ids in rows["top_ids"]), default=0)
        columns["k"] = width
        columns["ti"] = [i for ids in rows["top_ids"] for i in _padded(ids, width)]
        columns["tt"] = [vocabulary(text) for texts in rows["top_tokens"] for text in _padded(texts, width)]
        for name, source in _TOPS.items():
            columns[name] = [short(v) for values in rows[source] for v in _padded(values, width)]
    return columns


def _padded(values: Sequence[Any], width: int) -> list[Any]:
    return [*values, *[None] * (width - len(values))]
