"""A rank other than the first: a process that makes the calls that rank 0 sends it, at the same moment.

`python -m harness.backends.hf.rank_process FOLDER NUMBER COUNT cuda|cpu`, started by `rank_group.py`. It
holds its share of a model; it writes nothing, and what it computes is thrown away.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import one_line
from harness.models.tensor_parallel import Rank
from harness.progress import SILENT

if TYPE_CHECKING:
    from harness.analysis.speculative_blocks import SpeculativeText
    from harness.backends.backend import Failure, Request
    from harness.backends.costing import CostShape
    from harness.backends.drafting import Draft
    from harness.config.point import Engine, Model, Quantization, Timing
    from harness.prompts.passages import Passage
    from harness.prompts.prompt import Prompt
    from harness.store.records import Sample


class RankShare:
    """A rank's share of a model; each method is a call of `shared_backend.SharedBackend`, and returns the
    digest of what it found.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank

    def open(self, model: Model, quantization: Quantization) -> None:
        """Load the share."""
        from harness.backends.hf.backend import HfBackend
        from harness.backends.hf.teacher_forcing import TeacherForcing

        self._backend = HfBackend.open(model, quantization, SILENT, self._rank)
        self._forced = TeacherForcing(self._backend.loaded)

    def configure(self, engine: Engine) -> None:
        """Take a new engine."""
        self._backend.configure(engine)

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many requests like these are decoded at once."""
        return self._backend.batch_size(requests)

    def generate(self, requests: Sequence[Request]) -> str:
        """Decode requests."""
        return digest_of(list(self._backend.generate(requests, SILENT)))

    def score(self, prompts: Sequence[Prompt]) -> None:
        """Score prompts."""
        list(self._backend.score(prompts))

    def read_again(self, request: Request, generated: Sequence[int]) -> None:
        """Read an output again."""
        self._backend.read_again(request, generated)

    def time(self, requests: Sequence[Request], timing: Timing) -> None:
        """Take part in what rank 0 times."""
        self._backend.time(requests, timing, SILENT)

    def run_model(self, shape: CostShape, new_tokens: int, count: int) -> None:
        """Take part in a run for its cost."""
        self._backend.run_model(shape, new_tokens, count)

    def hidden_states(self, passages: Sequence[Passage]) -> None:
        """Read passages to the head's input."""
        for _ in self._forced.hidden_states(passages):
            pass

    def logits(self, passages: Sequence[Passage]) -> None:
        """Read passages to their logits."""
        for _, slices in self._forced.logits(passages):
            for _ in slices:
                pass

    def along(self, texts: Sequence[tuple[Request, Sequence[int]]], drafts: Sequence[Draft]) -> None:
        """Find what drafts propose along texts."""
        self._backend.speculator.along(texts, drafts)

    def run(self, request: Request, draft: Draft | None, block: int) -> str:
        """Generate a text by speculation."""
        return speculated_digest(self._backend.speculator.run(request, draft, block))


def digest_of(answers: Sequence[Sample | Failure]) -> str:
    """Return a hash of the tokens of answers, which all ranks must have found alike."""
    tokens = [getattr(answer, "token_ids", None) for answer in answers]
    return hashlib.blake2b(repr(tokens).encode(), digest_size=8).hexdigest()


def speculated_digest(text: SpeculativeText) -> str:
    """Return a hash of the tokens of a text."""
    return hashlib.blake2b(repr(text.tokens).encode(), digest_size=8).hexdigest()


def main(words: Sequence[str]) -> None:
    """Answer calls until rank 0 closes, or ends."""
    folder, number, count, device = Path(words[0]), int(words[1]), int(words[2]), words[3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply

    def reply(kind: str, what: Any) -> None:
        pickle.dump((kind, what), out)
        out.flush()

    calls: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, calls), daemon=True).start()
    from harness.backends.hf.process_group import join_group, leave_group

    share = RankShare(Rank(number, count))
    reply("done", None)
    join_group(folder, Rank(number, count), device == "cuda")
    while (call := calls.get())[0] != "close":
        name, arguments = call
        try:
            found = getattr(share, name)(*arguments)
        except Exception as error:
            reply("failed", (type(error).__name__, one_line(error)))
        else:
            reply("done", found)
    leave_group()
    os._exit(0)  # whatever threads still do


def _read(calls: BinaryIO, into: SimpleQueue[tuple[str, tuple[Any, ...]]]) -> None:
    """Pass calls on; end with rank 0, for which this process may be waiting elsewhere."""
    try:
        while True:
            into.put(pickle.load(calls))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
