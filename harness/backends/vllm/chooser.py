"""Chooses the tokens of texts whose rows move, and which are at different steps, with what the tree uses.

vLLM batches continuously: a step has rows of texts that begin, go on, are read again after they were pushed
out, and prompts that are read in parts, whose logits come to nothing. So a text is known by its number, never
by its row, and what was chosen counts only once the text has got it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harness.backends.backend import Request
from harness.backends.steps.recorder import Recorder
from harness.backends.steps.sampler import Choosing, Sequences, choose_tokens
from harness.backends.steps.strategy_error import StrategyError
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.gumbel_numpy import key_of_step, noise_key
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.errors import HarnessError
from harness.models.load import LoadedModel

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""What is raised where the memory is too small."""


@dataclass
class Text:
    """A text that is generated: its request, its noise key, its tokens so far."""

    request: Request
    key: int
    group: _Group
    tokens: list[int] = field(default_factory=list)

    def ids(self) -> np.ndarray:
        """Return the ids of prompt and output; only what is new is copied."""
        prompt = self.request.prompt.ids
        if self._buffer is None:
            room = len(prompt) + self.group.strategy.max_new_tokens
            self._buffer = np.empty(room, dtype=np.int64)
            self._buffer[: len(prompt)] = prompt
        start, end = len(prompt) + self._copied, len(prompt) + len(self.tokens)
        self._buffer[start:end] = self.tokens[self._copied :]
        self._copied = len(self.tokens)
        return self._buffer[:end]

    _buffer: np.ndarray | None = None
    _copied: int = 0


@dataclass
class _Group:
    """Texts that share processors: those of a strategy, or one text where its processors have objects."""

    strategy: Strategy
    processors: Processors

    @property
    def at_any_step(self) -> bool:
        """Whether texts of any length can be chosen for in one call: nothing reads their tokens."""
        processors = self.processors
        return processors.neutral or (processors.only_samples and not processors.state.needed)


