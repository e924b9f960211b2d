"""The prompts of a page, whose tokens are added in order until the page's budget is used up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from harness.analysis.point_results import PointResult
from harness.report.page.chunks import ChunkRef, CompressedChunks
from harness.report.page.columns import Block, PageVocabulary, pack, tokens_of
from harness.store.token_table import TokenColumns, TokenVocabulary, collect_samples, read_blocks

STEPS_AT_ONCE = 400_000
"""Steps that are in memory at a time; a prompt with more is read alone."""


@dataclass
class PagePrompt:
    """A prompt while its data is collected: how many steps it has by index of the point, and their chunk."""

    id: str
    steps: dict[int, int] = field(default_factory=dict)
    tokens_at: ChunkRef | None = None


P = TypeVar("P", bound=PagePrompt)


def samples_of(
    p: PointResult,
    table: str,
    columns: Sequence[str],
    prompt_ids: Collection[str],
    tokens: TokenVocabulary,
    most: int | None = None,
) -> dict[tuple[str, int], TokenColumns]:
    """Return the samples of some prompts in a point's token table, by prompt id and sample.

    `tokens` gets their tokens; reading stops once `most` steps were found.
    """
    if not p.stored:
        return {}
    names = ("position", *columns)
    return collect_samples(
        read_blocks(p.stored, table, names, prompts=prompt_ids, vocabulary=tokens, most=most)
    )


def add_tokens(
    prompts: Sequence[P],
    read: Callable[[Sequence[P]], Mapping[str, Sequence[Block]]],
    chunks: CompressedChunks,
    vocabulary: PageVocabulary,
    room: int,
    least_step_size: int,
) -> int:
    """Add the tokens of the prompts, in order, until those of one do not fit.

    Args:
        prompts: in the order in which they are wanted.
        read: the blocks of some prompts, by prompt id.
        chunks, vocabulary: get a chunk for each prompt, and its tokens.
        room: characters that chunks and vocabulary may take.
        least_step_size: characters that no step takes less of; so steps past room / this are not read.

    Returns:
        How many prompts have their tokens in the page.
    """
    added = 0
    for some in _groups(prompts, room // least_step_size):
        found = read(some)
        for prompt in some:
            blocks = found.get(prompt.id)
            if not blocks:
                continue
            tokens = tokens_of(blocks)
            room -= vocabulary.size_of(tokens)
            if room <= 0:
                return added
            vocabulary.add(tokens)
            chunk = pack(blocks, vocabulary)
            room -= len(chunk)
            if room < 0:
                return added
            prompt.tokens_at = chunks.put(chunk)
            added += 1
    return added


def _groups(prompts: Sequence[P], most: int) -> Iterator[list[P]]:
    """Yield the prompts in groups of STEPS_AT_ONCE, until they have over `most` steps."""
    group: list[P] = []
    size = total = 0
    for prompt in prompts:
        steps = sum(prompt.steps.values())
        if group and size + steps > STEPS_AT_ONCE:
            yield group
            group, size = [], 0
        if total > most:
            break
        group.append(prompt)
        size, total = size + steps, total + steps
    if group:
        yield group
