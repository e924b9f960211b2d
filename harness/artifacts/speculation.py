"""Speculation along stored samples: speculation.json, what each draft would have proposed of them.

Under shared noise a speculative loop generates the very texts that are stored, so nothing is decoded again:
every model reads each text once, and its blocks are replayed for every block length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.backends.drafting import Draft, DraftedText
from harness.store.files import storable

if TYPE_CHECKING:
    import numpy as np

    from harness.backends.backend import Request
    from harness.store.stored_point import StoredPoint

TEXTS_TOGETHER = 64


def speculation_spec(job: Job) -> dict[str, Any] | None:
    """Return which drafts and block lengths are asked for; None where there are no drafts."""
    if not job.drafts:
        return None
    blocks = sorted(job.point.speculation.num_assistant_tokens)
    return {"drafts": [draft.spec() for draft in job.drafts], "blocks": blocks}


class Speculation(Artifact):
    """speculation.json."""

    name = "speculation"
    action = "drafts"
    files = ("speculation.json",)
    after = ("record",)

    def spec(self, job: Job) -> Any:
        """Return which drafts and block lengths are asked for."""
        return speculation_spec(job)

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Read the samples with the drafts, and replay their blocks."""
        speculator = bench.backend.speculator
        if speculator is None:
            return ("speculation is left out: the backend has no drafts of its own",)
        stored = bench.stored(job)
        bench.progress.stage(f"drafts of {job.point.label}", job.samples, "samples")
        blocks = sorted(job.point.speculation.num_assistant_tokens)
        found = {draft.name: _Drafted(draft, blocks) for draft in job.drafts}
        budget = job.point.generation.max_new_tokens
        for texts in _batches(stored_texts(job, bench, stored)):
            for (request, tokens), along in zip(texts, speculator.along(texts, job.drafts), strict=True):
                for name, drafted in found.items():
                    drafted.add(request.prompt.ids, tokens, along.get(name), budget)
            bench.progress.advance(len(texts))
        stored.write_json("speculation.json", {"drafts": [one.as_json() for one in found.values()]})
        complete(stored, self, self.spec(job))
        return ()


def stored_texts(job: Job, bench: Workbench, stored: StoredPoint) -> Iterator[tuple[Request, list[int]]]:
    """Yield the requests of stored samples, and the ids of their outputs."""
    from harness.store.token_table import read_samples

    strategy = job.strategy(bench.backend.token_ids)
    prompts = {storable(prompt.id): prompt for prompt in job.prompts}
    for sample in read_samples(stored, "tokens", ("position", "token_id")):
        request = job.request(prompts[sample.prompt_id], sample.sample, strategy)
        yield request, sample["token_id"].tolist()


def _batches(texts: Iterator[tuple[Request, list[int]]]) -> Iterator[list[tuple[Request, list[int]]]]:
    """Yield neighbouring texts of one strategy together: those of chats end otherwise than others."""
    batch: list[tuple[Request, list[int]]] = []
    for one in texts:
        if batch and (len(batch) == TEXTS_TOGETHER or batch[0][0].prompt.chat != one[0].prompt.chat):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


@dataclass
class _Drafted:
    """What a draft made of the texts so far: their passes by block length, and agreement by position."""

    draft: Draft
    blocks: Sequence[int]
    texts: dict[int, list[tuple[int, Any]]] = field(default_factory=dict)
    agreed: list[np.ndarray] = field(default_factory=list)
    coupling: list[np.ndarray] = field(default_factory=list)
    overlap: list[np.ndarray] = field(default_factory=list)

    def add(
        self, prompt: Sequence[int], tokens: Sequence[int], along: DraftedText | None, budget: int
    ) -> None:
        """Add a text; `along` is what a model proposes along it, None of prompt lookup."""
        import numpy as np

        from harness.analysis.speculative_blocks import model_proposals, replay
        from harness.decoding.prompt_lookup import look_up

        def looked_up(start: int, count: int) -> list[int]:
            return look_up([*prompt, *tokens[:start]], self.draft.ngram, count) if count else []

        proposals = looked_up if along is None else model_proposals(along.proposals.tolist())
        for block in self.blocks:
            passes = replay(tokens, proposals, block, budget)
            self.texts.setdefault(block, []).append((len(tokens), passes))
        if along is not None:
            self.agreed.append(along.proposals == np.asarray(tokens))
            self.coupling.append(along.coupling)
            self.overlap.append(along.overlap)

    def as_json(self) -> Mapping[str, Any]:
        """Return its entry of speculation.json."""
        from harness.analysis.speculative_blocks import acceptance, block_length

        lengths = [block_length(block, self.texts.get(block, ())) for block in self.blocks]
        known = acceptance(self.agreed, self.coupling, self.overlap) if self.agreed else None
        return {
            "name": self.draft.name,
            "kind": self.draft.kind,
            "acceptance": known and asdict(known),
            "blocks": [asdict(one) for one in lengths if one.forwards],
        }