class Chooser:
    """Chooses for texts, by their numbers; records what they were chosen from."""

    def __init__(self, loaded: LoadedModel, recorder: Recorder) -> None:
        """`loaded` may be without weights: its config, tokenizer and processors are used."""
        self._loaded, self._recorder = loaded, recorder
        self._shared: dict[int, _Group | None] = {}
        self.texts: dict[int, Text] = {}
        self._waiting: dict[int, int] = {}  # numbers whose choice is not settled, and their tokens then
        self._chosen = torch.empty(0, dtype=torch.long)
        self._saved: list[tuple[Processors, Mapping[int, tuple[float, float] | None]]] = []

    def add(self, number: int, request: Request, tokens: list[int] | None = None) -> None:
        """Begin a text; `tokens` are a list that somebody else keeps, if anybody does."""
        key = noise_key(request.strategy.seed, request.prompt.id, request.sample)
        text = Text(request, key, self._group_of(request.strategy))
        if tokens is not None:
            text.tokens = tokens
        self.texts[number] = text

    def choose(self, numbers: Sequence[int], logits: Tensor) -> Tensor:
        """Return (R,) the next tokens of some texts, given their logits (R, V).

        Raises:
            StrategyError: a strategy's processors raised.
        """
        self.settle()
        raw = self._recorder.begin_step(logits)
        tokens = torch.empty(len(numbers), dtype=torch.long, device=logits.device)
        self._remember(numbers)
        for step, by_group in self._parts(numbers).items():
            chosen = [
                Choosing(group.processors, self._sequences(group, numbers, rows, step))
                for group, rows in by_group
            ]
            failed = _failed([group.strategy for group, _ in by_group])
            rows_now = _Rows(self, numbers, step or 0, str(logits.device))
            found = choose_tokens(chosen, self._recorder, raw, rows_now, failed)
            for (_, rows), some in zip(by_group, found, strict=True):
                tokens[torch.tensor(rows, device=logits.device)] = some
        self._recorder.end_step(raw)
        self._chosen = tokens
        return tokens

    def settle(self) -> None:
        """See which texts got what was chosen for them last; forget it for the others.

        Raises:
            HarnessError: one got another token.
        """
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        unused = set()
        for (number, before), token in zip(waiting.items(), self._chosen.tolist(), strict=True):
            tokens = self.texts[number].tokens
            if len(tokens) == before:
                unused.add(number)
            elif len(tokens) != before + 1 or tokens[-1] != token:
                problem = f"vLLM went on with {tokens[before:]} where {token} was the only token left"
                raise HarnessError(f"{problem}; use backend=hf, and report this with vLLM's version")
        if unused:
            self._recorder.drop(unused)
            for processors, saved in self._saved:
                processors.state.restore({n: state for n, state in saved.items() if n in unused})
            for number in unused:
                _begin_again(self.texts[number])

    def read(self, numbers: Sequence[int], device: str) -> Texts:
        """Return texts with equally many generated tokens as processors read them."""
        several = [self.texts[number] for number in numbers]
        lengths = [len(text.request.prompt.ids) for text in several]
        width = max(lengths)
        size = width + len(several[0].tokens)
        ids = np.full((len(several), size), several[0].group.strategy.pad_token_id, dtype=np.int64)
        for row, text in enumerate(several):
            ids[row, width - lengths[row] :] = text.ids()
        return Texts(torch.from_numpy(ids).to(device), lengths, width)

    def _group_of(self, strategy: Strategy) -> _Group:
        """Return the group of a text of this strategy; a new one where its processors have objects."""
        known = self._shared.get(id(strategy))
        if known is None:
            known = _Group(strategy, strategy_processors(self._loaded, strategy))
            self._shared[id(strategy)] = None if known.processors.has_objects else known
        return known

    def _remember(self, numbers: Sequence[int]) -> None:
        """Note how far the texts are, and the states that choosing will change."""
        self._waiting = {number: len(self.texts[number].tokens) for number in numbers}
        by_group: dict[int, tuple[Processors, list[int]]] = {}
        for number in numbers:
            processors = self.texts[number].group.processors
            if processors.state.updates:
                by_group.setdefault(id(processors), (processors, []))[1].append(number)
        self._saved = [(processors, processors.state.saved(some)) for processors, some in by_group.values()]

    def _parts(self, numbers: Sequence[int]) -> dict[int | None, list[tuple[_Group, list[int]]]]:
        """Return the rows of each group by their step; under None those for which that does not matter."""
        found: dict[int | None, dict[int, tuple[_Group, list[int]]]] = {}
        for row, number in enumerate(numbers):
            text = self.texts[number]
            step = len(text.tokens)
            branches = text.group.strategy.branches and step == 0
            free = text.group.at_any_step and not branches
            part = found.setdefault(None if free else step, {})
            part.setdefault(id(text.group), (text.group, []))[1].append(row)
        return {step: list(part.values()) for step, part in found.items()}

    def _sequences(
        self, group: _Group, numbers: Sequence[int], rows: Sequence[int], step: int | None
    ) -> Sequences:
        texts = [self.texts[numbers[row]] for row in rows]
        keys = None
        if group.strategy.do_sample:
            # Without a common step, the key of step 0 whose noise is that of the text's own step.
            keys = [t.key if step is not None else key_of_step(t.key, len(t.tokens)) for t in texts]
        branches = group.strategy.branches and step == 0
        return Sequences(
            numbers=[numbers[row] for row in rows],
            rows=list(rows),
            keys=keys,
            seen=list(rows),
            ranks=[text.request.sample for text in texts] if branches else None,
        )


@dataclass(frozen=True)
class _Rows:
    """The rows of a step; a `steps.sampler.StepRows`."""

    chooser: Chooser
    numbers: Sequence[int]
    step: int
    device: str

    def texts(self, rows: Sequence[int]) -> Texts:
        """Return some of the rows as processors read them."""
        return self.chooser.read([self.numbers[row] for row in rows], self.device)


def _begin_again(text: Text) -> None:
    """Let objects of a text's processors, which saw a step that is not used, begin anew.

    Raises:
        StrategyError: they saw other steps before.
    """
    processors, strategy = text.group.processors, text.group.strategy
    if not processors.has_objects:
        return
    if text.tokens:
        problem = "vLLM took a text out of its batch, and its object cannot go on; set backend.max_num_seqs"
        raise StrategyError(strategy, HarnessError(f"decoding.processors: {problem} lower"))
    processors.forget()


def _failed(strategies: Sequence[Strategy]) -> Callable[[int, Exception], Exception]:
    def failed(number: int, error: Exception) -> Exception:
        # A lack of memory is no strategy's fault.
        return error if isinstance(error, OUT_OF_MEMORY) else StrategyError(strategies[number], error)

    return failed
