"""The prompts of a page: a list, one chunk of texts per prompt, and one of tokens for those that fit.

Prompts are ordered by how much strategies disagree on them, and the budget is used in that order. Texts come
first: a page without its colours is of use, one without its texts is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_titles import prompt_title, turns_of
from harness.report.page.chunks import ChunkRef, CompressedChunks
from harness.report.page.columns import Block, PageVocabulary, recorded
from harness.report.page.output_scores import all_binary, mean_scores, score_json, scores_of
from harness.report.page.shell import packed, safe_json, short
from harness.report.page.token_budget import PagePrompt, add_tokens, samples_of
from harness.store.parquet_files import open_parquet
from harness.store.stored_point import StoredPoint
from harness.store.token_table import TokenColumns, TokenVocabulary

LEAST_SAMPLE_SIZE = 30
"""Characters of a page that no sample takes less of, with its text and facts."""

LEAST_STEP_SIZE = 8
"""Characters of a page that no step takes less of, even where strategies agree."""

COLUMNS = (
    "token", "rank", "kept", "logprob", "warped_logprob", "entropy", "warped_entropy", "kept_mass",
    "top_tokens", "top_logprobs", "top_warped_logprobs",
)  # fmt: skip
"""Of tokens.parquet, those that a page has, in their order there."""

PROMPT_COLUMNS = ("token", "rank", "logprob", "entropy")
"""The same of prompt_tokens.parquet."""


@dataclass
class _Prompt(PagePrompt):
    """A prompt with its texts: its index, its number of samples, its title, its mean scores by point, ...

    `binary` is whether all of these scores are 0 or 1.
    """

    first: int = 0
    samples: int = 0
    title: str = ""
    scores: dict[int, float] = field(default_factory=dict)
    binary: bool = False
    texts_at: ChunkRef | None = None

    @property
    def entry_size(self) -> int:
        """Characters of its entry in the list, at the most."""
        return len(safe_json([self.id, self.title])) + 80


def prompts_section(
    points: Sequence[PointResult],
    chunks: CompressedChunks,
    metrics: Sequence[Metric],
    disagreement: Mapping[str, float],
    goal: str | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Add the prompts of these points to a page.

    Args:
        points: the results; a sample refers to its point by its index here.
        chunks: of the page; their budget is kept.
        metrics: those with a column in generations.parquet are shown for each sample.
        disagreement: of prompts by id, 0 to 1; where it is empty the prompts keep the order of the points.
        goal: key of the metric that prompts are sorted by; None, or one that a sample does not have by
            itself: the first score.

    Returns:
        What the page's script gets: the chunks with the list of prompts and with the tokens, the columns that
        any sample has recorded, how many prompts there are; and notes on what the page does not contain.
    """
    prompts = _prompts_of(points)
    ordered = sorted(prompts.values(), key=lambda p: (-disagreement.get(p.id, -1.0), p.first))
    vocabulary = PageVocabulary(TokenVocabulary())
    scores = scores_of(metrics, goal)
    columns_of_metrics = [m.per_sample for m in metrics if m.per_sample]
    added = _add_texts(points, ordered, chunks, columns_of_metrics, scores[0].per_sample if scores else None)
    columns: dict[str, set[str]] = {}

    def read(some: Sequence[_Prompt]) -> dict[str, list[Block]]:
        found = _blocks_of(points, some, vocabulary.tokens)
        for prompt_id, blocks in found.items():
            columns[prompt_id] = {name for block in blocks for name in block.columns}
        return found

    room = chunks.left - sum(p.entry_size for p in added)  # the list comes last, and must fit as well
    with_tokens = add_tokens(added, read, chunks, vocabulary, room, LEAST_STEP_SIZE)
    rows = [
        [p.id, p.title, short(disagreement.get(p.id), 3), p.first, p.texts_at, p.tokens_at, _ends(p.scores)]
        for p in added
    ]
    section = {
        "vocabulary": chunks.put_json(vocabulary.as_json()),
        "prompts": chunks.put_json(rows),
        "promptCount": len(added),
        "scores": [
            score_json(score, goal, i == 0 and all(p.binary for p in added)) for i, score in enumerate(scores)
        ],
        "tokenColumns": sorted(set().union(*(columns[p.id] for p in added if p.tokens_at))),
    }
    return section, _notes(len(ordered), len(added), with_tokens, bool(disagreement))


def _prompts_of(points: Sequence[PointResult]) -> dict[str, _Prompt]:
    """Return every prompt, in the order of the points, with how many samples and steps it has."""
    prompts: dict[str, _Prompt] = {}
    for index, p in enumerate(points):
        if not p.stored:
            continue
        columns = p.stored.columns("generations", ["prompt_id", "output_tokens"])
        for prompt_id, tokens in zip(columns["prompt_id"], columns["output_tokens"], strict=True):
            prompt = prompts.setdefault(prompt_id, _Prompt(prompt_id, first=len(prompts)))
            prompt.samples += 1
            prompt.steps[index] = prompt.steps.get(index, 0) + (tokens or 0)
        if None in columns["output_tokens"] and p.stored.has("tokens.parquet"):
            for prompt_id, steps in Counter(p.stored.columns("tokens", ["prompt_id"])["prompt_id"]).items():
                prompts[prompt_id].steps[index] = steps
    return prompts


