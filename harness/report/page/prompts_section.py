"""What a page holds of its prompts: a list, a piece of texts a prompt, and of those that fit one of tokens.

Prompts come in the order of how much strategies disagree on them; the budget gives out from there. Texts go
first: a page without its colours is of use, one without its texts is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.report.page.numbers import short
from harness.report.page.pieces import Pieces, Place
from harness.report.page.shell import packed, safe_json
from harness.report.page.token_columns import (
    LEAST_STEP_BYTES,
    STEP_COLUMNS,
    Named,
    Vocabulary,
    token_piece,
    tokens_of,
)
from harness.store.stored_point import StoredPoint
from harness.store.token_table import PROMPT, TokenColumns, TokenVocabulary, collect_samples, read_samples

LEAST_TEXT_BYTES = 30
"""No sample takes less of a page with its text and facts."""

STEPS_AT_ONCE = 400_000
"""Steps that are in memory at a time; a prompt with more is read alone."""

START = 120
"""Characters of a prompt in the list."""


@dataclass(frozen=True)
class PromptData:
    """What the page's script is told.

    Attributes:
        index: place of the list of prompts.
        vocabulary: place of the tokens.
        count: prompts in the page.
        notes: what the page must say about what it does not hold; none when it holds everything.
    """

    index: Place
    vocabulary: Place
    count: int
    notes: tuple[str, ...]


@dataclass
class _Prompt:
    """A prompt while it is collected.

    Attributes:
        id: its id.
        first: its place among all prompts.
        samples: how many there are of all points.
        steps: by place of a point, its steps.
        start: of its text, for the list.
        texts_at, tokens_at: its pieces, once they are put.
    """

    id: str
    first: int
    samples: int = 0
    steps: dict[int, int] = field(default_factory=dict)
    start: str = ""
    texts_at: Place | None = None
    tokens_at: Place | None = None

    @property
    def all_steps(self) -> int:
        return sum(self.steps.values())

    @property
    def line(self) -> int:
        """Bytes of its line in the list, at the most."""
        return len(safe_json([self.id, self.start])) + 60


def prompt_data(
    points: Sequence[PointResult],
    pieces: Pieces,
    disagreement: Mapping[str, float] | None = None,
    metrics: Sequence[Metric] = (),
) -> PromptData:
    """Fill the pieces with the prompts of these points.

    Args:
        points: as reported; a sample names its point by its place here.
        pieces: of the page; its budget is kept.
        disagreement: of prompts by id, 0 to 1; the order of the prompts is that of the points without it.
        metrics: those that have a column in generations.parquet are told a sample.
    """
    known = disagreement or {}
    prompts = _counted(points)
    ordered = sorted(prompts.values(), key=lambda p: (-known.get(p.id, -1.0), p.first))
    vocabulary = Vocabulary(TokenVocabulary())
    kept = _put_texts(points, ordered, pieces, [m.per_sample for m in metrics if m.per_sample])
    told = _put_tokens(points, kept, pieces, vocabulary)
    place = pieces.put_json([vocabulary.ids, vocabulary.texts])
    index = pieces.put_json(
        [[p.id, p.start, short(known.get(p.id), 3), p.first, p.texts_at, p.tokens_at] for p in kept]
    )
    return PromptData(index, place, len(kept), _notes(ordered, kept, told, bool(known)))


def _counted(points: Sequence[PointResult]) -> dict[str, _Prompt]:
    """Every prompt, in the order of the points, with how much there is of it."""
    prompts: dict[str, _Prompt] = {}
    for place, p in enumerate(points):
        if not p.stored:
            continue
        columns = p.stored.columns("generations", ["prompt_id", "output_tokens"])
        for prompt_id, tokens in zip(columns["prompt_id"], columns["output_tokens"], strict=True):
            prompt = prompts.setdefault(prompt_id, _Prompt(prompt_id, len(prompts)))
            prompt.samples += 1
            prompt.steps[place] = prompt.steps.get(place, 0) + (tokens or 0)
    return prompts


def _put_texts(
    points: Sequence[PointResult], ordered: Sequence[_Prompt], pieces: Pieces, columns: Sequence[str]
) -> list[_Prompt]:
    """Add the texts of the prompts in their order, as far as they fit; returns those that did."""
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    least = 0
    for prompt in ordered:
        if least > pieces.left:
            break
        rows[prompt.id] = []
        least += prompt.samples * LEAST_TEXT_BYTES
    for place, p in enumerate(points):
        for row in _rows(p.stored, list(rows)) if p.stored else ():
            rows[row["prompt_id"]].append((place, row))
    kept: list[_Prompt] = []
    list_takes = 0
    for prompt in ordered[: len(rows)]:
        mine = rows.pop(prompt.id)
        whole = mine[0][1]["prompt"] or ""
        prompt.start = whole if len(whole) <= START else "…" + whole[-START:]
        piece = packed(safe_json(_texts(whole, mine, columns)).encode())
        list_takes += prompt.line
        if len(piece) + list_takes > pieces.left:
            break
        prompt.texts_at = pieces.put(piece)
        kept.append(prompt)
    return kept


def _rows(stored: StoredPoint, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of generations.parquet of these prompts, read some at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    chosen = pa.array(wanted, pa.string())
    rows: list[dict[str, Any]] = []
    with pq.ParquetFile(stored.path("generations.parquet")) as file:
        for batch in file.iter_batches(batch_size=4096):
            rows += batch.filter(pc.is_in(batch.column("prompt_id"), value_set=chosen)).to_pylist()
    return rows


def _texts(prompt: str, rows: Sequence[tuple[int, dict[str, Any]]], columns: Sequence[str]) -> dict[str, Any]:
    """The piece of texts of one prompt."""
    return {
        "text": prompt,
        "promptTokens": rows[0][1]["prompt_tokens"] if rows else None,
        "samples": [
            {
                "p": place,
                "n": row["sample"],
                "text": row["output"] or "",
                "finish": row["finish_reason"],
                "tokens": row["output_tokens"],
                "seed": str(row["seed"]),  # may be past what JavaScript counts exactly
                "logprob": short(row.get("mean_logprob")),
                "score": short(row.get("sequence_score")),
                "m": {c: short(row[c]) for c in columns if isinstance(row.get(c), int | float)},
            }
            for place, row in rows
        ],
    }


def _put_tokens(
    points: Sequence[PointResult], prompts: Sequence[_Prompt], pieces: Pieces, vocabulary: Vocabulary
) -> int:
    """Add the tokens of the prompts in their order, until one does not fit; returns how many prompts did."""
    # The list comes last, and must fit as well.
    room = pieces.left - sum(p.line for p in prompts)
    told = 0
    for some in _blocks(prompts, room // LEAST_STEP_BYTES):
        found = _steps_of(points, some, vocabulary.pairs)
        for prompt in some:
            samples = found.get(prompt.id)
            if not samples:
                continue
            new = tokens_of(samples)
            room -= vocabulary.cost(new)
            if room <= 0:
                return told
            vocabulary.keep(new)
            piece = token_piece(samples, vocabulary)
            room -= len(piece)
            if room < 0:
                return told
            prompt.tokens_at = pieces.put(piece)
            told += 1
    return told


def _blocks(prompts: Sequence[_Prompt], most: int) -> Iterator[list[_Prompt]]:
    """The prompts by STEPS_AT_ONCE, so that little is read and not written yet, up to `most` steps."""
    block: list[_Prompt] = []
    size = total = 0
    for prompt in prompts:
        if block and size + prompt.all_steps > STEPS_AT_ONCE:
            yield block
            block, size = [], 0
        if total > most:
            break
        block.append(prompt)
        size += prompt.all_steps
        total += prompt.all_steps
    if block:
        yield block


def _steps_of(
    points: Sequence[PointResult], prompts: Sequence[_Prompt], pairs: TokenVocabulary
) -> dict[str, list[Named]]:
    """The samples of each prompt, points in their order; the prompt's own tokens once, at the end."""
    found: dict[str, list[Named]] = {p.id: [] for p in prompts}
    own: dict[str, Named] = {}
    for place, p in enumerate(points):
        if not p.stored:
            continue
        most = sum(x.steps.get(place, 0) for x in prompts)
        steps: dict[tuple[str, int], TokenColumns] = {}
        for table, rows in (("tokens", most), ("prompt_tokens", None)):
            read = read_samples(p.stored, table, STEP_COLUMNS, prompts=found, vocabulary=pairs, most=rows)
            steps |= collect_samples(read)
        for prompt_id, sample in sorted(steps):
            named = (place, sample, steps[prompt_id, sample])
            if sample == PROMPT:
                own.setdefault(prompt_id, named)
            else:
                found[prompt_id].append(named)
    for prompt_id, named in own.items():
        found[prompt_id].append(named)
    return found


def _notes(all_of: Sequence[_Prompt], kept: Sequence[_Prompt], told: int, ranked: bool) -> tuple[str, ...]:
    said = []
    if told < len(kept):
        which = "those on which strategies disagree most keep theirs" if ranked else "the first keep theirs"
        missing = len(kept) - told
        said.append(
            f"{missing} of {len(kept)} prompts are shown without their tokens, which did not fit this page "
            f"or were not recorded" + (f": {which}." if told else ".")
        )
    if len(kept) < len(all_of):
        said.append(f"{len(all_of) - len(kept)} of {len(all_of)} prompts are left out of this page.")
    if said:
        said.append("generations.parquet and tokens.parquet hold everything.")
    return tuple(said)