def _add_texts(
    points: Sequence[PointResult],
    ordered: Sequence[_Prompt],
    chunks: CompressedChunks,
    metric_columns: Sequence[str],
    score: str | None,
) -> list[_Prompt]:
    """Add the texts of the prompts, in order, as far as they fit; return the prompts whose texts do."""
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    least_size = 0
    for prompt in ordered:
        if least_size > chunks.left:
            break
        rows[prompt.id] = []
        least_size += prompt.samples * LEAST_SAMPLE_SIZE
    for index, p in enumerate(points):
        for row in _rows(p.stored, list(rows)) if p.stored else ():
            rows[row["prompt_id"]].append((index, row))
    added: list[_Prompt] = []
    list_size = 0
    for prompt in ordered[: len(rows)]:
        samples = rows.pop(prompt.id)
        prompt.title = prompt_title(samples[0][1]["prompt"] or "", samples[0][1].get("messages"))
        prompt.scores, prompt.binary = mean_scores(samples, score), all_binary(samples, score)
        chunk = packed(safe_json(_texts_json(samples, metric_columns)).encode())
        list_size += prompt.entry_size
        if len(chunk) + list_size > chunks.left:
            break
        prompt.texts_at = chunks.put(chunk)
        added.append(prompt)
    return added


def _rows(stored: StoredPoint, prompt_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of generations.parquet of these prompts, read some at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(prompt_ids, pa.string())
    with open_parquet(stored.path("generations.parquet")) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from batch.filter(pc.is_in(batch.column("prompt_id"), value_set=wanted)).to_pylist()


def _ends(scores: Mapping[int, float]) -> list[float | int | None] | None:
    """Return the least and the greatest mean score of the points; None where no point has one."""
    return [short(min(scores.values())), short(max(scores.values()))] if scores else None


def _texts_json(rows: Sequence[tuple[int, dict[str, Any]]], metric_columns: Sequence[str]) -> dict[str, Any]:
    """Return the chunk of texts of one prompt: its own, its turns and reference, and those of its samples."""
    first = rows[0][1]
    return {
        "text": first["prompt"] or "",
        "turns": [[turn.role, turn.content] for turn in turns_of(first.get("messages"))],
        "reference": next((row["reference"] for _, row in rows if row.get("reference")), None),
        "promptTokens": first["prompt_tokens"],
        "samples": [
            {
                "point": index,
                "sample": row["sample"],
                "text": row["output"] or "",
                "finish": row["finish_reason"],
                "tokens": row["output_tokens"],
                "seed": str(row["seed"]),  # may be past what JavaScript counts exactly
                "logprob": short(row.get("mean_logprob")),
                "score": short(row.get("sequence_score")),
                **({"chosen": row["chosen_sample"]} if "chosen_sample" in row else {}),
                "metrics": {c: short(row[c]) for c in metric_columns if isinstance(row.get(c), int | float)},
            }
            for index, row in rows
        ],
    }


def _blocks_of(
    points: Sequence[PointResult], prompts: Sequence[_Prompt], tokens: TokenVocabulary
) -> dict[str, list[Block]]:
    """Return the samples of each prompt, in the order of the points; the prompt's own tokens last, once."""
    found: dict[str, list[Block]] = {p.id: [] for p in prompts}
    scores: dict[str, Block] = {}
    for index, p in enumerate(points):
        most = sum(prompt.steps.get(index, 0) for prompt in prompts)
        samples = samples_of(p, "tokens", COLUMNS, found, tokens, most)
        for key in sorted(samples):
            found[key[0]].append(_block(index, samples[key]))
        for steps in samples_of(p, "prompt_tokens", PROMPT_COLUMNS, found, tokens).values():
            scores.setdefault(steps.prompt_id, _block(index, steps))
    for prompt_id, block in scores.items():
        found[prompt_id].append(block)
    return found


def _block(point: int, steps: TokenColumns) -> Block:
    columns = {name: c for name, c in steps.columns.items() if name not in ("position", "kept_mass")}
    if "kept_mass" in steps.columns:
        # Half precision is finer near 0 than near 1, where most of the mass is kept.
        columns["removed_mass"] = 1 - steps["kept_mass"]
    return Block({"point": point, "sample": steps.sample}, recorded(columns))


def _notes(prompts: int, added: int, with_tokens: int, ranked: bool) -> tuple[str, ...]:
    notes = []
    if with_tokens < added:
        which = "those with the largest disagreement have them" if ranked else "the first prompts have them"
        notes.append(
            f"{added - with_tokens} of {added} prompts are shown without token probabilities, which did not "
            f"fit into this page or were not recorded" + (f": {which}." if with_tokens else ".")
        )
    if added < prompts:
        notes.append(f"{prompts - added} of {prompts} prompts are left out of this page.")
    return (*notes, "generations.parquet and tokens.parquet contain everything.") if notes else ()
